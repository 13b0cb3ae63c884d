"""Localization, session filters and bounds, switched while the node runs."""

from __future__ import annotations

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from ros_helpers import EASY, SECOND, image_message, odometry_message, picture, running_node, stamp_of, values_of
from std_srvs.srv import Trigger

from tscm_core.datasets.bag_writer import ODOMETRY_TOPIC
from tscm_core.maps.map_reader import MapReader
from tscm_msgs.msg import FrameStatus
from tscm_msgs.srv import LoadMap, Relocalize, SaveMap


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), {**EASY, "input.odometry_wait_s": 5.0}) as rig:
        yield rig


@pytest.fixture
def rig(running):
    """The shared node with a map of three keyframes, mapping without bounds."""
    for name, value in (("mode", "mapping"), ("candidates.sessions", "all")):
        set_text(running, name, value)
    set_number(running, "map.max_keyframes", 0)
    assert running.robot.call(Trigger, "clear_map", Trigger.Request()).success
    assert [status.keyframe_id for status in running.show(1, 2, 3)] == [1, 2, 3]
    return running


def set_parameter(rig, name, value):
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    result = rig.robot.call(SetParameters, "set_parameters", request).results[0]
    return result.successful, result.reason


def set_text(rig, name, value):
    done = set_parameter(rig, name, ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value))
    assert done == (True, "")


def set_number(rig, name, value):
    done = set_parameter(rig, name, ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value))
    assert done == (True, "")


def stored(path):
    with MapReader(path) as reader:
        return [keyframe.id for keyframe in reader.keyframes()]


def test_localization_recognises_adds_nothing_and_says_so(rig):
    set_text(rig, "mode", "localization")
    rig.keyframe_at(rig.clock_ns)  # the last one that there is to hear of
    told = len(rig.robot.keyframes)
    rig.make_odometry_heard(7.0, rig.clock_ns)
    stamp = rig.tick(0.2)  # near enough to odometry for the image to wait for more
    rig.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp - SECOND // 100, 7.0))
    rig.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp + SECOND // 100, 7.0))
    status = rig.send(image_message(picture(2), stamp))
    assert (status.status, status.is_keyframe, status.keyframe_id) == (FrameStatus.ACCEPTED, False, 0)
    assert (status.map_size, status.best_keyframe_id, status.best_robot) == (3, 2, "")
    loop = rig.candidates_at(stamp)
    assert (loop.keyframe_id, loop.map_size, loop.candidates[0].keyframe_id) == (0, 3, 2)
    assert loop.has_pose
    assert loop.pose.pose.position.x == pytest.approx(7.0)
    assert len(rig.robot.keyframes) == told
    assert stored(rig.live_path) == [1, 2, 3]
    assert "mode localization (nothing is added to the map)" in rig.log
    report = rig.wait_for_report(lambda parts: "localization" in parts["map"].message)["map"]
    assert report.message == "3 keyframes, localization: none is added"
    assert values_of(report)["mode"] == "localization"
    set_text(rig, "mode", "mapping")
    assert rig.show(9)[0].keyframe_id == 5  # the image that was not remembered had taken 4


def test_localization_on_an_empty_map_is_warned_of(rig):
    assert rig.robot.call(Trigger, "clear_map", Trigger.Request()).success
    set_text(rig, "mode", "localization")
    rig.wait_for_log("mode localization on an empty map recognises nothing of its own: is map_path right")


def test_services_work_in_localization(rig, tmp_path):
    set_text(rig, "mode", "localization")
    saved = tmp_path / "saved.tscm"
    assert rig.robot.call(SaveMap, "save_map", SaveMap.Request(path=str(saved))).keyframes == 3
    assert rig.robot.call(Trigger, "new_session", Trigger.Request()).success
    found = rig.robot.call(Relocalize, "relocalize", Relocalize.Request(image=image_message(picture(3), 1)))
    assert (found.map_size, found.candidates[0].keyframe_id) == (3, 3)
    loaded = rig.robot.call(LoadMap, "load_map", LoadMap.Request(path=str(saved)))
    assert loaded.success, loaded.message
    assert rig.show(1)[0].best_keyframe_id == 1
    with MapReader(rig.live_path) as reader:
        assert [session.keyframes for session in reader.sessions()] == [3]


def test_candidates_of_this_session_or_of_others_alone(rig):
    assert rig.robot.call(Trigger, "new_session", Trigger.Request()).success
    assert rig.show(1, 8)[0].best_keyframe_id == 1
    set_text(rig, "candidates.sessions", "within")
    seen = rig.show(1)[0]
    assert (seen.best_keyframe_id, seen.searched) == (4, 2)
    set_text(rig, "candidates.sessions", "between")
    seen = rig.show(1)[0]
    assert (seen.best_keyframe_id, seen.searched) == (1, 3)
    loop = rig.candidates_at(stamp_of(seen))
    assert loop.session == seen.session != loop.candidates[0].session


def test_a_bound_set_while_the_node_runs_holds_and_is_counted(rig):
    set_number(rig, "map.max_keyframes", 4)
    rig.robot.call(Trigger, "new_session", Trigger.Request())
    statuses = rig.show(*range(20, 32))
    assert {status.map_size for status in statuses} <= {4}
    assert len(stored(rig.live_path)) == 4
    given_up = str(sum(status.is_keyframe for status in statuses) - 1)
    rig.wait_for_report(lambda parts: values_of(parts["map"])["keyframes given up for newer ones"] == given_up)


def test_an_unknown_mode_is_refused_with_those_that_there_are(rig):
    done = set_parameter(rig, "mode", ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="mapping!"))
    assert done == (False, "mode must be one of mapping, localization, not 'mapping!'")
