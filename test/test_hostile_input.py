"""What the fuzz found, and what it must never find: bytes from outside end in one sentence, whatever they are."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import ToyDescriber, keyframe, textured, unit

from tscm_core.config import Config, GeometryConfig
from tscm_core.datasets.encoded_images import decode
from tscm_core.datasets.image_messages import compressed_to_rgb
from tscm_core.datasets.pose_messages import intrinsics_from_message, intrinsics_problem
from tscm_core.errors import FeatureError, ImageError, MapFileError, TscmError
from tscm_core.maps.map_export import export
from tscm_core.maps.map_files import FileLock, connect, lock_holder
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, TABLES, digest, row_crc
from tscm_core.maps.map_g2o import SAME, EdgeRule
from tscm_core.maps.map_pages import MapPages
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_repair import repair
from tscm_core.maps.map_store import MapStore
from tscm_core.maps.map_values import MOST_ID
from tscm_core.recognition.image import MOST_SIDE
from tscm_core.recognition.local_features import decode_features, extract
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.precision import decode_descriptor, is_unit_length
from tscm_core.recognition.records import Candidate, Frame, Intrinsics, Loop, RelativePose, Status
from tscm_core.recognition.two_view import verify

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
DIM, MODEL = 8, "fuzz"


def module(name):
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


fuzz, fuzz_log, fuzz_messages, fuzz_rows, fuzz_seeds, fuzz_targets, fuzz_tools = map(
    module,
    ("fuzz", "fuzz_log", "fuzz_messages", "fuzz_rows", "fuzz_seeds", "fuzz_targets", "fuzz_tools"),
)


@contextlib.contextmanager
def at_most(seconds):
    """A hang becomes a failure."""

    def ring(number, where):
        raise AssertionError(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fill(store):
    store.begin_session("monday", 1)
    for number in range(1, 4):
        pose = pose_from_yaw(float(number), 0.0, 0.0)
        store.add(replace(keyframe(number, unit(number, DIM), "monday", pose=pose), thumbnail_jpeg=b"x"))
    motion = RelativePose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), True, (0.0,) * 36)
    match = Candidate(1, "monday", 10**9, None, 0.9, 0.1, 1, Status.ACCEPTED, 3, 60, 50, motion)
    store.add(keyframe(4, unit(4, DIM), "monday"), [Loop(4, match)])


@pytest.fixture
def live(tmp_path):
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as store:
        fill(store)
        yield store


@pytest.fixture
def saved(live, tmp_path):
    live.save_copy(tmp_path / "saved.tscm")
    return tmp_path / "saved.tscm"


def forge(path, statement, *values):
    """Change a map, and make all its checksums right again, as whoever wants to deceive us would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        for pragma in ("ignore_check_constraints = ON", "writable_schema = ON", "journal_mode = OFF"):
            db.execute(f"PRAGMA {pragma}")
        db.execute(statement, values)
        with contextlib.suppress(sqlite3.Error):  # where the tables themselves were changed
            for table in TABLES:
                names = table.order.split(", ")
                at = [table.columns.split(", ").index(name) for name in names]
                where = " AND ".join(f"{name} = ?" for name in names)
                for row in db.execute(table.select).fetchall():
                    crc = row_crc(row[1:])
                    db.execute(f"UPDATE {table.name} SET crc = ? WHERE {where}", (crc, *(row[number] for number in at)))
            db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (digest(db),))


def refused(path, live):
    """What is said of a map that must not be trusted; the running map stays what it was."""
    before = list(live.loops()), live.count
    problems = check(path)
    assert problems
    with pytest.raises(TscmError) as reader:
        MapReader(path).close()
    with pytest.raises(TscmError):
        live.replace_with(path)
    assert (list(live.loops()), live.count) == before
    assert "\n" not in str(reader.value)
    return "; ".join(problems)


# ------------------------------------------------------------------------------------------ a map is data, not code


@pytest.mark.parametrize(
    "statement", [item for item in fuzz_rows._STATEMENTS if item.startswith(("CREATE", "UPDATE sqli"))]
)
def test_a_map_with_anything_in_its_schema_but_our_tables_is_refused_and_runs_nothing(saved, live, statement):
    canary = saved.parent / "canary"
    try:
        forge(saved, statement.replace("{canary}", str(canary)))
    except sqlite3.OperationalError as missing:
        pytest.skip(f"this SQLite cannot make it: {missing}")
    refused(saved, live)
    with contextlib.suppress(MapFileError):
        inspect(saved)
    assert not canary.exists()


