"""The map file: what goes in comes out, and nothing that happens to a file or a process costs a map."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tscm_core.errors import MapFileError, MapInUseError, ModelMismatchError
from tscm_core.maps import map_check, map_copy
from tscm_core.maps.map_format import FORMAT, SCHEMA
from tscm_core.maps.map_reader import MapReader, Session, check, inspect
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.precision import decode_descriptor, encode_descriptor, stored_precision
from tscm_core.recognition.records import Candidate, Keyframe, Loop, Pose, RelativePose, Status

MODEL, DIM = "student-1a2b", 8
ROOT = Path(__file__).resolve().parent.parent
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def unit(seed: int, dim: int = DIM) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dim)
    return stored_precision((vector / np.linalg.norm(vector)).astype(np.float32))


def keyframe(id_: int, session: str = "monday", **changes) -> Keyframe:
    pose = Pose((0.5 * id_, -1.0, 0.0), (0.0, 0.0, 0.6, 0.8), "odom") if id_ % 3 else None
    features = bytes([id_ % 256]) * 20 if id_ % 2 else None
    made = Keyframe(
        id_, session, 1_700_000_000_000_000_000 + id_, pose, 0.5 * id_, unit(id_), b"\xff\xd8jpeg", features
    )
    return replace(made, **changes)


def loop(id_: int, match: Keyframe, rank: int = 0) -> Loop:
    relative = RelativePose((1.0, 0.0, -0.25), (0.0, 0.0, 0.0, 1.0), bool(id_ % 2), tuple(float(i) for i in range(36)))
    return Loop(
        id_,
        Candidate(
            match.id, match.session, match.stamp_ns, match.pose, 0.93, 0.5, rank, Status.ACCEPTED, 3, 120, 80,
            relative if rank == 0 else None,
        ),
    )  # fmt: skip


def fill(store: MapStore, count: int = 12) -> MapStore:
    store.begin_session("monday", 5)
    store.begin_session("tuesday", 2**62)
    first = keyframe(1)
    for id_ in range(1, count + 1):
        loops = [loop(id_, first), loop(id_, keyframe(2), 1)] if id_ in (7, 8) else []
        store.add(keyframe(id_, "monday" if id_ < 9 else "tuesday"), loops)
    return store


def content(book: MapStore | MapReader) -> tuple:
    frames = [
        (*(getattr(item, name) for name in item.__slots__ if name != "descriptor"), item.descriptor.tobytes())
        for item in book.keyframes()
    ]
    return book.sessions(), frames, list(book.loops())


def read(path: Path) -> tuple:
    with MapReader(path, MODEL, DIM) as reader:
        return content(reader)


@pytest.fixture
def store(tmp_path):
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as made:
        yield fill(made)


@pytest.fixture
def saved(store, tmp_path):
    store.save_copy(tmp_path / "saved.tscm")
    return tmp_path / "saved.tscm"


def python(script: str, *arguments: object, **options) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'test'}"}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def tamper(statements: str, path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(statements)


def litter(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ------------------------------------------------------------------------------------- what goes in comes out


def test_everything_comes_back(store, tmp_path):
    expected = content(store)
    frames = list(store.keyframes())
    assert [frame.id for frame in frames] == list(range(1, 13))
    assert replace(frames[0], descriptor=0) == replace(keyframe(1), descriptor=0)
    assert frames[0].descriptor.tobytes() == unit(1).tobytes()
    assert frames[0].descriptor.dtype == np.float32
    assert frames[0].descriptor.flags.c_contiguous
    assert [*store.loops()] == [
        loop(7, keyframe(1)),
        loop(7, keyframe(2), 1),
        loop(8, keyframe(1)),
        loop(8, keyframe(2), 1),
    ]
    assert store.sessions() == (Session("monday", 5, 8, 8), Session("tuesday", 2**62, 4, 12))
    assert (store.count, store.next_id) == (12, 13)
    assert store.save_copy(tmp_path / "new" / "folder" / "saved.tscm") == 12
    assert read(tmp_path / "new" / "folder" / "saved.tscm") == expected
    store.close()
    with MapStore.open(tmp_path / "live.tscm", MODEL, DIM) as again:
        assert content(again) == expected
        assert (again.count, again.next_id) == (12, 13)
        again.add(keyframe(13, "tuesday"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    quaternion=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    frame_id=st.text(st.characters(exclude_categories=["Cs"])),
    travelled=NUMBERS,
    stamp=st.integers(-(2**63), 2**63 - 1),
    blobs=st.tuples(st.binary(), st.none() | st.binary()),
)
def test_any_keyframe_survives_its_own_checksum(store, position, quaternion, frame_id, travelled, stamp, blobs):
    pose = Pose(position, quaternion, frame_id)
    wanted = keyframe(
        store.next_id,
        pose=pose,
        travelled_m=travelled,
        stamp_ns=stamp,
        thumbnail_jpeg=blobs[0],
        features=blobs[1],
    )
    store.add(wanted)
    *_, got = store.keyframes()
    assert replace(got, descriptor=0) == replace(wanted, descriptor=0)
    assert check(store.path) == []


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1, 1, width=32)))
def test_stored_precision_is_a_fixed_point_of_coding(vector):
    stored = stored_precision(vector)
    assert stored_precision(stored).tobytes() == stored.tobytes()
    assert decode_descriptor(encode_descriptor(stored), len(vector)).tobytes() == stored.tobytes()
    assert encode_descriptor(vector) == encode_descriptor(stored)


def test_numpy_numbers_are_stored_as_numbers(store):
    number = np.float32(0.1)
    odd = keyframe(np.int64(13), stamp_ns=np.int64(7), pose=Pose((number,) * 3, (number,) * 4), travelled_m=number)
    store.add(odd)
    *_, got = store.keyframes()
    assert got.pose == odd.pose
    assert got.travelled_m == number
    assert check(store.path) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"descriptor": unit(1, DIM + 1)}, "unit vector of 8"),
        ({"descriptor": unit(1) * 2}, "unit vector"),
        ({"descriptor": unit(1) * np.float32("nan")}, "unit vector"),
        ({"pose": Pose((0.0, float("nan"), 0.0))}, "nan"),
        ({"pose": Pose((0.0, 0.0, 0.0), frame_id="\udc80")}, "surrogates"),
        ({"travelled_m": float("inf")}, "inf"),
        ({"stamp_ns": 2**63}, "too large"),
        ({"session": "friday"}, "no session 'friday'"),
        ({"id": 12}, "cannot take keyframe 12 after 12"),
    ],
)
def test_keyframes_that_cannot_be_stored_change_nothing(store, wrong, said):
    before = content(store)
    with pytest.raises(MapFileError, match=said):
        store.add(replace(keyframe(13), **wrong))
    assert content(store) == before
    assert store.count == 12


def test_a_keyframe_and_its_loops_are_stored_together_or_not_at_all(store):
    before = content(store)
    bad = [
        loop(13, keyframe(99)),
        replace(loop(13, keyframe(1)), candidate=replace(loop(13, keyframe(1)).candidate, status=Status.AMBIGUOUS)),
        replace(loop(13, keyframe(1)), candidate=replace(loop(13, keyframe(1)).candidate, similarity=float("nan"))),
    ]
    for wrong in bad:
        with pytest.raises(MapFileError):
            store.add(keyframe(13), [loop(13, keyframe(1)), wrong])
    assert content(store) == before
    assert (store.count, store.next_id) == (12, 13)
    store.add(keyframe(13), [loop(13, keyframe(1))])


def test_sessions_have_unique_names(store):
    with pytest.raises(MapFileError, match="session 'monday' already"):
        store.begin_session("monday", 9)
    assert store.begin_session("Mittwoch ✓", 9) == 3


def test_clear_forgets_everything(store, tmp_path):
    store.clear()
    assert content(store) == ((), [], [])
    assert (store.count, store.next_id) == (0, 1)
    fill(store)
    assert store.save_copy(tmp_path / "saved.tscm") == 12


def test_closed_store_says_so(store, tmp_path):
    store.close()
    store.close()
    for use in (
        lambda: store.add(keyframe(13)),
        lambda: list(store.keyframes()),
        lambda: store.save_copy(tmp_path / "x"),
        lambda: store.begin_session("x", 1),
        store.clear,
        lambda: store.replace_with(tmp_path / "y"),
    ):
        with pytest.raises(MapFileError, match="is closed"):
            use()
    assert litter(tmp_path) == {"live.tscm", "live.tscm.lock"}


def test_iterating_sees_one_moment(store):
    frames = store.keyframes()
    next(frames)
    store.add(keyframe(13))
    assert len(list(frames)) == 11
    assert store.count == 13


# ------------------------------------------------------------------------------------- one process, and death


def test_second_writer_is_refused_until_the_first_is_gone(store, saved, tmp_path):
    live = tmp_path / "live.tscm"
    with pytest.raises(MapInUseError, match=f"map {live}: is in use by process {os.getpid()}: "):
        MapStore.open(live, MODEL, DIM)
    with pytest.raises(MapInUseError):
        MapStore.create(live, MODEL, DIM)
    store.close()
    holder = python(
        """
        import sys
        from tscm_core.maps.map_store import MapStore
        store = MapStore.open(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        print("open", flush=True)
        sys.stdin.read()
        """,
        live, MODEL, DIM, stdin=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(MapInUseError, match=f"in use by process {holder.pid}"):
        MapStore.open(live, MODEL, DIM)
    with MapStore.create(tmp_path / "other.tscm", MODEL, DIM) as other:
        with pytest.raises(MapInUseError, match=f"in use by process {holder.pid}"):
            other.save_copy(live)
        assert other.replace_with(live) == 12  # somebody's running map may be read
        assert content(other) == read(saved) == read(live)
    assert check(live) == []
    assert inspect(live).keyframes == 12
    holder.kill()
    holder.communicate()
    with MapStore.open(live, MODEL, DIM) as again:
        assert again.count == 12


def test_killed_process_loses_nothing_that_it_committed(tmp_path):
    live = tmp_path / "live.tscm"
    child = python(
        """
        import sys
        from test_map_store import MODEL, DIM, keyframe
        from tscm_core.maps.map_store import MapStore
        store = MapStore.create(sys.argv[1], MODEL, DIM)
        store.begin_session("monday", 1)
        while True:
            store.add(keyframe(store.next_id))
            print(store.count, flush=True)
        """,
        live,
    )
    for line in child.stdout:
        if int(line) >= 300:
            break
    child.kill()
    reported = max(map(int, [line, *child.communicate()[0].split()]))
    before = litter(tmp_path)
    assert "live.tscm-wal" in before
    with MapReader(live, MODEL, DIM) as dead:  # a map that was never closed can be read without touching it
        assert dead.count >= reported
        everything = content(dead)
    assert litter(tmp_path) == before
    with MapStore.create(tmp_path / "other.tscm", MODEL, DIM) as other:
        other.replace_with(live)
        assert content(other) == everything
        with pytest.raises(MapFileError, match="not closed by its last writer"):
            other.save_copy(live)
    with MapStore.open(live, MODEL, DIM) as again:
        assert content(again) == everything
        assert [frame.id for frame in again.keyframes()] == list(range(1, again.count + 1))


def test_process_killed_while_loading_leaves_the_old_map_or_the_new_one(store, saved, tmp_path):
    old, live = content(store), store.path
    store.close()
    with MapStore.create(tmp_path / "big.tscm", MODEL, DIM) as big:
        fill(big, 400)
        new = content(big)
        big.save_copy(tmp_path / "big-saved.tscm")
    script = """
        import os, signal, sys
        from tscm_core.maps.map_reader import MapReader
        from tscm_core.maps.map_store import MapStore
        rows = MapReader.rows
        def dying(self, table):
            for number, row in enumerate(rows(self, table)):
                if table.name == "keyframes" and number == int(sys.argv[5]):
                    os.kill(os.getpid(), signal.SIGKILL)
                yield row
        MapReader.rows = dying
        MapStore.open(sys.argv[1], sys.argv[2], int(sys.argv[3])).replace_with(sys.argv[4])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for when, expected in ((399, old), (1000, new)):
        child = python(script, live, MODEL, DIM, tmp_path / "big-saved.tscm", when)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        with MapStore.open(live, MODEL, DIM) as again:
            assert content(again) == expected


def test_create_removes_logs_of_a_deleted_map_and_refuses_an_existing_one(store, saved, tmp_path):
    with pytest.raises(MapFileError, match="exists already"):
        MapStore.create(saved, MODEL, DIM)
    with pytest.raises(MapFileError, match="exists already"):
        MapStore.create(tmp_path, MODEL, DIM)
    fresh = tmp_path / "fresh.tscm"
    fresh.touch()  # a create that was killed in other days
    for suffix in ("-wal", "-shm", "-journal"):
        (tmp_path / f"fresh.tscm{suffix}").write_bytes((tmp_path / "live.tscm-wal").read_bytes())
    with MapStore.create(fresh, MODEL, DIM) as made:
        assert made.count == 0
    with MapStore.open(fresh, MODEL, DIM) as again:
        assert content(again) == ((), [], [])


# ----------------------------------------------------------------------------------------------------- saving


def test_saving_while_threads_add(store, tmp_path):
    target, counts = tmp_path / "saved.tscm", []

    def save() -> None:
        for _ in range(8):
            counts.append(store.save_copy(target))
            assert check(target) == []

    savers = [threading.Thread(target=save) for _ in range(2)]
    for saver in savers:
        saver.start()
    while any(saver.is_alive() for saver in savers):
        store.add(keyframe(store.next_id, features=os.urandom(2000)))
    assert len(counts) == 16
    assert 12 <= counts[0] <= counts[-1] <= store.count
    saved = read(target)[1]
    assert saved == content(store)[1][: len(saved)]
    store.close()
    assert litter(tmp_path) == {"live.tscm", "live.tscm.lock", "saved.tscm"}


def test_a_copy_can_be_driven_on_and_saved_again(saved, tmp_path):
    with MapStore.open(saved, MODEL, DIM) as driven:
        driven.add(keyframe(13, "tuesday"))
        driven.save_copy(tmp_path / "second.tscm")
        everything = content(driven)
    assert read(saved) == read(tmp_path / "second.tscm") == everything


def test_links_are_followed(store, saved, tmp_path):
    (tmp_path / "current.tscm").symlink_to(saved)
    store.add(keyframe(13))
    assert store.save_copy(tmp_path / "current.tscm") == 13
    assert (tmp_path / "current.tscm").is_symlink()
    assert inspect(saved).keyframes == 13
    (tmp_path / "me.tscm").symlink_to(store.path)
    with pytest.raises(MapInUseError):
        MapStore.open(tmp_path / "me.tscm", MODEL, DIM)
    for use in (store.save_copy, store.replace_with):
        with pytest.raises(MapFileError, match="is the running map itself"):
            use(tmp_path / "me.tscm")


@pytest.mark.parametrize(
    "name", ["live.tscm", "live.tscm-wal", "live.tscm.lock", "folder", "saved.tscm/x", "a\0b", "n" * 300]
)
def test_targets_that_are_refused(store, saved, tmp_path, name):
    (tmp_path / "folder").mkdir()
    before, everything = litter(tmp_path), content(store)
    with pytest.raises(MapFileError):
        store.save_copy(tmp_path / name)
    assert litter(tmp_path) == before
    assert content(store) == everything == read(saved)
    store.add(keyframe(13))


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace", "tscm_core.maps.map_copy.digest"])
def test_older_map_survives_a_save_that_fails(store, saved, tmp_path, monkeypatch, broken):
    before, old = litter(tmp_path), saved.read_bytes()
    store.add(keyframe(13))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, fail)
        with pytest.raises(MapFileError, match="cannot be saved: No space left on device"):
            store.save_copy(saved)
    assert litter(tmp_path) == before
    assert saved.read_bytes() == old
    assert store.save_copy(saved) == 13


