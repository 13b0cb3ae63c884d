"""The grid of thresholds, played over the tapes: what each setting accepts at any similarity."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from tscm_core.config import Config
from tscm_core.evaluation.calibration_evidence import Evidence, Pair, Setting, merge
from tscm_core.evaluation.calibration_figures import Choice, Figures
from tscm_core.evaluation.calibration_tape import Tape
from tscm_core.evaluation.judgement import BY_THRESHOLD, JudgedFrame
from tscm_core.evaluation.replay import Progress
from tscm_core.recognition.records import Candidate, Status

MIN_INLIERS = (12, 15, 20, 25, 30, 40, 60)
MIN_SUPPORT = (1, 2, 3, 4, 5)


class Labels(Protocol):
    """Says of a tape's keyframes which places are right."""

    @property
    def doubt_is_wrong(self) -> bool:
        """Whether an accepted place without a label counts as a wrong one; if not, it is left out."""

    def revisit(self, frame: JudgedFrame) -> bool | None:
        """Whether the keyframe sees a place again; ``None`` if nobody knows."""

    def right(self, frame: JudgedFrame) -> tuple[bool | None, ...]:
        """For each candidate whether it shows the same place; ``None`` where nobody knows."""


class PoseLabels:
    """The labels that the poses of the drive give. Where there is no pose, nothing is known of a place, good or bad."""

    doubt_is_wrong = False

    def revisit(self, frame: JudgedFrame) -> bool | None:
        """See :class:`Labels`."""
        return frame.verdict.revisit

    def right(self, frame: JudgedFrame) -> tuple[bool | None, ...]:
        """See :class:`Labels`."""
        return frame.verdict.right


def settings(config: Config) -> tuple[Setting, ...]:
    """The grid around ``config``, whose own thresholds are in it, in order.

    ``temporal.certain_inliers``, with which one frame needs no other, keeps its proportion to ``min_inliers`` where
    that grows: where places that look alike reach 40 inliers, 60 are not certain either. It is never lowered.
    """
    inliers, support = config.geometry.min_inliers, config.temporal.min_support
    proportion = config.temporal.certain_inliers / inliers
    certain = {
        value: max(config.temporal.certain_inliers, round(proportion * value)) for value in (*MIN_INLIERS, inliers)
    }
    supports = sorted({*MIN_SUPPORT, support})
    return tuple(Setting(value, one, certain[value]) for value, one in itertools.product(sorted(certain), supports))


def changes(setting: Setting, min_similarity: float | None = None) -> dict[str, object]:
    """A setting by the names that it has in the configuration."""
    similarity: dict[str, object] = {} if min_similarity is None else {"candidates.min_similarity": min_similarity}
    return {
        **similarity,
        "geometry.min_inliers": setting.min_inliers,
        "temporal.min_support": setting.min_support,
        "temporal.certain_inliers": setting.certain_inliers,
    }


def gather(
    tapes: Sequence[Tape],
    labels: Sequence[Labels],
    grid: Sequence[Setting],
    progress: Progress = lambda done, total: None,
    min_similarity: float | None = None,
) -> Evidence:
    """Label what passes all tests but that of similarity, for every tape and every setting of ``grid``.

    Settings that differ in ``min_support`` alone share one replay: what support a candidate has does not depend on how
    much is asked. ``min_similarity`` is that of the configuration unless it is given.
    """
    groups = [tuple(group) for _, group in itertools.groupby(grid, key=lambda one: one.min_inliers)]
    done, parts = itertools.count(1), []
    for tape, label in zip(tapes, labels, strict=True):
        played: list[tuple[tuple[Setting, ...], tuple[JudgedFrame, ...]]] = []
        for group in groups:
            played.append((group, tape.play(changes(group[len(group) // 2], min_similarity)).judged))
            progress(next(done), len(tapes) * len(groups))
        parts.append(evidence_of(played, label))
    config = tapes[0].config
    used = (config.geometry.min_inliers, config.temporal.min_support)
    in_use = next((setting for setting in grid if (setting.min_inliers, setting.min_support) == used), None)
    return replace(merge(parts), in_use=in_use, min_similarity=config.candidates.min_similarity)


def evidence_of(played: Sequence[tuple[Sequence[Setting], Sequence[JudgedFrame]]], labels: Labels) -> Evidence:
    """The evidence of one map, of replays for groups of settings.

    Whether a keyframe is a revisit does not depend on the setting.
    """
    any_frames = played[0][1]
    revisit = {frame.verdict.position: labels.revisit(frame) for frame in any_frames}
    asked = {frame.verdict.position for frame in any_frames if frame.observation.searched}
    return Evidence(
        {setting: tuple(_pairs(frames, labels, setting)) for group, frames in played for setting in group},
        revisits=frozenset(number for number, known in revisit.items() if known),
        strangers=frozenset(number for number, known in revisit.items() if known is False and number in asked),
        unknown=sum(revisit[number] is None for number in asked),
    )


def _pairs(frames: Iterable[JudgedFrame], labels: Labels, setting: Setting) -> Iterator[Pair]:
    for frame in frames:
        for candidate, right in zip(frame.observation.candidates, labels.right(frame), strict=True):
            if passes(candidate, setting):
                wrong = not right if labels.doubt_is_wrong else right is False
                yield Pair(frame.verdict.position, candidate.similarity, right, wrong)


def passes(candidate: Candidate, setting: Setting) -> bool:
    """Whether a candidate, judged with another ``min_support``, fails at most the test of similarity with this one.

    A candidate that geometry or odometry refuses has no support, not even its own, whatever its inliers.
    """
    supported = candidate.temporal_support >= setting.min_support or candidate.inliers >= setting.certain_inliers
    return (
        candidate.temporal_support > 0
        and supported
        and (BY_THRESHOLD | {Status.NOT_CONSISTENT}).issuperset(candidate.failed)
    )


def exact(tapes: Sequence[Tape], labels: Sequence[Labels], figures: Figures) -> Figures:
    """The figures of one choice, from a replay with exactly these thresholds."""
    setting, similarity = figures.setting, figures.min_similarity
    return Choice(gather(tapes, labels, [setting], min_similarity=similarity)).figures(setting, similarity)