def test_views_named_like_our_tables_are_no_tables(saved, live):
    with contextlib.closing(sqlite3.connect(saved)) as db:
        db.executescript("ALTER TABLE keyframes RENAME TO real; CREATE VIEW keyframes AS SELECT * FROM real;")
    assert "does not have the tables of a tscm map" in refused(saved, live)


def test_a_connection_trusts_nothing_in_the_file(saved):
    with contextlib.closing(connect(saved, "mode=ro")) as db:
        for pragma, value in (("trusted_schema", 0), ("cell_size_check", 1), ("mmap_size", 0), ("writable_schema", 0)):
            assert db.execute(f"PRAGMA {pragma}").fetchone() == (value,)
        with pytest.raises(sqlite3.OperationalError, match="not authorized"):
            db.execute("SELECT load_extension('x')")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("DELETE FROM keyframes")


def test_a_file_name_is_no_uri(saved):
    odd = saved.rename(saved.parent / "a?mode=memory&cache=shared#%41.tscm")
    assert inspect(odd).keyframes == 4
    assert check(odd) == []


# ---------------------------------------------------------------------------------- rows whose checksums are right


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        (KEYFRAMES, "py", None, "half of its pose"),
        (KEYFRAMES, "pz", "far", "another type"),
        (KEYFRAMES, "px", float("inf"), "not finite"),
        (KEYFRAMES, "travelled_m", float("-inf"), "not finite"),
        (KEYFRAMES, "descriptor", "x" * 2 * DIM, "another type"),
        (KEYFRAMES, "thumbnail", "text", "another type"),
        (KEYFRAMES, "frame_id", b"odom", "another type"),
        (KEYFRAMES, "stamp_ns", 0.5, "another type"),
        (KEYFRAMES, "session", 7, "missing from sessions"),
        (LOOPS, "rank", -1, "counts is out of range"),
        (LOOPS, "inliers", 2**40, "counts is out of range"),
        (LOOPS, "matches", "many", "another type"),
        (LOOPS, "covariance", b"short", "36 finite numbers"),
        (LOOPS, "covariance", struct.pack("<36d", *[float("nan")] * 36), "36 finite numbers"),
        (LOOPS, "metric_scale", 2, "metric_scale"),
        (LOOPS, "tx", None, "half of its pose"),
        (LOOPS, "similarity", float("inf"), "not finite"),
    ],
)
def test_a_forged_value_with_a_right_checksum_is_refused(saved, live, table, column, value, said):
    forge(saved, f"UPDATE {table.name} SET {column} = ?", value)
    assert said in refused(saved, live)


@pytest.mark.parametrize("id_", [0, -1, MOST_ID + 1, 2**63 - 1])
def test_a_keyframe_has_an_id_that_messages_can_say(saved, live, id_):
    forge(saved, "UPDATE keyframes SET id = ? WHERE id = 2", id_)
    assert "ids from 1 to" in refused(saved, live)


def test_a_map_whose_ids_are_used_up_says_so_and_stays_readable(saved, live):
    forge(saved, "UPDATE keyframes SET id = ? WHERE id = 2", MOST_ID)
    assert check(saved) == []
    live.replace_with(saved)
    with pytest.raises(MapFileError, match="is full: keyframe ids end"):
        live.add(keyframe(live.next_id, unit(5, DIM), "monday"))
    live.save_copy(saved)
    assert check(saved) == []


@pytest.mark.parametrize("model", ["x" * 10**6, "a\nmap b: all is well", "\x1b[2J"])
def test_a_map_cannot_write_into_our_log_whatever_it_likes(saved, live, model):
    forge(saved, "UPDATE meta SET value = ? WHERE key = 'model_id'", model)
    assert len(refused(saved, live)) < 1000


def test_sessions_are_counted_as_one_would_count_them(live):
    live.begin_session("empty", 2)
    live.begin_session("tuesday", 3)
    live.add(keyframe(9, unit(9, DIM), "tuesday"))
    assert [(item.name, item.keyframes) for item in live.sessions()] == [("monday", 4), ("empty", 0), ("tuesday", 1)]


