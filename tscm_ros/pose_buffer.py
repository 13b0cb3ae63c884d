"""Odometry, kept until the images that it belongs to have been processed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nav_msgs.msg import Odometry

from tscm_core.datasets.pose_messages import pose_from_odometry
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Pose

CAPACITY = 4096
"""Poses kept: 20 s at 200 Hz, far longer than an image waits."""


GRACE_S = 2.0
"""For so long, in all, images wait for the first odometry: a publisher may be there that never sends."""


class PoseBuffer:
    """Filled by the odometry callback, asked by the worker."""

    def __init__(self, expected: Callable[[], bool] = lambda: False) -> None:
        """``expected`` tells whether anybody sends odometry: only then is the first message worth waiting for."""
        self._track = PoseTrack(CAPACITY)
        self._expected = expected
        self._arrival_s: float | None = None
        self._first_wanted_s: float | None = None
        self._arrived = threading.Condition()

    @property
    def age_s(self) -> float | None:
        """Seconds since the last odometry arrived; ``None`` if none ever did."""
        return None if self._arrival_s is None else time.monotonic() - self._arrival_s

    def add(self, message: Odometry) -> None:
        """Take one odometry message; one with a number that is not finite is left out."""
        pose = pose_from_odometry(message)
        if pose is None:
            return
        stamp, self._arrival_s = message.header.stamp, time.monotonic()
        with self._arrived:
            self._track.add(stamp.sec * 10**9 + stamp.nanosec, pose)
            self._arrived.notify_all()

    def at(self, stamp_ns: int, wait_s: float, max_gap_s: float) -> Pose | None:
        """The pose at ``stamp_ns``; waits up to ``wait_s`` for odometry that is not older than that.

        When nobody sends any, or the last one is more than ``max_gap_s`` seconds behind, it does not wait. ``None``
        if nothing is within ``max_gap_s`` of the stamp.
        """
        deadline, max_gap_ns = time.monotonic() + wait_s, round(max_gap_s * 1e9)
        with self._arrived:
            while self._may_come(stamp_ns, max_gap_ns) and (left := deadline - time.monotonic()) > 0.0:
                self._arrived.wait(left)
            return self._track.at(stamp_ns, max_gap_ns)

    def _may_come(self, stamp_ns: int, max_gap_ns: int) -> bool:
        newest = self._track.newest_ns
        if newest is not None:
            return newest < stamp_ns <= newest + max_gap_ns
        if self._first_wanted_s is None:
            self._first_wanted_s = time.monotonic()
        return time.monotonic() - self._first_wanted_s < GRACE_S and self._expected()
