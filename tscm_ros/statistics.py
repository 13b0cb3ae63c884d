"""Sliding figures about the images that come in and what they cost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable

import numpy as np

from tscm_core.recognition.records import StageTime

WINDOW = 200
_RATE_S = 10.0
_ENOUGH = 20
_STEPS = 40
_MOST = 2000


class StageStatistics:
    """Median and 95th percentile of each stage over the last frames. Thread-safe."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def add(self, times: Iterable[StageTime]) -> None:
        """Take the times of one frame."""
        with self._lock:
            for item in times:
                self._times.setdefault(item.stage, deque(maxlen=WINDOW)).append(item.milliseconds)

    def percentiles(self) -> dict[str, tuple[float, float]]:
        """(p50, p95) in milliseconds by stage."""
        with self._lock:
            copies = {stage: list(times) for stage, times in self._times.items()}
        return {stage: (float(np.median(times)), float(np.percentile(times, 95))) for stage, times in copies.items()}


class InputStatistics:
    """How regularly images come, by the clock and by their stamps. Thread-safe."""

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=_MOST)
        self._infos: deque[float] = deque(maxlen=_MOST)
        self._stamps: deque[int] = deque(maxlen=_STEPS + 1)
        self._lock = threading.Lock()
        self.started = time.monotonic()

    def add(self, stamp_ns: int) -> None:
        """Take the arrival of one image."""
        with self._lock:
            self._arrivals.append(time.monotonic())
            self._stamps.append(stamp_ns)

    def add_info(self) -> None:
        """Take the arrival of one camera info: small, and sent with every image."""
        with self._lock:
            self._infos.append(time.monotonic())

    @property
    def silence_s(self) -> float:
        """Seconds since the last image, or since the start if none ever came."""
        with self._lock:
            return time.monotonic() - (self._arrivals[-1] if self._arrivals else self.started)

    @property
    def rate_hz(self) -> float:
        """Images a second over the last ten seconds."""
        return self._recent(self._arrivals) / min(_RATE_S, max(time.monotonic() - self.started, 0.1))

    @property
    def lost_share(self) -> float:
        """Share of images, 0 to 1, that seem to be lost on the way: by their stamps, and by the camera infos that came.

        The camera's period is the lower quartile of the last steps between stamps, so that this figure holds while no
        more than three of four images are lost; the infos, which are small, tell when nearly all are.
        """
        return max(self._lost_by_stamps(), self._lost_by_infos())

    def _lost_by_stamps(self) -> float:
        with self._lock:
            steps = np.diff(np.array(self._stamps, dtype=np.int64))
        steps = steps[steps > 0]
        if steps.size < _ENOUGH:
            return 0.0
        sent = np.maximum(np.rint(steps / np.percentile(steps, 25, method="lower")), 1.0).sum()
        return float(1.0 - steps.size / sent)

    def _lost_by_infos(self) -> float:
        sent, came = self._recent(self._infos), self._recent(self._arrivals)
        return max(0.0, 1.0 - came / sent) if sent >= _ENOUGH else 0.0

    def _recent(self, arrivals: deque[float]) -> int:
        now = time.monotonic()
        with self._lock:
            return sum(now - arrival <= _RATE_S for arrival in arrivals)
