"""Do the frames before support a candidate? A place that was really recognised moves along with the robot.

Each frame leaves the places that it may have shown. A candidate is supported by a frame before if that frame may have
shown a place as far from the candidate as the robot has driven since, along the same drive, forwards or backwards. The
support is the number of frames, this one included, that agree in such a chain. A wrong match does not move along: it
stays where it is while the robot drives on, or jumps.

Where odometry is known on both sides, ways are compared in metres; without it, in keyframes.

Not all frames of a chain say as much. The evidence for a candidate is the sum, over its chain, of the square of the
similarity times the share of ``certain_inliers`` that was reached. Ranked by it, right loops come before wrong ones far
more often than ranked by similarity: see docs/verification.md, which also has what else was tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from tscm_core.config import TemporalConfig
from tscm_core.recognition.candidates import judged
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Candidate, Keyframe, Status

TEMPORAL = "temporal"
_LONGEST = 20
"""Frames that a chain looks back, at most."""


@dataclass(frozen=True, slots=True)
class _Link:
    """One frame of a chain: where the robot was on its way, and where on its way the place lies."""

    frame: int
    robot_m: float | None
    place: Place
    weight: float


_LONGEST_STAY = 4
"""Without odometry: after so many keyframes the place must have moved."""
_LEAST_MOVE = 0.1
_REFUSED = frozenset({Status.NO_GEOMETRY, Status.NOT_CONSISTENT})
_Chain = tuple[_Link, ...]  # newest first


class TemporalMemory:
    """What the last frames of this session may have shown."""

    def __init__(self, place_of: Callable[[int], Place]) -> None:
        self._place_of = place_of
        self._frames: deque[tuple[int, list[_Chain]]] = deque(maxlen=_LONGEST)
        self._count = 0

    def judge(
        self, keyframe: Keyframe, candidates: tuple[Candidate, ...], rule: TemporalConfig, *, verified: bool
    ) -> tuple[Candidate, ...]:
        """The candidates with their support, which must come in the order of the frames; ``verified`` by geometry.

        A candidate that geometry or odometry refused supports nothing. How similar it is does not matter, so that the
        evidence of a frame does not depend on a threshold.
        """
        self._count += 1
        links = [
            _Link(
                self._count,
                keyframe.travelled_m if keyframe.pose else None,
                self._place_of(item.keyframe_id),
                _weight(item, rule, verified),
            )
            for item in candidates
        ]
        chains = [
            self._longest(link, rule) if not _REFUSED.intersection(item.failed) else ()
            for link, item in zip(links, candidates, strict=True)
        ]
        self._frames.append((self._count, [chain for chain in chains if chain]))
        return tuple(
            _judge(item, [link.weight for link in chain], rule, verified)
            for item, chain in zip(candidates, chains, strict=True)
        )

    def _longest(self, link: _Link, rule: TemporalConfig) -> _Chain:
        best: _Chain = (link,)
        for number, chains in reversed(self._frames):
            if self._count - number > rule.max_gap + 1:
                break
            for chain in chains:
                agreeing = _agreeing(link, chain, rule)
                if len(agreeing) + 1 > len(best):
                    best = (link, *agreeing)
        return best[:_LONGEST]


def _agreeing(link: _Link, chain: _Chain, rule: TemporalConfig) -> _Chain:
    """The newest frames of ``chain``, up to the first that does not agree with ``link``."""
    for count, before in enumerate(chain):
        if not _agree(link, before, rule):
            return chain[:count]
    return chain


def _agree(now: _Link, before: _Link, rule: TemporalConfig) -> bool:
    if now.place.session != before.place.session:
        return False
    frames = now.frame - before.frame
    if None in (now.robot_m, before.robot_m, now.place.pose, before.place.pose):
        moved = abs(now.place.keyframe_id - before.place.keyframe_id)
        return moved <= rule.max_step * frames and (moved > 0 or frames < _LONGEST_STAY)
    robot_m = (now.robot_m or 0.0) - (before.robot_m or 0.0)
    place_m = abs(now.place.travelled_m - before.place.travelled_m)
    if rule.max_stay_m and robot_m >= rule.max_stay_m and place_m < _LEAST_MOVE * robot_m:
        return False
    return abs(place_m - robot_m) <= rule.max_difference_m + rule.max_difference * robot_m


def judge_alone(candidates: tuple[Candidate, ...], rule: TemporalConfig, *, verified: bool) -> tuple[Candidate, ...]:
    """The candidates of an image that no frame came before: each has the support of itself."""
    return tuple(
        _judge(item, [] if _REFUSED.intersection(item.failed) else [_weight(item, rule, verified)], rule, verified)
        for item in candidates
    )


def _weight(candidate: Candidate, rule: TemporalConfig, verified: bool) -> float:
    """What one frame says for a place, 0 to 1."""
    share = min(1.0, candidate.inliers / rule.certain_inliers) if verified else 1.0
    return share * max(0.0, candidate.similarity) ** 2


def _judge(candidate: Candidate, weights: list[float], rule: TemporalConfig, verified: bool) -> Candidate:
    candidate = replace(candidate, temporal_support=len(weights), evidence=sum(weights))
    certain = verified and candidate.inliers >= rule.certain_inliers
    enough = (len(weights) >= rule.min_support or certain) and candidate.evidence >= rule.min_evidence
    if enough or Status.NOT_CONSISTENT in candidate.failed:
        return candidate
    return judged(candidate, (*candidate.failed, Status.NOT_CONSISTENT))


def explain_temporal(best: Candidate, rule: TemporalConfig, *, verified: bool) -> str:
    """Why the best candidate failed here, with the figures that decided it."""
    place = f"keyframe {best.keyframe_id} (similarity {best.similarity:.3f})"
    certain = verified and best.inliers >= rule.certain_inliers
    if best.temporal_support >= rule.min_support or certain:
        return (
            f"the {best.temporal_support} keyframes in a row for {place} weigh {best.evidence:.2f}, less than "
            f"temporal.min_evidence {rule.min_evidence:g}"
        )
    few = f", and {best.inliers} inliers are fewer than temporal.certain_inliers {rule.certain_inliers}"
    return (
        f"{place} has the support of {best.temporal_support} keyframes in a row, fewer than temporal.min_support "
        f"{rule.min_support}{few if verified else ''}"
    )
