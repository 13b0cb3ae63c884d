"""The live map under bounds, in localization mode, with other robots, and while it is being replaced."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace

import pytest
from test_live_map import LAP, LargeDescriber, begin, drive, ids
from toys import DIM, ToyDescriber, direction, frame, keyframe, picture, textured, unit

from tscm_core.errors import KeyframeError, MapFileError
from tscm_core.maps import live_file, writer
from tscm_core.maps.live_answers import Fullness
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_store import MapStore
from tscm_core.maps.replacement import Replacement
from tscm_core.recognition import loop_detector
from tscm_core.recognition.foreign_places import Added
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.place_index import PlaceIndex
from tscm_core.recognition.records import Status

LOCALIZATION = {"mode": "localization"}


def stored_sessions(path):
    return [(session.name, session.keyframes) for session in inspect(path).sessions]


# ---------------------------------------------------------------------------------------------- sessions


def test_a_session_is_written_with_its_first_keyframe(tmp_path):
    with begin(tmp_path, "monday") as live:
        assert stored_sessions(live.live_path) == []
        drive(live)
        live.begin_session("tuesday")
        live.begin_session("wednesday")
        assert live.session == "wednesday"
        assert stored_sessions(live.live_path) == [("monday", LAP)]
        assert live.observe(frame(0, 3, 20)).accepted[0].session == "monday"
        assert stored_sessions(live.live_path) == [("monday", LAP), ("wednesday", 1)]


def test_localization_writes_nothing_at_all(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
    before = live.live_path.read_bytes()
    with begin(tmp_path, "tuesday", settings=LOCALIZATION) as live:
        seen = drive(live, change=20)
        live.begin_session("wednesday")
        seen += drive(live, change=40)
        assert {item.status for item in seen} == {Status.ACCEPTED}
        assert {(item.keyframe, item.map_size) for item in seen} == {(None, LAP)}
        assert (live.size, live.session, live.fault) == (LAP, "wednesday", "")
        assert live.fullness == Fullness()  # none of them was left out for want of room
    assert live.live_path.read_bytes() == before


def test_from_localization_to_mapping_and_back(tmp_path):
    with begin(tmp_path, settings=LOCALIZATION) as live:
        assert drive(live)[-1].status is Status.MAP_TOO_YOUNG
        live.reconfigure(live._detector.config.replace({"mode": "mapping"}))
        assert [item.keyframe.id for item in drive(live, start=100)] == list(range(LAP + 1, 2 * LAP + 1))
        live.reconfigure(live._detector.config.replace(LOCALIZATION))
        assert live.observe(frame(300, 5, 20)).accepted[0].keyframe_id == LAP + 6
        assert ids(live.live_path) == list(range(LAP + 1, 2 * LAP + 1))


def test_thumbnails_are_made_only_of_what_is_remembered(tmp_path, monkeypatch):
    made, real = [], loop_detector.thumbnail_jpeg
    monkeypatch.setattr(loop_detector, "thumbnail_jpeg", lambda *given: made.append(given) or real(*given))
    with begin(tmp_path, settings=LOCALIZATION) as live:
        drive(live)
        assert made == []
        live.reconfigure(live._detector.config.replace({"mode": "mapping"}))
        mapped = drive(live, start=100)
        assert len(made) == LAP
        assert all(live.thumbnail(item.keyframe.id).startswith(b"\xff\xd8\xff") for item in mapped)


def test_a_mode_that_changes_while_an_image_is_looked_at_holds_from_the_next_one_on(tmp_path):
    """Else the keyframe that is being made would have no thumbnail."""
    with begin(tmp_path, settings=LOCALIZATION) as live:
        mapping = live._detector.config.replace({"mode": "mapping"})
        changer = threading.Thread(target=live.reconfigure, args=(mapping,))
        judge = live._detector.evidence.judge

        def change(*given):
            changer.start()
            changer.join(0.2)
            return judge(*given)

        live._detector.evidence.judge = change
        assert live.observe(frame(0, 0)).keyframe is None
        changer.join()
        live._detector.evidence.judge = judge
        assert live.thumbnail(live.observe(frame(1, 1)).keyframe.id).startswith(b"\xff\xd8\xff")


# ---------------------------------------------------------------------------------------------- bounds


def test_a_bounded_map_is_bounded_on_disk_too_and_goes_on_after_a_restart(tmp_path):
    bound = {"map.max_keyframes": 15}
    with begin(tmp_path, settings=bound) as live:
        for number in range(60):
            live.observe(frame(number, 100 + number))
            assert live.size == len(ids(live.live_path)) == min(number + 1, 15)
        kept = ids(live.live_path)
        assert live.fullness.thinned == 45
        assert [place.keyframe_id for place in live.places if place.keyframe_id in live._detector.memory] == kept
    assert check(live.live_path) == []
    with begin(tmp_path, "tuesday", settings=bound) as live:
        assert [live.relocalize(picture(99 + number)).candidates[0].keyframe_id for number in kept] == kept
        assert live.observe(frame(0, 999)).keyframe.id == 61
        assert len(ids(live.live_path)) == 15


def test_the_bound_in_bytes_holds_for_the_file(tmp_path):
    """Pictures of real size, so that rows are larger than pages; the file stays within a tenth of what is asked."""
    with begin(tmp_path, settings={"map.max_mb": 1}) as live:
        for number in range(400):
            rows = frame(number, 100 + number)
            live.observe(replace(rows, image=textured(100 + number)))
        assert 100 < live.size < 400
        copy = live.save(tmp_path / "copy.tscm")
    assert copy.keyframes == live.size
    assert 0.8 * 2**20 < copy.path.stat().st_size < 1.1 * 2**20


def test_known_places_and_a_map_that_is_full_of_loops_are_told_apart(tmp_path):
    with begin(tmp_path, settings={"map.max_keyframes": 2 * LAP}) as live:
        drive(live, 2)
        known = live.observe(frame(100, 4, 40))
        assert (known.status, known.keyframe) == (Status.ACCEPTED, None)
        assert (live.fullness.passed_over, live.fullness.problem) == (1, "")
        full = live.observe(frame(101, 777))
        assert full.status is Status.LOW_SIMILARITY
        assert live.fullness.problem == full.no_room != ""
        assert live.fullness.passed_over == 1
        live.observe(frame(102, 5, 40))
        assert live.fullness.problem == full.no_room  # a known image says nothing about new places
        assert len(ids(live.live_path)) == 2 * LAP
        live.reconfigure(live._detector.config.replace({"map.max_keyframes": 2 * LAP + 1}))
        assert live.observe(frame(103, 888)).keyframe is not None
        assert live.fullness == Fullness(0, 2)


@pytest.mark.parametrize("change", ["clear", "load", "raise the bound", "localize"])
def test_a_full_map_is_not_complained_about_when_it_is_full_no_more(tmp_path, change):
    with begin(tmp_path, settings={"map.max_keyframes": 2 * LAP}) as live:
        drive(live, 2)
        live.observe(frame(101, 777))
        assert live.fullness.problem
        live.fault = "the disk was full"
        if change == "clear":
            live.clear("next")
        elif change == "load":
            live.load("next", live.save(tmp_path / "saved.tscm").path)
        else:
            setting = LOCALIZATION if change == "localize" else {"map.max_keyframes": 100}
            live.reconfigure(live._detector.config.replace(setting))
        assert (live.fullness.problem, live.fault) == ("", "")


def test_what_cannot_be_committed_is_not_given_up_either(tmp_path, monkeypatch):
    with begin(tmp_path, settings={"map.max_keyframes": LAP}) as live:
        drive(live)
        monkeypatch.setattr(MapStore, "add", lambda *_: (_ for _ in ()).throw(MapFileError("map", "disk full")))
        seen = live.observe(frame(100, 500))
        assert (seen.keyframe, seen.thinned, live.size, live.fullness.thinned) == (None, (), LAP, 0)
        monkeypatch.undo()
        assert len(live.observe(frame(101, 501)).thinned) == 1
        assert (live.size, len(ids(live.live_path))) == (LAP, LAP)


def test_a_thinned_map_is_saved_over_its_earlier_state_without_a_second_file(tmp_path):
    saved = tmp_path / "saved.tscm"
    with begin(tmp_path, settings={"map.max_keyframes": 15}) as live:
        drive(live)
        assert live.save(saved).kept is None
        for number in range(50):
            live.observe(frame(100 + number, 100 + number))
        assert live.save(saved).kept is None
        with MapReader(saved) as reader:
            assert [item.id for item in reader.keyframes()] == ids(live.live_path)


# ---------------------------------------------------------------------------------------------- replacing


def held_up(monkeypatch, cls, name):
    """Make a method wait; gives (it was reached, let it go on)."""
    reached, go_on, real = threading.Event(), threading.Event(), getattr(cls, name)

    def waiting(self, *arguments, **named):
        reached.set()
        assert go_on.wait(20)
        return real(self, *arguments, **named)

    monkeypatch.setattr(cls, name, waiting)
    return reached, go_on


@pytest.mark.parametrize("change", ["load", "clear"])
def test_images_are_recognised_while_the_map_is_replaced_and_none_is_remembered(tmp_path, monkeypatch, change):
    (tmp_path / "other").mkdir()
    with begin(tmp_path / "other", "sunday") as other:
        for number in range(LAP):
            other.observe(frame(number, 300 + number))
        saved = other.save(tmp_path / "saved.tscm").path
    with begin(tmp_path) as live:
        drive(live)
        reached, go_on = held_up(monkeypatch, MapStore, "replacing" if change == "load" else "save_copy")
        done = []
        work = (lambda: live.load("next", saved)) if change == "load" else (lambda: live.clear("next"))
        thread = threading.Thread(target=lambda: done.append(work()))
        thread.start()
        assert reached.wait(20)
        seen = live.observe(frame(100, 3, 20))
        assert (seen.status, seen.accepted[0].keyframe_id, seen.keyframe) == (Status.ACCEPTED, 4, None)
        why = "a map is being loaded" if change == "load" else "the map is being cleared"
        assert seen.reason.endswith(f"; not remembered: {why}")
        assert live.relocalize(picture(5)).candidates[0].keyframe_id == 6
        assert live.fault == ""
        go_on.set()
        thread.join(20)
        assert live.session == "next"
        after = live.observe(frame(0, 304, 20))
        if change == "load":
            assert (done[0].keyframes, live.size) == (LAP, LAP + 1)
            assert after.accepted[0].keyframe_id == 5
            assert done[0].kept is not None
            assert ids(done[0].kept) == list(range(1, LAP + 1))  # what the old map had, to the last keyframe
        else:
            assert (after.status, live.size) == (Status.MAP_TOO_YOUNG, 1)


@pytest.mark.parametrize("change", ["load", "clear"])
def test_no_keyframe_is_stored_until_the_log_is_moved_and_the_new_map_recognises_already(tmp_path, monkeypatch, change):
    """One that came just then would wait until the log of a large map is cut."""
    seen = []
    monkeypatch.setattr(writer, "_move_log", lambda path: seen.append(live.observe(frame(0, 4, 20))))
    with begin(tmp_path) as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
        done = live.load("next", saved) if change == "load" else live.clear("next")
        assert (seen[0].session, seen[0].keyframe) == ("next", None)
        assert seen[0].status is (Status.ACCEPTED if change == "load" else Status.MAP_TOO_YOUNG)
        assert done.keyframes == LAP
        assert live.observe(frame(1, 700)).keyframe.session == "next"


def test_saving_and_clearing_at_once_keep_each_what_was_there(tmp_path, monkeypatch):
    """Both name what they keep after the same second."""
    monkeypatch.setattr(live_file.time, "strftime", lambda *_: "now")
    with begin(tmp_path) as live:
        drive(live)
        live.map_path.write_bytes(b"somebody else's")
        reached, go_on = held_up(monkeypatch, MapStore, "save_copy")
        threads = [threading.Thread(target=work) for work in (lambda: live.clear("next"), live.save)]
        threads[0].start()
        assert reached.wait(20)
        threads[1].start()
        threads[1].join(0.3)  # as far as it gets
        go_on.set()
        for thread in threads:
            thread.join(20)
        kept = {path.read_bytes() == b"somebody else's" for path in tmp_path.glob("map.tscm.previous-now*")}
        assert kept == {True, False}


def test_a_load_in_localization_mode_leaves_the_loaded_sessions_alone(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
    with begin(tmp_path, "tuesday", resume=False, settings=LOCALIZATION) as live:
        assert live.load("monday", saved).keyframes == LAP
        assert live.session == "monday-2"
        assert drive(live, change=20)[-1].status is Status.ACCEPTED
        assert stored_sessions(live.live_path) == [("monday", LAP)]


def test_relocalising_never_mixes_two_maps(tmp_path):
    """Ids of both maps are the same, their features are not: whatever is answered is of one of them."""
    stages = {"geometry.enabled": True}
    for name, corners in (("a", 0), ("b", 50)):
        (tmp_path / name).mkdir()
        with begin(tmp_path / name, name, describer=LargeDescriber(), settings=stages) as made:
            for number in range(LAP):
                made.observe(replace(frame(number, number), image=textured(number, corners=corners)))
            made.save(tmp_path / f"{name}.tscm")
    with begin(tmp_path, "c", describer=LargeDescriber(), settings=stages) as live:
        live.load("c", tmp_path / "a.tscm")
        answers, failed, begun, ended = [], [], threading.Event(), threading.Event()

        def ask():
            try:
                while not ended.is_set():
                    best = live.relocalize(textured(4)).candidates[0]
                    answers.append((best.session, best.status))
                    begun.set()
            except Exception as error:  # noqa: BLE001 - told below
                failed.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait(20)  # or no answer might be of the first map
        for number in range(12):
            live.load("c", tmp_path / ("b.tscm" if number % 2 == 0 else "a.tscm"))
        ended.set()
        for thread in threads:
            thread.join(20)
    assert failed == []
    verdicts = {session: {status for name, status in answers if name == session} for session in ("a", "b")}
    assert verdicts["a"] == {Status.ACCEPTED}
    assert Status.ACCEPTED not in verdicts["b"]


def test_an_answer_is_given_anew_if_the_map_was_replaced_while_it_was_judged(tmp_path, monkeypatch):
    with begin(tmp_path) as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
        live.clear("tuesday")
        live.observe(frame(0, 4))
        judged, real = [], LoopDetector.examine

        def examine(self, features, found):
            if not judged:
                live.load("wednesday", saved)
            judged.append(found[0].session)
            return real(self, features, found)

        monkeypatch.setattr(LoopDetector, "examine", examine)
        answer = live.relocalize(picture(4, 10))
        assert judged == ["tuesday", "monday"]
        assert (answer.candidates[0].session, answer.searched) == ("monday", LAP)


def test_no_image_waits_until_it_is_known_what_a_bounded_map_can_give_up(tmp_path, monkeypatch):
    """That is measured as the map is opened or loaded; then each image asks for the few gaps that it changes."""
    with begin(tmp_path) as live:
        for number in range(100):
            live.observe(frame(number, number))
        saved = live.save(tmp_path / "saved.tscm").path
    asked, real = [], PlaceIndex.similarity
    monkeypatch.setattr(PlaceIndex, "similarity", lambda self, a, b: asked.append(len(a)) or real(self, a, b))
    with begin(tmp_path, "tuesday", settings={"map.max_keyframes": 100}) as live:
        for day in ("tuesday", "wednesday"):
            assert 98 in asked
            asked.clear()
            assert len(live.observe(frame(0, 300)).thinned) == 1
            assert asked
            assert max(asked) <= 2
            live.load(day, saved)


# ---------------------------------------------------------------------------------------------- other robots


def told(number, place, change=0):
    return keyframe(number, direction(place, change), "their drive", number)


def test_places_of_another_robot_are_candidates_with_its_name_and_stay_out_of_the_file(tmp_path):
    with begin(tmp_path) as live:
        for number in range(30):
            assert live.add_foreign("robot_b", told(number + 1, 200 + number)) is Added.NEW
        drive(live)
        seen = live.observe(frame(50, 207, 20))
        assert (seen.status, seen.accepted[0].robot, seen.accepted[0].keyframe_id) == (Status.ACCEPTED, "robot_b", 8)
        assert seen.accepted[0].session == "their drive"
        assert "in the map of robot_b: shows the place of keyframe 8" in seen.reason
        assert (seen.own_accepted, seen.loops) == ((), ())
        assert seen.keyframe is not None
        assert live.loops() == ()
        both = live.observe(frame(51, 3, 20))  # a place of our own
        assert [(item.robot, item.keyframe_id) for item in both.accepted] == [("", 4)]
        assert [loop.candidate.keyframe_id for loop in both.loops] == [4]
        assert live.foreign_counts() == {"robot_b": 30}


def test_a_place_that_only_another_robot_knows_is_new_to_a_full_map(tmp_path):
    with begin(tmp_path, settings={"map.max_keyframes": LAP}) as live:
        for number in range(30):
            live.add_foreign("robot_b", told(number + 1, 200 + number))
        drive(live)
        seen = live.observe(frame(50, 207, 20))
        assert (seen.status, len(seen.thinned)) == (Status.ACCEPTED, 1)
        assert seen.keyframe is not None


def test_what_other_robots_told_outlives_our_own_map(tmp_path):
    with begin(tmp_path) as live:
        live.add_foreign("robot_b", told(1, 200))
        drive(live)
        live.clear("again")
        assert live.observe(frame(0, 200, 20)).accepted[0].robot == "robot_b"


def test_a_keyframe_of_another_shape_is_refused(tmp_path):
    with begin(tmp_path) as live, pytest.raises(KeyframeError, match=f"not \\[{DIM}\\]"):
        live.add_foreign("robot_b", keyframe(1, unit(1, 32), "their drive"))


def test_relocalising_while_mapping_thinning_and_hearing_of_others(tmp_path):
    """Each call is answered rightly from a map that changes under it; concurrent calls do not disturb each other."""
    failed, ended = [], threading.Event()
    with begin(tmp_path, describer=ToyDescriber(), settings={"map.max_keyframes": 40}) as live:
        drive(live, 2)  # loops: these stay

        def ask(place):
            try:
                while not ended.is_set():
                    found = live.relocalize(picture(place, 10), 1)
                    assert found.candidates[0].keyframe_id in (place + 1, place + 1 + LAP)
                    assert 2 * LAP <= found.searched <= 40
            except Exception as error:  # noqa: BLE001 - told below
                failed.append(error)

        threads = [threading.Thread(target=ask, args=(place,)) for place in (0, 5, 9)]
        for thread in threads:
            thread.start()
        for number in range(400):
            live.observe(frame(100 + number, 300 + number))
            live.add_foreign("robot_b", told(number + 1, 900 + number))
        ended.set()
        for thread in threads:
            thread.join(20)
        assert failed == []
        assert (live.size, live.fullness.thinned) == (40, 2 * LAP + 400 - 40)


def test_a_map_that_was_replaced_leaves_memory_at_once(tmp_path):
    """Whatever refers to it in a ring would keep it until Python looks for rings: two large maps, and more."""
    with begin(tmp_path, settings={"map.max_keyframes": 20}) as live:
        for number in range(30):
            live.observe(frame(number, 100 + number))
        live.relocalize(picture(100))
        saved = live.save(tmp_path / "saved.tscm").path
        gc.disable()
        try:
            for replace_it in (lambda: live.load("next", saved), lambda: live.clear("last")):
                old = weakref.ref(live._detector.memory)
                replace_it()
                assert old() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("fails", ["verifying", "copying", "committing"])
def test_a_load_that_fails_leaves_no_copy_of_what_it_would_have_displaced(tmp_path, monkeypatch, fails):
    """The copy is made while the other map is made ready: whichever of the two fails, and whenever."""
    with begin(tmp_path) as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
        drive(live, start=100, change=20)
        if fails == "verifying":
            damaged = bytearray(saved.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            saved.write_bytes(damaged)
        else:
            cls, name = (MapStore, "save_copy") if fails == "copying" else (Replacement, "commit")
            monkeypatch.setattr(cls, name, lambda *_: (_ for _ in ()).throw(MapFileError(saved, "disk full")))
        with pytest.raises(MapFileError):
            live.load("next", saved)
        monkeypatch.undo()
        assert list(tmp_path.glob("*.previous-*")) == []
        assert (live.size, live.session) == (2 * LAP, "monday")
        assert live.observe(frame(200, 500)).keyframe.id == 2 * LAP + 1


def test_a_load_is_told_of_when_the_new_map_is_in_its_place_and_what_was_there_is_kept(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(writer, "_move_log", lambda path: told.append("log"))
    with begin(tmp_path) as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
        drive(live, start=100, change=20)
        done = live.load("next", saved, lambda loaded: told.append((loaded, ids(loaded.kept), live.size)))
        assert told == [(done, list(range(1, 2 * LAP + 1)), LAP), "log"]
