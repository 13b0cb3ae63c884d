"""Saving, loading, relocalizing, clearing and new sessions: each through the running node."""

from __future__ import annotations

import cv2
import pytest
from ros_helpers import LOOKS_ALONE, SECOND, image_message, picture, running_node
from std_srvs.srv import Trigger

from tscm_core.maps.map_reader import MapReader, check
from tscm_core.maps.map_store import MapStore
from tscm_msgs.msg import FrameStatus
from tscm_msgs.srv import LoadMap, Relocalize, SaveMap


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    alike = {
        **LOOKS_ALONE,
        "candidates.min_similarity": 0.95,
    }  # made-up pictures look more alike to the network than any two places
    with running_node(tmp_path_factory.mktemp("node"), alike) as rig:
        yield rig


@pytest.fixture
def rig(running):
    """The shared node with a map of three keyframes of one session."""
    cleared = running.robot.call(Trigger, "clear_map", Trigger.Request())
    assert cleared.success, cleared.message
    running.map_path.unlink(missing_ok=True)
    assert [status.keyframe_id for status in running.show(1, 2, 3)] == [1, 2, 3]
    return running


def save(rig, path=""):
    return rig.robot.call(SaveMap, "save_map", SaveMap.Request(path=str(path)))


def load(rig, path=""):
    return rig.robot.call(LoadMap, "load_map", LoadMap.Request(path=str(path)))


def relocalize(rig, image=None, top_k=0):
    request = Relocalize.Request(top_k=top_k)
    if image is not None:
        request.image = image
    return rig.robot.call(Relocalize, "relocalize", request)


def stamps(path):
    with MapReader(path) as reader:
        return [keyframe.stamp_ns for keyframe in reader.keyframes()]


def test_save_without_a_path_writes_to_the_parameter(rig):
    answer = save(rig)
    assert answer.success, answer.message
    assert (answer.path, answer.keyframes) == (str(rig.map_path), 3)
    assert answer.message == f"saved 3 keyframes to {rig.map_path}"
    assert check(rig.map_path) == []
    assert len(stamps(rig.map_path)) == 3


def test_save_to_a_path_replaces_what_was_there_and_nothing_else(rig, tmp_path):
    target = tmp_path / "a map.tscm"
    assert save(rig, target).keyframes == 3
    rig.show(4)
    assert save(rig, target).keyframes == 4
    assert len(stamps(target)) == 4
    assert not rig.map_path.exists()


def test_save_where_nothing_can_be_written_says_so_and_leaves_what_was_there(rig, tmp_path):
    assert save(rig, tmp_path / "old.tscm").success
    before = (tmp_path / "old.tscm").read_bytes()
    rig.show(4)
    target = tmp_path / "old.tscm" / "map.tscm"
    answer = save(rig, target)
    assert not answer.success
    assert answer.path == str(target)
    assert str(target) in answer.message
    assert "Traceback" not in answer.message
    assert (tmp_path / "old.tscm").read_bytes() == before
    assert rig.show(5)[0].map_size == 5


def missing(folder):
    return folder / "nowhere.tscm", "does not exist"


def jpeg(folder):
    path = folder / "picture.tscm"
    path.write_bytes(cv2.imencode(".jpg", picture(1))[1].tobytes())
    return path, "not a tscm map"


def truncated(folder):
    path = folder / "saved.tscm"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path, "damaged"


def overwritten(folder):
    path = folder / "saved.tscm"
    path.write_bytes(b"T" + path.read_bytes()[1:])
    return path, f"its first bytes are damaged; `tscm map check {path} --repair` writes what is whole"


def of_another_model(folder):
    path = folder / "theirs.tscm"
    MapStore.create(path, "resnet50-0123456789ab", 2048).close()
    return path, "resnet50-0123456789ab"


def empty(folder):
    path = folder / "empty.tscm"
    path.touch()
    return path, "is empty"


@pytest.mark.parametrize("make", [missing, jpeg, truncated, overwritten, of_another_model, empty])
def test_a_map_that_cannot_be_loaded_leaves_the_running_map_as_it_is(rig, tmp_path, make):
    assert save(rig, tmp_path / "saved.tscm").success
    session = rig.show(4)[0].session
    path, problem = make(tmp_path)
    answer = load(rig, path)
    assert not answer.success
    assert str(path) in answer.message
    assert problem in answer.message
    assert (answer.path, answer.keyframes) == (str(path), 4)
    found = relocalize(rig, image_message(picture(1), 0))
    assert (found.map_size, found.candidates[0].keyframe_id) == (4, 1)
    after = rig.show(5)[0]
    assert (after.session, after.keyframe_id, after.map_size) == (session, 5, 5)
    assert len(stamps(rig.live_path)) == 5


