"""The index while places are added, dropped and moved together, against plain NumPy that does the same."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tscm_core.bench.places import places, queries
from tscm_core.recognition.half_rows import HalfRows
from tscm_core.recognition.place_index import PlaceIndex
from tscm_core.recognition.precision import stored_precision

DIM = 96
EXACT, CODED, HEADS = {}, {"exact_up_to": 64}, {"exact_up_to": 64, "head_above": 1000}
WAYS = pytest.mark.parametrize("way", [EXACT, CODED, HEADS], ids=["exact", "coded", "heads first"])


class PlainIndex:
    """What the index promises, with one array of rows and one of positions that are there."""

    def __init__(self, dim, exact_up_to):
        self.exact_up_to, self.mean = exact_up_to, None
        self.rows, self.there = np.empty((0, dim), np.float32), np.empty(0, bool)

    def add(self, rows):
        self.rows = np.concatenate([self.rows, rows])
        self.there = np.append(self.there, np.ones(len(rows), bool))
        learn_from = min(1024, self.exact_up_to)
        if self.mean is None and self.there.sum() >= learn_from:
            beginning = self.rows[self.there][:learn_from]
            self.mean = beginning.mean(axis=0, dtype=np.float64).astype(np.float32)

    def drop(self, position):
        self.there[position] = False

    def compact(self, keep):
        self.rows, self.there = self.rows[keep], self.there[keep]

    def search(self, query, count, limit, begin):
        limit = min(limit, len(self.rows))
        short_list = count + min(count + 160, 672)
        near = np.array([at for at in range(begin, limit) if self.there[at]], int)
        if limit > self.exact_up_to and limit - begin > short_list and self.mean is not None:
            different = ((self.rows[near] - self.mean > 0) != (query - self.mean > 0)).sum(axis=1)
            near = np.sort(near[np.argsort(different, kind="stable")[:short_list]])
        similarities = self.rows[near] @ query
        best = np.argsort(-similarities, kind="stable")[:count]
        return list(zip(near[best].tolist(), similarities[best].tolist(), strict=True))


def whole_numbers(rng, count, dim):
    """Rows of which many are equal, and of which all products are exact."""
    kinds = rng.integers(-1, 2, (8, dim)).astype(np.float32)
    rows = kinds[rng.integers(0, 8, count)]
    changed = rng.random((count, dim)) < 0.2 * rng.integers(0, 2, (count, 1))
    return np.where(changed, rng.integers(-1, 2, (count, dim)), rows).astype(np.float32)


def found(index, *search):
    return [(hit.position, hit.similarity) for hit in index.search(*search)]


def change(step, rng, both, dim):
    """One random change of the index and of its plain model."""
    size = len(both[0])
    if step == "add":
        calls = [("add", whole_numbers(rng, int(rng.choice([0, 1, 30, 260])), dim))]
    elif step == "drop":
        calls = [("drop", int(at)) for at in rng.integers(0, size, rng.choice([1, 40, 300]) if size else 0)]
    elif step == "drop a run":
        begin = int(rng.integers(0, size + 1))
        calls = [("drop", at) for at in range(begin, min(size, begin + 150))]
    elif step == "compact":
        calls = [("compact", np.flatnonzero(both[1].there))]
    else:
        calls = [("compact", np.flatnonzero(rng.random(size) < rng.choice([0.0, 0.5, 0.95])))]
    for name, what in calls:
        for index in both:
            getattr(index, name)(what)


STEPS = ["add", "add", "add", "drop", "drop a run", "compact", "keep any"]


@settings(max_examples=120, deadline=None)
@example(["add"] * 3 + ["drop a run", "compact", "add", "add", "drop", "drop"], 1024, 20, 50, 0)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=3, max_size=14), dim=st.sampled_from([5, 1024]),
    exact_up_to=st.sampled_from([20, 200, 5000]), head_above=st.sampled_from([50, 10_000]), seed=st.integers(0, 9999),
)  # fmt: skip
def test_after_any_changes_a_search_finds_what_plain_numpy_finds(steps, dim, exact_up_to, head_above, seed):
    rng = np.random.default_rng(seed)
    both = PlaceIndex(dim, exact_up_to, head_above), PlainIndex(dim, exact_up_to)
    for step in steps:
        change(step, rng, both, dim)
        index, plain = both
        size = len(index)
        assert size == len(plain.rows)
        for query in whole_numbers(rng, 3, dim):
            count = int(rng.choice([1, 20, 400]))
            first, last = sorted(int(at) for at in rng.integers(0, size + 20, 2))
            for begin, limit in ((first, last), (0, last), (first, size)):
                hits = found(index, query, count, limit, begin)
                truth = plain.search(query, count, limit, begin)
                if dim == 1024 or limit <= exact_up_to or limit - begin <= count + 160:
                    assert hits == truth
                else:  # short descriptors have other codes than their own signs
                    there = [at for at in range(begin, min(limit, size)) if plain.there[at]]
                    similarity = plain.rows @ query
                    assert hits == sorted(((at, similarity[at]) for at, _ in hits), key=lambda hit: (-hit[1], hit[0]))
                    assert {at for at, _ in hits} <= set(there)
                    assert len(hits) == len({at for at, _ in hits}) == min(count, len(there))


def test_places_that_are_dropped_before_their_codes_are_made_are_dropped():
    rng = np.random.default_rng(5)
    index, plain = PlaceIndex(1024, exact_up_to=1100), PlainIndex(1024, 1100)
    both, rows = (index, plain), whole_numbers(rng, 1300, 1024)

    def add_and_drop(part, dropped):
        for one in both:
            one.add(part)
            for at in dropped:
                one.drop(at)

    add_and_drop(rows[:1030], [0, 5, *range(300, 310)])  # the mean is made of all; no code but of the first 1030
    add_and_drop(rows[1030:1060], [1040, 1059])
    for one in both:
        one.compact(np.flatnonzero(plain.there))
    add_and_drop(rows[1060:1080], [2, 1045])
    add_and_drop(rows[1080:], [len(index)])
    assert len(index) > 1100
    for at in range(0, 1300, 50):
        for begin, limit in ((0, len(index)), (900, len(index)), (3, 1150)):
            assert found(index, rows[at], 30, limit, begin) == plain.search(rows[at], 30, limit, begin)


def test_codes_lag_behind_what_is_dropped_and_moved():
    rng = np.random.default_rng(6)
    index, plain = PlaceIndex(1024, exact_up_to=1500), PlainIndex(1024, 1500)
    rows = whole_numbers(rng, 1700, 1024)
    steps = [
        (rows[:1000], [7]),
        (rows[1000:1020], [8]),
        *[(rows[at : at + 1], [at // 2, at][at % 4 :]) for at in range(1020, 1060)],
    ]
    for part, dropped in steps:
        for one in (index, plain):
            one.add(part)
            for at in dropped:
                one.drop(at)
    assert 0 < len(index._codes) < len(index)
    keep = np.flatnonzero(plain.there | (np.arange(len(plain.there)) % 90 == 0))  # some of the dropped ones with them
    for one in (index, plain):
        one.compact(keep)
        one.drop(len(keep) - 3)
        one.add(rows[1060:])
    assert len(index._codes) == len(index) > 1500
    for at in range(0, 1700, 60):
        for begin, limit in ((0, len(index)), (1000, len(index))):
            assert found(index, rows[at], 30, limit, begin) == plain.search(rows[at], 30, limit, begin)


@pytest.fixture(scope="module")
def drive():
    return stored_precision(np.concatenate(list(places(6000, DIM))))


@WAYS
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_dropping_moving_together_and_never_adding_are_the_same(way, share, drive):
    rng = np.random.default_rng(1)
    seen = queries(drive[1000:6000:250])
    dropped = rng.random(len(drive)) < share
    dropped[np.argsort(drive @ seen[3])[-700:]] = True  # all that was near to one of them
    dropped[:64] = False  # of which the codes take their mean
    keep = np.flatnonzero(~dropped)
    holes, fresh = PlaceIndex(DIM, **way), PlaceIndex(DIM, **way)
    holes.add(drive)
    fresh.add(drive[keep])
    for at in rng.permutation(np.flatnonzero(dropped)):
        holes.drop(int(at))
    searches = [(query, count, begin) for query in seen for count, begin in ((1, 0), (32, 0), (32, 900), (700, 5))]
    truth = [found(fresh, query, count, len(keep), begin) for query, count, begin in searches]
    for (query, count, begin), expected in zip(searches, truth, strict=True):
        hits = found(holes, query, count, len(drive), int(keep[begin]))
        assert [(int(np.searchsorted(keep, at)), similarity) for at, similarity in hits] == expected
    holes.compact(keep)
    assert [found(holes, query, count, len(keep), begin) for query, count, begin in searches] == truth
    holes.add(drive[:300])
    fresh.add(drive[:300])
    assert [found(holes, *search[:2], 9999) for search in searches] == [found(fresh, *s[:2], 9999) for s in searches]


@WAYS
def test_an_index_of_which_all_is_dropped_finds_nothing_and_can_be_filled_again(way, drive):
    index = PlaceIndex(DIM, **way)
    index.add(drive[:3000])
    for at in range(3000):
        index.drop(at)
        index.drop(at)  # again: nothing more
    assert (len(index), index.search(drive[0], 20, 3000), index.search(drive[0], 20, 3000, 2990)) == (3000, [], [])
    index.add(drive[3000:3300])
    assert [hit.position for hit in index.search(drive[3050], 1, 3300)] == [3050]
    index.compact(np.empty(0, np.int64))
    assert (len(index), index.search(drive[0], 20, 3000)) == (0, [])
    index.add(drive[5000:5300])
    assert [hit.position for hit in index.search(drive[5123], 1, 300)] == [123]


def test_places_are_coded_only_when_enough_of_them_are_left_to_take_the_mean_of(drive):
    index = PlaceIndex(DIM, exact_up_to=500)
    for begin in range(0, 2000, 100):
        index.add(drive[begin : begin + 100])
        for at in range(begin, begin + 90):
            index.drop(at)
            index.drop(at)  # again: no fewer are left
        if begin == 900:
            index.compact(np.arange(len(index)))  # those that are dropped stay so
    assert index._codes is None  # 200 are left: all of them are compared
    similarity = drive[:2000] @ drive[1995]
    similarity[np.arange(2000) % 100 < 90] = -2
    assert [hit.position for hit in index.search(drive[1995], 250, 2000)] == np.argsort(-similarity)[:200].tolist()
    assert index.search(drive[1995], 5, 1990, 710)[0].position == 710 + similarity[710:1990].argmax()
    index.add(drive[2000:2400])
    assert len(index._codes) == 2400


@pytest.mark.parametrize("position", [-1, 3, 2048])
def test_a_position_that_is_not_there_cannot_be_dropped(position, drive):
    index = PlaceIndex(DIM)
    index.add(drive[:3])
    with pytest.raises(IndexError, match=f"position {position} of an index of 3"):
        index.drop(position)
    assert len(index.search(drive[0], 5, 3)) == 3


@pytest.mark.parametrize(("begin", "limit"), [(5, 5), (6, 5), (300, 400), (400, 900), (-9, 0)])
def test_empty_ranges_hold_nothing(begin, limit, drive):
    for exact_up_to in (100, 1000):
        index = PlaceIndex(DIM, exact_up_to)
        index.add(drive[:300])
        assert index.search(drive[0], 5, limit, begin) == []
        assert sorted(hit.position for hit in index.search(drive[2], 200, 200, -7)) == list(range(200))


def test_a_narrow_range_compares_no_more_places_than_a_full_one(monkeypatch, drive):
    compared, best = [], HalfRows.best

    def counted(self, query, count, limit, begin=0):
        compared.append(limit - begin)
        return best(self, query, count, limit, begin)

    monkeypatch.setattr(HalfRows, "best", counted)
    index = PlaceIndex(DIM, exact_up_to=2000)
    index.add(drive)

    def cost(limit, begin):
        compared.clear()
        index.search(drive[0], 32, limit, begin)
        return sum(compared)

    assert cost(6000, 0) == 224
    assert [cost(6000, begin) for begin in (1, 3000, 4500, 5776, 5900)] == [224, 224, 224, 224, 100]
    assert [cost(2000, begin) for begin in (0, 500, 1999)] == [2000, 1500, 1]


def test_similarities_of_stored_places_are_their_products(drive):
    index, rng = PlaceIndex(DIM), np.random.default_rng(2)
    index.add(drive)
    a, b = rng.integers(0, 6000, (2, 1500))
    for at in (a[700], b[3]):
        index.drop(int(at))
    truth = np.einsum("nd,nd->n", drive[a].astype(np.float64), drive[b])
    truth[np.isin(a, [a[700], b[3]]) | np.isin(b, [a[700], b[3]])] = np.nan
    products = index.similarity(a, b)
    assert products == pytest.approx(truth, abs=1e-6, nan_ok=True)
    assert index.similarity(a[:0], b[:0]).shape == (0,)


def test_moving_together_and_similarities_take_little_memory_of_their_own(drive):
    index = PlaceIndex(DIM, exact_up_to=64)
    tracemalloc.start()
    try:
        index.add(np.tile(drive, (4, 1)))
        full = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        index.similarity(np.arange(24_000), np.arange(24_000)[::-1])
        assert tracemalloc.get_traced_memory()[1] < 1.15 * full
        tracemalloc.reset_peak()
        index.compact(np.arange(0, 16_384, 2))
        assert tracemalloc.get_traced_memory()[1] < 1.05 * full
        assert tracemalloc.get_traced_memory()[0] < 0.4 * full
    finally:
        tracemalloc.stop()
