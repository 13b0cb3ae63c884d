"""Measuring: warm up, take every sample, and let those that are compared take turns."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Clock = Callable[[], float]
"""Seconds that only grow."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Samples:
    """All that was measured of one thing, none left out."""

    values: tuple[float, ...]

    @property
    def p50(self) -> float:
        """The median."""
        return float(np.percentile(self.values, 50))

    @property
    def p95(self) -> float:
        """The 95th percentile, interpolated as numpy does."""
        return float(np.percentile(self.values, 95))

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.values)


def timed(work: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """Milliseconds that one call takes."""
    start = clock()
    work()
    return (clock() - start) * 1e3


def measure(
    work: Callable[[], object],
    seconds: float = 2.0,
    least: int = 20,
    most: int = 1000,
    warm_up: int = 3,
    clock: Clock = time.perf_counter,
) -> Samples:
    """Milliseconds of each call of ``work`` over some seconds.

    Args:
        work: what is measured.
        seconds: when to stop, counted from the end of the warm-up.
        least: samples to take however long that lasts, at least 1.
        most: samples to stop at.
        warm_up: calls before the first sample, which are not counted.
        clock: what tells the time, in seconds.
    """
    for _ in range(warm_up):
        work()
    values: list[float] = []
    end = clock() + seconds
    while len(values) < least or (len(values) < most and clock() < end):
        values.append(timed(work, clock))
    return Samples(tuple(values))


def take_turns(
    works: Mapping[str, Callable[[], Sequence[float]]],
    rounds: int,
    warm_up: int = 1,
    seconds: float = math.inf,
    least: int = 3,
    clock: Clock = time.perf_counter,
) -> dict[str, tuple[Samples, ...]]:
    """What each of ``works`` measured in each round, so that a machine that is busy for a while slows all of them.

    Every second round goes backwards: a machine that grows hot does not favour the one that comes first.

    Args:
        works: each gives the samples of one round.
        rounds: that count, at most.
        warm_up: rounds before them, which do not.
        seconds: when to begin no further round, counted from the end of the warm-up.
        least: rounds to take however long that lasts.
        clock: what tells the time, in seconds.
    """
    for number in range(warm_up):
        _round(works, number)
    taken: dict[str, list[Samples]] = {name: [] for name in works}
    end = clock() + seconds
    for number in range(warm_up, warm_up + rounds):
        if number >= warm_up + least and clock() >= end:
            break
        for name, values in _round(works, number).items():
            taken[name].append(Samples(tuple(values)))
    return {name: tuple(samples) for name, samples in taken.items()}


def _round(works: Mapping[str, Callable[[], Sequence[float]]], number: int) -> dict[str, Sequence[float]]:
    order = list(works) if number % 2 == 0 else list(works)[::-1]
    return {name: works[name]() for name in order}


def together(rounds: Sequence[Samples]) -> Samples:
    """The samples of all rounds."""
    return Samples(tuple(value for samples in rounds for value in samples.values))


def ratio(rounds: Sequence[Samples], to: Sequence[Samples]) -> float:
    """How long one takes as a share of another that it took turns with: the median over the rounds."""
    return float(np.median([one.p50 / other.p50 for one, other in zip(rounds, to, strict=True)]))


def resident_mib(pid: int | str = "self") -> float | None:
    """Memory that a process has in RAM, in MiB; ``None`` where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def growth_mib(before: float | None, after: float | None) -> float | None:
    """By how much memory grew, in MiB; ``None`` where it is not known."""
    return None if before is None or after is None else after - before


def settle_memory() -> None:
    """Give back what was freed, so that the memory that is left is in use; does nothing without glibc."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
