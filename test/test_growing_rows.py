"""Growing rows against one array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.recognition.growing_rows import GrowingRows


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 5000), max_size=6), limit=st.integers(0, 30_000), seed=st.integers(0, 9))
def test_rows_are_those_of_one_array(sizes, limit, seed):
    rng = np.random.default_rng(seed)
    whole = rng.integers(-1000, 1000, (sum(sizes), 3)).astype(np.float32)
    rows = GrowingRows(3, np.float16)
    for part in np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []:
        rows.append(part)
    assert len(rows) == len(whole)
    parts = list(rows.parts(limit))
    assert [start for start, _ in parts] == np.cumsum([0, *(len(part) for _, part in parts)])[:-1].tolist()
    found = np.concatenate([np.empty((0, 3), np.float16), *(part for _, part in parts)])
    assert found.tolist() == whole[:limit].tolist()
    if len(whole):
        positions = rng.integers(0, len(whole), 50)
        assert rows.take(positions).tolist() == whole[positions].tolist()


def test_rows_that_are_there_are_never_moved():
    rows = GrowingRows(2, np.uint8)
    rows.append(np.arange(8, dtype=np.uint8).reshape(4, 2))
    _, before = next(rows.parts(4))
    for _ in range(10):
        rows.append(np.zeros((2000, 2), np.uint8))
    _, after = next(rows.parts(4))
    assert np.shares_memory(before, after)
    assert after.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_taken_rows_are_copies():
    rows = GrowingRows(1, np.float16)
    rows.append(np.ones((3, 1)))
    rows.take(np.array([0, 1]))[:] = 7.0
    assert rows.take(np.arange(3)).ravel().tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert rows.take(np.empty(0, np.int64)).shape == (0, 1)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(0, 9000), share=st.sampled_from([0.0, 0.1, 0.9, 1.0]), stay=st.integers(0, 5000),
    more=st.integers(0, 5000), seed=st.integers(0, 9),
)  # fmt: skip
def test_rows_that_are_kept_are_those_of_one_array_and_others_come_after_them(size, share, stay, more, seed):
    rng = np.random.default_rng(seed)
    whole, after = (rng.integers(0, 250, (count, 2)).astype(np.uint8) for count in (size, more))
    keep = np.flatnonzero((rng.random(size) < share) | (np.arange(size) < stay))
    rows = GrowingRows(2, np.uint8)
    rows.append(whole)
    rows.compact(keep)
    assert len(rows) == len(keep)
    rows.append(after)
    expected = np.concatenate([whole[keep], after])
    assert rows.take(np.arange(len(rows))).tolist() == expected.tolist()
    begin, limit = sorted(rng.integers(0, len(expected) + 9, 2).tolist())
    parts = list(rows.parts(limit, begin))
    assert [at for start, part in parts for at in range(start, start + len(part))] == list(
        range(begin, min(limit, len(expected)))
    )
    found = np.concatenate([np.empty((0, 2), np.uint8), *(part for _, part in parts)])
    assert found.tolist() == expected[begin:limit].tolist()


@pytest.mark.parametrize(("begin", "count"), [(0, 1), (2040, 20), (4095, 4100), (8999, 1), (100, 0)])
def test_rows_are_written_over_those_that_are_there_and_no_others(begin, count):
    expected = np.zeros((9000, 2), np.uint8)
    rows = GrowingRows(2, np.uint8)
    rows.append(expected)
    written = np.random.default_rng(0).integers(1, 250, (count, 2)).astype(np.uint8)
    rows.put(begin, written)
    expected[begin : begin + count] = written
    assert rows.take(np.arange(9000)).tolist() == expected.tolist()