def test_the_running_map_cannot_be_loaded_over_itself(rig):
    answer = load(rig, rig.live_path)
    assert not answer.success
    assert "running map itself" in answer.message
    assert rig.show(4)[0].map_size == 4


def test_a_loaded_map_is_recognised_and_candidates_name_its_session(rig):
    first = rig.show(4)[0].session
    assert save(rig).success
    rig.robot.call(Trigger, "clear_map", Trigger.Request())
    answer = load(rig)
    assert answer.success, answer.message
    assert (answer.path, answer.keyframes) == (str(rig.map_path), 4)
    assert save(rig).success  # waits until the file is tidied up: load_map answers before, and images are kept after
    status = rig.show(2)[0]
    assert status.status == FrameStatus.ACCEPTED, status.reason
    assert (status.keyframe_id, status.map_size) == (5, 5)
    message = rig.candidates_at(rig.clock_ns)
    assert message.session == status.session != first
    assert message.session in answer.message
    assert [(item.keyframe_id, item.session) for item in message.candidates] == [(2, first)]
    assert message.candidates[0].similarity == pytest.approx(1.0, abs=1e-3)


def test_relocalize_finds_the_place_of_a_sent_image_and_adds_nothing(rig):
    image = image_message(picture(2), 77 * SECOND)
    answer = relocalize(rig, image, top_k=1)
    assert answer.success, answer.message
    assert [item.keyframe_id for item in answer.candidates] == [2]
    assert answer.candidates[0].status == FrameStatus.ACCEPTED
    assert answer.candidates[0].similarity == pytest.approx(1.0, abs=1e-3)
    assert answer.header == image.header
    assert (answer.map_size, list(answer.stages)) == (3, ["search"])
    assert answer.model_id == rig.robot.statuses[-1].model_id
    assert rig.show(4)[0].map_size == 4


def test_relocalize_answers_about_a_strange_place_too(rig):
    answer = relocalize(rig, image_message(picture(99), 0))
    assert answer.success
    assert answer.candidates[0].status == FrameStatus.LOW_SIMILARITY
    assert "LOW_SIMILARITY" in answer.message


def test_relocalize_without_an_image_takes_the_newest_and_does_not_find_it_itself(rig):
    rig.robot.call(Trigger, "new_session", Trigger.Request())
    newest = rig.show(2)[0]
    assert newest.keyframe_id == 4
    answer = relocalize(rig)
    assert answer.success, answer.message
    assert answer.header.stamp == newest.header.stamp
    assert (answer.candidates[0].keyframe_id, answer.map_size) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"encoding": "purple8"}, "purple8"), ({"height": 100}, "are due"), ({"width": 0}, "at least 1 x 1")],
)
def test_relocalize_refuses_a_bad_image(rig, changes, problem):
    answer = relocalize(rig, image_message(picture(1), 0, **changes))
    assert not answer.success
    assert problem in answer.message
    assert not answer.candidates


def test_clear_map_forgets_everything_and_begins_a_session(rig):
    answer = rig.robot.call(Trigger, "clear_map", Trigger.Request())
    assert answer.success
    assert answer.message.startswith("cleared 3 keyframes")
    found = relocalize(rig, image_message(picture(1), 0))
    assert (found.success, found.message, found.map_size) == (True, "the map is empty", 0)
    status = rig.show(1)[0]
    assert (status.status, status.keyframe_id, status.map_size) == (FrameStatus.MAP_TOO_YOUNG, 1, 1)
    assert status.session in answer.message
    assert len(stamps(rig.live_path)) == 1


def test_a_new_session_closes_loops_with_the_one_before_and_its_clock_may_begin_again(rig):
    first = rig.robot.statuses[-1].session
    answer = rig.robot.call(Trigger, "new_session", Trigger.Request())
    assert answer.success, answer.message
    rig.clock_ns -= 1000 * SECOND
    status = rig.show(1)[0]
    assert status.status == FrameStatus.ACCEPTED, status.reason
    assert status.session in answer.message
    message = rig.candidates_at(rig.clock_ns)
    assert message.session == status.session != first
    assert (message.candidates[0].keyframe_id, message.candidates[0].session) == (1, first)
    assert [item.name for item in MapReader(rig.live_path).sessions()] == [first, status.session]
