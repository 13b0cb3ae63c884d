"""A node in a process of its own, a robot around it, and a DDS domain that nobody else uses."""

from __future__ import annotations

import os
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from shared_data import compile_default

try:
    import rclpy  # noqa: F401
    from diagnostic_msgs.msg import DiagnosticArray
    from nav_msgs.msg import Odometry
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    import tscm_msgs.msg  # noqa: F401
except ImportError as missing:
    if os.environ.get("CI"):
        raise
    pytest.skip(f"the node cannot run here: {missing}", allow_module_level=True)

from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, DEPTH_TOPIC, FIRST_STAMP_NS, IMAGE_TOPIC, ODOMETRY_TOPIC
from tscm_core.datasets.image_messages import from_rgb
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.messages import to_header
from tscm_ros.playback import NodeProcess, Robot, wait_until

SECOND = 10**9
LOOKS_ALONE = {"geometry.enabled": False, "odometry.enabled": False, "temporal.enabled": False}
"""For tests of something else: a made-up picture shown once closes a loop if it looks like one seen before."""
EASY = {
    "recency.keyframes": 0,
    "recency.seconds": 0.0,
    "recency.metres": 0.0,
    "keyframes.min_interval_s": 0.0,
    "keyframes.min_distance_m": 0.0,
    "keyframes.min_angle_deg": 0.0,
    "keyframes.min_novelty": 0.0,
    "candidates.min_similarity": 0.95,
    **LOOKS_ALONE,
}
"""Settings with which every image becomes a keyframe, and the image just seen may be a loop already; the threshold is
for made-up pictures, which look more alike to the network than any two places."""


@contextmanager
def own_graph(folder: Path) -> Iterator[None]:
    """Nothing leaves this machine, no other run is heard, and no file lands in the home folder."""
    with ExitStack() as stack:
        stack.enter_context(dds_for_one_machine())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("ROS_HOME", str(folder / "ros_home"))
        patch.setenv("ROS_LOG_DIR", str(folder / "ros_log"))
        yield


