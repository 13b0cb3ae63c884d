"""A node of our own in the graph, whose callbacks run in a thread: what robots around the real node are made of."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

Member = TypeVar("Member", bound="GraphMember")

ANSWERS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
"""With which what the real node says is heard."""


class GraphMember:
    """A context manager. It keeps no message: who subscribes decides what becomes of them."""

    def __init__(self, name: str) -> None:
        """Join the graph as ``name``. From now on callbacks may run, so that a subclass is made ready for them before.

        Attributes:
            node: where subscriptions and clients are made.
        """
        self._publishers: dict[str, Any] = {}
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self.node = Node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def __enter__(self: Member) -> Member:
        """The member itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the graph."""
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def _publisher(self, topic: str, kind: Any) -> Any:
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, 100)
        return self._publishers[topic]
