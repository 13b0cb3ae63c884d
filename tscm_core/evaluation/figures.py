"""The figures of judged keyframes, as ``result.json`` names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tscm_core.evaluation.ground_truth import Score
from tscm_core.evaluation.judgement import JudgedFrame, decisions, nearest_wrong, recall_at_rank, score_of
from tscm_core.evaluation.precision_recall import Curve, curve
from tscm_core.recognition.records import Observation, Status
from tscm_core.recognition.temporal import TEMPORAL

RANKS = (1, 5, 10)
_SCORES = ("revisits", "accepted", "correct", "wrong", "precision", "recall")


@dataclass(frozen=True, slots=True)
class AblationRow:
    """One variant of an ablation.

    ``changes`` are the settings in which it differs from those in use; ``frame_ms`` is the mean time of all stages
    over the keyframes, ``score`` and ``curve`` are ``None`` where there are no poses.
    """

    variant: str
    changes: dict[str, object]
    stages: tuple[str, ...]
    score: Score | None
    curve: Curve | None
    accepted: int
    frame_ms: float | None

    def to_json(self) -> dict[str, Any]:
        """The row as ``result.json`` holds it; ``mean_ms`` is the only key that the clock decides."""
        return {
            "variant": self.variant,
            "settings": self.changes,
            "stages": list(self.stages),
            **curve_json(self.curve),
            **score_json(self.score, self.accepted),
            "mean_ms": None if self.frame_ms is None else round(self.frame_ms, 3),
        }


def curve_of(judged: Sequence[JudgedFrame]) -> Curve | None:
    """The precision-recall curve; ``None`` if not one keyframe has a pose."""
    taken = decisions(judged)
    return curve(taken) if taken else None


def score_json(judged: Score | None, accepted: int) -> dict[str, Any]:
    """Counts, precision and recall as configured; all but ``accepted`` are null without poses."""
    if judged is None:
        return dict.fromkeys(_SCORES) | {"accepted": accepted}
    return {name: getattr(judged, name) for name in _SCORES}


def curve_json(points: Curve | None) -> dict[str, Any]:
    """The figures of the curve; null where there are no poses or no revisits."""
    if points is None:
        return dict.fromkeys(("recall_at_100_precision", "recall_at_99_precision", "auc", "f1", "f1_threshold"))
    best = points.best_f1
    return {
        "recall_at_100_precision": points.recall_at(1.0),
        "recall_at_99_precision": points.recall_at(0.99),
        "auc": points.auc,
        "f1": best.value,
        "f1_threshold": best.threshold,
    }


def judged_json(judged: Sequence[JudgedFrame], accepted: int, top_places: int) -> dict[str, Any]:
    """All figures that need true poses, and how many keyframes have none.

    ``recall_at`` is null for more places than are kept, ``top_places``.
    """
    scored = score_of(judged)
    return {
        "keyframes_without_pose": sum(frame.verdict.revisit is None for frame in judged),
        **score_json(scored, accepted),
        "missed": None if scored is None else scored.revisits - scored.found,
        **curve_json(curve_of(judged)),
        "f1_threshold_of": _threshold_of(judged),
        "recall_at": {str(k): recall_at_rank(judged, k) if k <= top_places else None for k in RANKS},
        "nearest_wrong": _nearest_wrong_json(judged),
    }


def _threshold_of(judged: Sequence[JudgedFrame]) -> str:
    """The setting that the curve is over."""
    evidence = any(TEMPORAL in frame.observation.stages for frame in judged)
    return "temporal.min_evidence" if evidence else "candidates.min_similarity"


def _nearest_wrong_json(judged: Sequence[JudgedFrame]) -> dict[str, Any] | None:
    nearest = nearest_wrong(judged)
    if nearest is None:
        return None
    keyframe, candidate = nearest.keyframe, nearest.candidate
    return {
        "similarity": candidate.similarity,
        "stamp_ns": keyframe.stamp_ns,
        "match_stamp_ns": candidate.stamp_ns,
        "session": keyframe.session,
        "match_session": candidate.session,
        "status": candidate.status.name,
    }


def frames_json(observations: Sequence[Observation], refused: int) -> dict[str, Any]:
    """How many images there were and what became of them as keyframes."""
    return {
        "frames": len(observations) + refused,
        "refused": refused,
        "keyframes": sum(seen.keyframe is not None for seen in observations),
    }


def count_statuses(observations: Iterable[Observation]) -> dict[str, int]:
    """How many frames ended in each status, all of them named."""
    counts = Counter(observation.status for observation in observations)
    return {status.name: counts[status] for status in Status}


def latency(observations: Iterable[Observation]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each stage, over the frames that reached it, and of all stages together."""
    times: dict[str, list[float]] = {}
    for observation in observations:
        for item in observation.stage_times:
            times.setdefault(item.stage, []).append(item.milliseconds)
        times.setdefault("all", []).append(sum(item.milliseconds for item in observation.stage_times))
    return {stage: percentiles(values) for stage, values in times.items()}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Median and 95th percentile, to a microsecond when the values are milliseconds."""
    middle, high = np.percentile(list(values), (50, 95))
    return {"p50": round(float(middle), 3), "p95": round(float(high), 3)}
