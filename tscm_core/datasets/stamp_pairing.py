"""Two streams of a bag side by side: to each message of the first the one of the second with the nearest stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

PATIENCE_NS = 1_000_000_000
"""A message of the second stream that was recorded later than this after its partner is not waited for."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message with its stamp and the time at which it was recorded; ``second`` tells which stream it is of."""

    stamp_ns: int
    received_ns: int
    content: Any
    second: bool = False


def pair_nearest(arrivals: Iterable[Arrival], within_ns: int) -> Iterator[tuple[Arrival, Arrival | None]]:
    """Every arrival of the first stream, in its order, with the nearest of the second, or ``None``.

    Of two equally near the earlier is taken. Only messages of about ``PATIENCE_NS`` are held at a time.

    Args:
        arrivals: both streams in the order in which they were recorded.
        within_ns: partners whose stamps are further apart than this are none.
    """
    waiting: deque[Arrival] = deque()
    seconds: deque[Arrival] = deque()
    for arrival in arrivals:
        (seconds if arrival.second else waiting).append(arrival)
        while waiting and _is_decided(waiting[0], seconds, arrival.received_ns):
            first = waiting.popleft()
            yield first, _nearest(first, seconds, within_ns)
        oldest_ns = waiting[0].stamp_ns if waiting else arrival.stamp_ns
        while seconds and seconds[0].stamp_ns < oldest_ns - within_ns - PATIENCE_NS:
            seconds.popleft()
    for first in waiting:
        yield first, _nearest(first, seconds, within_ns)


def _is_decided(first: Arrival, seconds: deque[Arrival], now_ns: int) -> bool:
    """Whether no nearer partner is to be expected."""
    return now_ns - first.received_ns > PATIENCE_NS or (bool(seconds) and seconds[-1].stamp_ns >= first.stamp_ns)


def _nearest(first: Arrival, seconds: deque[Arrival], within_ns: int) -> Arrival | None:
    near = [item for item in seconds if abs(item.stamp_ns - first.stamp_ns) <= within_ns]
    return min(near, key=lambda item: (abs(item.stamp_ns - first.stamp_ns), item.stamp_ns), default=None)
