"""All keyframes of the map in the order in which they came: which are too recent, and which show the same place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tscm_core.config import CandidateConfig, RecencyConfig
from tscm_core.recognition.keyframes import comparable
from tscm_core.recognition.place_index import PlaceIndex
from tscm_core.recognition.poses import distance_m
from tscm_core.recognition.records import Keyframe, Loop, Pose


@dataclass(frozen=True, slots=True)
class Place:
    """What is kept in memory of a keyframe beside its descriptor in the index."""

    keyframe_id: int
    session: str
    stamp_ns: int
    pose: Pose | None
    travelled_m: float


class PlaceMemory:
    """The index and, by position, what is known of each keyframe."""

    def __init__(self, dim: int) -> None:
        self.index = PlaceIndex(dim)
        self.places: list[Place] = []
        self._anchors: list[int] = []
        self._positions: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self.places)

    def add(self, keyframes: Sequence[Keyframe], loops: Sequence[Loop] = ()) -> None:
        """Append keyframes in the order of their ids, and the loops that they closed."""
        if keyframes:
            self.index.add(np.stack([keyframe.descriptor for keyframe in keyframes]))
        for keyframe in keyframes:
            self._positions[keyframe.id] = len(self.places)
            self._anchors.append(len(self.places))
            self.places.append(
                Place(keyframe.id, keyframe.session, keyframe.stamp_ns, keyframe.pose, keyframe.travelled_m)
            )
        for loop in loops:
            self._close(self._positions[loop.keyframe_id], self._positions[loop.candidate.keyframe_id])

    def place_of(self, keyframe_id: int) -> Place:
        """What is known of a keyframe of the map."""
        return self.places[self._positions[keyframe_id]]

    def _close(self, position: int, match: int) -> None:
        self._anchors[position] = self._anchors[match]

    def recent_limit(self, session: str, stamp_ns: int, travelled_m: float | None, rule: RecencyConfig) -> int:
        """How many keyframes, from the first one on, are old enough to be matched by a frame of ``session``.

        Keyframes of other sessions always are. Those of this session are too recent if the count, the time or the way
        since says so; all three grow backwards, so that the old ones are everything before one position. The way does
        not count when ``travelled_m`` is ``None``, for want of odometry.
        """
        limit = len(self.places)
        while limit and self._is_recent(limit - 1, session, stamp_ns, travelled_m, rule):
            limit -= 1
        return limit

    def _is_recent(
        self, position: int, session: str, stamp_ns: int, travelled_m: float | None, rule: RecencyConfig
    ) -> bool:
        place = self.places[position]
        return place.session == session and (
            len(self.places) - position <= rule.keyframes
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
        """Positions that stand for the place of ``position``: itself, and the first one there, as far as loops tell.

        A lap of which every second frame closed is the same way as the lap before it, not another one beside it.
        """
        reach = range(
            max(0, position - rule.place_keyframes), min(len(self.places), position + rule.place_keyframes + 1)
        )
        closed = [near for near in reach if self._anchors[near] != near and self._in_one_session(near, position)]
        return (
            {position} | {self._anchors[min(closed, key=lambda near: abs(near - position))]} if closed else {position}
        )

    def _in_one_session(self, a: int, b: int) -> bool:
        return self.places[a].session == self.places[b].session

    def _are_neighbours(self, a: int, b: int, rule: CandidateConfig) -> bool:
        return self._in_one_session(a, b) and abs(a - b) <= rule.place_keyframes

    @staticmethod
    def _are_near(a: Place, b: Place, rule: CandidateConfig) -> bool:
        if a.session != b.session or a.pose is None or b.pose is None or not comparable(a.pose, b.pose):
            return False
        return distance_m(a.pose, b.pose) <= rule.place_radius_m and rule.place_radius_m > 0.0
