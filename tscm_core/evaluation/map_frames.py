"""What was looked for while one map was driven on: the keyframes, and the images that became none."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

from tscm_core.evaluation.ground_truth import Query
from tscm_core.recognition.records import Keyframe, Observation


class MapFrames:
    """The images that were searched for, in their order, and by position what each of them could have found.

    An image that was not remembered, in localization mode or because the map was full, is asked about and never found.
    One that was given up later counts as found by nobody, though it may be the only one of its place: what a bound
    costs must show.
    """

    def __init__(self, observations: Iterable[Observation]) -> None:
        self.seen = tuple(seen for seen in observations if asked_about(seen) is not None)
        self.queries: tuple[Keyframe, ...] = tuple(filter(None, map(asked_about, self.seen)))
        self.position = {seen.keyframe.id: number for number, seen in enumerate(self.seen) if seen.keyframe is not None}
        self.remembered = tuple(seen.keyframe is not None for seen in self.seen)
        self._ids, self._positions = list(self.position), list(self.position.values())

    def query(self, number: int, matches: tuple[int, ...]) -> Query:
        """What was searched for the image at position ``number``, with these positions to judge."""
        begin, end = self.searched(number)
        return Query(end, matches, begin)

    def searched(self, number: int) -> tuple[int, int]:
        """The positions between which keyframes were searched for the image at position ``number``."""
        first, last = self.seen[number].span
        if not last:
            return 0, self.seen[number].searched
        at, after = bisect.bisect_left(self._ids, first), bisect.bisect_right(self._ids, last)
        return self._positions[at], self._positions[after - 1] + 1

    def matches(self, seen: Observation) -> tuple[int, ...]:
        """The positions of all candidates in this robot's own map."""
        return tuple(self.position[item.keyframe_id] for item in seen.candidates if not item.robot)


def asked_about(seen: Observation) -> Keyframe | None:
    """What was looked for; ``None`` if the image was no keyframe."""
    return seen.keyframe if seen.query is None else seen.query
