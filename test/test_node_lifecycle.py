"""Configure, activate, deactivate, clean up: by the services that a lifecycle manager calls."""

from __future__ import annotations

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_helpers import IMAGE_TOPIC, LOOKS_ALONE, image_message, picture, running_node, stamp_of

from tscm_core.maps.map_files import FileLock
from tscm_core.maps.map_reader import MapReader
from tscm_msgs.srv import Relocalize, SaveMap
from tscm_ros.playback import NodeError, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), {**LOOKS_ALONE, "autostart": False}) as rig:
        wait_until(lambda: answers(rig), 60.0, "any answer of the node")
        yield rig


def answers(rig):
    """Whether the node is discovered both ways: DDS may drop an answer to a client not yet known."""
    try:
        rig.robot.call(GetState, "get_state", GetState.Request(), timeout_s=5.0)
    except NodeError:
        return False
    return True


@pytest.fixture
def rig(running):
    """The shared node, unconfigured and without a map."""
    yield running
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        change(running, transition)
    for path in running.map_path.parent.glob("map.tscm*"):
        path.unlink()


def change(rig, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return rig.robot.call(ChangeState, "change_state", request, timeout_s=20.0).success


def state(rig):
    return rig.robot.call(GetState, "get_state", GetState.Request()).current_state.id


def listeners(rig):
    return rig.robot.node.count_subscribers(IMAGE_TOPIC)


def configure(rig):
    assert change(rig, Transition.TRANSITION_CONFIGURE), rig.log
    rig.robot.wait_for_node(rig.process, IMAGE_TOPIC)


def test_without_autostart_the_node_waits_unconfigured(rig):
    assert state(rig) == State.PRIMARY_STATE_UNCONFIGURED
    assert listeners(rig) == 0
    assert not change(rig, Transition.TRANSITION_ACTIVATE)
    rig.wait_for_log("change_state refused: the state that the node is in has no number 3: ")
    assert not rig.live_path.exists()


def test_images_count_only_while_the_node_is_active(rig):
    configure(rig)
    assert state(rig) == State.PRIMARY_STATE_INACTIVE
    ignored = [rig.tick()]
    rig.robot.publish(IMAGE_TOPIC, image_message(picture(1), ignored[0]))
    nothing = rig.robot.call(Relocalize, "relocalize", Relocalize.Request())
    assert not nothing.success
    assert nothing.message == f"no image came on {IMAGE_TOPIC} yet: send one with the request"

    assert change(rig, Transition.TRANSITION_ACTIVATE)
    assert state(rig) == State.PRIMARY_STATE_ACTIVE
    seen = rig.show(2, 3)
    assert [status.keyframe_id for status in seen] == [1, 2]

    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    ignored.append(rig.tick())
    rig.robot.publish(IMAGE_TOPIC, image_message(picture(4), ignored[1]))
    saved = rig.robot.call(SaveMap, "save_map", SaveMap.Request())
    assert (saved.success, saved.keyframes) == (True, 2), saved.message
    with MapReader(rig.map_path) as reader:
        assert reader.count == 2

    assert change(rig, Transition.TRANSITION_ACTIVATE)
    again = rig.show(5)[0]
    assert (again.keyframe_id, again.session) == (3, seen[0].session)
    assert not set(ignored) & {stamp_of(status) for status in rig.robot.statuses}


def test_cleaned_up_the_node_gives_everything_back_and_can_be_configured_again(rig):
    configure(rig)
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    first = rig.show(1, 2)[-1].session
    assert change(rig, Transition.TRANSITION_DEACTIVATE)
    assert change(rig, Transition.TRANSITION_CLEANUP)
    assert state(rig) == State.PRIMARY_STATE_UNCONFIGURED
    topics = [f"/tscm/{name}" for name in ("frame_status", "loop_candidates", "keyframes", "markers", "match_image")]
    services = {f"/tscm/{name}" for name in ("save_map", "load_map", "relocalize", "clear_map", "new_session")}
    graph = rig.robot.node
    wait_until(lambda: listeners(rig) == 0 and not any(map(graph.count_publishers, topics)), 10.0, "topics to go")
    wait_until(lambda: services.isdisjoint(dict(graph.get_service_names_and_types())), 10.0, "services to go")
    FileLock(rig.live_path).release()  # raises if the node still had the map

    configure(rig)
    assert change(rig, Transition.TRANSITION_ACTIVATE)
    status = rig.show(1)[0]
    assert (status.keyframe_id, status.status) == (3, 0), status.reason
    candidate = rig.candidates_at(rig.clock_ns).candidates[0]
    assert (candidate.keyframe_id, candidate.session) == (1, first)
    assert status.session != first


def test_a_map_in_use_stops_the_transition_but_not_the_node(rig):
    lock = FileLock(rig.live_path)
    try:
        assert not change(rig, Transition.TRANSITION_CONFIGURE)
    finally:
        lock.release()
    assert state(rig) == State.PRIMARY_STATE_UNCONFIGURED
    assert "is in use by process" in rig.log
    assert "Traceback" not in rig.log
    assert change(rig, Transition.TRANSITION_CONFIGURE)
