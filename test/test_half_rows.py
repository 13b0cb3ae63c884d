"""Exact products with rows in half precision."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from tscm_core.recognition.half_rows import HalfRows


def made(rows):
    half = HalfRows(rows.shape[1])
    half.append(rows)
    return half


def test_appended_and_replaced_rows_have_the_same_products_to_the_last_bit():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 77)).astype(np.float16)
    query = rng.normal(size=77).astype(np.float32)
    positions, similarities = made(rows).best(query, 300, 300)
    assert similarities == pytest.approx(rows[positions].astype(np.float64) @ query, abs=1e-4)
    other = HalfRows(77)
    for few in (1, 7, 64):
        other.replace(rows[positions[:few]])
        found, again = other.best(query, few, few)
        assert (found.tolist(), again.tolist()) == (list(range(few)), similarities[:few].tolist())


def test_what_is_not_a_number_is_not_found():
    rows = np.ones((5, 3), np.float16)
    rows[1] = np.nan
    positions, similarities = made(rows).best(np.ones(3, np.float32), 5, 5)
    assert (positions.tolist(), similarities.tolist()) == ([0, 2, 3, 4], [3.0] * 4)


@pytest.mark.parametrize(("count", "limit"), [(1, 100), (10, 100), (10, 10), (10, 35), (100, 100)])
def test_of_equally_similar_rows_the_first_are_found(count, limit):
    rows = np.zeros((100, 2), np.float16)
    rows[:, 0] = np.arange(100) % 3
    positions, _ = made(rows).best(np.array([1.0, 0.0], np.float32), count, limit)
    assert positions.tolist() == np.argsort(-(np.arange(limit) % 3), kind="stable")[:count].tolist()


def test_the_calling_thread_alone_adds_and_compares(monkeypatch):
    threads, before = [], faiss.omp_get_max_threads()

    def watched(real):
        def watch(*args, **settings):
            threads.append(faiss.omp_get_max_threads())
            return real(*args, **settings)

        return watch

    index = faiss.IndexScalarQuantizer
    monkeypatch.setattr(index, "add", watched(index.add))
    monkeypatch.setattr(index, "search", watched(index.search))
    try:
        faiss.omp_set_num_threads(4)
        made(np.ones((100, 3), np.float16)).best(np.ones(3, np.float32), 5, 100)
    finally:
        faiss.omp_set_num_threads(before)
    assert threads == [1, 1, 1]  # added, compared, and compared again as all are equally similar


@pytest.mark.parametrize("replaced", [False, True])
def test_a_dropped_row_is_never_found_and_the_others_stay_as_they_were(replaced):
    rng = np.random.default_rng(3)
    rows = rng.integers(-1, 2, (200, 5)).astype(np.float16)  # most are as similar as some others
    half, there = made(rows[:150]), np.ones(200, bool)
    if replaced:
        half.replace(rows[:150])
    for at in (0, 149, *rng.integers(0, 150, 60).tolist()):
        half.drop(at)
        there[at] = False
    half.drop(150)  # not there
    half.append(rows[150:])
    for query in rng.integers(-1, 2, (20, 5)).astype(np.float32):
        for count, begin, limit in ((1, 0, 200), (3, 0, 200), (200, 0, 200), (4, 100, 160), (1, 149, 151), (1, 0, 1)):
            positions, similarities = half.best(query, count, limit, begin)
            near = np.flatnonzero(there & (np.arange(200) >= begin) & (np.arange(200) < limit))
            truth = rows[near].astype(np.float32) @ query
            best = np.argsort(-truth, kind="stable")[:count]
            assert (positions.tolist(), similarities.tolist()) == (near[best].tolist(), truth[best].tolist())


def test_rows_of_which_all_are_dropped_and_no_rows_have_nothing_to_find():
    half, query = made(np.ones((70, 3), np.float16)), np.ones(3, np.float32)
    for at in range(70):
        half.drop(at)
    for count in (1, 20, 70):
        assert half.best(query, count, 70)[0].tolist() == half.best(query, count, 70, 60)[0].tolist() == []
    half.replace(np.empty((0, 3), np.float16))
    half.drop(0)
    half.append(np.ones((2, 3), np.float16))
    assert half.best(query, 5, 5)[0].tolist() == [0, 1]
