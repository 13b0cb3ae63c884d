"""Two real nodes in two namespaces: one finds the places that the other saw, over DDS."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from ros_helpers import (
    EASY,
    SECOND,
    camera_info_message,
    compile_default,
    image_message,
    odometry_message,
    own_graph,
    stamp_of,
    values_of,
)
from std_srvs.srv import Trigger
from two_planes import FOCAL, HEIGHT, WIDTH, view

from tscm_core.maps.map_reader import MapReader, inspect
from tscm_core.recognition.local_features import decode_features
from tscm_msgs.msg import FrameStatus
from tscm_ros.playback import NodeProcess, Robot, wait_until

FIRST = (0.0, 0.0, 0.0), np.eye(3)
MOVED = (0.3, -0.1, 0.25), cv2.Rodrigues(np.array([0.02, -0.1, 0.03]))[0]
A, C = "/robot_a/tscm/keyframes", "/robot_c/tscm/keyframes"
SETTINGS = {
    **EASY,
    "candidates.min_similarity": -1.0,
    "candidates.top_places": 50,
    "geometry.enabled": True,
    "geometry.places": 50,
    "input.odometry_wait_s": 5.0,
}
"""The network has never seen such textures: geometry alone must tell them apart."""


class Driver:
    """A robot in its namespace: what its camera sees, and what its node answers."""

    def __init__(self, namespace: str, process: NodeProcess, robot: Robot, map_path: Path, clock_ns: int) -> None:
        self.namespace, self.process, self.robot, self.map_path = namespace, process, robot, map_path
        self.clock_ns = clock_ns
        self.reports: list[DiagnosticArray] = []
        robot.node.create_subscription(DiagnosticArray, "/diagnostics", self.reports.append, 10)

    @property
    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    def see(self, seed, where, x=0.0):
        """Show a view of room ``seed`` and wait for what becomes of it."""
        self.clock_ns += SECOND // 5  # near enough to the odometry before for the image to wait
        self.robot.publish(f"{self.namespace}/camera_info", camera_info_message(WIDTH, HEIGHT, FOCAL, self.clock_ns))
        self.robot.publish(f"{self.namespace}/odometry", odometry_message(self.clock_ns, x))
        self.robot.publish(f"{self.namespace}/image", image_message(view(seed, *where)[0], self.clock_ns))
        return self.answer(self.robot.statuses)

    def answer(self, messages):
        def found():
            return [message for message in messages if stamp_of(message) == self.clock_ns]

        wait_until(lambda: bool(found()), 20.0, f"an answer to the image of {self.clock_ns}; log:\n{self.log}")
        return found()[0]

    def is_ready(self):
        """Whether everything that it sends is heard."""
        self.see(90, FIRST)
        keyframe = self.answer(self.robot.keyframes)
        return decode_features(bytes(keyframe.features)).camera is not None and keyframe.has_pose

    def report(self, holds):
        """The newest diagnostics about other robots that fit."""
        name, begin = f"{self.namespace[1:]}/tscm: other robots", len(self.reports)

        def fitting():
            statuses = [item for message in self.reports[begin:] for item in message.status if item.name == name]
            return [item for item in statuses if holds(item)]

        wait_until(lambda: bool(fitting()), 10.0, f"diagnostics of {name}; log:\n{self.log}")
        return fitting()[-1]


@contextmanager
def drivers(folder):
    """Robot A, and robot B that listens to A and to a robot C that is not there."""
    compile_default()
    with own_graph(folder), ExitStack() as stack:
        made = []
        for name, listened, clock_ns in (("robot_a", "", 5_000 * SECOND), ("robot_b", f"{A}, {C}", 1_000 * SECOND)):
            given = {**SETTINGS, "map_path": folder / name / "map.tscm"}
            if listened:
                given["robots.keyframe_topics"] = listened
            process = stack.enter_context(NodeProcess(folder / f"{name}.log", given, {"__ns": f"/{name}"}))
            robot = stack.enter_context(Robot(f"{name}_around", f"/{name}/tscm"))
            made.append(Driver(f"/{name}", process, robot, given["map_path"], clock_ns))
        for driver in made:
            driver.robot.wait_for_node(driver.process, f"{driver.namespace}/image")
            wait_until(driver.is_ready, 20.0, f"{driver.namespace} to hear everything")
        a, b = made
        wait_until(lambda: a.is_ready() and kept(b.report(bool)) > 0, 20.0, f"B to hear of A; log:\n{b.log}")
        yield made


@pytest.fixture(scope="module")
def robots(tmp_path_factory):
    with drivers(tmp_path_factory.mktemp("robots")) as made:
        yield made


def kept(status):
    """How many keyframes of A are known."""
    found = re.match(r"robot_a: (\d+) keyframes kept, last one came [\d.]+ s ago", values_of(status)[A])
    return int(found[1]) if found else 0


def test_b_finds_the_places_of_a_and_says_whose_they_are(robots):
    a, b = robots
    known = kept(b.report(lambda status: True))
    first = a.see(1, FIRST, x=12.0)
    assert first.is_keyframe, first.reason
    b.report(lambda status: kept(status) == known + 1)
    live = b.map_path.with_name("map.tscm.live")
    before, loops = inspect(live).keyframes, list(MapReader(live).loops())
    seen = b.see(1, MOVED, x=-3.0)
    assert (seen.status, seen.best_robot) == (FrameStatus.ACCEPTED, "robot_a"), seen.reason
    assert "in the map of robot_a: shows the place of keyframe" in seen.reason
    message = b.answer(b.robot.candidates)
    assert (message.robot, message.session) == ("robot_b", seen.session)
    candidate = message.candidates[0]
    assert (candidate.robot, candidate.keyframe_id, candidate.session) == ("robot_a", first.keyframe_id, first.session)
    assert candidate.stamp == first.header.stamp
    assert (candidate.has_pose, candidate.pose.pose.position.x) == (True, 12.0)
    assert candidate.inliers >= 20
    relative = candidate.relative_pose.pose.position
    shift = np.array([relative.x, relative.y, relative.z])
    assert (candidate.has_relative_pose, candidate.metric_scale) == (True, False)
    assert shift @ np.array(MOVED[0]) / np.linalg.norm(MOVED[0]) > np.cos(np.radians(5.0))
    assert inspect(live).keyframes == before + 1
    assert list(MapReader(live).loops()) == loops, "a place of A is no loop of the map of B"


def test_a_hears_nothing_of_b(robots):
    a, b = robots
    b.see(2, FIRST)
    assert {item.robot for message in a.robot.candidates for item in message.candidates} <= {""}
    assert a.see(2, MOVED).best_robot == ""


def test_a_robot_with_another_model_is_refused_once_and_loudly(robots):
    a, b = robots
    a.see(3, FIRST)
    strange = a.answer(a.robot.keyframes)
    strange.robot, strange.model_id = "robot_c", "resnet50-0123456789ab"
    wait_until(lambda: b.robot.publish(C, strange) or "robot robot_c on" in b.log, 10.0, "the refusal")
    for number in range(1, 5):
        strange.id = number
        b.robot.publish(C, strange)
    report = b.report(lambda status: status.level == b"\x02")
    for part in ("robot robot_c", C, "resnet50-0123456789ab", a.robot.statuses[-1].model_id):
        assert part in report.message
    assert "refused, the last because robot robot_c describes places with another model" in values_of(report)[C]
    log = b.log  # once: while it is read, diagnostics say it again
    assert log.count("robot robot_c on ") - log.count("other robots: robot robot_c on ") == 1
    strange.model_id, strange.dim = a.robot.statuses[-1].model_id, 7
    b.robot.publish(C, strange)
    b.report(lambda status: "its descriptor has 7 numbers" in values_of(status)[C])
    assert "Traceback" not in b.log


def test_b_forgets_what_a_has_forgotten(robots):
    a, b = robots
    assert a.robot.call(Trigger, "clear_map", Trigger.Request()).success
    place = a.see(5, FIRST)
    assert place.keyframe_id == 1
    b.report(lambda status: kept(status) == 1)
    forgotten = "robot robot_a began another map: what was known of it is forgotten"
    wait_until(lambda: forgotten in b.log, 10.0, forgotten)
    assert b.see(5, MOVED).best_robot == "robot_a"
    assert b.answer(b.robot.candidates).candidates[0].keyframe_id == 1
