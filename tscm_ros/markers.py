"""``~/markers``: the map for RViz and Foxglove, made only while somebody looks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.lifecycle import LifecycleNode
from visualization_msgs.msg import MarkerArray

from tscm_core.errors import MapFileError
from tscm_core.maps.live_map import LiveMap
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Loop, Observation
from tscm_ros.marker_board import MarkerBoard, clear_all

PERIOD_S = 0.5
AGAIN_S = 10.0
"""After so long everything is sent once more: one who came when another left is not to be told from that other."""
_MOST_MARKERS = 20
"""In one message: some 100 kB and 10 ms. A large map takes several messages."""
_MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class _Closed:
    """Loops, and the list of places that they belong to: the map may be replaced before they are drawn."""

    places: Sequence[Place]
    loops: tuple[Loop, ...]


class Markers:
    """Reads what is new from the map twice a second; those who come late get everything."""

    def __init__(self, node: LifecycleNode, live_map: LiveMap) -> None:
        self._node, self._map = node, live_map
        self._publisher = node.create_publisher(MarkerArray, "~/markers", 10)
        self._board: MarkerBoard | None = None
        self._waiting: deque[_Closed] = deque(maxlen=_MOST_WAITING)
        self._newest: _Closed | None = None
        self._shown: _Closed | None = None
        self._watchers, self._begun_s = 0, 0.0
        self._timer = node.create_timer(PERIOD_S, self._tick)

    def destroy(self) -> None:
        """Take the topic back."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def add(self, seen: Observation) -> None:
        """Take the loops of a frame; called by the worker."""
        if seen.loops:
            self._newest = _Closed(self._map.places, seen.loops)
            if self._publisher.get_subscription_count() > 0:
                self._waiting.append(self._newest)

    def _tick(self) -> None:
        watchers = self._publisher.get_subscription_count()
        if not watchers:
            self._watchers, self._board = 0, None
            return
        markers = []
        if self._board is None or self._board.places is not self._map.places:
            markers.append(clear_all())
            self._board = self._begin()
        elif watchers > self._watchers or (self._board.is_sent and time.monotonic() - self._begun_s > AGAIN_S):
            self._board.send_all_again()
            self._begun_s = time.monotonic()
        self._watchers = watchers
        self._read(self._board)
        markers += self._board.changes(_MOST_MARKERS)
        if markers:
            self._publisher.publish(MarkerArray(markers=markers))

    def _begin(self) -> MarkerBoard:
        """A board with the loops that the file has; what is closed from now on waits for :meth:`_read`."""
        board = MarkerBoard(self._map.places)
        self._waiting.clear()
        self._shown, self._begun_s = None, time.monotonic()
        board.take_places()
        try:
            board.take_loops(self._map.loops())
        except MapFileError as error:
            self._node.get_logger().warning(f"markers show no loops closed before now: {error}")
        return board

    def _read(self, board: MarkerBoard) -> None:
        board.take_places()
        while self._waiting:
            closed = self._waiting.popleft()
            if closed.places is board.places:
                board.take_loops(closed.loops)
        newest = self._newest
        if newest is not None and newest is not self._shown and newest.places is board.places:
            self._shown = newest
            board.show_newest(newest.loops[0])
