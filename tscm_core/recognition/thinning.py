"""What a map that has reached its bound gives up: first what is missed least where keyframes stand closest.

A drive is remembered as a row of keyframes. Without one of them a gap is left between the one before and the one after,
and what was seen there must be recognised by one of these two. The gap is measured as recognition measures it, by how
unlike their descriptors are, and by the way between them, since walls that look alike are not one place. Given up is
always the keyframe whose gap is the smallest, so that all drives become sparser evenly, and first where the robot went
slowly. Keyframes on which a loop rests are kept, and so are the ends of each drive.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from tscm_core.config import MapConfig
from tscm_core.recognition.records import Keyframe

METRES_AS_UNLIKE = 20.0
"""So long a way counts as much as descriptors that share nothing. Those of drives measured so far share 0.5 at 7 m."""
_MOST_AT_ONCE = 8
"""Keyframes that are given up for one new one, where a bound was lowered: no image waits for a whole map to shrink."""
_PAGE, _PAGE_CONTENT, _ROW = 4096, 4092, 160
_MIB = 1 << 20

Gaps = Callable[[Sequence[tuple[int, int]]], list[float]]
"""How far apart pairs of keyframes are, given by their ids."""


class Spacing:
    """The drives as chains of keyframes, and the gap that each would leave.

    How to measure gaps is told each time: whoever knows that has this object, and two that know each other would stay
    in memory together, a whole map, until Python looks for such rings.
    """

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._after: dict[int, int] = {}
        self._last: dict[str, int] = {}
        self._gap: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def add(self, keyframes: Sequence[tuple[int, str]], gaps_of: Gaps) -> None:
        """Append keyframes, id and session, in the order of their ids."""
        inner = []
        for number, session in keyframes:
            last = self._last.get(session)
            self._last[session] = number
            if last is not None:
                self._before[number], self._after[last] = last, number
                if last in self._before:
                    inner.append(last)
        self._measure(inner, gaps_of)

    def drop(self, number: int, gaps_of: Gaps) -> None:
        """Take a keyframe out; those beside it are neighbours from now on."""
        before, after = self._before.pop(number, None), self._after.pop(number, None)
        self._gap.pop(number, None)
        if before is not None:
            self._link(self._after, before, after)
        if after is not None:
            self._link(self._before, after, before)
        for session in [name for name, last in self._last.items() if last == number]:
            self._link(self._last, session, before)
        ends = [side for side in (before, after) if side is not None]
        for side in ends:
            self._gap.pop(side, None)
        self._measure([side for side in ends if side in self._before and side in self._after], gaps_of)

    def least_missed(self, count: int, kept: Collection[int]) -> tuple[int, ...]:
        """Ids of at most ``count`` keyframes, none of ``kept`` and no two neighbours, that leave the smallest gaps.

        What is in ``kept`` once must be so for ever.
        """
        chosen: list[tuple[float, int]] = []
        aside: list[tuple[float, int]] = []
        near: set[int] = set()
        while self._heap and len(chosen) < count:
            gap, number = heapq.heappop(self._heap)
            if self._gap.get(number) != gap or number in kept:
                continue
            if number in near:
                aside.append((gap, number))
                continue
            chosen.append((gap, number))
            near |= {self._before[number], self._after[number]}
        for item in (*chosen, *aside):
            heapq.heappush(self._heap, item)
        return tuple(sorted(number for _, number in chosen))

    @staticmethod
    def _link(links: dict[int, int] | dict[str, int], one: int | str, other: int | None) -> None:
        if other is None:
            links.pop(one, None)  # type: ignore[arg-type]
        else:
            links[one] = other  # type: ignore[index]

    def _measure(self, numbers: Sequence[int], gaps_of: Gaps) -> None:
        if not numbers:
            return
        gaps = gaps_of([(self._before[number], self._after[number]) for number in numbers])
        for number, gap in zip(numbers, gaps, strict=True):
            self._gap[number] = gap
            heapq.heappush(self._heap, (gap, number))
        if len(self._heap) > 64 + 4 * len(self._gap):  # most of it is out of date
            self._heap = [(gap, number) for number, gap in self._gap.items()]
            heapq.heapify(self._heap)


@dataclass(frozen=True, slots=True)
class Room:
    """Whether a keyframe is remembered, the ids of those that are given up for it, and why not if it is not."""

    remembered: bool
    thinned: tuple[int, ...] = ()
    reason: str = ""


def kept_bytes(keyframe: Keyframe) -> int:
    """What a keyframe takes in a map file: SQLite spreads a row that is larger than a page over pages of its own."""
    content = _ROW + 2 * keyframe.descriptor.size + len(keyframe.thumbnail_jpeg) + len(keyframe.features or b"")
    return content if content < _PAGE_CONTENT else math.ceil(content / _PAGE_CONTENT) * _PAGE


def make_room(
    keyframe: Keyframe,
    is_known: bool,
    size: tuple[int, int],
    rule: MapConfig,
    least_missed: Callable[[int], tuple[int, ...]],
) -> Room:
    """Whether a map that has ``size``, keyframes and bytes, remembers one more, and which it gives up for that.

    Args:
        keyframe: the one that comes.
        is_known: whether its place is in the map already.
        size: keyframes in the map, and the bytes that they take in the file.
        rule: the bounds.
        least_missed: ids of at most so many keyframes that can be given up.
    """
    count, taken = size
    over = max(0, count + 1 - rule.max_keyframes) if rule.max_keyframes else 0
    bound = f"map.max_keyframes {rule.max_keyframes}"
    too_large = taken + kept_bytes(keyframe) - rule.max_mb * _MIB if rule.max_mb else 0
    if too_large > 0 and count:
        by_bytes = math.ceil(too_large * count / max(taken, 1))
        over, bound = max(over, by_bytes), f"map.max_mb {rule.max_mb}" if by_bytes > over else bound
    if not over:
        return Room(True)
    if is_known and not _is_beyond(size, rule):
        return Room(False, reason=f"the map is full ({bound}) and has this place")
    thinned = least_missed(min(over, _MOST_AT_ONCE))
    if not thinned:
        return Room(False, reason=f"the map is full ({bound}) and needs every keyframe that it has")
    return Room(True, thinned)


def _is_beyond(size: tuple[int, int], rule: MapConfig) -> bool:
    """Whether the map has more than it may already, as where a bound was lowered."""
    return any(bound and has > bound for has, bound in zip(size, (rule.max_keyframes, rule.max_mb * _MIB), strict=True))
