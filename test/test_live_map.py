"""Detector and file as one thing: on disk before it is answered, whole after any failure, safe for many threads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import LOOKS_ALONE, SECOND, ToyDescriber, blank, frame, picture, textured, without_times

from tscm_core.config import Config
from tscm_core.errors import ImageError, MapFileError, MapInUseError, ModelMismatchError, StampError
from tscm_core.maps.live_answers import Saved
from tscm_core.maps.live_file import set_aside
from tscm_core.maps.live_map import open_live_map
from tscm_core.maps.map_reader import MapReader
from tscm_core.maps.map_store import MapStore
from tscm_core.maps.replacement import Replacement
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Frame, Status

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = LOOKS_ALONE | {"recency.keyframes": 5, "recency.seconds": 4.0, "candidates.place_keyframes": 2}
CONFIG = Config().replace(SETTINGS)
LAP = 12


def begin(folder, session="monday", resume=True, describer=None, settings=None):
    config = CONFIG.replace(settings or {})
    return open_live_map(folder / "map.tscm", resume, describer or ToyDescriber(), config, session)


def drive(live, laps=1, start=0, change=0):
    return [
        live.observe(frame(start + number, number % LAP, change + 20 * (number // LAP))) for number in range(laps * LAP)
    ]


def ids(path):
    with MapReader(path) as reader:
        return [keyframe.id for keyframe in reader.keyframes()]


def ids_in_another_process(path):
    """Read as another process would, while the map is running."""
    script = "import sys; from test_live_map import ids; from pathlib import Path; print(ids(Path(sys.argv[1])))"
    return json.loads(python(script, path).communicate(timeout=60)[0])


def python(script, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'test'}"}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def previous(folder):
    return sorted(path for path in folder.glob("map.tscm.live.previous-*") if not path.name.endswith(("-wal", "-shm")))


@pytest.fixture
def live(tmp_path):
    with begin(tmp_path) as made:
        yield made


# ------------------------------------------------------------------------------------- as the detector, and kept


def test_answers_are_those_of_the_detector_alone(live):
    alone = LoopDetector(ToyDescriber(), CONFIG, session="monday")
    for seen, number in zip(drive(live, 2), range(2 * LAP), strict=True):
        expected = alone.observe(frame(number, number % LAP, 20 * (number // LAP)))
        assert without_times(replace(seen, stage_times=())) == without_times(replace(expected, stage_times=()))
        assert [item.stage for item in seen.stage_times] == ["keyframe", "describe", "features", "search", "store"]
    assert live.size == len(alone.memory) == 2 * LAP


def test_keyframes_are_on_disk_before_the_answer(live):
    with contextlib.closing(MapStoreWatch(live)) as watch:
        for number in range(LAP):
            seen = live.observe(frame(number, number))
            assert watch.newest() == seen.keyframe.id == live.size == number + 1
    assert ids_in_another_process(live.live_path) == list(range(1, LAP + 1))


class MapStoreWatch:
    """The file, seen by a connection of its own."""

    def __init__(self, live):
        from tscm_core.maps.map_files import connect

        self.db = connect(live.live_path, "mode=ro")

    def newest(self):
        return self.db.execute("SELECT max(id) FROM keyframes").fetchone()[0]

    def close(self):
        self.db.close()


def test_what_is_no_keyframe_is_not_stored(live):
    live.observe(frame(0, 0))
    assert live.observe(Frame(SECOND, blank())).status is Status.NOT_KEYFRAME
    with pytest.raises(StampError):
        live.observe(frame(0, 1))
    with pytest.raises(ImageError):
        live.observe(Frame(9 * SECOND, np.zeros((4, 4), np.uint8)))
    assert (live.size, ids(live.live_path)) == (1, [1])


# -------------------------------------------------------------------------------------------- a store that fails


def refuse(path):
    """What stands in for :meth:`MapStore.add` while nothing can be written."""

    def full(self, keyframe, loops=(), drop=()):
        raise MapFileError(path, "the disk is full")

    return full


def test_a_keyframe_that_cannot_be_stored_is_not_remembered_and_the_next_one_is(live, monkeypatch):
    drive(live)
    place, add = live.live_path, MapStore.add
    monkeypatch.setattr(MapStore, "add", refuse(place))
    seen = live.observe(frame(50, 3, 20))
    assert seen.status is Status.ACCEPTED
    assert seen.keyframe is None  # nobody is told of an id that another place will have
    assert seen.reason.startswith("shows the place of keyframe 4: similarity 0.981")
    assert seen.reason.endswith(f"; not remembered: map {place}: the disk is full")
    assert (live.fault, live.size, seen.map_size) == (f"map {place}: the disk is full", LAP, LAP)
    monkeypatch.setattr(MapStore, "add", add)
    after = live.observe(frame(51, 4, 20))
    assert (after.status, live.fault, live.size, after.map_size) == (Status.ACCEPTED, "", LAP + 1, LAP + 1)
    assert ids(live.live_path) == [*range(1, LAP + 1), LAP + 2]


def test_a_robot_that_stands_before_a_full_disk_does_not_support_itself(live, monkeypatch):
    """Every image of the same view would otherwise be one more in a row for the place that it looks like."""
    live.reconfigure(live._detector.config.replace({"temporal.enabled": True, "keyframes.min_novelty": 0.0}))
    for number in range(LAP):
        live.observe(frame(number, number, x=float(number)))
    monkeypatch.setattr(MapStore, "add", refuse(live.live_path))
    first = live.observe(frame(50, 3, 20, x=40.0))
    assert (first.status, first.candidates[0].temporal_support) == (Status.NOT_CONSISTENT, 1)
    for number in range(51, 60):
        again = live.observe(frame(number, 3, 20, x=40.0))
        assert again.status is Status.NOT_KEYFRAME
        assert again.reason.startswith("moved 0.00 m")
    assert live.fault == f"map {live.live_path}: the disk is full"
    driving = [live.observe(frame(60 + step, 3 + step, 20, x=40.0 + step)) for step in (1, 2, 3)]
    assert [seen.candidates[0].temporal_support for seen in driving] == [2, 3, 4]
    assert (driving[-1].status, driving[-1].keyframe) == (Status.ACCEPTED, None)


def test_the_way_that_was_driven_counts_what_could_not_be_stored(live, monkeypatch):
    live.observe(frame(0, 0, x=0.0))
    add = MapStore.add
    monkeypatch.setattr(MapStore, "add", refuse(live.live_path))
    live.observe(frame(1, 1, x=10.0))
    monkeypatch.setattr(MapStore, "add", add)
    live.observe(frame(2, 2, x=0.0))
    assert [place.travelled_m for place in live.places] == [0.0, 20.0]


def test_a_keyframe_that_the_format_refuses_is_a_fault_too(live):
    seen = live.observe(frame(0, 0, x=float("inf")))
    assert "not remembered" in seen.reason
    assert live.fault
    assert live.size == 0
    assert live.observe(frame(1, 1, x=0.0)).map_size == 1
    assert live.fault == ""


# ------------------------------------------------------------------------------------------------------ resuming


def test_a_killed_drive_goes_on_with_its_ids_and_places(tmp_path):
    process = python(
        """
        import sys, time
        from pathlib import Path
        from test_live_map import begin, drive
        live = begin(Path(sys.argv[1]))
        drive(live)
        print("driven", flush=True)
        time.sleep(60)
        """,
        tmp_path,
    )
    assert process.stdout.readline() == "driven\n"
    with pytest.raises(MapInUseError, match=str(process.pid)):
        begin(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with begin(tmp_path) as live:
        assert (live.size, live.session) == (LAP, "monday-2")
        seen = drive(live, change=20)
        assert [item.keyframe.id for item in seen] == list(range(LAP + 1, 2 * LAP + 1))
        assert [item.accepted[0].keyframe_id for item in seen] == list(range(1, LAP + 1))
        assert {item.accepted[0].session for item in seen} == {"monday"}


def test_resuming_answers_as_if_it_had_never_stopped(tmp_path):
    folders = [tmp_path / name for name in ("stopped", "went_on")]
    answers = []
    for folder in folders:
        folder.mkdir()
        live = begin(folder)
        drive(live, 2)
        if folder.name == "stopped":
            live.close()
            live = begin(folder, "tuesday")
        else:
            live.begin_session("tuesday")
        answers.append([without_times(item) for item in drive(live, change=40)])
        live.close()
    assert answers[0] == answers[1]


def test_without_resume_the_last_map_is_set_aside_and_readable(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
    with begin(tmp_path, resume=False) as live:
        assert live.size == 0
        assert live.observe(frame(0, 100)).keyframe.id == 1
        assert str(previous(tmp_path)[0]) in live.notes[0]
    assert [ids(path) for path in previous(tmp_path)] == [list(range(1, LAP + 1))]
    with begin(tmp_path, resume=False) as live:
        assert live.size == 0
    assert sorted(map(len, map(ids, previous(tmp_path)))) == [1, LAP]  # nobody's drive is lost
    with begin(tmp_path, resume=False) as live:
        assert live.notes == ()
    assert len(previous(tmp_path)) == 2  # nor is an empty map kept


def test_a_killed_map_is_set_aside_with_what_was_in_its_log(tmp_path):
    script = """
        import os, sys
        from pathlib import Path
        from test_live_map import begin, drive
        drive(begin(Path(sys.argv[1])))
        os.kill(os.getpid(), 9)
        """
    python(script, tmp_path).communicate(timeout=60)
    assert (tmp_path / "map.tscm.live-wal").stat().st_size > 0
    with begin(tmp_path, resume=False) as live:
        assert live.size == 0
        assert [ids(path) for path in previous(tmp_path)] == [list(range(1, LAP + 1))]


def test_without_resume_the_saved_map_is_not_loaded_and_stays(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
        live.save()
    (tmp_path / "map.tscm.live").unlink()
    with begin(tmp_path, resume=False) as live:
        assert live.size == 0
    assert ids(tmp_path / "map.tscm") == list(range(1, LAP + 1))


def test_the_first_run_begins_with_the_map_that_is_there(tmp_path):
    (tmp_path / "other").mkdir()
    with begin(tmp_path / "other") as live:
        drive(live)
        assert live.save(tmp_path / "map.tscm") == Saved(tmp_path / "map.tscm", LAP, None)
    with begin(tmp_path, "tuesday") as live:
        assert (live.size, live.session) == (LAP, "tuesday")
        assert {item.status for item in drive(live, change=20)} == {Status.ACCEPTED}
    with begin(tmp_path, "wednesday") as live:  # now the live map counts
        assert live.size == 2 * LAP
    assert ids(tmp_path / "map.tscm") == list(range(1, LAP + 1))


@pytest.mark.parametrize("resume", [True, False])
def test_a_running_map_is_nobody_elses(live, tmp_path, resume):
    live.observe(frame(0, 0))
    with pytest.raises(MapInUseError, match=str(os.getpid())):
        begin(tmp_path, resume=resume)
    assert live.observe(frame(1, 1)).map_size == 2
    assert previous(tmp_path) == []


def test_a_map_of_another_model_is_refused_with_both_ids(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
        live.save()
    with pytest.raises(ModelMismatchError) as caught:
        begin(tmp_path, describer=ToyDescriber("other-5678"))
    assert "model toy," in str(caught.value)
    assert "other-5678" in str(caught.value)
    (tmp_path / "map.tscm.live").unlink()
    with pytest.raises(ModelMismatchError):  # the saved one neither, and no empty live map stays
        begin(tmp_path, describer=ToyDescriber("other-5678"))
    assert not (tmp_path / "map.tscm.live").exists()
    with begin(tmp_path) as live:
        assert live.size == LAP


def test_a_damaged_live_map_is_not_written_over(tmp_path):
    path = tmp_path / "map.tscm.live"
    path.write_bytes(b"no map at all" * 1000)
    with pytest.raises(MapFileError, match="not a tscm map"):
        begin(tmp_path)
    assert path.read_bytes() == b"no map at all" * 1000
    assert [set_aside(path)] == previous(tmp_path)
    with begin(tmp_path) as live:
        assert live.size == 0


# ----------------------------------------------------------------------------------- save, load, clear, sessions


def test_saved_maps_come_back_with_their_loops(live, tmp_path):
    drive(live, 2)
    target = tmp_path / "saved.tscm"
    assert live.save(target) == Saved(target, 2 * LAP, None)
    with MapReader(target) as reader:
        assert [loop.keyframe_id for loop in reader.loops()] == list(range(LAP + 1, 2 * LAP + 1))
    cleared = live.clear("empty")
    assert (cleared.keyframes, ids(cleared.path)) == (2 * LAP, list(range(1, 2 * LAP + 1)))
    assert (live.size, live.session) == (0, "empty")
    assert drive(live)[-1].status is Status.LOW_SIMILARITY
    loaded = live.load("back", target)
    assert (loaded.path, loaded.keyframes) == (target, 2 * LAP)
    assert len(ids(loaded.kept)) == LAP  # what was driven after the clearing
    assert (live.size, live.session) == (2 * LAP, "back")
    assert live.load("again", target).kept is None  # all of it is in that file
    seen = drive(live, change=40)
    assert {item.status for item in seen} == {Status.ACCEPTED}
    assert seen[0].keyframe.id == 2 * LAP + 1


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "truncated", "flipped", "folder", "other model"])
def test_loading_a_bad_file_leaves_everything(live, tmp_path, damage):
    drive(live)
    path = tmp_path / "bad.tscm"
    live.save(path)
    raw = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "other model":
        path.unlink()
        with open_live_map(path, True, ToyDescriber("other-5678"), CONFIG, "x") as other:
            drive(other)
            other.save()
    else:
        raw[len(raw) // 2] ^= 0xFF
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": raw[:-5000], "flipped": raw}[damage])
    with pytest.raises((MapFileError, ModelMismatchError)) as caught:
        live.load("other", path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.glob("map.tscm.previous-*")) == []
    assert damage != "other model" or ("other-5678" in str(caught.value) and "model is toy" in str(caught.value))
    assert (live.size, live.session) == (LAP, "monday")
    seen = live.observe(frame(100, 3, 20))
    assert (seen.status, seen.keyframe.id, seen.session) == (Status.ACCEPTED, LAP + 1, "monday")
    assert ids(live.live_path) == list(range(1, LAP + 2))


def test_a_save_that_fails_leaves_the_old_file(live, tmp_path):
    live.observe(frame(0, 0))
    live.save()
    before = (tmp_path / "map.tscm").read_bytes()
    drive(live, start=1)
    blocked = tmp_path / "file"
    blocked.write_text("x")
    for target in (blocked / "map.tscm", tmp_path, live.live_path):
        with pytest.raises(MapFileError):
            live.save(target)
    assert (tmp_path / "map.tscm").read_bytes() == before


def test_a_save_keeps_what_is_no_earlier_state_of_the_map(tmp_path):
    (tmp_path / "other").mkdir()
    target = tmp_path / "other" / "map.tscm"
    with begin(tmp_path / "other", "last year") as other:
        drive(other)
        other.save()
    with begin(tmp_path) as live:
        live.observe(frame(0, 0))
        kept = live.save(target).kept
        assert ids(kept) == list(range(1, LAP + 1))
        assert ids(target) == [1]
        live.observe(frame(1, 1))
        assert live.save(target).kept is None  # that one was ours
        picture_file = tmp_path / "holiday.jpg"
        picture_file.write_bytes(b"not a map")
        assert live.save(picture_file).kept.read_bytes() == b"not a map"


def test_a_map_of_a_drive_of_the_same_name_is_kept_too(tmp_path):
    for folder, frames in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        with begin(tmp_path / folder, "monday") as live:
            for number in range(frames):
                live.observe(frame(number, number))
            kept = live.save(tmp_path / "map.tscm").kept
    assert ids(kept) == [1, 2]
    assert ids(tmp_path / "map.tscm") == [1, 2, 3]


def test_a_map_that_was_put_there_is_announced_or_taken_up(tmp_path):
    (tmp_path / "other").mkdir()
    with begin(tmp_path / "other", "last year") as other:
        drive(other)
        other.save(tmp_path / "map.tscm")
    with begin(tmp_path, resume=False):
        pass  # leaves an empty live map
    with begin(tmp_path) as live:
        assert live.size == LAP  # an empty live map does not hide it
        assert f"began with {LAP} keyframes" in live.notes[0]
        live.observe(frame(500, 500))
    with begin(tmp_path) as live:
        assert live.notes == ()  # the live map holds all of it
    with begin(tmp_path / "other", "this year") as other:
        drive(other)
        other.save(tmp_path / "map.tscm")
    with begin(tmp_path) as live:
        assert live.size == LAP + 1
        assert "holds drives that the live map lacks" in live.notes[0]


def test_what_cannot_be_saved_first_is_not_cleared(live, monkeypatch):
    drive(live)

    def full(self, target):
        raise MapFileError(target, "the disk is full")

    monkeypatch.setattr(MapStore, "save_copy", full)
    with pytest.raises(MapFileError, match="the disk is full"):
        live.clear("tuesday")
    assert (live.size, live.session) == (LAP, "monday")


def test_a_map_behind_a_link_is_kept_whole(tmp_path):
    (tmp_path / "nas").mkdir()
    with begin(tmp_path / "nas", "last year") as other:
        drive(other)
        other.save()
    link = tmp_path / "map.tscm"
    link.symlink_to(tmp_path / "nas" / "map.tscm")
    with begin(tmp_path, resume=False) as live:
        live.observe(frame(0, 0))
        kept = live.save(link).kept
    assert ids(kept) == list(range(1, LAP + 1))
    assert ids(link) == [1]


def test_a_refused_save_leaves_no_second_name_behind(live, tmp_path, monkeypatch):
    target = tmp_path / "holiday.jpg"
    target.write_bytes(b"not a map")
    live.observe(frame(0, 0))
    monkeypatch.setattr(MapStore, "save_copy", lambda self, path: (_ for _ in ()).throw(MapFileError(path, "is full")))
    with pytest.raises(MapFileError, match="is full"):
        live.save(target)
    assert [path.name for path in tmp_path.glob("holiday*")] == ["holiday.jpg"]


def test_a_load_that_fails_halfway_changes_neither_file_nor_memory(live, tmp_path, monkeypatch):
    drive(live)
    saved = live.save(tmp_path / "saved.tscm").path
    live.observe(frame(100, 100))
    monkeypatch.setattr(Replacement, "commit", lambda self: (_ for _ in ()).throw(MapFileError(saved, "disk full")))
    for change in (lambda: live.load("next", saved), lambda: live.clear("next")):
        with pytest.raises(MapFileError, match="disk full"):
            change()
        assert (live.size, len(ids(live.live_path)), live.session) == (LAP + 1, LAP + 1, "monday")
    monkeypatch.undo()
    assert live.observe(frame(101, 101)).keyframe.id == LAP + 2
    assert live.fault == ""


def test_session_names_are_made_unique(live):
    names = [live.session, *(live.begin_session("monday") for _ in range(3)), live.begin_session("tuesday")]
    assert names == ["monday", "monday-2", "monday-3", "monday-4", "tuesday"]
    assert live.session == "tuesday"
    live.observe(frame(0, 0))
    assert live.clear("monday").keyframes == 1
    assert live.session == "monday"


def test_settings_change_from_the_next_frame_on(live):
    drive(live)
    live.reconfigure(CONFIG.replace({"candidates.min_similarity": 0.99}))
    assert live.observe(frame(50, 3, 20)).status is Status.LOW_SIMILARITY


def test_a_closed_map_stays_closed(tmp_path):
    live = begin(tmp_path)
    live.close()
    live.close()
    assert "is closed" in live.observe(frame(0, 0)).reason
    with pytest.raises(MapFileError, match="is closed"):
        live.save()


# -------------------------------------------------------------------------------------- relocalising and threads


def test_relocalising_finds_and_adds_nothing(live):
    drive(live)
    before = ids(live.live_path)
    seen = live.relocalize(picture(LAP - 1, 10), 2)
    assert [item.rank for item in seen.candidates] == [1, 2]
    best = seen.candidates[0]
    assert (best.keyframe_id, best.status) == (LAP, Status.ACCEPTED)  # recent ones too
    assert (seen.searched, seen.stages) == (LAP, ("search",))
    just_now = live.relocalize(picture(LAP - 1, 10), 2, seen_ns=LAP * SECOND)
    assert just_now.searched == LAP - 5  # what was seen just now would only find itself
    assert all(item.keyframe_id <= LAP - 5 for item in just_now.candidates)
    assert (live.size, ids(live.live_path)) == (LAP, before)
    with pytest.raises(ImageError):
        live.relocalize(np.zeros((4, 4), np.uint8))
    assert live.observe(frame(LAP, 50)).keyframe.id == LAP + 1
    live.clear("empty")
    assert live.relocalize(picture(3)).candidates == ()


class LargeDescriber(ToyDescriber):
    """Takes pictures that are large enough for corners as they are."""

    input_size = (320, 240)


def test_relocalising_asks_geometry_and_needs_no_frames_before(tmp_path):
    """The features come from the file; with few inliers one image alone is not enough, with many it is."""
    settings = {"geometry.enabled": True, "temporal.enabled": True}
    with begin(tmp_path, describer=LargeDescriber(), settings=settings) as live:
        pictures = [textured(number) for number in range(LAP)]
        for number, image in enumerate(pictures):
            live.observe(Frame(number * SECOND, image))
    with begin(tmp_path, "tuesday", describer=LargeDescriber(), settings=settings) as live:
        seen = live.relocalize(pictures[4])
        best = seen.candidates[0]
        assert (best.keyframe_id, best.status, seen.stages) == (5, Status.ACCEPTED, ("search", "geometry", "temporal"))
        assert (best.temporal_support, best.inliers) == (1, best.matches)
        assert best.inliers >= CONFIG.temporal.certain_inliers
        other = live.relocalize(textured(4, corners=100)).candidates[0]  # looks the same to the describer
        assert (other.keyframe_id, other.status) == (5, Status.NO_GEOMETRY)
        assert len(live.features(5)) == live.features(5).points.shape[0] > 100
        assert live.features(LAP + 1) is None


def test_many_threads_may_use_it_at_once(live, tmp_path):
    drive(live)
    errors, saved, done, stop = [], [], threading.Semaphore(0), threading.Event()

    def repeat(action):
        def run():
            try:
                while not stop.is_set():
                    action()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must see it
                errors.append(error)

        return threading.Thread(target=run)

    def relocalize():
        assert live.relocalize(picture(3)).candidates[0].keyframe_id == 4

    def save():
        target = tmp_path / f"saved{threading.get_ident()}.tscm"
        count = live.save(target).keyframes
        assert ids(target) == list(range(1, count + 1))
        saved.append(count)
        done.release()

    threads = [repeat(relocalize), repeat(relocalize), repeat(save), repeat(save), repeat(lambda: live.size)]
    for thread in threads:
        thread.start()
    try:
        seen = [live.observe(frame(100 + number, 100 + number)) for number in range(60)]
        for _ in range(2):  # however late the savers came to begin
            done.acquire(timeout=20)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert [item.keyframe.id for item in seen] == list(range(LAP + 1, LAP + 61))
    assert live.fault == ""
    assert ids(live.live_path) == list(range(1, LAP + 61))
    assert len(saved) >= 2


class SlowDescriber(ToyDescriber):
    """Gives other threads time to come in between."""

    def describe(self, images):
        time.sleep(0.002)
        return super().describe(images)


def test_observations_from_several_threads_get_ids_of_their_own(tmp_path):
    seen, refused = [], []

    def run(live, first):
        for number in range(30):
            try:
                seen.append(live.observe(frame(first + 2 * number, 100 + first + 2 * number)))
            except StampError as error:
                refused.append(error)

    with begin(tmp_path, describer=SlowDescriber()) as live:
        threads = [threading.Thread(target=run, args=(live, first)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) + len(refused) == 60
        assert sorted(item.keyframe.id for item in seen) == list(range(1, len(seen) + 1))
        assert [item.reason for item in seen if "not remembered" in item.reason] == []
        assert live.size == len(seen)


def test_keyframes_that_geometry_cannot_verify_are_said_on_opening_and_on_loading(tmp_path):
    with begin(tmp_path) as live:  # made without geometry
        drive(live)
        assert live.notes == ()
        live.save(tmp_path / "old.tscm")
    said = f"{LAP} of {LAP} keyframes have no local features"
    with begin(tmp_path, "tuesday", settings={"geometry.enabled": True}) as live:
        assert said in live.notes[-1]
        live.clear("empty")
        assert said in live.load("again", tmp_path / "old.tscm").note
    with begin(tmp_path, "wednesday") as live:
        assert not any("local features" in note for note in live.notes)


def test_features_stay_in_the_file_until_they_are_asked_for(tmp_path, monkeypatch):
    settings, asked = {"geometry.enabled": True}, []
    with begin(tmp_path, settings=settings) as live:
        for number in range(LAP):
            live.observe(Frame(number * SECOND, textured(number)))
    stored = MapStore.features
    monkeypatch.setattr(MapStore, "features", lambda store, number: asked.append(number) or stored(store, number))
    with begin(tmp_path, "tuesday", settings=settings) as live:
        assert asked == []
        assert len(live.features(2)) > 100
        assert asked == [2]