# ------------------------------------------------------------------------------------------ what lies beside a map


def test_a_pipe_beside_a_map_hangs_nobody(saved, live):
    os.mkfifo(f"{saved}.lock")
    os.mkfifo(saved.parent / f".tscm-saving-1-{'0' * 16}")
    with at_most(30):
        assert "no regular file" in refused(saved, live)
        lock_holder(saved)
        live.save_copy(saved.parent / "other.tscm")
    assert check(saved.parent / "other.tscm") == []


def test_a_link_for_a_lock_empties_no_other_file(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "new.tscm.lock").symlink_to(precious)
    with pytest.raises(MapFileError):
        MapStore.create(tmp_path / "new.tscm", MODEL, DIM)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "new.tscm")
    assert precious.read_text() == "kept"


def test_a_map_that_is_almost_all_hole_is_refused_before_anything_is_copied(saved, live, tmp_path):
    with saved.open("r+b") as file:
        file.truncate(2**42)
    Path(f"{saved}-wal").write_bytes(b"log")
    with at_most(30):
        assert "on the disk" in refused(saved, live)


@pytest.mark.parametrize("bits", [0x7C01, 0x7E00, 0xFC01, 0x7C00])
def test_a_descriptor_that_is_not_finite_is_refused_without_a_warning_of_numpy(bits):
    made = decode_descriptor(np.full(DIM, bits, "<u2").tobytes(), DIM)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not is_unit_length(made)


def test_a_log_that_names_a_page_without_end_hangs_no_repair(tmp_path):
    """The repair looked at every page up to that one, a billion of them."""
    main, log = fuzz_seeds.killed_map(tmp_path / "live.tscm")
    far = bytearray(log)
    far[fuzz_log.HEADER] = 0x3F  # the highest byte of the first page's number
    (tmp_path / "killed").write_bytes(main)
    (tmp_path / "killed-wal").write_bytes(fuzz_log.with_right_sums(far, log))
    assert check(tmp_path / "killed")
    with at_most(30):
        done = repair(tmp_path / "killed")
    assert (done.keyframes_kept, done.keyframes_lost) == (6, 0)
    assert check(done.path) == []


def test_rows_that_all_go_on_at_the_same_pages_are_not_read_without_end(tmp_path, monkeypatch):
    """A page may name a cell two thousand times: all that belongs to it was read each time."""
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as store:
        store.begin_session("monday", 1)
        store.add(replace(keyframe(1, unit(1, DIM), "monday"), thumbnail_jpeg=bytes(10**6)))
        store.save_copy(tmp_path / "map.tscm")
    raw = bytearray((tmp_path / "map.tscm").read_bytes())
    page = max(at for at in range(0, len(raw), 4096) if raw[at] == 13)  # the only leaf of keyframes; then come its rest
    cell = raw[page + 8 : page + 10]
    raw[page + 3 : page + 5], raw[page + 8 : page + 8 + 2 * 100] = struct.pack(">H", 100), cell * 100
    (tmp_path / "map.tscm").write_bytes(raw)
    sizes = []
    monkeypatch.setattr(MapPages, "page", lambda *a, real=MapPages.page: sizes.append(real(*a)) or sizes[-1])
    done = repair(tmp_path / "map.tscm")
    assert done.keyframes_kept == 1
    assert sum(map(len, sizes)) < 40 * len(raw)  # the rows are looked through twice


