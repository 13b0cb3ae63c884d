"""The index against brute force, in every way in which it searches."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tscm_core.bench.places import places, queries
from tscm_core.recognition.place_index import Hit, PlaceIndex
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.sign_codes import SignCodes

DIM = 96
EXACT, CODED, HEADS = {}, {"exact_up_to": 64}, {"exact_up_to": 64, "head_above": 1000}
WAYS = pytest.mark.parametrize("way", [EXACT, CODED, HEADS], ids=["exact", "coded", "heads first"])


def unit_vectors(count, dim, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return stored_precision(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def filled(vectors, at_once=None, **settings):
    index = PlaceIndex(vectors.shape[1], **settings)
    for begin in range(0, len(vectors), at_once or max(1, len(vectors))):
        index.add(vectors[begin : begin + (at_once or len(vectors))])
    return index


def brute_force(vectors, query, count, limit):
    similarities = vectors[:limit].astype(np.float64) @ query.astype(np.float64)
    best = np.argsort(-similarities, kind="stable")[:count]
    return best.tolist(), similarities[best]


@pytest.fixture(scope="module")
def drive():
    return stored_precision(np.concatenate(list(places(6000, DIM))))


@pytest.fixture(scope="module", params=[CODED, HEADS], ids=["coded", "heads first"])
def coded(request, drive):
    return filled(drive, 512, **request.param)


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


@settings(max_examples=60, deadline=None)
@example(size=256, dim=3, count=2, limit=186, exact_up_to=20, seed=3)  # place 1 is not listed
@given(
    size=st.integers(1, 300), dim=st.sampled_from([3, 16, 65]), count=st.integers(1, 400), limit=st.integers(1, 300),
    exact_up_to=st.sampled_from([20, 100, 1000]), seed=st.integers(0, 99),
)  # fmt: skip
def test_equally_similar_places_come_in_the_order_of_their_positions(size, dim, count, limit, exact_up_to, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, (size, dim)).astype(np.float32)  # whole numbers: many are equal, all sums are exact
    query = rng.integers(-1, 2, dim).astype(np.float32)
    hits = filled(vectors, 37, exact_up_to=exact_up_to).search(query, count, limit)
    found, all_similarities = [(hit.position, hit.similarity) for hit in hits], vectors[:limit] @ query
    reached = min(limit, size)
    if reached <= exact_up_to or reached <= count + min(count + 160, 672):  # all of them are compared
        positions, similarities = brute_force(vectors, query, count, limit)
        assert found == list(zip(positions, similarities, strict=True))
    else:
        positions = sorted((hit.position for hit in hits), key=lambda at: (-all_similarities[at], at))
        assert found == [(at, all_similarities[at]) for at in positions]
        assert len(set(positions)) == min(count, reached)


@WAYS
def test_of_places_that_are_all_equal_the_first_are_found(way):
    vectors = np.repeat(unit_vectors(1, DIM, 1), 5000, axis=0)
    index = filled(vectors, **way)
    for limit in (5000, 4321, 1024):
        assert [hit.position for hit in index.search(vectors[0], 20, limit)] == list(range(20))


def test_short_lists_hold_what_an_exact_search_finds(coded, drive):
    exact = filled(drive, exact_up_to=len(drive))
    seen = queries(drive[2000:2300], 3)
    first = shared = 0
    for query in seen:
        found, truth = coded.search(query, 32, len(drive)), exact.search(query, 32, len(drive))
        first += found[0] == truth[0]
        shared += len(set(found) & set(truth))  # equal positions and, to the last bit, similarities
        assert [hit.similarity for hit in found] == sorted((hit.similarity for hit in found), reverse=True)
    assert first >= 0.99 * len(seen)
    assert shared >= 0.85 * 32 * len(seen)


def test_a_limit_is_the_same_as_a_smaller_map(coded, drive):
    for limit in (65, 999, 1001, 2500, 5999):
        small = filled(drive[:limit], exact_up_to=64, head_above=coded._head_above)
        for query in queries(drive[:5], limit):
            assert coded.search(query, 32, limit) == small.search(query, 32, limit)


@WAYS
def test_nothing_beyond_the_limit_is_ever_found_though_it_is_the_best(way, drive):
    vectors = drive.copy()
    vectors[2000:] = queries(drive[700:701])  # the robot stands where it was long ago, for hours
    index = filled(vectors, **way)
    for limit in (2000, 1900, 800):
        hits = index.search(vectors[-1], 20, limit)
        assert [hit.position for hit in hits][:1] == brute_force(vectors, vectors[-1], 1, limit)[0]
        assert (len(hits), max(hit.position for hit in hits) < limit) == (20, True)


@WAYS
@pytest.mark.parametrize("at_once", [1, 512, 700])
def test_what_is_found_does_not_depend_on_how_it_was_added(way, at_once, drive):
    vectors = drive[:2100]
    whole, parts = filled(vectors, **way), filled(vectors, at_once, **way)
    for query in queries(vectors[:10], at_once):
        for count, limit in ((1, 2100), (32, 2100), (300, 2077), (5, 70), (5, 30)):
            assert whole.search(query, count, limit) == parts.search(query, count, limit)


def test_no_add_makes_more_codes_than_of_its_own_places_and_of_32_earlier_ones(monkeypatch, drive):
    coded, add = [], SignCodes.add

    def counted(self, descriptors):
        coded.append(len(descriptors))
        add(self, descriptors)

    monkeypatch.setattr(SignCodes, "add", counted)
    index = PlaceIndex(DIM, exact_up_to=2048)
    index.add(drive[:1000])
    for at in range(1000, 1030):
        index.add(drive[at : at + 1])
    for at in range(1030, 2100, 10):
        index.add(drive[at : at + 10])
    assert (max(coded[:7]), max(coded[7:]), sum(coded)) == (33, 42, 2100)


def test_codes_that_were_not_made_yet_are_made_before_the_first_search_that_needs_them(drive):
    whole, parts = filled(drive[:301], exact_up_to=300), filled(drive[:299], exact_up_to=300)
    for at in (299, 300):  # with the first of them the mean is known, with the second all is no longer compared
        parts.add(drive[at : at + 1])
    for at, query in enumerate(queries(drive[:301])):
        assert parts.search(query, 1, 301) == whole.search(query, 1, 301), at


def test_searching_for_all_gives_all_in_order(coded, drive):
    query = queries(drive[:1])[0]
    hits = coded.search(query, 4096 * 2, len(drive))
    positions, similarities = brute_force(drive, query, len(drive), len(drive))
    assert sorted(hit.position for hit in hits) == sorted(positions)
    assert [hit.similarity for hit in hits] == pytest.approx(similarities, abs=1e-6)


def test_descriptors_of_which_no_number_is_negative_are_told_apart(drive):
    vectors, seen = (np.maximum(rows, 0.0) for rows in (drive, queries(drive[3000:3100])))
    index = filled(vectors, **CODED)
    agreed = [index.search(one, 1, 6000)[0].position == brute_force(vectors, one, 1, 6000)[0][0] for one in seen]
    assert np.mean(agreed) >= 0.97


def test_the_thread_limit_of_the_caller_is_left_as_it_was(coded, drive):
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        coded.search(drive[0], 5, len(drive))
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


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
    assert hits[0] == Hit(1, pytest.approx(float(vectors[1] @ vectors[1])))
    assert index.search(vectors[1], 100, 1) == [Hit(0, pytest.approx(float(vectors[0] @ vectors[1])))]


def test_columns_in_any_memory_order_and_precision_are_taken_and_copied():
    vectors = unit_vectors(6, 4, 3)
    index, given_away = PlaceIndex(4), np.asfortranarray(vectors.astype(np.float64))
    index.add(given_away)
    given_away[:] = 0.0
    assert [hit.position for hit in index.search(vectors[2], 1, 6)] == [2]
    assert [hit.position for hit in index.search(np.repeat(vectors[2], 2)[::2], 1, 6)] == [2]
