"""Do the images of a candidate show one rigid scene? Decided by local features, and with their help between places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Protocol

from tscm_core.config import GeometryConfig
from tscm_core.recognition import local_features, two_view
from tscm_core.recognition.candidates import judged
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.records import Candidate, Frame, Status
from tscm_core.recognition.two_view import TwoView

GEOMETRY = "geometry"

FeaturesOf = Callable[[int], LocalFeatures | None]
"""The local features of a keyframe by its id; ``None`` if the map has none of it."""


class LocalMatcher(Protocol):
    """Finds local features, and verifies two images by them."""

    def extract(self, frame: Frame, rule: GeometryConfig) -> LocalFeatures:
        """The local features of an image, as they are after storing and reading."""

    def verify(self, query: LocalFeatures, match: LocalFeatures, rule: GeometryConfig) -> TwoView:
        """What two images have in common."""


class OrbMatcher:
    """Spread ORB features and an essential or fundamental matrix."""

    def extract(self, frame: Frame, rule: GeometryConfig) -> LocalFeatures:
        """See :func:`tscm_core.recognition.local_features.extract`."""
        return local_features.extract(frame, rule)

    def verify(self, query: LocalFeatures, match: LocalFeatures, rule: GeometryConfig) -> TwoView:
        """See :func:`tscm_core.recognition.two_view.verify`."""
        return two_view.verify(query, match, rule)


Views = Mapping[int, TwoView]
"""What the image has in common with places that were verified, by keyframe."""


def look(
    query: LocalFeatures,
    candidates: tuple[Candidate, ...],
    features_of: FeaturesOf,
    matcher: LocalMatcher,
    rule: GeometryConfig,
) -> dict[int, TwoView]:
    """What geometry finds at the best ``rule.places`` candidates that have local features.

    How similar a candidate is does not matter here, so that the evidence of a frame does not depend on a threshold.
    """
    features = {item.keyframe_id: features_of(item.keyframe_id) for item in candidates[: rule.places]}
    return {number: matcher.verify(query, seen, rule) for number, seen in features.items() if seen is not None}


def judge_geometry(
    candidates: tuple[Candidate, ...], views: Views, excluded: Collection[int], rule: GeometryConfig
) -> tuple[Candidate, ...]:
    """The verdict on candidates by what :func:`look` found; ``excluded`` are keyframes that cannot be the place anyhow.

    What was not looked at fails. Where two places look alike (AMBIGUOUS by similarity), the inliers decide.
    """
    seen = [_seen(item, views.get(item.keyframe_id)) for item in candidates]
    counts = [0 if item.keyframe_id in excluded else item.inliers for item in seen]
    return tuple(
        _judge(candidate, max(counts[:number] + counts[number + 1 :], default=0), rule)
        for number, candidate in enumerate(seen)
    )


def has_pose(candidate: Candidate, views: Views) -> bool:
    """Whether a relative pose can be had: with intrinsics of both images."""
    view = views.get(candidate.keyframe_id)
    return view is not None and view.turn_deg is not None


def with_pose(candidate: Candidate, views: Views) -> Candidate:
    """An accepted candidate with its relative pose; others as they are, since a pose takes time."""
    view = views.get(candidate.keyframe_id)
    if view is None or candidate.status is not Status.ACCEPTED:
        return candidate
    return replace(candidate, relative_pose=view.relative_pose)


def _seen(candidate: Candidate, view: TwoView | None) -> Candidate:
    if view is None:
        return candidate
    return replace(candidate, matches=len(view.pairs), inliers=view.inlier_count)


def _judge(candidate: Candidate, rival: int, rule: GeometryConfig) -> Candidate:
    failed = tuple(status for status in candidate.failed if status is not Status.AMBIGUOUS)
    if candidate.inliers < rule.min_inliers:
        return judged(candidate, (*failed, Status.NO_GEOMETRY))
    if rule.max_ratio < 1.0 and rival >= rule.min_inliers and rival > rule.max_ratio * candidate.inliers:
        return judged(candidate, (*failed, Status.AMBIGUOUS))
    return judged(candidate, failed)


def explain_geometry(best: Candidate, rule: GeometryConfig) -> str:
    """Why the best candidate failed here, with the figures that decided it."""
    if best.status is Status.AMBIGUOUS:
        return (
            f"keyframe {best.keyframe_id} fits with {best.inliers} inliers, but another place fits as well or nearly "
            f"(geometry.max_ratio {rule.max_ratio:g})"
        )
    if not best.matches:
        return (
            f"no local feature of keyframe {best.keyframe_id} (similarity {best.similarity:.3f}) was matched: none "
            f"fits, it has none, or it is not among the best {rule.places} places (geometry.places)"
        )
    return (
        f"{best.inliers} of {best.matches} matched features agree with keyframe {best.keyframe_id} (similarity "
        f"{best.similarity:.3f}), fewer than geometry.min_inliers {rule.min_inliers}"
    )
