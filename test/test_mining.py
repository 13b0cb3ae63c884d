"""Tuples: held against a plain loop, and unable to fall into the traps of what nobody knows."""

from __future__ import annotations

import math

import faiss
import numpy as np
import pytest

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.errors import ConfigError, DatasetError
from tscm_core.training.mining import TupleMiner


def unit(count, dim=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture
def city():
    """200 images on a plane, one in four a query."""
    rng = np.random.default_rng(1)
    query = np.arange(200) % 4 == 0
    return make_places(
        "city", [f"{k}.jpg" for k in range(200)], rng.uniform(0, 100, (200, 2)), limits=Limits(10, 25),
        is_query=query, is_database=~query,
    )  # fmt: skip


def test_tuples_are_those_of_a_plain_loop(city):
    descriptors = unit(200, 3)
    miner = TupleMiner(city, negatives=5, sample=1000, margin=0.02, skip_easy=False)
    miner.refresh(descriptors)
    tuples = miner.tuples(0)
    assert sorted(tuples.query) == [i for i in city.queries if len(city.positives(i))]
    assert tuples.without_positive == len(city.queries) - len(tuples)
    cut = 0
    for query, positive, negatives, valid in zip(
        tuples.query, tuples.positive, tuples.negatives, tuples.valid, strict=True
    ):
        distance = {j: math.dist(descriptors[query], descriptors[j]) for j in range(200)}
        within = [j for j in city.database if math.dist(city.positions[query], city.positions[j]) <= 10]
        assert positive == min(within, key=distance.__getitem__)
        far = [j for j in city.database if math.dist(city.positions[query], city.positions[j]) > 25]
        near_enough = [j for j in far if distance[j] < distance[positive] + math.sqrt(0.02)]
        wanted = sorted(near_enough, key=distance.__getitem__)[:5]
        assert negatives[valid].tolist() == wanted
        assert (negatives[~valid] == -1).all()
        cut += len(wanted) < 5
    assert cut


def test_unknown_relations_are_never_used():
    """The hardest images are the traps: another video of the same floor, and far frames of the same video."""
    frames = ["1/a"] * 6 + ["1/b"] * 6 + ["2/c"] * 6
    s = make_places(
        "videos", [f"{k}.jpg" for k in range(18)], [(k % 6, 0) for k in range(18)],
        limits=Limits(1, math.inf), frames=frames, areas=[frame[0] for frame in frames],
    )  # fmt: skip
    descriptors = unit(18) * 0.05
    descriptors[:12, 0] += 1  # all of floor 1 looks alike
    descriptors[12:, 1] += 1
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    miner = TupleMiner(s, negatives=12, sample=12, margin=4.0)
    miner.refresh(descriptors)
    tuples = miner.tuples(0)
    assert len(tuples) == 18
    for query, positive, negatives, valid in zip(
        tuples.query, tuples.positive, tuples.negatives, tuples.valid, strict=True
    ):
        assert frames[query] == frames[positive]
        assert abs(query - positive) == 1
        wanted = range(12, 18) if query < 12 else range(12)
        assert sorted(negatives[valid]) == list(wanted)


def test_easy_tuples_are_left_out_kept_or_filled(city):
    descriptors = np.zeros((200, 200), np.float32)
    descriptors[np.arange(200), np.arange(200)] = 1  # everything is sqrt(2) from everything
    for query in city.queries:  # but positives, which are nearer
        descriptors[query, :] = 0
        descriptors[query, city.positives(query)[:1]] = 1
        descriptors[query, query] += not len(city.positives(query))
    found = {}
    for options in ({}, {"skip_easy": False}, {"keep_easy": True}):
        miner = TupleMiner(city, 10, **options)
        miner.refresh(descriptors)
        found[tuple(options)] = miner.tuples(0)
    with_positive = sum(len(city.positives(i)) > 0 for i in city.queries)
    assert len(found[()]) == 0
    assert found[()].easy == with_positive
    assert len(found[("skip_easy",)]) == with_positive
    assert not found[("skip_easy",)].valid.any()
    assert len(found[("keep_easy",)]) == with_positive
    assert found[("keep_easy",)].valid.all()


def test_the_sample_bounds_what_is_looked_at(city):
    descriptors = unit(200)
    few = TupleMiner(city, 5, sample=5, margin=4.0)
    few.refresh(descriptors)
    first, second = few.tuples(0), few.tuples(1)
    row = {int(query): set(negatives) for query, negatives in zip(first.query, first.negatives, strict=True)}
    other = {int(query): set(negatives) for query, negatives in zip(second.query, second.negatives, strict=True)}
    assert sum(row[query] != other[query] for query in row) > len(row) // 2
    for query, negatives in row.items():
        assert city.negatives_mask(query)[list(negatives)].all()


def test_tuples_follow_from_seed_and_epoch_on_any_number_of_threads(city):
    def drawn(seed, epoch, threads, most=None):
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            miner = TupleMiner(city, 5, sample=30, seed=seed, positive="random")
            miner.refresh(unit(200))
            miner.tuples(7)  # what was drawn before does not matter
            return miner.tuples(epoch, most).rows
        finally:
            faiss.omp_set_num_threads(before)

    assert (drawn(3, 1, 1) == drawn(3, 1, 2)).all()
    assert (drawn(3, 1, 1)[:9] == drawn(3, 1, 1, most=9)).all()
    assert drawn(3, 1, 1).tolist() != drawn(3, 2, 1).tolist()
    assert drawn(3, 1, 1).tolist() != drawn(4, 1, 1).tolist()


def test_random_positives_are_positives_and_vary(city):
    miner = TupleMiner(city, positive="random", margin=4.0)
    miner.refresh(unit(200))
    first, second = (dict(zip(*miner.tuples(epoch).rows[:, :2].T, strict=True)) for epoch in (0, 1))
    assert all(positive in city.positives(int(query)) for query, positive in first.items())
    assert first != second


def test_what_cannot_be_mined_is_refused(city):
    miner = TupleMiner(city)
    with pytest.raises(ValueError, match="refresh"):
        miner.tuples(0)
    with pytest.raises(ValueError, match=r"200 images need descriptors \[N, D\]"):
        miner.refresh(unit(199))
    with pytest.raises(ConfigError, match="not of unit length"):
        miner.refresh(unit(200) * np.nan)
    for unfit in ({"negatives": 0}, {"negatives": 5, "sample": 4}, {"margin": -1.0}):
        with pytest.raises(ConfigError, match="mining takes"):
            TupleMiner(city, **unfit)
    lonely = make_places("lonely", ["a.jpg", "b.jpg"], [(0, 0), (99, 0)], limits=Limits(10, 25))
    miner = TupleMiner(lonely)
    miner.refresh(unit(2))
    with pytest.raises(DatasetError, match="none of 2 queries has a positive"):
        miner.tuples(0)