def test_older_map_survives_a_full_disk(store, saved, tmp_path):
    old, live = saved.read_bytes(), store.path
    for id_ in range(13, 40):
        store.add(keyframe(id_, features=os.urandom(5000)))
    store.close()
    child = python(
        """
        import resource, signal, sys
        from tscm_core.errors import MapFileError
        from tscm_core.maps.map_store import MapStore
        store = MapStore.open(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))
        try:
            store.save_copy(sys.argv[4])
        except MapFileError as error:
            print(error)
        """,
        live, MODEL, DIM, saved,
    )  # fmt: skip
    said = child.communicate()[0]
    assert child.returncode == 0
    assert f"map {saved}: cannot be saved: " in said
    assert saved.read_bytes() == old
    assert not [name for name in litter(tmp_path) if name.startswith(".tscm-saving")]


def test_leftovers_of_killed_saves_are_removed_and_those_of_living_ones_kept(store, saved, tmp_path):
    child = python(
        """
        import os, signal, sys
        from pathlib import Path
        from tscm_core.maps import map_copy
        def die(unfinished):
            Path(str(unfinished) + "-journal").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        map_copy.write_beside(Path(sys.argv[1]), die)
        """,
        saved,
    )
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    assert len([name for name in litter(tmp_path) if name.startswith(".tscm-saving")]) == 2
    (tmp_path / ".tscm-saving-notes").touch()  # not ours
    with map_copy_in_progress(tmp_path) as living:
        store.save_copy(saved)
        assert {name for name in litter(tmp_path) if name.startswith(".tscm")} == {
            living,
            ".tscm-saving-notes",
        }