def without_sessions(path, source, count):
    """A map with ``count`` more keyframes, each of a session of its own that is lost."""
    shutil.copyfile(source, path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        _, id_, _, *rest = db.execute(KEYFRAMES.select).fetchone()
        rows = [(id_ + number, 10 + number, *rest) for number in range(10, 10 + count)]
        db.executemany(KEYFRAMES.insert, [(row_crc(row), *row) for row in rows])
        db.commit()
    return path


def test_work_grows_no_faster_than_the_sessions_that_a_repair_has_to_name(saved, tmp_path):
    """Names were counted up from the first one for each: time grew with the square of their number."""
    calls = []
    for count in (200, 400):
        made = 0

        def counted(*_):
            nonlocal made
            made += 1

        path = without_sessions(tmp_path / f"{count}.tscm", saved, count)
        sys.setprofile(counted)
        done = repair(path)
        sys.setprofile(None)
        calls.append(made)
        names = [session.name for session in inspect(done.path).sessions]
        assert names == ["monday", "recovered", *(f"recovered-{number}" for number in range(2, count + 1))]
    assert calls[1] < 2.2 * calls[0]


# ------------------------------------------------------------------------------------------ a map as a pose graph


def spread(*numbers):
    """A covariance with these numbers on its diagonal, as it stands in a map."""
    return struct.pack("<36d", *np.diag([*numbers, *[0.01] * (6 - len(numbers))]).ravel())


@pytest.mark.parametrize(
    ("column", "value", "edges"),
    [
        ("loops SET covariance", (0.01,), 4),
        ("loops SET covariance", (0.01, 0.01, 1e308), 3),
        ("loops SET covariance", (1e-320,), 3),
        ("loops SET qw", 0.0, 3),
        ("loops SET qx", 1e308, 3),
        ("keyframes SET px", 1e155, 2),
        ("keyframes SET py", -1.7e308, 2),
    ],
)
def test_numbers_that_are_no_measurements_make_no_edges(saved, tmp_path, column, value, edges):
    """Three steps and a loop of which some are sound."""
    forge(saved, "UPDATE loops SET covariance = ?", spread(0.01))
    forge(saved, "UPDATE keyframes SET px = 4, py = 0, pz = 0, qx = 0, qy = 0, qz = 0, qw = 1, frame_id = 'odom'")
    value = spread(*value) if isinstance(value, tuple) else value
    forge(saved, f"UPDATE {column} = ?" + " WHERE id = 3" * column.startswith("keyframes"), value)
    assert check(saved) == []
    done = export(saved, tmp_path / "out", EdgeRule(SAME, odometry=True))
    fuzz_tools.require_export(tmp_path / "out", done, DIM)
    assert done.loop_edges + done.odometry_edges == edges


# ------------------------------------------------------------------------------------------------------- pictures


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.parametrize("length", [0xFFFFFFB3, 2**31, 10**6])
def test_a_png_chunk_that_promises_more_than_there_is_never_reaches_the_decoder(length, monkeypatch):
    whole = png(np.zeros((24, 32, 3), np.uint8))
    at = whole.index(b"IDAT") - 4
    bomb = whole[:at] + length.to_bytes(4, "big") + whole[at + 4 :]
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV would allocate what the chunk declares"))
    with pytest.raises(ImageError, match="cut off"):
        decode(bomb)


@pytest.mark.parametrize("bare", [b"\xff\x01", b"\xff\xd0", b"\xff\x00"])
def test_a_jpeg_cannot_hide_its_size_behind_a_marker_without_length(bare):
    real = cv2.imencode(".jpg", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
    small = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 1, 1) + bytes(12)
    far = int.from_bytes(real[2:4], "big")  # what a careless reader takes for the length of the bare marker
    hidden = (real[:2] + bare + real[2:]).ljust(4 + far, b"\0") + small + b"\xff\xd9"
    with pytest.raises(ImageError, match="damaged"):
        decode(hidden)
    sized = decode(real)
    assert sized.shape == (24, 32, 3)


def test_a_thumbnail_is_decoded_within_a_bound():
    with pytest.raises(ImageError, match="64 x 64 pixels: that is too large"):
        decode(png(np.zeros((64, 64, 3), np.uint8)), most_pixels=4095)
    assert decode(png(np.zeros((64, 64), np.uint8)), 4096, cv2.IMREAD_COLOR).shape == (64, 64, 3)


@pytest.mark.parametrize("shape", [(MOST_SIDE + 1, 1, 3), (2, MOST_SIDE + 1, 3)])
def test_an_image_too_long_to_be_kept_is_refused_and_the_longest_is_not(shape):
    detector = LoopDetector(ToyDescriber(), Config().replace({"keyframes.min_texture": 0.0}))
    with pytest.raises(ImageError, match="no side may exceed"):
        detector.observe(Frame(1, np.zeros(shape, np.uint8)))
    longest = np.zeros([min(side, MOST_SIDE) for side in shape], np.uint8)
    assert detector.observe(Frame(2, longest)).keyframe is not None


# ------------------------------------------------------------------------------------------------ cameras and times


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.0, -1.0, 1e-300, 1e300])
@pytest.mark.parametrize("model", ["", "plumb_bob", "rational_polynomial", "equidistant"])
def test_geometry_takes_a_camera_of_any_numbers(number, model):
    counts = {"": 0, "plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
    depth = np.full((240, 320), 2.0, np.float32)
    good = extract(
        Frame(1, textured(1), None, "", Intrinsics(320, 240, 300.0, 300.0, 160.0, 120.0), depth), GeometryConfig()
    )
    bend = (number,) * counts[model]
    for camera in (
        Intrinsics(320, 240, number, 300.0, 160.0, 120.0, (0.1,) * counts[model], model),
        Intrinsics(320, 240, 300.0, 300.0, number, 120.0, bend, model),
    ):
        bad = replace(good, camera=camera)
        for view in (verify(good, bad, GeometryConfig()), verify(bad, good, GeometryConfig())):
            pose = view.relative_pose
            assert pose is None or np.isfinite([*pose.translation, *pose.orientation, *pose.covariance]).all()


def test_a_camera_info_of_numbers_that_overflow_is_not_used_and_says_why():
    k = [1e300, 0.0, 160.0, 0.0, 1e300, 120.0, 0.0, 0.0, 1.0]
    roi = SimpleNamespace(width=0, height=0, x_offset=0, y_offset=0)
    info = SimpleNamespace(k=k, d=[], distortion_model="", width=320, height=240, roi=roi, binning_x=0, binning_y=0)
    assert intrinsics_from_message(info) is None
    assert intrinsics_problem(info) == "one of its numbers is beyond every camera"


def test_a_stamp_beyond_what_ros_can_say_is_the_last_that_it_can():
    messages = pytest.importorskip("tscm_ros.messages")
    for stamp_ns in (2**63 - 1, -(2**63), 2**31 * 10**9 + 4 * 10**9):
        said = messages.to_time(stamp_ns)
        assert (said.sec, said.nanosec) == ((2**31 - 1, 10**9 - 1) if stamp_ns > 0 else (-(2**31), 0))
    assert messages.to_time(-1) == messages.to_time(-(10**9) + 999_999_999)


# ------------------------------------------------------------------------------------------- anything, by properties


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_features_or_refused(data):
    with contextlib.suppress(FeatureError):
        decode_features(b"tsf1" + data)


@settings(max_examples=300, deadline=None)
@given(head=st.binary(min_size=12, max_size=12), body=st.binary(max_size=200))
def test_any_image_message_is_a_picture_or_refused(head, body):
    with contextlib.suppress(ImageError):
        fuzz_messages.Reader("raw")(head + body)


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 400), at=st.integers(0, 400), value=st.integers(0, 255), source=st.integers(0, 17))
def test_any_compressed_message_is_a_picture_or_refused(cut, at, value, source):
    seeds = fuzz_messages.SEEDS["compressed"]()
    data = bytearray(seeds[source % len(seeds)])
    data[at % len(data)] = value
    with contextlib.suppress(ImageError):
        compressed_to_rgb(fuzz_messages.compressed_message(bytes(data[: len(data) - cut % 3])))


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_seeds_and_some_mutants_of_every_target_of_the_fuzz_come_to_no_harm(name, tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "__defaults__", decode.__defaults__)
    if name == "keyframe messages":
        pytest.importorskip("tscm_ros.messages")
    target, chance = fuzz_targets.TARGETS[name](tmp_path), random.Random(6)
    taken = 0
    for number in range(60):
        data = bytearray(target.seeds[number % len(target.seeds)])
        if number >= len(target.seeds):
            for _ in range(chance.randrange(1, 4)) if data else ():
                data[chance.randrange(len(data))] = chance.randrange(256)
            if target.mutate is not None:
                data = bytearray(target.mutate(bytes(data), number))
        with contextlib.suppress(TscmError, *target.allowed), at_most(10):
            target.run(bytes(data))
            taken += 1
    assert taken
    assert not list(tmp_path.glob("canary*"))
