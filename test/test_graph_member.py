"""Whoever joins the graph hears what is said there, keeps nothing of it by itself, and leaves no thread behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace

import pytest
from lifecycle_msgs.srv import GetState
from rclpy.qos import qos_profile_sensor_data
from ros_helpers import own_graph
from std_msgs.msg import UInt32

from tscm_ros import playback
from tscm_ros.dds import own_domain
from tscm_ros.graph_member import ANSWERS, GraphMember
from tscm_ros.playback import NodeError, Robot, wait_until, wait_until_known


@pytest.fixture(autouse=True)
def graph(tmp_path):
    with own_graph(tmp_path):
        yield


class Speaker(GraphMember):
    def says(self, number):
        self._publisher("/said", UInt32).publish(UInt32(data=number))


def test_what_one_says_the_other_one_hears_until_it_leaves():
    heard, before = [], set(threading.enumerate())
    with Speaker("speaker") as speaker, GraphMember("listener") as listener:
        listener.node.create_subscription(UInt32, "/said", lambda message: heard.append(message.data), ANSWERS)
        speaker.says(0)
        wait_until(lambda: speaker.node.count_subscribers("/said") == 1, 20.0, "the listener to be found")
        wait_until(lambda: speaker.says(1) or heard, 20.0, "the speaker to be heard")
        assert [item.topic for item in speaker.node.publishers].count("/said") == 1
    assert not listener._context.ok()
    assert not (set(threading.enumerate()) - before)


def test_a_robot_is_ready_for_what_it_hears_before_it_listens():
    """An answer may come while it is still being made."""
    with Robot() as robot:
        assert (robot.statuses, robot.candidates, robot.keyframes, robot.answered()) == ([], [], [], 0)
        assert {item.topic_name for item in robot.node.subscriptions} >= {
            "/tscm/frame_status", "/tscm/loop_candidates", "/tscm/keyframes",
        }  # fmt: skip


# -------------------------------------------------------------------------------------- before the first message


class Place(GraphMember):
    """Listens as the real node does, and can be asked for its state."""

    def __init__(self):
        super().__init__("place")
        self.heard = []
        self.node.create_subscription(
            UInt32, "/said", lambda message: self.heard.append(message.data), qos_profile_sensor_data
        )
        self.node.create_service(GetState, "/place/get_state", lambda request, response: response)


def test_who_is_known_is_heard_from_the_first_message_on():
    with Place() as place, Speaker("speaker") as speaker:
        publisher = speaker._publisher("/said", UInt32)
        wait_until(lambda: publisher.get_subscription_count() == 1, 20.0, "the place to be found")
        wait_until_known(speaker.node, "/place")
        speaker.says(5)
        wait_until(lambda: bool(place.heard), 10.0, "the place to hear it")
        assert place.heard == [5]
        assert not list(speaker.node.clients)


def test_a_node_that_is_not_there_knows_nobody(monkeypatch):
    monkeypatch.setattr(playback, "DISCOVERY_S", 1.0)
    with Speaker("speaker") as speaker:
        with pytest.raises(NodeError, match="waited 1 s in vain for /place to discover what is published to it"):
            wait_until_known(speaker.node, "/place")
        assert not list(speaker.node.clients)


def test_an_answer_that_gets_lost_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(playback, "_ASK_AGAIN_S", 0.1)
    answers = iter([False, False, True])  # the first two get lost
    asked = []

    def call_async(request):
        asked.append(next(answers))
        return SimpleNamespace(done=partial(bool, asked[-1]))

    client = SimpleNamespace(service_is_ready=lambda: True, call_async=call_async)
    wait_until_known(
        SimpleNamespace(create_client=lambda kind, name: client, destroy_client=lambda client: None), "/place"
    )
    assert asked == [False, False, True]


def test_no_two_processes_have_one_domain():
    code = (
        "import os, sys; os.getpid = lambda: {pid}; from tscm_ros.dds import own_domain; "
        "print(own_domain(), own_domain(), flush=True); sys.stdin.read()"
    )
    told = []
    for _ in range(2):  # the second one after the first one has ended
        command = [sys.executable, "-c", code.format(pid=own_domain() - 1 + 3 * 100)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            told.append(other.stdout.readline().split())
    assert told[0][0] == told[0][1]
    assert all(1 <= int(number) <= 100 and int(number) != own_domain() for number, _ in told)
    assert os.environ["ROS_DOMAIN_ID"] == str(own_domain())
