"""The robot around the node for a long time: it keeps no message, and knows which image was answered for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from soak_drive import Shot
from soak_series import Asked, Record
from visualization_msgs.msg import MarkerArray

from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, IMAGE_TOPIC, ODOMETRY_TOPIC
from tscm_msgs.msg import FrameStatus
from tscm_ros.graph_member import ANSWERS, GraphMember
from tscm_ros.playback import DISCOVERY_S, NodeProcess, wait_until, wait_until_known

PATIENCE_S = 60.0
_REPORTS = 3
"""Diagnostics to wait for before their counts are believed: the first may have been on its way already."""
_KINDS = {IMAGE_TOPIC: Image, CAMERA_INFO_TOPIC: CameraInfo, ODOMETRY_TOPIC: Odometry}


@dataclass(slots=True)
class _Pending:
    name: str
    future: Any
    asked_s: float
    problem: Callable[[Any], str]


@dataclass(slots=True)
class _Counts:
    """Since the last activation; the last three as the node's diagnostics say them."""

    sent: int = 0
    processed: int = 0
    received: int = 0
    dropped: int = 0
    refused: int = 0


class SoakRobot(GraphMember):
    """Camera, odometry, a caller of services, and somebody who looks at the pictures now and then."""

    def __init__(self, process: NodeProcess, record: Record) -> None:
        self._process, self._record = process, record
        self._waiting: dict[int, tuple[int, float]] = {}
        self._changed = threading.Condition()
        self._counts, self._reports, self.map_size = _Counts(), 0, 0
        self._pending: list[_Pending] = []
        self._clients: dict[str, Any] = {}
        self._watched: list[Any] = []
        super().__init__("tscm_soak")
        for topic, kind in _KINDS.items():
            self._publisher(topic, kind)
        self.node.create_subscription(FrameStatus, "/tscm/frame_status", self._on_status, ANSWERS)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def show(self, shot: Shot) -> None:
        """Send an image with what belongs to it."""
        for topic, raw in shot.messages[:-1]:
            self._publishers[topic].publish(raw)
        topic, raw = shot.messages[-1]
        with self._changed:
            self._waiting[shot.stamp_ns] = shot.number, time.monotonic()
            self._counts.sent += 1
        self._publishers[topic].publish(raw)

    def _on_status(self, status: FrameStatus) -> None:
        stamp, now = status.header.stamp.sec * 10**9 + status.header.stamp.nanosec, time.monotonic()
        with self._changed:
            self._counts.processed += 1
            self.map_size = status.map_size
            number, sent_s = self._waiting.get(stamp, (0, math.nan))
            while self._waiting and next(iter(self._waiting)) <= stamp:  # older ones were dropped, refused or lost
                del self._waiting[next(iter(self._waiting))]
            self._changed.notify_all()
        if number:
            looked_up = status.status != FrameStatus.NOT_KEYFRAME
            self._record.latencies.add(number, status.latency_ms, (now - sent_s) * 1e3, looked_up)

    def _on_report(self, message: DiagnosticArray) -> None:
        parts = {status.name.rpartition(": ")[2]: status for status in message.status}
        if "images" not in parts:
            return
        values = {pair.key: pair.value for pair in parts["images"].values}
        with self._changed:
            counts = self._counts
            counts.received, counts.refused = int(values["received"]), int(values["refused"])
            counts.dropped = int(values["dropped, newer image came first"])
            if counts.refused:
                self._record.images.last_refusal = values["last refusal"]
            self._reports += 1
            self._changed.notify_all()

    def wait_for_status(self, timeout_s: float) -> bool:
        """Wait until the last image is answered for by a status; false if it was not in time: it is given up then."""
        with self._changed:
            answered = self._changed.wait_for(lambda: not self._waiting, timeout_s)
            self._waiting.clear()
        self._process.require_alive()
        return answered

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until the node has answered for all that it received, and add the counts of this activation up.

        Raises:
            NodeError: the node ended, or sends no diagnostics.
        """
        deadline = time.monotonic() + timeout_s
        self.wait_for_status(5.0)
        while True:
            before = self._reports
            wait_until(lambda seen=before: self._reports >= seen + _REPORTS, 15.0, "diagnostics of the node")  # type: ignore[misc]
            with self._changed:
                now = self._counts
                if now.received == now.processed + now.dropped + now.refused or time.monotonic() > deadline:
                    self._add_up()
                    return

    def _add_up(self) -> None:
        images, counts = self._record.images, self._counts
        for name in ("sent", "processed", "received", "dropped", "refused"):
            setattr(images, name, getattr(images, name) + getattr(counts, name))
        self._counts = _Counts()

    def wait_for_node(self) -> None:
        """Wait until the node takes images and its answers reach us.

        Raises:
            NodeError: it ended, or was not discovered in time.
        """

        def ready() -> bool:
            self._process.require_alive()
            listens = all(publisher.get_subscription_count() for publisher in self._publishers.values())
            return listens and self.node.count_publishers("/tscm/frame_status") > 0

        wait_until(ready, DISCOVERY_S, f"the node to listen to {IMAGE_TOPIC}")
        wait_until_known(self.node, "/tscm")

    def wait_until_gone(self) -> None:
        """Wait until the node has taken its topics back, or the next one would be taken for discovered.

        Raises:
            NodeError: it did not in time.
        """
        wait_until(
            lambda: not any(publisher.get_subscription_count() for publisher in self._publishers.values()),
            DISCOVERY_S,
            "the node to take its subscriptions back",
        )

    def ask(self, kind: Any, name: str, request: Any, problem: Callable[[Any], str]) -> None:
        """Call a service of the node and go on; ``problem`` says of the answer what is wrong with it, or nothing."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"/tscm/{name}")
        client, began = self._clients[name], time.monotonic()
        if not client.wait_for_service(DISCOVERY_S):
            self._asked(name).answered((time.monotonic() - began) * 1e3, "it is not there")
            return
        self._pending.append(_Pending(name, client.call_async(request), began, problem))

    def collect(self, timeout_s: float = 0.0) -> None:
        """Take the answers that came; with a time, wait until none is missing or the time is over."""
        end = time.monotonic() + timeout_s
        while self._pending:
            self._pending = [pending for pending in self._pending if not self._is_over(pending)]
            if time.monotonic() >= end:
                return
            time.sleep(0.002)

    def _is_over(self, pending: _Pending) -> bool:
        took_s = time.monotonic() - pending.asked_s
        if pending.future.done():
            self._asked(pending.name).answered(took_s * 1e3, pending.problem(pending.future.result()))
            return True
        if took_s < PATIENCE_S:
            return False
        self._clients[pending.name].remove_pending_request(pending.future)
        self._asked(pending.name).answered(took_s * 1e3, f"no answer within {PATIENCE_S:.0f} s")
        return True

    def _asked(self, name: str) -> Asked:
        return self._record.services.setdefault(name, Asked())

    def look(self, looks: bool) -> None:
        """Subscribe to pictures and markers, or no longer."""
        while self._watched:
            self.node.destroy_subscription(self._watched.pop())
        if looks:
            self._record.looked += 1
            self._watched = [
                self.node.create_subscription(Image, "/tscm/match_image", self._on_picture, 10),
                self.node.create_subscription(MarkerArray, "/tscm/markers", self._on_markers, 10),
            ]

    def _on_picture(self, picture: Image) -> None:
        self._record.pictures += 1

    def _on_markers(self, message: MarkerArray) -> None:
        self._record.markers += 1
