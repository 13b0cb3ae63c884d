"""What each stage of the journey costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tscm_core.recognition.records import StageTime


class Stopwatch:
    """Collects the wall-clock time of named stages, in the order in which they ran."""

    def __init__(self) -> None:
        self._times: list[StageTime] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside the ``with`` block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._times.append(StageTime(name, (time.perf_counter() - start) * 1e3))

    @property
    def times(self) -> tuple[StageTime, ...]:
        """What was measured so far."""
        return tuple(self._times)
