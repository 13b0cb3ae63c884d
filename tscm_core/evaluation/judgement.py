"""The keyframes of a replay with what their poses say of them: what every figure and the report are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tscm_core.evaluation.ground_truth import Score, TruePlaces, TruePoses, Truth, Verdict, tally
from tscm_core.evaluation.map_frames import MapFrames
from tscm_core.evaluation.precision_recall import Decision
from tscm_core.recognition.records import Candidate, Keyframe, Observation, Status
from tscm_core.recognition.temporal import TEMPORAL

BY_THRESHOLD = frozenset({Status.LOW_SIMILARITY})
"""A candidate that failed nothing but this would be accepted at a lower ``candidates.min_similarity``."""


@dataclass(frozen=True, slots=True)
class JudgedFrame:
    """One keyframe and its verdict; positions count the keyframes of the whole replay, drive after drive.

    ``verdict.matches`` and ``verdict.right`` are in the order of ``observation.candidates``.
    """

    observation: Observation
    keyframe: Keyframe
    verdict: Verdict

    @property
    def accepted(self) -> Verdict:
        """The verdict on the accepted candidates alone."""
        flags = [candidate.status is Status.ACCEPTED for candidate in self.observation.candidates]
        kept = [number for number, flag in enumerate(flags) if flag]
        return dataclasses.replace(
            self.verdict,
            matches=tuple(self.verdict.matches[number] for number in kept),
            right=tuple(self.verdict.right[number] for number in kept),
        )

    @property
    def missed(self) -> bool:
        """Whether this is a revisit and no accepted candidate is right."""
        return bool(self.verdict.revisit) and not any(self.accepted.right)


@dataclass(frozen=True, slots=True)
class WrongCandidate:
    """A candidate that shows another place than its keyframe."""

    keyframe: Keyframe
    candidate: Candidate


_OWN_POSES = TruePoses()


def judge_maps(
    maps: Iterable[Sequence[Observation]], truth: Truth, poses: TruePoses = _OWN_POSES
) -> tuple[JudgedFrame, ...]:
    """Judge every keyframe among ``maps``, each of them the observations of one map that began empty, by ``poses``."""
    judged: list[JudgedFrame] = []
    for observations in maps:
        judged += _judge_map(observations, truth, poses, len(judged))
    return tuple(judged)


def _judge_map(observations: Sequence[Observation], truth: Truth, poses: TruePoses, first: int) -> list[JudgedFrame]:
    frames = MapFrames(observations)
    places = TruePlaces([poses.of(query) for query in frames.queries], truth, frames.remembered)
    judged = []
    for number, (seen, query) in enumerate(zip(frames.seen, frames.queries, strict=True)):
        verdict = places.verdict(number, frames.query(number, frames.matches(seen)))
        moved = tuple(match + first for match in verdict.matches)
        judged.append(JudgedFrame(seen, query, dataclasses.replace(verdict, position=number + first, matches=moved)))
    return judged


def score_of(judged: Iterable[JudgedFrame]) -> Score | None:
    """The score of the accepted candidates; ``None`` if not one keyframe has a pose."""
    known = [frame for frame in judged if frame.verdict.revisit is not None]
    return tally(frame.accepted for frame in known) if known else None


def decisions(judged: Iterable[JudgedFrame]) -> list[Decision]:
    """One decision for each keyframe with a pose: its first candidate that failed at most the similarity threshold.

    Its score is the evidence of the frames that support it; where temporal support is switched off, the similarity.
    """
    return [_decision(frame) for frame in judged if frame.verdict.revisit is not None]


def _decision(frame: JudgedFrame) -> Decision:
    verdict, revisit = frame.verdict, bool(frame.verdict.revisit)
    for candidate, match, right in zip(frame.observation.candidates, verdict.matches, verdict.right, strict=True):
        if BY_THRESHOLD.issuperset(candidate.failed):
            score = candidate.evidence if TEMPORAL in frame.observation.stages else candidate.similarity
            return Decision(verdict.position, match, score, right, revisit)
    return Decision(verdict.position, None, 0.0, None, revisit)


def recall_at_rank(judged: Iterable[JudgedFrame], k: int) -> float | None:
    """Of the revisits, the share with a right place among the ``k`` most similar; ``None`` if there are none."""
    revisits = [frame for frame in judged if frame.verdict.revisit]
    found = sum(
        any(
            right and candidate.rank <= k
            for candidate, right in zip(frame.observation.candidates, frame.verdict.right, strict=True)
        )
        for frame in revisits
    )
    return found / len(revisits) if revisits else None


def nearest_wrong(judged: Iterable[JudgedFrame]) -> WrongCandidate | None:
    """The most similar of all wrong candidates, whatever became of it; of equals the one that was seen first."""
    wrong = (
        WrongCandidate(frame.keyframe, candidate)
        for frame in judged
        for candidate, right in zip(frame.observation.candidates, frame.verdict.right, strict=True)
        if right is False
    )
    return max(wrong, key=lambda item: item.candidate.similarity, default=None)
