"""From similar keyframes to ranked places, and the verdict of appearance on each of them."""

from __future__ import annotations

from dataclasses import replace

from tscm_core.config import CandidateConfig
from tscm_core.recognition.place_index import Hit
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.records import Candidate, Descriptor, Status

_MOST_HITS = 4096
"""Where the search for a second place gives up: so many nearest keyframes that all show one place are one place."""


def find_candidates(
    memory: PlaceMemory, descriptor: Descriptor, limit: int, rule: CandidateConfig, begin: int = 0
) -> tuple[Candidate, ...]:
    """The places at positions from ``begin`` up to ``limit`` that look most like ``descriptor``, best first.

    Each place is represented by its most similar keyframe. Its ratio is taken against the best other place, and for
    that the search goes deeper while everything found so far is one place.
    """
    count = rule.top_keyframes
    places = _merge(memory, memory.index.search(descriptor, count, limit, begin), rule)
    while len(places) < 2 and count < min(limit - begin, _MOST_HITS):
        count *= 4
        places = _merge(memory, memory.index.search(descriptor, count, limit, begin), rule)
    return tuple(
        _judge(memory, hit, rank, places[1 if rank == 1 else 0] if len(places) > 1 else None, rule)
        for rank, hit in enumerate(places[: rule.top_places], start=1)
    )


def _merge(memory: PlaceMemory, hits: list[Hit], rule: CandidateConfig) -> list[Hit]:
    places: list[Hit] = []
    for hit in hits:
        if not any(memory.same_place(hit.position, place.position, rule) for place in places):
            places.append(hit)
        if len(places) > rule.top_places:
            break
    return places


def _judge(memory: PlaceMemory, hit: Hit, rank: int, rival: Hit | None, rule: CandidateConfig) -> Candidate:
    place = memory.places[hit.position]
    ratio = _ratio(hit, rival)
    candidate = Candidate(
        keyframe_id=place.keyframe_id,
        session=place.session,
        stamp_ns=place.stamp_ns,
        pose=place.pose,
        similarity=hit.similarity,
        ratio=ratio,
        rank=rank,
        status=Status.ACCEPTED,
    )
    return judged(candidate, _failed(hit.similarity, ratio, rule))


def judged(candidate: Candidate, failed: tuple[Status, ...]) -> Candidate:
    """The candidate with all the tests that it failed, in order."""
    return replace(candidate, failed=failed, status=failed[0] if failed else Status.ACCEPTED)


def _ratio(hit: Hit, rival: Hit | None) -> float:
    if rival is None:
        return 0.0
    return rival.similarity / hit.similarity if hit.similarity > 0.0 else 1.0


def _failed(similarity: float, ratio: float, rule: CandidateConfig) -> tuple[Status, ...]:
    low = (Status.LOW_SIMILARITY,) if similarity < rule.min_similarity else ()
    ambiguous = (Status.AMBIGUOUS,) if ratio > rule.max_ratio and rule.max_ratio < 1.0 else ()
    return low + ambiguous


def explain(best: Candidate, rule: CandidateConfig) -> str:
    """Why the best candidate got its status from appearance, with the figures that decided it."""
    if best.status is Status.LOW_SIMILARITY:
        return (
            f"best similarity {best.similarity:.3f}, to keyframe {best.keyframe_id}, is below "
            f"candidates.min_similarity {rule.min_similarity:g}"
        )
    if best.status is Status.AMBIGUOUS:
        return (
            f"another place looks nearly the same as keyframe {best.keyframe_id}: ratio {best.ratio:.3f} is above "
            f"candidates.max_ratio {rule.max_ratio:g}"
        )
    seen = f"shows the place of keyframe {best.keyframe_id}: similarity {best.similarity:.3f}, ratio {best.ratio:.3f}"
    checked = f", {best.inliers} of {best.matches} features agree" if best.matches else ""
    supported = f", supported by {best.temporal_support} keyframes in a row" if best.temporal_support else ""
    return f"{seen}{checked}{supported}"
