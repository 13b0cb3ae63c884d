"""Labels without ground truth: neighbours in time are the same place, geometry says the rest where it is sure.

- The same place: keyframes that a chain of ``CHAIN`` verified keyframes joins, each with ``MANY_INLIERS`` or more, and
  their neighbours in time on both sides, up to ``NEIGHBOURS`` keyframes.
- Another place: next to no matching features (``FEW_INLIERS`` or fewer), or the keyframe is joined to a place elsewhere
  in the map, which is not joined to this one.
- Everything between is unlabelled and counted. Such a keyframe is left out of the revisits; such a place, once
  accepted, counts as a wrong one: on three rendered worlds with poses, nine of ten were.

What this cannot see: two places so alike that geometry takes one for the other over several keyframes. It calls them
the same place, so that thresholds which accept them look right. Poses are the only remedy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tscm_core.evaluation.calibration_tape import Tape
from tscm_core.evaluation.judgement import BY_THRESHOLD, JudgedFrame

CHAIN = 5
MANY_INLIERS = 40
FEW_INLIERS = 10
NEIGHBOURS = 5
_SLACK = 2
_ELSEWHERE = 30
"""Keyframes of the map further from each other than this are not neighbours that look at the same scene."""
_NEVER_CERTAIN = 100_000


class SelfLabels:
    """Labels that the drive gives itself. Positions are those of the keyframes of one tape."""

    doubt_is_wrong = True

    def __init__(self, tape: Tape) -> None:
        self._sessions = [keyframe.session for keyframe in tape.keyframes]
        self._joined: dict[int, set[int]] = defaultdict(set)
        for frame in tape.play(_STRICT).judged:
            for candidate, match in zip(frame.observation.candidates, frame.verdict.matches, strict=True):
                if BY_THRESHOLD.issuperset(candidate.failed):
                    self._joined[frame.verdict.position].add(match)
                    self._joined[match].add(frame.verdict.position)

    def revisit(self, frame: JudgedFrame) -> bool | None:
        """Seen before, if one of its candidates is; never seen, if none has more than next to no features in common."""
        if not frame.observation.searched:
            return False
        right = self.right(frame)
        verified = [candidate.inliers for candidate in frame.observation.candidates if candidate.matches]
        if any(right):
            return True
        return False if verified and max(verified) <= FEW_INLIERS else None

    def right(self, frame: JudgedFrame) -> tuple[bool | None, ...]:
        """For each candidate whether it shows the same place; ``None`` where that is not sure."""
        position = frame.verdict.position
        return tuple(
            self._same(position, match, candidate.inliers if candidate.matches else None)
            for candidate, match in zip(frame.observation.candidates, frame.verdict.matches, strict=True)
        )

    def _same(self, position: int, match: int, inliers: int | None) -> bool | None:
        joined = [
            (near, place) for near in self._near(position) for place in self._joined.get(near, ()) if place < near
        ]
        if any(self._moves_along(position - near, match, place) for near, place in joined):
            return True
        if inliers is not None and inliers <= FEW_INLIERS:
            return False
        places = {place for _, place in joined}
        elsewhere = places and all(self._apart(match, place) for place in places)
        return False if elsewhere and not self._linked(match, places) else None

    def _linked(self, match: int, places: set[int]) -> bool:
        """Whether the map itself saw one of ``places`` again at ``match``."""
        seen = {other for near in self._near(match) for other in self._joined.get(near, ())}
        return any(self._are_near(other, place) for other in seen for place in places)

    def _near(self, position: int) -> Iterator[int]:
        first, last = max(0, position - NEIGHBOURS), min(len(self._sessions) - 1, position + NEIGHBOURS)
        return (near for near in range(first, last + 1) if self._sessions[near] == self._sessions[position])

    def _moves_along(self, steps: int, match: int, place: int) -> bool:
        """Whether ``match`` is nearly as far from ``place``, in keyframes, as the robot from where it saw that."""
        return abs(abs(match - place) - abs(steps)) <= _SLACK and self._sessions[match] == self._sessions[place]

    def _are_near(self, a: int, b: int) -> bool:
        return abs(a - b) <= NEIGHBOURS and self._sessions[a] == self._sessions[b]

    def _apart(self, a: int, b: int) -> bool:
        return abs(a - b) > _ELSEWHERE or self._sessions[a] != self._sessions[b]


_STRICT: dict[str, object] = {
    "geometry.min_inliers": MANY_INLIERS,
    "temporal.min_support": CHAIN,
    "temporal.certain_inliers": _NEVER_CERTAIN,
}