@contextlib.contextmanager
def map_copy_in_progress(folder: Path):
    path, descriptor = map_copy._begin_unfinished(folder)
    try:
        yield path.name
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------- loading


def test_loading_replaces_everything(store, saved, tmp_path):
    bytes_before, files = saved.read_bytes(), litter(tmp_path)
    with MapStore.create(tmp_path / "other" / "live.tscm", MODEL, DIM) as other:
        other.begin_session("elsewhere", 1)
        other.add(keyframe(900, "elsewhere"))
        assert other.replace_with(saved) == 12
        assert content(other) == content(store)
        assert (other.count, other.next_id) == (12, 13)
        other.begin_session("elsewhere", 1)
        other.add(keyframe(13, "elsewhere"), [loop(13, keyframe(1))])
    assert saved.read_bytes() == bytes_before
    assert litter(tmp_path) == files | {"other"}


def test_loading_that_fails_in_the_middle_changes_nothing(store, saved, monkeypatch):
    store.add(keyframe(13))
    before, rows = content(store), MapReader.rows

    def failing(self, table):
        yield from list(rows(self, table))[:5]
        if table.name == "keyframes":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(MapReader, "rows", failing)
    with pytest.raises(MapFileError, match="Input/output error"):
        store.replace_with(saved)
    assert content(store) == before
    assert store.count == 13
    store.add(keyframe(14))


