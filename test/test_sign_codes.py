"""Short lists against counted signs."""

from __future__ import annotations

import numpy as np
import pytest

from tscm_core.recognition.sign_codes import SignCodes


def fewest_signs(mean, rows, query, count):
    different = ((rows > mean) != (query > mean)).sum(axis=1)
    return sorted(np.argsort(different, kind="stable")[:count].tolist())


@pytest.mark.parametrize("dim", [1024, 1300])
@pytest.mark.parametrize(("count", "limit"), [(1, 5000), (50, 5000), (50, 2049), (50, 60), (70, 60)])
def test_the_nearest_are_those_with_most_equal_signs_and_of_equal_ones_the_first(dim, count, limit):
    rng = np.random.default_rng(dim)
    mean = rng.normal(size=dim).astype(np.float32)
    rows = (mean + rng.normal(size=(40, dim))).astype(np.float32)[rng.integers(0, 40, 5000)]  # mostly repeated
    codes = SignCodes(mean, head_above=5000)
    for part in np.array_split(rows, 7):
        codes.add(part)
    query = (mean + rng.normal(size=dim)).astype(np.float32)
    assert sorted(codes.nearest(query, count, limit)) == fewest_signs(mean, rows[:limit], query, count)


def test_a_first_look_at_part_of_the_code_finds_a_place_that_is_near():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9000, 1024)).astype(np.float32)
    query = rows[8000] + 0.5 * rng.normal(size=1024).astype(np.float32)
    codes = SignCodes(np.zeros(1024, np.float32), head_above=100)
    codes.add(rows)
    assert codes.nearest(query, 3, 9000)[0] == 8000
    assert 8000 not in codes.nearest(query, 3, 8000)
    few = codes.nearest(query, 20, 4000)  # fewer than the first look takes: as without it
    assert sorted(few) == fewest_signs(np.zeros(1024), rows[:4000], query, 20)


@pytest.mark.parametrize("count", [1, 20, 2000])
def test_a_first_look_leaves_enough_over_for_the_whole_code_to_decide(count):
    rng = np.random.default_rng(2)
    different = rng.permuted(np.arange(2048) < rng.integers(400, 900, (5000, 1)), axis=1)
    rows, query = np.where(different, -1, 1).astype(np.float32), np.ones(2048, np.float32)
    codes = SignCodes(np.zeros(2048, np.float32), head_above=100)
    codes.add(rows)
    assert sorted(codes.nearest(query, count, 5000)) == fewest_signs(np.zeros(2048), rows, query, count)


@pytest.mark.parametrize("silent", [slice(1024), slice(1024, None)], ids=["first", "last"])
def test_a_first_look_finds_a_place_whichever_half_of_the_numbers_says_nothing(silent):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(5000, 2048)).astype(np.float32)
    rows[:, silent] = 1.0
    query = rows[4500] + 0.5 * rng.normal(size=2048).astype(np.float32)
    query[silent] = 1.0
    codes = SignCodes(np.zeros(2048, np.float32), head_above=100)
    codes.add(rows)
    assert codes.nearest(query, 1, 5000).tolist() == [4500]


def test_short_descriptors_get_bits_enough_to_tell_angles():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3000, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    codes = SignCodes(np.zeros(8, np.float32), head_above=10_000)
    codes.add(rows)
    for query in rows[:20]:
        truth = np.argsort(-(rows @ query))[:10]
        assert len(set(truth) & set(codes.nearest(query, 60, 3000))) >= 9


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("not_a_number", [False, True], ids=["dropped", "not a number"])
def test_what_is_dropped_takes_no_place_of_what_is_not(share, not_a_number):
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(60, 1024)).astype(np.float32)[rng.integers(0, 60, 5000)]
    dropped = (rng.random(5000) < share) & (np.arange(5000) != 100)
    codes, mean = SignCodes(np.zeros(1024, np.float32), head_above=5000), np.zeros(1024)
    codes.add(np.where(dropped[:, None], np.float32(np.nan), rows) if not_a_number else rows)
    for at in [] if not_a_number else np.flatnonzero(dropped):
        codes.drop(int(at))
    for count, begin, limit in ((1, 0, 5000), (150, 0, 5000), (150, 1000, 4500), (3000, 50, 5000), (1, 100, 101)):
        query = rng.normal(size=1024).astype(np.float32)
        near = begin + np.flatnonzero(~dropped[begin:limit])
        truth = near[fewest_signs(mean, rows[near], query, count)]
        assert codes.nearest(query, count, limit, begin).tolist() == truth.tolist()


@pytest.mark.parametrize("head_above", [100, 10_000])
def test_codes_that_are_kept_are_those_that_would_be_made(head_above):
    rng = np.random.default_rng(5)
    rows, query = rng.normal(size=(9000, 1024)).astype(np.float32), rng.normal(size=1024).astype(np.float32)
    moved, made = (SignCodes(np.zeros(1024, np.float32), head_above) for _ in range(2))
    moved.add(rows)
    dropped = rng.integers(0, 2000, 900)  # none of the later blocks
    for at in dropped:
        moved.drop(int(at))
    keep = np.flatnonzero(rng.random(9000) < 0.7)
    moved.compact(keep)
    made.add(rows[keep])
    for at in np.flatnonzero(np.isin(keep, dropped)):
        made.drop(int(at))
    for codes in (moved, made):
        codes.add(rows[:50])
    size = len(keep) + 50
    assert len(moved) == size
    for count, begin, limit in ((30, 0, size), (30, 2500, size - 9), (500, 10, size)):
        assert moved.nearest(query, count, limit, begin).tolist() == made.nearest(query, count, limit, begin).tolist()


def test_a_first_look_sees_nothing_that_is_dropped():
    rng = np.random.default_rng(6)
    near = rng.normal(size=1024).astype(np.float32)
    rows = rng.normal(size=(9000, 1024)).astype(np.float32)
    rows[:6000] += 3 * near
    rows[8000] += near
    codes = SignCodes(np.zeros(1024, np.float32), head_above=100)
    codes.add(rows)
    for at in range(6000):
        codes.drop(at)
    assert 8000 in codes.nearest(near, 3, 9000).tolist()
    assert codes.nearest(near, 3, 9000, 8000)[0] == 8000
    assert codes.nearest(near, 3, 6000).tolist() == []
