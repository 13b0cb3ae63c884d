"""What each stage of the journey costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tscm_core.recognition.records import StageTime


class Stopwatch:
    """Collects the wall-clock time of named stages, in the order in which they first ran."""

    def __init__(self) -> None:
        self._milliseconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside the ``with`` block; what a stage costs again, in another map, is added to it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._milliseconds[name] = self._milliseconds.get(name, 0.0) + (time.perf_counter() - start) * 1e3

    @property
    def times(self) -> tuple[StageTime, ...]:
        """What was measured so far."""
        return tuple(StageTime(name, milliseconds) for name, milliseconds in self._milliseconds.items())