def make_foreign(path: Path) -> None:
    path.unlink()
    tamper("CREATE TABLE node (id INTEGER, data BLOB)", path)


def reseal(statements: str, path: Path) -> None:
    """Tamper, and bring the digest up to date as only a forger would."""
    tamper(statements, path)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (map_check.digest(db),))


UNREADABLE = {
    "missing": (lambda path: path.unlink(), "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a picture": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(5000)), "not a tscm map"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
    "another database": (make_foreign, "not a tscm map, but another SQLite database"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "damaged"),
}
TAMPERED = {
    "newer": ("PRAGMA user_version = 2", "newer tscm .format 2; .*upgrade"),
    "format 0": ("PRAGMA user_version = 0", "is damaged"),
    "keyframe gone": ("DELETE FROM keyframes WHERE id = 5", "digest"),
    "loop gone": ("DELETE FROM loops WHERE keyframe_id = 8", "digest"),
    "date changed": ("UPDATE meta SET value = '1999' WHERE key = 'created'", "digest"),
}
FORGED = {
    "trigger": (
        "CREATE TRIGGER t AFTER INSERT ON loops BEGIN DELETE FROM loops; END",
        "tables of a tscm map",
    ),
    "view": ("CREATE VIEW v AS SELECT * FROM loops", "tables of a tscm map"),
    "virtual table": ("CREATE VIRTUAL TABLE v USING fts5(a)", "tables of a tscm map"),
    "table": ("CREATE TABLE extra (a)", "tables of a tscm map"),
    "column": ("ALTER TABLE loops ADD COLUMN note TEXT", "tables of a tscm map"),
    "no dim": ("DELETE FROM meta WHERE key = 'dim'", "meta should hold"),
    "odd dim": ("UPDATE meta SET value = '8e9' WHERE key = 'dim'", "'8e9'"),
    "other dim": ("UPDATE meta SET value = '4' WHERE key = 'dim'", "4 numbers.* makes 8"),
    "other model": ("UPDATE meta SET value = 'm2' WHERE key = 'model_id'", f"m2.*{MODEL}"),
    "keyframe changed": ("UPDATE keyframes SET px = 7 WHERE id = 4", "keyframe 4: content"),
    "loop changed": ("UPDATE loops SET ratio = 0.1", "loop of keyframe 7: content"),
    "session changed": ("UPDATE sessions SET name = 'x' WHERE number = 2", "session 2: content"),
    "short descriptor": ("UPDATE keyframes SET descriptor = x'0102' WHERE id = 3", "keyframe 3: 2 bytes"),
    "empty descriptor": (
        "UPDATE keyframes SET descriptor = zeroblob(16) WHERE id = 3",
        "keyframe 3: content",
    ),
    "match gone": ("DELETE FROM keyframes WHERE id = 2", "missing from keyframes"),
    "session gone": ("DELETE FROM sessions WHERE number = 2", "missing from sessions"),
}
REFUSED = {
    **UNREADABLE,
    **{case: (functools.partial(tamper, sql), said) for case, (sql, said) in TAMPERED.items()},
    **{case: (functools.partial(reseal, sql), said) for case, (sql, said) in FORGED.items()},
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_are_refused_leave_the_running_map_alone(store, saved, tmp_path, case):
    spoil, said = REFUSED[case]
    spoil(saved)
    spoilt = saved.read_bytes() if saved.is_file() else None
    files, before = litter(tmp_path), content(store)
    error = ModelMismatchError if case == "other model" else MapFileError
    for use in (
        store.replace_with,
        lambda path: MapReader(path, MODEL, DIM),
        lambda path: MapStore.open(path, MODEL, DIM),
    ):
        with pytest.raises(error, match=f"map {saved}.*{said}"):
            use(saved)
    assert case.startswith("other ") or len(check(saved)) >= 1
    assert content(store) == before
    assert litter(tmp_path) - {"saved.tscm.lock"} == files
    assert spoilt is None or saved.read_bytes() == spoilt
    store.add(keyframe(13))


def test_descriptors_must_have_unit_length_even_with_a_good_checksum(store, saved, monkeypatch):
    monkeypatch.setattr("tscm_core.maps.map_format.is_unit_length", lambda _: True)
    store.add(keyframe(13, descriptor=unit(1) * 2))
    store.save_copy(saved)
    with pytest.raises(MapFileError, match="keyframe 13: its descriptor is not of unit length"):
        read(saved)


def test_permission_denied_is_said(saved, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(MapFileError, match="permission denied"):
        read(saved)


def test_a_log_that_does_not_belong_to_a_map_is_noticed_or_ignored(store, saved, tmp_path):
    expected = read(saved)
    (tmp_path / "saved.tscm-wal").write_bytes((tmp_path / "live.tscm-wal").read_bytes())
    try_everything(saved, expected)


# ----------------------------------------------------------------------------------------------------- damage


def try_everything(path: Path, expected: tuple) -> bool:
    """Whether the file was read; it must be right then. Nothing but MapFileError may come of the rest."""
    problems = check(path)
    with contextlib.suppress(MapFileError):
        inspect(path)
    try:
        with MapReader(path) as reader:
            got = content(reader)
            header = reader.header
    except MapFileError:
        assert problems
        return False
    assert not problems
    assert got == expected
    assert (header.model_id, header.dim) == (MODEL, DIM)
    return True


def test_truncated_anywhere(saved, tmp_path):
    whole, expected, cut = saved.read_bytes(), read(saved), tmp_path / "cut.tscm"
    dice = random.Random(1)
    lengths = {0, 1, 15, 16, 99, 100, 511, 512, 4095, 4096, 8192, len(whole) - 4096, len(whole) - 1}
    for length in sorted(lengths | {dice.randrange(len(whole)) for _ in range(60)}):
        cut.write_bytes(whole[:length])
        assert not try_everything(cut, expected), length
        with pytest.raises(MapFileError):
            MapStore.open(cut, MODEL, DIM)


def test_any_flipped_byte_is_noticed_or_harmless(store, saved, tmp_path):
    whole, expected, flipped = saved.read_bytes(), read(saved), tmp_path / "flipped.tscm"
    dice, noticed = random.Random(2), 0
    places = [*range(100), *(dice.randrange(len(whole)) for _ in range(300))]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= dice.choice([1, 4, 0x80, 0xFF])
        flipped.write_bytes(damaged)
        noticed += not try_everything(flipped, expected)
    assert noticed > 60  # the rest is unused space
    assert content(store) == expected


def test_flipped_bytes_of_content_are_always_noticed(saved, tmp_path):
    whole, expected, flipped = saved.read_bytes(), read(saved), tmp_path / "flipped.tscm"
    for needle in (encode_descriptor(unit(5)), b"jpeg", b"tuesday", MODEL.encode()):
        damaged = bytearray(whole)
        damaged[whole.rindex(needle) + 1] ^= 1
        flipped.write_bytes(damaged)
        assert not try_everything(flipped, expected), needle


def test_flipped_bytes_of_a_live_map_never_raise_anything_else(store, tmp_path):
    expected, live = content(store), store.path
    store.close()
    whole, dice = live.read_bytes(), random.Random(3)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 0xFF
        live.write_bytes(damaged)
        with contextlib.suppress(MapFileError, ModelMismatchError), MapStore.open(live, MODEL, DIM) as opened:
            assert content(opened) == expected
    live.write_bytes(whole)
    with MapStore.open(live, MODEL, DIM) as opened:
        assert content(opened) == expected


# --------------------------------------------------------------------------------------------- info and check


def test_inspect_tells_what_is_there(saved):
    info = inspect(str(saved))
    assert (info.path, info.format, info.model_id, info.dim) == (saved, 1, MODEL, DIM)
    assert (info.keyframes, info.keyframes_with_pose, info.loops) == (12, 8, 4)
    assert info.sessions == (Session("monday", 5, 8, 8), Session("tuesday", 2**62, 4, 12))
    assert info.bytes == saved.stat().st_size
    assert info.created[:2] == "20"
    assert info.created.endswith("+00:00")


def test_check_lists_everything(saved):
    assert check(saved) == []
    tamper(
        """
        UPDATE keyframes SET px = 7 WHERE id IN (4, 5);
        DELETE FROM keyframes WHERE id = 2;
        UPDATE loops SET matches = 3 WHERE keyframe_id = 8 AND match_id = 1;
        """,
        saved,
    )
    problems = check(saved)
    assert [line.split(":")[0] for line in problems[:3]] == ["keyframe 4", "keyframe 5", "loop of keyframe 8"]
    assert sum("missing from keyframes" in line for line in problems) == 2
    assert "digest" in problems[-1]
    assert check(saved.parent) == ["is a folder: give the path of a map file"]
    assert check(saved.parent / "nowhere") == ["does not exist: check the path"]


def test_a_map_of_another_model_can_be_looked_at_but_not_run(saved):
    with MapReader(saved) as reader:
        assert reader.count == 12
    with pytest.raises(ModelMismatchError, match=rf"map {saved} holds .* model {MODEL}, .* model is other"):
        MapStore.open(saved, "other", DIM)
    with MapStore.open(saved, MODEL, DIM) as opened:  # the lock was given back
        assert opened.count == 12


def test_the_schema_belongs_to_the_format():
    words = " ".join(" ".join(SCHEMA).split())
    assert (FORMAT, zlib.crc32(words.encode())) == (1, 0x1110ACEB), (
        "files of this format exist: another schema is another FORMAT"
    )