def picture(seed: int, width: int = 320, height: int = 240) -> np.ndarray:
    """A scene like no other: smooth blobs of colour with edges, RGB ``uint8 [height, width, 3]``."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(12):
        x, y, radius = (int(random.integers(0, limit)) for limit in (width, height, height // 4))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        cv2.circle(image, (x, y), radius + 4, colour, -1 if random.random() < 0.5 else 3)
    return image


def image_message(pixels: np.ndarray, stamp_ns: int, **changes: Any) -> Image:
    """An rgb8 image, made wrong where ``changes`` say so."""
    message = from_rgb(pixels, Image(header=to_header(stamp_ns, "camera")))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def grey_message(samples: np.ndarray, stamp_ns: int, encoding: str) -> Image:
    """One byte a pixel: mono8 or a Bayer mosaic."""
    height, width = samples.shape
    message = Image(header=to_header(stamp_ns, "camera"), height=height, width=width, encoding=encoding, step=width)
    message.data = array("B", samples.tobytes())
    return message


def compressed_message(data: bytes, stamp_ns: int, kind: str = "jpeg") -> CompressedImage:
    message = CompressedImage(header=to_header(stamp_ns, "camera"), format=f"rgb8; {kind} compressed bgr8")
    message.data = array("B", data)
    return message


def odometry_message(stamp_ns: int, x: float, y: float = 0.0, z: float = 0.0) -> Odometry:
    message = Odometry(header=to_header(stamp_ns, "odom"))
    message.pose.pose.position.x, message.pose.pose.position.y, message.pose.pose.position.z = x, y, z
    return message


def depth_message(metres: np.ndarray, stamp_ns: int, encoding: str = "16UC1") -> Image:
    """Depth [H, W], as millimetres or as floating point metres."""
    height, width = metres.shape
    samples = np.rint(metres * 1000).astype("<u2") if encoding == "16UC1" else metres.astype("<f4")
    message = Image(header=to_header(stamp_ns, "camera"), height=height, width=width, encoding=encoding)
    message.step, message.data = width * samples.itemsize, array("B", samples.tobytes())
    return message


def camera_info_message(width: int, height: int, focal: float, stamp_ns: int = FIRST_STAMP_NS) -> CameraInfo:
    """A pinhole that looks through the middle of its image."""
    message = CameraInfo(header=to_header(stamp_ns, "camera"), width=width, height=height, distortion_model="plumb_bob")
    message.k = [focal, 0.0, (width - 1) / 2, 0.0, focal, (height - 1) / 2, 0.0, 0.0, 1.0]
    message.d = [0.0] * 5
    return message


def stamp_of(message: Any) -> int:
    return int(message.header.stamp.sec * SECOND + message.header.stamp.nanosec)


@dataclass
class Rig:
    """The running node and what stands around it."""

    process: NodeProcess
    robot: Robot
    map_path: Path
    diagnostics: list[DiagnosticArray] = field(default_factory=list)
    clock_ns: int = FIRST_STAMP_NS

    def __post_init__(self) -> None:
        self.robot.node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)

    @property
    def live_path(self) -> Path:
        return self.map_path.with_name(self.map_path.name + ".live")

    @property
    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    def tick(self, seconds: float = 1.0) -> int:
        """The stamp for the next image."""
        self.clock_ns += round(seconds * SECOND)
        return self.clock_ns

    def send(self, message: Any) -> Any:
        """Publish an image and wait for what became of it."""
        self.robot.publish(IMAGE_TOPIC, message)
        return self.status_at(stamp_of(message))

    def show(self, *seeds: int) -> list[Any]:
        """Publish scenes one after the other, each once the one before is answered for; gives their statuses."""
        return [self.send(image_message(picture(seed), self.tick())) for seed in seeds]

    def status_at(self, stamp_ns: int) -> Any:
        return self._wait_for(self.robot.statuses, stamp_ns, "a status")

    def candidates_at(self, stamp_ns: int) -> Any:
        return self._wait_for(self.robot.candidates, stamp_ns, "loop candidates")

    def keyframe_at(self, stamp_ns: int) -> Any:
        return self._wait_for(self.robot.keyframes, stamp_ns, "a keyframe")

    def wait_for_log(self, sentence: str) -> None:
        """Wait until the log says it: what the node publishes may come before the line that it writes about that."""
        wait_until(lambda: sentence in self.log, 10.0, f"{sentence!r} in the log:\n{self.log}")

    def make_odometry_heard(self, x: float, stamp_ns: int) -> None:
        """Publish odometry until the node says that some came: what is sent before it knows the publisher is lost."""

        def heard(parts: dict[str, Any]) -> bool:
            self.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp_ns, x))
            return "last one" in values_of(parts["images"])["odometry"]

        self.wait_for_report(heard)

    def set_live(self, name: str, value: float | bool) -> None:
        """Set a parameter of the running node, which must take it."""
        of_kind = {
            bool: {"type": ParameterType.PARAMETER_BOOL, "bool_value": value},
            float: {"type": ParameterType.PARAMETER_DOUBLE, "double_value": value},
        }
        parameter = Parameter(name=name, value=ParameterValue(**of_kind[type(value)]))
        answer = self.robot.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[parameter]))
        assert answer.results[0].successful, answer.results[0].reason

    def listen(self, kind: Any, topic: str) -> tuple[list[Any], Any]:
        """Subscribe to a topic of the node: the messages as they come, and the subscription."""
        messages: list[Any] = []
        subscription = self.robot.node.create_subscription(kind, f"/tscm/{topic}", messages.append, 10)
        return messages, subscription

    def wait_for_report(self, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 10.0) -> dict[str, Any]:
        """The first diagnostics from now on that fit: statuses by part (images, processing, map)."""
        begin = len(self.diagnostics)

        def fitting() -> list[dict[str, Any]]:
            reports = (
                {status.name.rpartition(": ")[2]: status for status in message.status}
                for message in self.diagnostics[begin:]
            )
            return [report for report in reports if holds(report)]

        wait_until(lambda: bool(fitting()), timeout_s, f"diagnostics that fit; log:\n{self.log}")
        return fitting()[0]

    def _wait_for(self, messages: Sequence[Any], stamp_ns: int, what: str) -> Any:
        def found() -> list[Any]:
            return [message for message in messages if stamp_of(message) == stamp_ns]

        wait_until(lambda: bool(found()), 20.0, f"{what} for the image of {stamp_ns}; log:\n{self.log}")
        return found()[0]


def values_of(status: Any) -> dict[str, str]:
    """The key-value pairs of a diagnostic status."""
    return {pair.key: pair.value for pair in status.values}


def refuse(rig: Rig, message: Any, sentence: str) -> int:
    """Publish a bad image and wait until it is counted and its reason told; gives the count."""
    refused = rig.robot.statuses[-1].images_refused if rig.robot.statuses else 0
    rig.robot.publish(IMAGE_TOPIC, message)
    report = rig.wait_for_report(lambda parts: values_of(parts["images"])["refused"] == str(refused + 1))
    assert sentence in values_of(report["images"])["last refusal"]
    assert report["processing"].level == b"\x01"
    assert f"{refused + 1} images refused" in report["processing"].message
    assert sentence in report["processing"].message
    rig.wait_for_log("image refused: ")
    assert "Traceback" not in rig.log
    return int(refused + 1)


@contextmanager
def running_node(
    folder: Path, parameters: Mapping[str, object] | None = None, kind: type = Image, namespace: str = ""
) -> Iterator[Rig]:
    """The node, listening to :data:`IMAGE_TOPIC`, with its map in ``folder``."""
    compile_default()
    given = {"map_path": folder / "map.tscm", **(parameters or {})}
    remappings = {
        "image": IMAGE_TOPIC,
        "odometry": ODOMETRY_TOPIC,
        "camera_info": CAMERA_INFO_TOPIC,
        "depth": DEPTH_TOPIC,
    }
    if namespace:
        remappings["__ns"] = namespace
    with (
        own_graph(folder),
        NodeProcess(folder / "node.log", given, remappings) as process,
        Robot(node_name=f"{namespace}/tscm") as robot,
    ):
        if given.get("autostart", True):
            robot.wait_for_node(process, IMAGE_TOPIC, kind)
        yield Rig(process, robot, given["map_path"])


def run_node(folder: Path, **parameters: object) -> subprocess.Popen[str]:
    """Start a node that is expected to end by itself; its output is in ``communicate()``."""
    given = {"map_path": folder / "map.tscm", **parameters}
    arguments = [part for name, value in given.items() for part in ("-p", f"{name}:={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "tscm_ros", "--ros-args", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
