"""Playing a bag into the graph and keeping what the node answers: for the demo and for tests, without ``ros2 bag``."""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lifecycle_msgs.srv import GetState
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from tscm_core.datasets.bag_writer import DEPTH_TOPIC
from tscm_core.errors import TscmError
from tscm_msgs.msg import FrameStatus, Keyframe, LoopCandidates
from tscm_ros.graph_member import ANSWERS, GraphMember

Item = TypeVar("Item")

DISCOVERY_S = 30.0
READ_AHEAD = 100
"""Messages of a bag that are read before their time."""
_ASK_AGAIN_S = 3.0
_KINDS = {
    f"sensor_msgs/msg/{kind.__name__}" if kind is not Odometry else "nav_msgs/msg/Odometry": kind
    for kind in (Image, CompressedImage, CameraInfo, Odometry)
}


class NodeError(TscmError):
    """The node did not do what it was asked for."""


class NodeProcess:
    """The real node in a process of its own."""

    def __init__(self, log: Path, parameters: Mapping[str, object], remappings: Mapping[str, str]) -> None:
        arguments = [f"-p{name}:={_yaml(value)}" for name, value in parameters.items()]
        arguments += [f"-r{name}:={topic}" for name, topic in remappings.items()]
        separated = [part for argument in arguments for part in (argument[:2], argument[2:])]
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tscm_ros", "--ros-args", *separated],
                stdout=output,
                stderr=output,
                env=os.environ,
            )

    def __enter__(self) -> NodeProcess:
        """The process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process if it still runs."""
        if self.process.poll() is None:
            self.stop()

    def stop(self, with_signal: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end; gives the exit code. What does not end within 20 s is killed."""
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def require_alive(self) -> None:
        """Raises NodeError with the last line of its log if the process has ended."""
        if self.process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines() or ["no output"]
            raise NodeError(f"the node ended with exit code {self.process.returncode}: {lines[-1]}")


class Robot(GraphMember):
    """What stands around the node in a demo or a test: camera, odometry, and a listener to its answers."""

    def __init__(self, name: str = "tscm_robot", node_name: str = "/tscm") -> None:
        self.statuses: list[FrameStatus] = []
        self.candidates: list[LoopCandidates] = []
        self.keyframes: list[Keyframe] = []
        self._received_at: dict[int, float] = {}
        self.sent_at: dict[int, float] = {}
        self._node_name = node_name
        super().__init__(name)
        self.node.create_subscription(FrameStatus, f"{node_name}/frame_status", self.statuses.append, ANSWERS)
        self.node.create_subscription(LoopCandidates, f"{node_name}/loop_candidates", self._on_candidates, ANSWERS)
        self.node.create_subscription(Keyframe, f"{node_name}/keyframes", self.keyframes.append, ANSWERS)

    def _on_candidates(self, message: LoopCandidates) -> None:
        self.candidates.append(message)
        self._received_at[_stamp_ns(message)] = time.monotonic()

    def topic_latencies_ms(self, of: Container[int] | None = None) -> list[float]:
        """From publishing an image to receiving its loop candidates, in milliseconds; ``of``: only for these stamps."""
        return [
            (at - self.sent_at[stamp]) * 1e3
            for stamp, at in self._received_at.items()
            if stamp in self.sent_at and (of is None or stamp in of)
        ]

    def publish(self, topic: str, message: Any) -> None:
        """Publish one message, reliably."""
        self._publisher(topic, type(message)).publish(message)

    def call(self, kind: Any, name: str, request: Any, timeout_s: float = 60.0) -> Any:
        """Call one of the node's services, e.g. ``save_map``.

        Raises:
            NodeError: it did not answer in time.
        """
        client = self.node.create_client(kind, f"{self._node_name}/{name}")
        try:
            if not client.wait_for_service(timeout_s):
                raise NodeError(f"service {self._node_name}/{name} is not there after {timeout_s:.0f} s")
            future = client.call_async(request)
            wait_until(future.done, timeout_s, f"an answer from {name}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def wait_for_node(self, process: NodeProcess, image_topic: str, kind: Any = Image) -> None:
        """Wait until the node takes images from ``image_topic`` and its answers reach us.

        Raises:
            NodeError: it ended, or was not discovered in time.
        """
        camera = self._publisher(image_topic, kind)

        def ready() -> bool:
            process.require_alive()
            answers = self.node.count_publishers(f"{self._node_name}/frame_status")
            return camera.get_subscription_count() > 0 and answers > 0

        wait_until(ready, DISCOVERY_S, f"the node to listen to {image_topic}")
        wait_until_known(self.node, self._node_name)

    def play(
        self,
        bag: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
        in_step: bool = False,
        namespace: str = "",
    ) -> int:
        """Publish a bag with the timing that it was recorded with; gives the number of images sent.

        ``in_step``: instead, send each image as soon as the one before was answered for, so that none is overtaken
        however busy the machine is. ``namespace``: put before the names of the bag's topics, ``/robot_a``.

        Raises:
            NodeError: the node did not discover us in time, or, in step, an image was not answered for.
        """
        with AnyReader([bag]) as reader:
            connections = [item for item in reader.connections if item.msgtype in _KINDS]
            new = {namespace + connection.topic for connection in connections} - set(self._publishers)
            for connection in connections:
                self._publisher(namespace + connection.topic, _KINDS[connection.msgtype])
            if new:
                wait_until_known(self.node, self._node_name)  # or the first odometry is lost
            total = sum(item.msgcount for item in connections if _is_picture(item))
            messages = read_ahead(reader.messages(connections), READ_AHEAD)
            images, began = 0, time.monotonic()
            for connection, stamp_ns, raw in messages:
                if not in_step:
                    time.sleep(max(0.0, began + (stamp_ns - reader.start_time) / 1e9 - time.monotonic()))
                if _is_picture(connection):
                    if in_step:
                        self.wait_for_statuses(images)
                    images += 1
                    self.sent_at[stamp_ns] = time.monotonic()
                    progress(images, total)
                self._publishers[namespace + connection.topic].publish(bytes(raw))
        return images

    def wait_for_statuses(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until ``count`` images have been answered for: processed, dropped or refused.

        Raises:
            NodeError: they were not in time.
        """
        try:
            wait_until(lambda: self.answered() >= count, timeout_s, "")
        except NodeError:
            raise NodeError(
                f"only {self.answered()} of {count} images were answered for within {timeout_s:.0f} s"
            ) from None

    def answered(self) -> int:
        """Images of the running node that were processed, dropped or refused, as its last status tells."""
        if not self.statuses:
            return 0
        last = self.statuses[-1]
        return len(self.statuses) + int(last.images_dropped) + int(last.images_refused)


def read_ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """The same items, fetched by a thread up to ``count`` in advance: a disk that stalls must not delay the camera."""
    ready: queue.Queue[Item | None] = queue.Queue(count)

    def fetch() -> None:
        try:
            for item in items:
                ready.put(item)
        finally:
            ready.put(None)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    while not ready.full() and thread.is_alive():
        time.sleep(0.01)
    while (item := ready.get()) is not None:
        yield item


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Look every 20 ms until ``condition`` holds.

    Raises:
        NodeError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NodeError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.02)


def wait_until_known(member: Node, node_name: str) -> None:
    """Wait until the lifecycle node ``node_name`` knows all publishers of ``member``, whose callbacks run in a thread.

    What is published before that may be lost, though the publisher has discovered the node's subscription: each side
    discovers for itself. A node hears of publishers in the order in which they were made, and a client has one too; so
    whoever answers a client that is made now knows all that were there before.

    Raises:
        NodeError: it did not answer in time.
    """
    client = member.create_client(GetState, f"{node_name}/get_state")
    asked: list[Any] = []
    asked_at = -math.inf

    def answered() -> bool:
        nonlocal asked_at
        if client.service_is_ready() and time.monotonic() > asked_at + _ASK_AGAIN_S:  # an answer may get lost
            asked.append(client.call_async(GetState.Request()))
            asked_at = time.monotonic()
        return any(future.done() for future in asked)

    try:
        wait_until(answered, DISCOVERY_S, f"{node_name} to discover what is published to it")
    finally:
        member.destroy_client(client)


def _is_picture(connection: Any) -> bool:
    return "Image" in connection.msgtype and connection.topic != DEPTH_TOPIC


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec * 10**9 + stamp.nanosec)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
