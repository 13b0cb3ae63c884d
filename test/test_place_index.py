"""The index against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.recognition.place_index import Hit, PlaceIndex


def unit_vectors(count, dim, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def brute_force(vectors, query, count, limit):
    similarities = vectors[:limit].astype(np.float64) @ query.astype(np.float64)
    best = np.argsort(-similarities, kind="stable")[:count]
    return best.tolist(), similarities[best]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 300), dim=st.sampled_from([3, 17, 64]), count=st.integers(0, 400), limit=st.integers(0, 300),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_search_equals_brute_force(size, dim, count, limit, seed):
    limit = min(limit, size)
    vectors = unit_vectors(size + 1, dim, seed)
    query, vectors = vectors[-1], vectors[:-1]
    index = PlaceIndex(dim)
    for part in np.array_split(vectors, 3):
        index.add(part)
    assert len(index) == size
    hits = index.search(query, count, limit)
    positions, similarities = brute_force(vectors, query, count, limit)
    assert [hit.position for hit in hits] == positions
    assert [hit.similarity for hit in hits] == pytest.approx(similarities, abs=1e-6)


def test_nothing_beyond_the_limit_is_ever_found_though_it_is_the_best():
    vectors = unit_vectors(500, 8, 1)
    vectors[100:] = vectors[0]
    index = PlaceIndex(8)
    index.add(vectors)
    hits = index.search(vectors[0], 20, 100)
    assert len(hits) == 20
    assert (hits[0].position, max(hit.position for hit in hits) < 100) == (0, True)


@pytest.mark.parametrize(("count", "limit"), [(5, 0), (0, 5), (5, 5), (-1, 5), (5, -1)])
def test_empty_index_and_empty_searches_find_nothing(count, limit):
    assert PlaceIndex(4).search(np.ones(4, np.float32), count, limit) == []
    index = PlaceIndex(4)
    index.add(np.empty((0, 4), np.float32))
    assert index.search(np.ones(4, np.float32), count, limit) == []
    index.add(unit_vectors(3, 4, 0))
    if min(count, limit) < 1:
        assert index.search(np.ones(4, np.float32), count, limit) == []


def test_fewer_than_asked_for_when_there_are_fewer():
    vectors = unit_vectors(3, 4, 0)
    index = PlaceIndex(4)
    index.add(vectors)
    hits = index.search(vectors[1], 100, 100)
    assert sorted(hit.position for hit in hits) == [0, 1, 2]
    assert hits[0] == Hit(1, pytest.approx(1.0))
    assert index.search(vectors[1], 100, 1) == [Hit(0, pytest.approx(float(vectors[0] @ vectors[1])))]


def test_columns_in_any_memory_order_and_precision_are_taken():
    vectors = unit_vectors(6, 4, 3)
    index = PlaceIndex(4)
    index.add(np.asfortranarray(vectors.astype(np.float64)))
    assert [hit.position for hit in index.search(vectors[2], 1, 6)] == [2]
