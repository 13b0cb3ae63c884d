"""A map that takes the place of another: all at once, at the commit, and nobody who reads waits for it."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_map_store import DIM, MODEL, content, fill, keyframe, loop, python, read

from tscm_core.errors import MapFileError
from tscm_core.maps import writer
from tscm_core.maps.map_reader import Session, check
from tscm_core.maps.map_store import MapStore


@pytest.fixture
def store(tmp_path):
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as made:
        yield fill(made)


@pytest.fixture
def other(tmp_path) -> Path:
    """A saved map of five keyframes, 2, 4, 6, 8 and 21, in one session."""
    with MapStore.create(tmp_path / "other.live", MODEL, DIM) as made:
        made.begin_session("friday", 77)
        for id_ in (2, 4, 6, 8, 21):
            loops = [loop(id_, keyframe(2, "friday"))] if id_ == 8 else []
            made.add(keyframe(id_, "friday", features=b"new", thumbnail_jpeg=b"new"), loops)
        made.save_copy(tmp_path / "other.tscm")
    return tmp_path / "other.tscm"


def state(store):
    blobs = [(store.features(id_), store.thumbnail(id_)) for id_ in range(1, 23)]
    return content(store), blobs, store.count, store.next_id, store.newest_session, store.without_features()


def test_readers_see_the_old_map_until_the_commit_and_the_new_one_after_it(store, other, tmp_path):
    before = state(store)
    with store.replacing(other, "monday") as replacement:
        assert state(store) == before
        seen = []
        thread = threading.Thread(target=lambda: seen.append(state(store)))
        thread.start()
        thread.join(20)
        assert seen == [before]
        assert store.save_copy(tmp_path / "kept.tscm") == 12
        assert (replacement.count, replacement.newest_session) == (5, "monday")
        frames, loops = list(replacement.keyframes()), list(replacement.loops())
        assert replacement.commit() == 5
        after = state(store)
        assert store.newest_session == "monday"
        store.add(keyframe(22, "monday"))
    assert read(tmp_path / "kept.tscm") == before[0]
    assert [(item.id, item.session, item.features) for item in frames] == [
        (id_, "friday", b"new") for id_ in (2, 4, 6, 8, 21)
    ]
    assert loops == after[0][2] == [loop(8, keyframe(2, "friday"))]
    assert [row[0] for row in after[0][1]] == [2, 4, 6, 8, 21]
    assert [item[:2] for item in after[1]][1::2][:4] == [(b"new", b"new")] * 4
    assert after[2:4] == (5, 22)
    assert store.count == 6
    assert [(s.name, s.keyframes) for s in store.sessions()] == [("friday", 5), ("monday", 1)]
    assert check(store.path) == []


@pytest.mark.parametrize("how", ["left", "failed", "killed", "closed"])
def test_leaving_without_a_commit_leaves_the_map_as_it_was(store, other, how):
    before = state(store)
    if how == "killed":
        store.close()
        script = """
            import os, sys
            from tscm_core.maps.map_store import MapStore
            with MapStore.open(sys.argv[1], sys.argv[2], int(sys.argv[3])) as store:
                with store.replacing(sys.argv[4], "x") as replacement:
                    print(len(list(replacement.keyframes())), flush=True)
                    os._exit(9)
        """
        process = python(script, store.path, MODEL, DIM, other)
        assert process.communicate(timeout=60)[0] == "5\n"
        assert process.returncode == 9
    elif how == "closed":
        with store.replacing(other) as replacement:
            frames = replacement.keyframes()
            store.close()
            for use in (replacement.commit, lambda: next(frames), lambda: list(replacement.loops())):
                with pytest.raises(MapFileError, match="is closed"):
                    use()
    else:
        with contextlib.suppress(KeyError), store.replacing(other) as replacement:
            if how == "failed":
                raise KeyError
        with pytest.raises(MapFileError, match="is no longer to be"):
            replacement.commit()
    with contextlib.nullcontext(store) if how in ("left", "failed") else MapStore.open(store.path, MODEL, DIM) as now:
        assert state(now) == before
        with pytest.raises(MapFileError, match="FOREIGN KEY"):
            now.add(keyframe(13), [loop(13, keyframe(99))])
        now.add(keyframe(13), drop=[3])
    assert check(store.path) == []


@pytest.mark.parametrize("clear", [False, True])
def test_who_wants_to_write_meanwhile_is_refused_at_once(store, other, clear):
    why = "the map is being cleared" if clear else "a map is being loaded"
    with store.clearing() if clear else store.replacing(other) as replacement:
        for use in (
            lambda: store.add(keyframe(13)),
            lambda: store.begin_session("x", 1),
            lambda: store.clear("x"),
            lambda: store.replace_with(other),
        ):
            with pytest.raises(MapFileError, match=rf"{why}; try again when that is done"):
                use()
        replacement.commit()
        with pytest.raises(MapFileError, match="has been replaced"):
            replacement.commit()
        store.begin_session("x", 1)
        with pytest.raises(MapFileError, match="FOREIGN KEY"):
            store.add(keyframe(30, "x"), [loop(30, keyframe(29))])
        store.add(keyframe(30, "x"))
    store.add(keyframe(31, "x"))
    assert store.count == (2 if clear else 7)


def test_another_may_begin_as_soon_as_the_first_is_committed(store, other):
    """Its transaction must not be ended by the end of the first."""
    first = store.replacing(other)
    first.__enter__().commit()
    with store.clearing("x") as second:
        first.__exit__(None, None, None)
        assert store.count == 5
        second.commit()
    assert (store.count, store.newest_session) == (0, "x")
    assert store.sessions() == (Session("x", store.sessions()[0].started_ns, 0, 0),)


def test_clearing_is_a_replacement_by_nothing(store):
    before = state(store)
    with store.clearing("x") as replacement:
        assert state(store) == before
        assert (replacement.count, replacement.newest_session, list(replacement.keyframes())) == (0, "x", [])
    assert state(store) == before
    with store.clearing() as replacement:
        assert replacement.newest_session == ""
        replacement.commit()
    assert (content(store), store.count, store.next_id) == (((), [], []), 0, 1)


def test_the_log_is_in_the_map_when_the_context_is_left(store, other):
    """Or the next keyframe would have to wait until all of it is moved."""
    store.replace_with(other)
    with sqlite3.connect(f"file:{store.path}?immutable=1", uri=True) as alone:
        assert alone.execute("SELECT count(*), max(id) FROM keyframes").fetchone() == (5, 21)
    assert store._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (1000,)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_any_map_takes_the_place_of_any_other(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("any")
    for name, wanted in (("old", old), ("new", new)):
        with MapStore.create(folder / name, MODEL, DIM) as store:
            store.begin_session("monday", 1)
            first = None
            for id_ in sorted(wanted):
                item = keyframe(id_, features=name.encode() * 3000)
                store.add(item, [loop(id_, first), loop(id_, item, 1)] if first else [])
                first = first or item
    expected = read(folder / "new")
    with MapStore.open(folder / "old", MODEL, DIM) as store:
        with store.replacing(folder / "new") as replacement:
            assert [item.id for item in replacement.keyframes()] == sorted(new)
            assert list(replacement.loops()) == expected[2]
            replacement.commit()
        assert content(store) == expected
        assert store.next_id == max(new, default=0) + 1
    assert check(folder / "old") == []


def test_pages_of_a_large_map_are_written_once(tmp_path, monkeypatch):
    """SQLite would have to read all of the log at the commit if it had written over a page in it."""
    monkeypatch.setattr(writer, "_CACHE_KIB", 2000)  # as if the map were larger
    for name, count in (("old", 260), ("new", 240)):
        with MapStore.create(tmp_path / name, MODEL, DIM) as store:
            store.begin_session("monday", 1)
            first = keyframe(1)
            for id_ in range(1, count + 1):
                links = [loop(id_, first)] if id_ > 1 else []
                store.add(keyframe(id_, features=bytes([id_ % 256]) * 30_000), links)
    with MapStore.open(tmp_path / "old", MODEL, DIM) as store, store.replacing(tmp_path / "new", "x") as replacement:
        log = tmp_path / "old-wal"
        with log.open("rb") as file:
            spilled = file.read()
        replacement.commit()
        with log.open("rb") as file:
            whole = file.read()
    assert len(spilled) > 240 * 30_000 * 0.6
    assert whole[: len(spilled)] == spilled
