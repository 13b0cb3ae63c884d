"""Precision and recall over the score from which a candidate would be accepted: evidence, or similarity without it.

The area under the curve is the average precision: the sum over all points of (recall - recall of the point before) x
precision, a step integral that never interpolates (Manning, Raghavan, Schuetze: Introduction to Information Retrieval,
2008, section 8.4; Davis and Goadrich, ICML 2006, show why lines between points flatter). Recall that no threshold
reaches counts as 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Decision:
    """What one keyframe would be taken for if its score were enough: at most one remembered keyframe.

    Attributes:
        position: of the keyframe, in the order of the keyframes.
        match: position of the keyframe that it would be taken for; ``None`` if there is none at any threshold.
        score: of that one, the higher the surer; without meaning where ``match`` is ``None``.
        right: whether both show one place; ``None`` if there is no match or it has no pose: then it is not judged.
        revisit: whether the place was in the map.
    """

    position: int
    match: int | None
    score: float
    right: bool | None
    revisit: bool


class BestF1(NamedTuple):
    """The highest F1 and the highest threshold that has it."""

    value: float | None
    """``None`` if there was no revisit."""
    threshold: float | None
    """``None`` if nothing is accepted at any threshold, or there was no revisit."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall at every score at which a decision falls, the highest first.

    Attributes:
        thresholds: scores, falling; at each everything with at least that score is accepted.
        precision: right / accepted, of what is judged.
        recall: revisits with a right match / revisits, rising; empty if there was no revisit.
        revisits: keyframes whose place was in the map.
    """

    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    revisits: int

    @property
    def auc(self) -> float | None:
        """Average precision, 0 to 1, as the head of this file says; ``None`` if there was no revisit."""
        if not self.revisits:
            return None
        steps = (after - before for before, after in itertools.pairwise((0.0, *self.recall)))
        return sum((step * precision for step, precision in zip(steps, self.precision, strict=True)), 0.0)

    def recall_at(self, precision: float) -> float | None:
        """The highest recall of any threshold at which precision is at least ``precision``.

        0 if no threshold has it, ``None`` if there was no revisit.
        """
        if not self.revisits:
            return None
        reached = (recall for recall, have in zip(self.recall, self.precision, strict=True) if have >= precision)
        return max(reached, default=0.0)

    def threshold_at(self, precision: float) -> float | None:
        """The lowest threshold at which precision is at least ``precision``; ``None`` if there is none."""
        reached = (at for at, have in zip(self.thresholds, self.precision, strict=True) if have >= precision)
        return min(reached, default=None)

    @property
    def best_f1(self) -> BestF1:
        """The best harmonic mean of precision and recall, and where it is."""
        if not self.revisits:
            return BestF1(None, None)
        if not self.thresholds:
            return BestF1(0.0, None)
        values = [_harmonic(*point) for point in zip(self.precision, self.recall, strict=True)]
        best = max(values)
        return BestF1(best, self.thresholds[values.index(best)])


def curve(decisions: Iterable[Decision]) -> Curve:
    """The curve over all thresholds; decisions of equal score are one point of it."""
    known = list(decisions)
    revisits = sum(decision.revisit for decision in known)
    judged = [decision for decision in known if decision.match is not None and decision.right is not None]
    judged.sort(key=lambda decision: -decision.score)
    accepted = right = found = 0
    thresholds, precision, recall = [], [], []
    for score, group in itertools.groupby(judged, lambda decision: decision.score):
        for decision in group:
            accepted += 1
            right += bool(decision.right)
            found += bool(decision.right) and decision.revisit
        thresholds.append(score)
        precision.append(right / accepted)
        recall.append(found / revisits if revisits else 0.0)
    return Curve(tuple(thresholds), tuple(precision), tuple(recall) if revisits else (), revisits)


def _harmonic(a: float, b: float) -> float:
    return 2.0 * a * b / (a + b) if a + b else 0.0
