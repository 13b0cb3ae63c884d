"""All keyframes of the map in the order in which they came: which are too recent, and which show the same place."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tscm_core.config import CandidateConfig, RecencyConfig
from tscm_core.recognition.keyframes import comparable
from tscm_core.recognition.place_index import PlaceIndex
from tscm_core.recognition.poses import distance_m
from tscm_core.recognition.records import Keyframe, Loop, Pose
from tscm_core.recognition.thinning import METRES_AS_UNLIKE, Spacing, kept_bytes

_MOST_DROPPED, _MOST_DROPPED_SHARE = 256, 0.25
"""So many places that are given up may stand among the others before these are moved together."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is kept in memory of a keyframe beside its descriptor in the index."""

    keyframe_id: int
    session: str
    stamp_ns: int
    pose: Pose | None
    travelled_m: float
    file_bytes: int = 0


class PlaceMemory:
    """The index and, by position, what is known of each keyframe.

    ``places`` has those too that were given up since they were last moved together; then it is another list.
    """

    def __init__(self, dim: int) -> None:
        self.index = PlaceIndex(dim)
        self.places: list[Place] = []
        self._anchors: list[int] = []
        self._positions: dict[int, int] = {}
        self._begins: dict[str, int] = {}
        self._dropped: list[int] = []
        self._of_loops: set[int] = set()
        self.file_bytes = 0
        """What the keyframes take in a map file, nearly."""
        self._spacing: Spacing | None = None

    def __len__(self) -> int:
        return len(self._positions)  # right at any moment: other threads ask too

    def __contains__(self, keyframe_id: int) -> bool:
        return keyframe_id in self._positions

    def add(self, keyframes: Sequence[Keyframe], loops: Sequence[Loop] = ()) -> None:
        """Append keyframes in the order of their ids, and the loops that they closed."""
        if keyframes:
            self.index.add(np.stack([keyframe.descriptor for keyframe in keyframes]))
        for keyframe in keyframes:
            self._positions[keyframe.id] = len(self.places)
            self._begins.setdefault(keyframe.session, keyframe.id)
            self._anchors.append(keyframe.id)
            self.places.append(_place(keyframe))
            self.file_bytes += self.places[-1].file_bytes
        for loop in sorted(loops, key=_as_closed):
            self._close(loop.keyframe_id, loop.candidate.keyframe_id)
        if self._spacing is not None:
            self._spacing.add([(keyframe.id, keyframe.session) for keyframe in keyframes], self._gaps)

    def drop(self, keyframe_ids: Collection[int]) -> None:
        """Give these keyframes up: they are found no more. None of them may have a loop."""
        for number in keyframe_ids:
            position = self._positions.pop(number)
            bisect.insort(self._dropped, position)
            self.index.drop(position)
            self.file_bytes -= self.places[position].file_bytes
            if self._spacing is not None:
                self._spacing.drop(number, self._gaps)
        if len(self._dropped) > max(_MOST_DROPPED, _MOST_DROPPED_SHARE * len(self.places)):
            self._move_together()

    def least_missed(self, count: int) -> tuple[int, ...]:
        """Ids of ``count`` keyframes, ascending, without which the drives keep their course best; fewer if need be.

        Keyframes with a loop, and the first and the last one of each session, are never among them.
        """
        return self.watch_spacing().least_missed(count, self._of_loops)

    def watch_spacing(self) -> Spacing:
        """Measure from now on what :meth:`least_missed` needs: at first of all there is, 0.3 s for 10,000 keyframes."""
        if self._spacing is None:
            self._spacing = Spacing()
            there = [(place.keyframe_id, place.session) for place in self.places if place.keyframe_id in self]
            self._spacing.add(there, self._gaps)
        return self._spacing

    def place_of(self, keyframe_id: int) -> Place:
        """What is known of a keyframe of the map."""
        return self.places[self._positions[keyframe_id]]

    def begin_of(self, session: str) -> int:
        """The position from which on all keyframes are of ``session``, which must be the newest one."""
        first = self._begins.get(session)
        return len(self.places) if first is None else self._at(first)

    def count(self, begin: int, limit: int) -> int:
        """How many keyframes stand at the positions from ``begin`` up to ``limit``."""
        dropped = bisect.bisect_left(self._dropped, limit) - bisect.bisect_left(self._dropped, begin)
        return max(0, limit - begin - dropped)

    def span(self, begin: int, limit: int) -> tuple[int, int]:
        """The lowest and the highest id at the positions from ``begin`` up to ``limit``; (0, 0) if there is none."""
        if not self.count(begin, limit):
            return (0, 0)
        return self.places[begin].keyframe_id, self.places[limit - 1].keyframe_id

    def recent_limit(
        self, session: str, stamp_ns: int, travelled_m: float | None, rule: RecencyConfig, next_id: int
    ) -> int:
        """The position up to which keyframes are old enough to be matched by a frame of ``session``.

        Keyframes of other sessions always are. Those of this session are too recent if the count, the time or the way
        since says so; all three grow backwards, so that the old ones are everything before one position. The way does
        not count when ``travelled_m`` is ``None``, for want of odometry. ``next_id`` is the id that the frame would
        have: what took an id and was not remembered counts too, as does what was given up since, so that what was old
        enough once stays so.
        """
        limit = len(self.places)
        while limit and self._is_recent(limit - 1, session, stamp_ns, travelled_m, rule, next_id):
            limit -= 1
        return limit

    def _is_recent(
        self,
        position: int,
        session: str,
        stamp_ns: int,
        travelled_m: float | None,
        rule: RecencyConfig,
        next_id: int,
    ) -> bool:
        place = self.places[position]
        return place.session == session and (
            next_id - place.keyframe_id <= rule.keyframes
            or stamp_ns - place.stamp_ns < rule.seconds * 1e9
            or (travelled_m is not None and travelled_m - place.travelled_m < rule.metres)
        )

    def same_place(self, a: int, b: int, rule: CandidateConfig) -> bool:
        """Whether two positions show one place: close in order, close in pose, or joined by accepted loops."""
        if self._are_near(self.places[a], self.places[b], rule):
            return True
        names = itertools.product(self._names(a, rule), self._names(b, rule))
        return any(self._are_neighbours(one, other, rule) for one, other in names)

    def _names(self, position: int, rule: CandidateConfig) -> set[int]:
        """Ids that stand for the place of ``position``: its own, and the first one there, as far as loops tell.

        A lap of which every second frame closed is the same way as the lap before it, not another one beside it.
        """
        own, session = self.places[position].keyframe_id, self.places[position].session
        reach = range(
            max(0, position - rule.place_keyframes), min(len(self.places), position + rule.place_keyframes + 1)
        )
        closed = [at for at in reach if self._has_closed(at) and self._is_beside(at, own, session, rule)]
        if not closed:
            return {own}
        nearest = min(closed, key=lambda at: abs(self.places[at].keyframe_id - own))
        return {own, self._anchors[nearest]}

    def _is_beside(self, position: int, keyframe_id: int, session: str, rule: CandidateConfig) -> bool:
        place = self.places[position]
        return place.session == session and abs(place.keyframe_id - keyframe_id) <= rule.place_keyframes

    def _has_closed(self, position: int) -> bool:
        return self._anchors[position] != self.places[position].keyframe_id

    def _are_neighbours(self, a: int, b: int, rule: CandidateConfig) -> bool:
        return abs(a - b) <= rule.place_keyframes and self.place_of(a).session == self.place_of(b).session

    @staticmethod
    def _are_near(a: Place, b: Place, rule: CandidateConfig) -> bool:
        if a.session != b.session or a.pose is None or b.pose is None or not comparable(a.pose, b.pose):
            return False
        return distance_m(a.pose, b.pose) <= rule.place_radius_m and rule.place_radius_m > 0.0

    def _close(self, keyframe_id: int, match_id: int) -> None:
        self._anchors[self._positions[keyframe_id]] = self._anchors[self._positions[match_id]]
        self._of_loops |= {keyframe_id, match_id}

    def _at(self, keyframe_id: int) -> int:
        """The first position with this id or a higher one."""
        return bisect.bisect_left(self.places, keyframe_id, key=lambda place: place.keyframe_id)

    def _gaps(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        at = np.array([[self._positions[number] for number in pair] for pair in pairs], np.int64)
        unlike = 1.0 - self.index.similarity(at[:, 0], at[:, 1])
        return [
            float(gap) + _way_m(self.places[a], self.places[b]) / METRES_AS_UNLIKE
            for gap, (a, b) in zip(unlike, at, strict=True)
        ]

    def _move_together(self) -> None:
        keep = [position for position, place in enumerate(self.places) if place.keyframe_id in self._positions]
        self.index.compact(np.array(keep, np.int64))
        self.places = [self.places[position] for position in keep]
        self._anchors = [self._anchors[position] for position in keep]
        self._positions = {place.keyframe_id: position for position, place in enumerate(self.places)}
        self._dropped = []


def _place(keyframe: Keyframe) -> Place:
    return Place(
        keyframe.id, keyframe.session, keyframe.stamp_ns, keyframe.pose, keyframe.travelled_m, kept_bytes(keyframe)
    )


def _as_closed(loop: Loop) -> tuple[int, int, int]:
    """As the detector orders the loops of a frame; a map file has them in the order of their ranks."""
    return loop.keyframe_id, -loop.candidate.inliers, loop.candidate.rank


def _way_m(a: Place, b: Place) -> float:
    """The way between two keyframes of a drive; 0 where it is not known."""
    return abs(b.travelled_m - a.travelled_m) if comparable(a.pose, b.pose) else 0.0
