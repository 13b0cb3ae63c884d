"""Depth images, kept as they came until the picture that they belong to is processed."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import pairwise
from statistics import median

from sensor_msgs.msg import Image

from tscm_core.datasets.pose_messages import stamp_of

KEPT = 12
"""Messages kept: 0.4 s at 30 Hz, longer than a picture waits; at 640 x 480 they are 4 to 15 MB."""
ALIVE_NS = 1_000_000_000
"""Depth that is further behind the picture than this has stopped coming."""


class DepthBuffer:
    """Filled by the depth callback, asked by the worker. Nothing is decoded here: most depth images are never used."""

    def __init__(self) -> None:
        self._kept: deque[Image] = deque(maxlen=KEPT)
        self._arrival_s: float | None = None
        self._arrived = threading.Condition()

    @property
    def age_s(self) -> float | None:
        """Seconds since the last depth image arrived; ``None`` if none ever did."""
        return None if self._arrival_s is None else time.monotonic() - self._arrival_s

    def add(self, message: Image) -> None:
        """Take one depth image."""
        self._arrival_s = time.monotonic()
        with self._arrived:
            self._kept.append(message)
            self._arrived.notify_all()

    def nearest(self, stamp_ns: int, wait_s: float, max_gap_s: float) -> Image | None:
        """The depth image with the stamp nearest to ``stamp_ns``; ``None`` if none is within ``max_gap_s``.

        Waits up to ``wait_s`` for a nearer one, if the times between the last ones say that it is due. Of two equally
        near the earlier is taken, as it is in the replay of a bag.
        """
        deadline, max_gap_ns = time.monotonic() + wait_s, round(max_gap_s * 1e9)
        with self._arrived:
            while self._is_due(stamp_ns, max_gap_ns) and (left := deadline - time.monotonic()) > 0.0:
                self._arrived.wait(left)
            distances = [(abs(stamp_of(item.header) - stamp_ns), stamp_of(item.header)) for item in self._kept]
            near = min(range(len(distances)), key=distances.__getitem__, default=None)
            return None if near is None or distances[near][0] > max_gap_ns else self._kept[near]

    def _is_due(self, stamp_ns: int, max_gap_ns: int) -> bool:
        """Whether a depth image will probably come that is near enough, and nearer than the newest one."""
        stamps = [stamp_of(item.header) for item in self._kept]
        behind = stamp_ns - stamps[-1] if stamps else 0
        if not 0 < behind < ALIVE_NS:
            return False
        steps = [after - before for before, after in pairwise(stamps) if after > before]
        if not steps:
            return True
        period = median(steps)
        expected = max(1, round(behind / period)) * period
        return abs(expected - behind) <= max_gap_ns and abs(expected - behind) < behind
