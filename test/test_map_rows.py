"""Keyframes that a map gives up: gone for good, never one that a loop rests on, and their room is used again."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_map_store import DIM, MODEL, content, fill, keyframe, loop, read

from tscm_core.errors import MapFileError
from tscm_core.maps.map_reader import check, inspect
from tscm_core.maps.map_store import MapStore


@pytest.fixture
def store(tmp_path):
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as made:
        yield fill(made)


def ids(book):
    return [item.id for item in book.keyframes()]


def test_what_is_given_up_is_gone_and_all_else_stays(store, tmp_path):
    _, frames, loops = content(store)
    store.add(keyframe(13, "tuesday"), [loop(13, keyframe(4))], drop=[3, 9, 12])
    _, after, loops_after = content(store)
    assert [row[0] for row in after] == [1, 2, 4, 5, 6, 7, 8, 10, 11, 13]
    assert after[:-1] == [row for row in frames if row[0] not in (3, 9, 12)]
    assert loops_after == [*loops, loop(13, keyframe(4))]
    assert (store.count, store.next_id) == (10, 14)
    assert (store.features(9), store.thumbnail(12), store.features(11)) == (None, None, bytes([11]) * 20)
    expected = content(store)
    assert store.save_copy(tmp_path / "saved.tscm") == 10
    assert read(tmp_path / "saved.tscm") == expected
    store.close()
    with MapStore.open(store.path, MODEL, DIM) as again:
        assert (content(again), again.count, again.next_id) == (expected, 10, 14)


@pytest.mark.parametrize(
    ("drop", "said"),
    [
        ([3, 7], "cannot give up keyframe 7: a loop rests on it"),
        ([3, 1], "cannot give up keyframe 1: a loop rests on it"),
        ([3, 5], "cannot give up keyframe 5: a loop rests on it"),
        ([3, 99], "cannot give up keyframe 99: it is not in the map"),
        ([3, 3], "cannot give up keyframe 3: it is not in the map"),
        ([13], "cannot give up keyframe 13: a loop rests on it"),
    ],
)
def test_what_cannot_be_given_up_changes_nothing(store, drop, said):
    before = content(store)
    with pytest.raises(MapFileError, match=said):
        store.add(keyframe(13), [loop(13, keyframe(5))], drop)
    assert content(store) == before
    assert (store.count, store.next_id) == (12, 13)
    with pytest.raises(MapFileError, match="FOREIGN KEY"):  # SQLite looks again at what is stored
        store.add(keyframe(13), [loop(13, keyframe(99))])
    store.add(keyframe(13), [loop(13, keyframe(5))], [3])


def test_a_loop_cannot_name_what_is_gone_or_goes(store):
    store.add(keyframe(13), drop=[5])
    for drop in ([], [6]):
        with pytest.raises(MapFileError, match=r"FOREIGN KEY|names keyframe 5, which it lacks"):
            store.add(keyframe(14), [loop(14, keyframe(5))], drop)
    assert ids(store) == [1, 2, 3, 4, 6, *range(7, 14)]
    assert check(store.path) == []


def test_loops_that_were_stored_or_loaded_later_are_respected(store, tmp_path):
    store.save_copy(tmp_path / "saved.tscm")
    store.add(keyframe(13), drop=[3])
    store.add(keyframe(14), [loop(14, keyframe(4))])
    with pytest.raises(MapFileError, match="keyframe 4: a loop rests on it"):
        store.add(keyframe(15), drop=[4])
    store.replace_with(tmp_path / "saved.tscm")
    store.add(keyframe(13), drop=[4])
    store.clear("wednesday")
    for id_ in (1, 2):
        store.add(keyframe(id_, "wednesday"))
    store.add(keyframe(3, "wednesday"), drop=[1])
    assert ids(store) == [2, 3]


def test_no_id_comes_twice_though_the_newest_keyframe_is_given_up(store):
    store.add(keyframe(13), drop=[12])
    store.add(keyframe(14), drop=[13])
    store.close()
    with MapStore.open(store.path, MODEL, DIM) as again:
        assert (again.next_id, ids(again)) == (15, [*range(1, 12), 14])
        with pytest.raises(MapFileError, match="cannot take keyframe 14 after 14"):
            again.add(keyframe(14))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.sets(st.integers(1, 25), max_size=3), st.booleans()), max_size=12))
def test_any_drive_holds_what_a_plain_list_would(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("any") / "live.tscm"
    store = MapStore.create(path, MODEL, DIM)
    store.begin_session("monday", 1)
    there, named, highest = {}, set(), 0
    for gap, drop, linked in steps:
        highest += gap
        match = min(there, default=None) if linked else None
        links = [loop(highest, there[match])] if match else []
        ends = {highest, match} if match else set()
        item = keyframe(highest)
        if drop <= there.keys() and not drop & (named | ends):
            store.add(item, links, sorted(drop))
            there = {id_: old for id_, old in there.items() if id_ not in drop} | {highest: item}
            named |= ends
        else:
            with pytest.raises(MapFileError, match="cannot give up keyframe"):
                store.add(item, links, sorted(drop))
        if not linked:
            store.close()
            store = MapStore.open(path, MODEL, DIM)
    with store:
        assert [replace(item, descriptor=0) for item in store.keyframes()] == [
            replace(item, descriptor=0) for item in there.values()
        ]
        assert store.count == len(there)
        assert {end for item in store.loops() for end in (item.keyframe_id, item.candidate.keyframe_id)} == named
    assert check(path) == []


def test_a_map_that_gives_up_as_much_as_it_gets_does_not_grow(tmp_path):
    path, bound = tmp_path / "live.tscm", 30
    sizes, logs = [], []
    with MapStore.create(path, MODEL, DIM) as store:
        store.begin_session("monday", 1)
        for id_ in range(1, 400):
            drop = [id_ - bound + 7 * (id_ % 3)] if id_ > bound + 14 else []  # from the middle, in no order
            drop = [gone for gone in drop if store.thumbnail(gone) is not None] or ids(store)[: id_ > bound + 14]
            store.add(keyframe(id_, features=bytes([id_ % 251]) * (28_000 + id_ * 37 % 4000)), drop=drop)
            sizes.append(store._db.execute("PRAGMA page_count").fetchone()[0])
            logs.append((tmp_path / "live.tscm-wal").stat().st_size)
        assert store.count == bound + 14
    assert max(sizes) < 1.1 * sizes[60]
    assert max(logs) < 8 * 2**20
    assert path.stat().st_size < 1.1 * 4096 * sizes[60]
    assert check(path) == []


def test_rows_that_vanish_in_the_log_of_a_killed_process_are_no_sign_of_another_map(store, tmp_path):
    store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    store.add(keyframe(13), drop=[3, 4])
    store.add(keyframe(14), drop=[12, 13])
    expected = content(store)
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(tmp_path / f"live.tscm{suffix}", tmp_path / f"killed.tscm{suffix}")
    with sqlite3.connect(f"file:{tmp_path / 'killed.tscm'}?immutable=1", uri=True) as alone:  # without its log
        assert alone.execute("SELECT count(*), max(id) FROM keyframes").fetchone() == (12, 12)
    assert read(tmp_path / "killed.tscm") == expected
    assert inspect(tmp_path / "killed.tscm").keyframes == 10
    with MapStore.open(tmp_path / "killed.tscm", MODEL, DIM) as again:
        assert (content(again), again.next_id) == (expected, 15)
