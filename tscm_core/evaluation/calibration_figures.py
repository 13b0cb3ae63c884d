"""The figures of every choice of thresholds over one body of evidence, and how far each is from a wrong place."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tscm_core.evaluation.calibration_bound import lower_bound, upper_bound
from tscm_core.evaluation.calibration_evidence import Evidence, Pair, Setting, episodes

SIMILARITY_STEP = 0.01
_MARGIN_STEP = 0.02
_MOST_MARGIN = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What one choice of thresholds accepts. Right, wrong and unlabelled are candidates; found are keyframes."""

    setting: Setting
    min_similarity: float
    right: int
    wrong: int
    unlabelled: int
    found: int
    revisits: int
    episodes: int
    wrong_episodes: int
    false_alarms: int
    strangers: int
    false_alarm_episodes: int
    stranger_episodes: int

    @property
    def precision(self) -> float | None:
        """Right / (right + wrong); ``None`` if nothing was accepted."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float:
        """Revisits found / revisits; 0 if there are none."""
        return self.found / self.revisits if self.revisits else 0.0

    def bound(self, confidence: float) -> float:
        """The precision that the episodes support with ``confidence``."""
        return lower_bound(self.episodes - self.wrong_episodes, self.episodes, confidence)

    def false_alarm_bound(self, confidence: float) -> float:
        """The share of never seen places, in episodes, that are taken for a known one, at most."""
        return upper_bound(self.false_alarm_episodes, self.stranger_episodes, confidence)

    def to_json(self, confidence: float) -> dict[str, Any]:
        """Every figure, with the bounds at ``confidence``."""
        plain = dataclasses.asdict(self)
        return {
            **plain.pop("setting"),
            **plain,
            "precision": self.precision,
            "recall": self.recall,
            "precision_bound": self.bound(confidence),
            "false_alarm_bound": self.false_alarm_bound(confidence),
        }


class Choice:
    """The figures of every setting and similarity of one body of evidence."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self._pairs = {setting: sorted(of, key=lambda pair: -pair.similarity) for setting, of in evidence.pairs.items()}
        self._right = {one: sorted(pair.similarity for pair in of if pair.right) for one, of in evidence.pairs.items()}
        self._wrong = {one: sorted(pair.similarity for pair in of if pair.wrong) for one, of in evidence.pairs.items()}
        self._by_place = {(setting.min_inliers, setting.min_support): setting for setting in evidence.pairs}
        self._inliers = sorted({setting.min_inliers for setting in evidence.pairs})
        self._supports = sorted({setting.min_support for setting in evidence.pairs})
        self._strangers = episodes(evidence.strangers)

    def figures(self, setting: Setting, min_similarity: float) -> Figures:
        """What ``setting`` accepts from ``min_similarity`` on."""
        end = bisect.bisect_right(self._pairs[setting], -min_similarity, key=lambda pair: -pair.similarity)
        accepted = self._pairs[setting][:end]
        right, wrong = [p.query for p in accepted if p.right], [p.query for p in accepted if p.wrong]
        runs, wrong_queries, hits = episodes([*right, *wrong]), set(wrong), {pair.query for pair in accepted}
        return Figures(
            setting=setting,
            min_similarity=min_similarity,
            right=len(right),
            wrong=len(wrong),
            unlabelled=sum(pair.right is None for pair in accepted),
            found=len(self.evidence.revisits & set(right)),
            revisits=len(self.evidence.revisits),
            episodes=len(runs),
            wrong_episodes=sum(not wrong_queries.isdisjoint(run) for run in runs),
            false_alarms=len(self.evidence.strangers & hits),
            strangers=len(self.evidence.strangers),
            false_alarm_episodes=sum(not hits.isdisjoint(run) for run in self._strangers),
            stranger_episodes=len(self._strangers),
        )

    def precise(self, precision: float) -> list[Figures]:
        """The figures of all thresholds of at least this precision; of the most precise ones if none is.

        Tried are the similarity in use and every one that occurs, rounded down to a step. Counting comes first, because
        it is quick.
        """
        tried = [
            (self._precision(setting, value), setting, value)
            for setting, of in self._pairs.items()
            for value in _thresholds(of, self.evidence.min_similarity)
        ]
        enough = min(precision, max((share for share, _, _ in tried), default=0.0))
        return [self.figures(setting, value) for share, setting, value in tried if share >= enough > 0.0]

    def _precision(self, setting: Setting, value: float) -> float:
        right, wrong = (
            len(line) - bisect.bisect_left(line, value) for line in (self._right[setting], self._wrong[setting])
        )
        return right / (right + wrong) if right + wrong else 0.0

    def nearness(self, figures: Figures) -> tuple[int, float]:
        """How near the thresholds are to those in use, more is nearer: steps of the grid, then similarity."""
        used, lowest = self.evidence.in_use or figures.setting, self.evidence.min_similarity
        inliers = abs(self._steps_above(used.min_inliers, self._inliers, figures.setting.min_inliers))
        support = abs(self._steps_above(used.min_support, self._supports, figures.setting.min_support))
        return -inliers - support, 0.0 if lowest is None else -abs(figures.min_similarity - lowest)

    @staticmethod
    def _steps_above(used: int, line: Sequence[int], value: int) -> int:
        return bisect.bisect_left(line, value) - bisect.bisect_left(line, used)

    def margin(self, figures: Figures) -> float:
        """How many steps the thresholds may be lowered, one at a time, before another wrong place is accepted.

        A step is the next value of the grid, or 0.02 of similarity; more than 5 are not told apart.
        """
        setting, value = figures.setting, figures.min_similarity
        below = bisect.bisect_left(self._wrong[setting], value)
        nearest = self._wrong[setting][below - 1] if below else -math.inf
        steps = [(value - nearest) / _MARGIN_STEP]
        steps.append(self._free_steps(figures, [(value, setting.min_support) for value in self._inliers], 0))
        steps.append(self._free_steps(figures, [(setting.min_inliers, value) for value in self._supports], 1))
        return min(_MOST_MARGIN, *steps)

    def _free_steps(self, figures: Figures, line: Sequence[tuple[int, int]], axis: int) -> float:
        here = (figures.setting.min_inliers, figures.setting.min_support)
        lower = [place for place in reversed(line) if place[axis] < here[axis] and place in self._by_place]
        for free, place in enumerate(lower):
            wrong = self._wrong[self._by_place[place]]
            if len(wrong) - bisect.bisect_left(wrong, figures.min_similarity) > figures.wrong:
                return float(free)
        return math.inf


def _thresholds(pairs: Sequence[Pair], lowest: float | None) -> list[float]:
    steps = {math.floor(pair.similarity / SIMILARITY_STEP + 1e-9) for pair in pairs}
    configured = [lowest] if lowest is not None else []
    return configured + [round(step * SIMILARITY_STEP, 3) for step in sorted(steps)]
