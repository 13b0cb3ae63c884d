"""Which thread runs which callbacks.

rclpy's MultiThreadedExecutor hands a callback that has not begun yet to its pool again and again. Beside a thread that
gives the interpreter lock back hundreds of times an image, as a network does, this becomes a busy loop, in which an
image took seconds. One single-threaded executor for each kind of work has no such loop.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Collection
from functools import partial
from operator import is_
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

_REFRESH_S = 0.5
"""How long entities that are created later wait until an executor that does not own the node looks for them."""


class GroupExecutor(SingleThreadedExecutor):
    """Runs those entities of one node whose callback group it accepts; several share a node."""

    def __init__(self, node: Node, accepts: Callable[[CallbackGroup], bool]) -> None:
        super().__init__()
        self._node = node
        self._accepts = accepts

    def get_nodes(self) -> list[Node]:
        """The one node."""
        return [self._node]

    def can_execute(self, entity: Any) -> bool:
        """Whether the entity is ours and its group is free."""
        return self._accepts(entity.callback_group) and bool(super().can_execute(entity))


class NodeThreads:
    """Spins a node: every group in ``apart`` in a thread of its own, everything else in one more thread."""

    def __init__(self, node: Node, apart: Collection[CallbackGroup]) -> None:
        self._node = node
        main = GroupExecutor(node, lambda group: group not in apart)
        main.add_node(node)
        executors = [main, *(GroupExecutor(node, partial(is_, own)) for own in apart)]
        self._stopped = threading.Event()
        self._running = [(executor, self._start(executor)) for executor in executors]

    def stop(self) -> None:
        """Finish the callbacks that run and end the threads."""
        self._stopped.set()
        for executor, thread in self._running:
            executor.shutdown(timeout_sec=5.0)
            thread.join(5.0)

    def _start(self, executor: GroupExecutor) -> threading.Thread:
        thread = threading.Thread(target=self._spin, args=(executor,), name="tscm-executor", daemon=True)
        thread.start()
        return thread

    def _spin(self, executor: GroupExecutor) -> None:
        while not self._stopped.is_set():
            try:
                executor.spin_once(timeout_sec=_REFRESH_S)
            except ExternalShutdownException:
                return
            except InvalidHandle:  # the node was cleaned up while a callback ran
                self._node.get_logger().warning("a service was taken back before it could answer")
            except Exception:  # noqa: BLE001 - one failed callback must not leave a node that lives and hears nothing
                self._node.get_logger().error(f"internal error, please report:\n{traceback.format_exc()}")
