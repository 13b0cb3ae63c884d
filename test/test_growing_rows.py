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
