"""What each stage is worth: the same drives again with stages switched off and on, in one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from tscm_core.config import Config
from tscm_core.datasets.drive_source import DriveSource
from tscm_core.evaluation.figures import AblationRow, curve_of
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.remembering import RememberingDescriber, RememberingMatcher
from tscm_core.evaluation.replay import Progress, ReplayResult, replay_all
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Observation

FULL = "as configured"
_NO_MORE_THAN_LOOKS = {"geometry.enabled": False, "temporal.enabled": False, "odometry.enabled": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "top-1": {"candidates.max_ratio": 1.0, "candidates.top_places": 1, **_NO_MORE_THAN_LOOKS},
    "ratio": _NO_MORE_THAN_LOOKS,
    "+ temporal": {**_NO_MORE_THAN_LOOKS, "temporal.enabled": True},
    "+ geometry": {**_NO_MORE_THAN_LOOKS, "geometry.enabled": True},
    "+ geometry + temporal": {"geometry.enabled": True, "temporal.enabled": True, "odometry.enabled": False},
    FULL: {},
}
"""The variants and the settings in which they differ from those in use.

``top-1`` takes the most similar place if it is similar enough, as most published systems do. Only the last one may
refuse a place by its distance in odometry: where the poses that judge are that odometry, it is the judge's own help.
"""


class Ablation:
    """Replays drives with every variant, and does the work that they share once.

    Args:
        sources: drives that are open, and can be read several times.
        describer: shared by all variants.
        matcher: shared by all variants.
        config: the settings in use.
        truth: when two keyframes show the same place.
        one_map: whether the drives share one map.
    """

    def __init__(
        self,
        sources: Sequence[DriveSource],
        describer: RememberingDescriber,
        matcher: RememberingMatcher,
        config: Config,
        truth: Truth,
        one_map: bool = False,
    ) -> None:
        self._sources, self._config = sources, config
        self._describer, self._matcher = describer, matcher
        self._truth, self._one_map = truth, one_map

    def run(self, progress_of: Callable[[str], Progress]) -> tuple[LoopDetector, ReplayResult]:
        """Replay every variant.

        Args:
            progress_of: called with the name of each variant, gives what is called with the images done and all.

        Returns:
            Detector and result of the last variant, those of a plain replay, with ``ablation`` filled in.

        Raises:
            TscmError: a drive is damaged, or not one of its images can be used.
        """
        rows = {}
        detector, result, rows[FULL] = self._replay(FULL, progress_of(FULL))  # first: its latency is that of the work
        for name in VARIANTS:
            if name != FULL:
                _, _, rows[name] = self._replay(name, progress_of(name))
        return detector, dataclasses.replace(result, ablation=tuple(rows[name] for name in VARIANTS))

    def _replay(self, name: str, progress: Progress) -> tuple[LoopDetector, ReplayResult, AblationRow]:
        config, saved_ms = self._config.replace(VARIANTS[name]), self._saved_ms()
        detector = LoopDetector(self._describer, config, matcher=self._matcher)
        result = replay_all(self._sources, detector, self._truth, self._one_map, progress)
        frame_ms = _mean_ms(result.observations, self._saved_ms() - saved_ms)
        row = AblationRow(
            name, VARIANTS[name], result.stages, result.score, curve_of(result.judged), result.accepted, frame_ms
        )
        return detector, result, row

    def _saved_ms(self) -> float:
        return self._describer.saved_ms + self._matcher.saved_ms


def _mean_ms(observations: Sequence[Observation], saved_ms: float) -> float | None:
    """What a keyframe would have cost, all that was spent shared among the keyframes."""
    keyframes = sum(seen.keyframe is not None for seen in observations)
    spent_ms = sum(item.milliseconds for seen in observations for item in seen.stage_times)
    return (spent_ms + saved_ms) / keyframes if keyframes else None
