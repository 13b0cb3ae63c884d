"""Whoever joins the graph hears what is said there, keeps nothing of it by itself, and leaves no thread behind."""

from __future__ import annotations

import threading

import pytest
from ros_helpers import own_graph
from std_msgs.msg import UInt32

from tscm_ros.graph_member import ANSWERS, GraphMember
from tscm_ros.playback import Robot, wait_until


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
