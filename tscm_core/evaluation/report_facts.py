"""What a report says about each map of a replay: which loops are right, wrong and missed, how near the rest came."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tscm_core.evaluation.ground_truth import Score, TruePlaces, TruePoses, Truth, Verdict, tally
from tscm_core.evaluation.map_frames import MapFrames, asked_about
from tscm_core.recognition.poses import distance_m
from tscm_core.recognition.records import Candidate, Keyframe, Observation, Pose

Link = tuple[int, int]
"""Positions of the query and of the match among the keyframes of one map."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive of a replay: ``number`` is its place among the sources."""

    number: int
    label: str
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two keyframes of one map, their evidence if the place was a candidate, and how far apart they are."""

    query: int
    match: int
    similarity: float
    distance_m: float
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class MapFacts:
    """One map: the drives that made it, in order, and its keyframes, whose positions here are what links count.

    Of ``right``, ``wrong`` and ``missed`` nothing is known, and they are empty, where ``judged`` is ``None``: no poses.
    """

    drives: tuple[Drive, ...]
    seen: tuple[Observation, ...]
    """The frames that became keyframes; ``keyframes`` are these, in the same order."""
    keyframes: tuple[Keyframe, ...]
    poses: tuple[Pose | None, ...]
    """Where each keyframe truly was, as far as is known."""
    drive_of: tuple[int, ...]
    """For each keyframe, which of ``drives`` it comes from."""
    judged: Score | None
    wrong: tuple[Pair, ...]
    """Accepted and wrong, those with the most inliers first, then the most similar."""
    missed: tuple[Pair, ...]
    """Revisits without a right loop, with the right place that came nearest; the most similar first."""
    refused: tuple[Pair, ...]
    """Candidates that were rightly refused (without poses: refused), those nearest to being accepted first."""

    @property
    def label(self) -> str:
        """The names of its drives."""
        return ", ".join(drive.label for drive in self.drives)

    @property
    def descriptors(self) -> NDArray[np.float32]:
        """All descriptors, float32 ``[N, D]``."""
        return np.array([keyframe.descriptor for keyframe in self.keyframes], np.float32)

    @property
    def accepted(self) -> tuple[Link, ...]:
        """Every accepted loop, judged or not."""
        position = MapFrames(self.seen).position
        return tuple(
            (number, position[match.keyframe_id])
            for number, seen in enumerate(self.seen)
            for match in seen.own_accepted
        )


_OWN_POSES = TruePoses()


def map_facts(drives: Sequence[Drive], truth: Truth, poses: TruePoses = _OWN_POSES) -> MapFacts:
    """Judge one map, which was empty when the first of ``drives`` began, by ``poses``."""
    frames = [(number, one) for number, drive in enumerate(drives) for one in drive.observations if asked_about(one)]
    seen = tuple(one for _, one in frames)
    pairs = _Pairs(seen, truth, poses)
    accepted = [pairs.verdict(query, tuple(pairs.position[match.keyframe_id] for match in one.own_accepted))
                for query, one in enumerate(seen)]  # fmt: skip
    judged = tally(accepted)
    missed = [pairs.missed(verdict.position) for verdict in accepted if verdict.revisit and not any(verdict.right)]
    return MapFacts(
        drives=tuple(drives),
        seen=seen,
        keyframes=pairs.keyframes,
        poses=pairs.poses,
        drive_of=tuple(number for number, _ in frames),
        judged=judged if pairs.known else None,
        wrong=tuple(sorted((pairs.pair(*link) for link in judged.wrong_pairs), key=_by_evidence)),
        missed=tuple(sorted(missed, key=lambda pair: (-pair.similarity, pair.query))),
        refused=tuple(sorted(pairs.refused(), key=_by_evidence)),
    )


class _Pairs:
    """Makes pairs of the keyframes of one map, by their positions in it."""

    def __init__(self, seen: Sequence[Observation], truth: Truth, poses: TruePoses) -> None:
        self._seen, self._frames = seen, MapFrames(seen)
        self.keyframes, self.position = self._frames.queries, self._frames.position
        self.poses = tuple(map(poses.of, self.keyframes))
        self._places = TruePlaces(self.poses, truth, self._frames.remembered)
        self.known = any(self.poses)

    def verdict(self, query: int, matches: tuple[int, ...]) -> Verdict:
        """What the poses say of these matches."""
        return self._places.verdict(query, self._frames.query(query, matches))

    def missed(self, query: int) -> Pair:
        """The right place that came nearest: of the right candidates the first, else the most similar keyframe."""
        verdict = self.verdict(
            query, tuple(at for at in range(*self._frames.searched(query)) if self._frames.remembered[at])
        )
        places = (match for match, right in zip(verdict.matches, verdict.right, strict=True) if right)
        pairs = (self.pair(query, match) for match in places)
        return min(pairs, key=lambda pair: (pair.candidate is None, -pair.similarity, pair.match))

    def refused(self) -> Iterator[Pair]:
        """Candidates that were not accepted and are not right, as far as is known."""
        for query, one in enumerate(self._seen):
            candidates = [item for item in one.candidates if not item.robot and item not in one.accepted]
            verdict = self.verdict(query, tuple(self.position[candidate.keyframe_id] for candidate in candidates))
            for match, right in zip(verdict.matches, verdict.right, strict=True):
                if not right:
                    yield self.pair(query, match)

    def pair(self, query: int, match: int) -> Pair:
        """The two keyframes with the evidence that there is."""
        ours, theirs = self.keyframes[query], self.keyframes[match]
        candidates = (one for one in self._seen[query].candidates if one.keyframe_id == theirs.id and not one.robot)
        candidate = next(candidates, None)
        similarity = candidate.similarity if candidate else float(ours.descriptor @ theirs.descriptor)
        here, there = self.poses[query], self.poses[match]
        apart = distance_m(here, there) if here and there else math.nan
        return Pair(query, match, similarity, apart, candidate)


def _by_evidence(pair: Pair) -> tuple[int, int, float, int, int]:
    """Fewest failed tests first, then most inliers, then most similar."""
    candidate = pair.candidate
    failed = len(candidate.failed) if candidate else 0
    return (failed, -candidate.inliers if candidate else 0, -pair.similarity, pair.query, pair.match)
