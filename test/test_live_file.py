"""Which file is an earlier state of a map, and so may be replaced, when maps give keyframes up."""

from __future__ import annotations

import shutil

import pytest
from test_map_store import DIM, MODEL, keyframe, loop, read

from tscm_core.maps.live_file import keep_unless_earlier, keep_unless_in, open_live_file
from tscm_core.maps.map_store import MapStore


@pytest.fixture
def store(tmp_path):
    """Two drives of six keyframes each."""
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as made:
        for name, first in (("monday", 1), ("tuesday", 7)):
            made.begin_session(name, first)
            for id_ in range(first, first + 6):
                made.add(keyframe(id_, name))
        yield made


@pytest.fixture
def saved(store, tmp_path):
    store.save_copy(tmp_path / "saved.tscm")
    return tmp_path / "saved.tscm"


def kept(tmp_path):
    return sorted(path.name for path in tmp_path.glob("*.previous-*"))


def test_saving_over_what_the_map_was_before_it_was_thinned_keeps_no_copy(store, saved, tmp_path):
    store.add(keyframe(13, "tuesday"), drop=[1, 2, 3, 8, 9, 10])
    assert store.count < 12
    assert keep_unless_earlier(saved, store) is None
    store.save_copy(saved)
    store.add(keyframe(14, "tuesday"), drop=[11, 12])
    assert keep_unless_earlier(saved, store) is None
    assert kept(tmp_path) == []


def test_saving_over_a_file_that_got_further_keeps_it(store, saved, tmp_path):
    """Another robot, say, which began with this map and went on with its last drive."""
    with MapStore.open(saved, MODEL, DIM) as other:
        other.add(keyframe(13, "tuesday"), drop=[1, 2, 3])  # fewer keyframes than the running map has
    copy = keep_unless_earlier(saved, store)
    assert copy is not None
    assert [row[0] for row in read(copy)[1]] == [*range(4, 14)]
    assert kept(tmp_path) == [copy.name]


def test_saving_over_a_drive_of_which_nothing_is_left_keeps_it(store, saved, tmp_path):
    store.add(keyframe(13, "tuesday"), drop=range(1, 7))
    assert keep_unless_earlier(saved, store) is not None
    assert len(kept(tmp_path)) == 1


def test_loading_what_the_running_map_was_before_it_was_thinned_keeps_what_came_since(store, saved, tmp_path):
    store.add(keyframe(13, "tuesday"), drop=[1, 2, 3, 8, 9])  # fewer keyframes than that one has, of each drive
    copy = keep_unless_in(saved, store, tmp_path / "map.tscm")
    assert read(copy) == read(store.path)


def test_loading_what_lacks_keyframes_of_the_running_map_keeps_them(store, saved, tmp_path):
    with MapStore.open(saved, MODEL, DIM) as other:
        other.begin_session("friday", 99)
        other.add(keyframe(13, "friday"), [loop(13, keyframe(12, "tuesday"))], drop=[2])
    copy = keep_unless_in(saved, store, tmp_path / "map.tscm")
    assert read(copy) == read(store.path)


def test_loading_what_holds_all_of_the_running_map_keeps_no_copy(store, saved, tmp_path):
    assert keep_unless_in(saved, store, tmp_path / "map.tscm") is None
    with MapStore.open(saved, MODEL, DIM) as other:
        other.begin_session("friday", 99)
        other.add(keyframe(13, "friday"))
    assert keep_unless_in(saved, store, tmp_path / "map.tscm") is None
    assert kept(tmp_path) == []


def test_loading_a_map_that_gave_up_others_of_the_same_drive_keeps_what_it_lacks(store, saved, tmp_path):
    """As many keyframes in each session and the same last ones, and yet not the same."""
    store.add(keyframe(13, "tuesday"), drop=[2, 9])
    with MapStore.open(saved, MODEL, DIM) as other:
        other.add(keyframe(13, "tuesday"), drop=[3, 9])
    copy = keep_unless_in(saved, store, tmp_path / "map.tscm")
    assert read(copy) == read(store.path)


@pytest.mark.parametrize("content", [1000, 3_000_000])
def test_a_log_that_lost_its_end_is_noticed_by_its_index_before_anything_makes_that_anew(tmp_path, content):
    """Whatever looks into the map first, to see whether it is empty, must leave the index alone."""
    (tmp_path / "killed").mkdir()
    live = tmp_path / "map.tscm.live"
    with MapStore.create(live, MODEL, DIM) as store:
        store.begin_session("monday", 1)
        for id_ in range(1, 4):
            store.add(keyframe(id_, features=bytes(content)))
        for suffix in ("", "-wal", "-shm"):
            shutil.copy2(f"{live}{suffix}", tmp_path / "killed" / f"map.tscm.live{suffix}")
    with (tmp_path / "killed" / "map.tscm.live-wal").open("r+b") as log:
        log.truncate(32)
    store, notes = open_live_file(tmp_path / "killed" / "map.tscm", True, MODEL, DIM)
    store.close()
    assert len(notes) == 1
    assert "is damaged" in notes[0] or "is kept as" in notes[0]
    assert list((tmp_path / "killed").glob("*.previous-*-wal"))
