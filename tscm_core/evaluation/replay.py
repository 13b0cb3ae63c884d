"""A drive in a bag, through the same loop detector as on the robot, judged by the poses in the bag."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import ImageError, StampError, TscmError
from tscm_core.evaluation.ground_truth import Query, Score, Truth, score
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Candidate, Observation, Status

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image that could not be used, and why."""

    stamp_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found. ``score`` is ``None`` where the bag has no poses for its keyframes."""

    observations: tuple[Observation, ...]
    refusals: tuple[Refusal, ...]
    score: Score | None
    truth: Truth
    model_id: str

    def to_json(self) -> dict[str, Any]:
        """The figures, as ``result.json`` holds them."""
        return {
            "frames": len(self.observations) + len(self.refusals),
            "refused": len(self.refusals),
            "keyframes": sum(observation.keyframe is not None for observation in self.observations),
            "keyframes_without_pose": sum(
                observation.keyframe is not None and observation.keyframe.pose is None
                for observation in self.observations
            ),
            **_score_json(self.score, self.observations),
            "radius_m": self.truth.radius_m,
            "max_yaw_deg": self.truth.max_yaw_deg,
            "statuses": _count_statuses(self.observations),
            "latency_ms": latency(self.observations),
            "model_id": self.model_id,
        }


def replay(
    bag: DriveBag, detector: LoopDetector, truth: Truth, progress: Progress = lambda done, total: None
) -> ReplayResult:
    """Send every image of ``bag`` through ``detector`` and judge the loops that it accepts.

    Images that cannot be used are listed in the result and do not stop the replay.

    Raises:
        TscmError: the bag is damaged, or not one of its images can be used.
    """
    observations: list[Observation] = []
    refusals: list[Refusal] = []

    def refuse(stamp_ns: int, error: TscmError) -> None:
        refusals.append(Refusal(stamp_ns, str(error)))

    for frame in bag.frames(refuse):
        try:
            observations.append(detector.observe(frame))
        except (ImageError, StampError) as error:
            refuse(frame.stamp_ns, error)
        progress(len(observations) + len(refusals), bag.image_count)
    if refusals and not observations:
        raise ImageError(f"bag {bag.path}: none of its {len(refusals)} images can be used: {refusals[0].reason}")
    judged = judge(observations, truth)
    return ReplayResult(tuple(observations), tuple(refusals), judged, truth, detector.describer.model_id)


def judge(observations: Iterable[Observation], truth: Truth) -> Score | None:
    """The score of one drive that began with an empty map, over the keyframes with a pose; ``None`` if none has one."""
    searched = [(seen, seen.keyframe) for seen in observations if seen.keyframe is not None]
    poses = [keyframe.pose for _, keyframe in searched]
    if not any(poses):
        return None
    position = {keyframe.id: number for number, (_, keyframe) in enumerate(searched)}
    queries = [
        (number, Query(seen.searched, tuple(position[match.keyframe_id] for match in seen.accepted)))
        for number, (seen, _) in enumerate(searched)
    ]
    return score(poses, queries, truth)


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


def make_folder(folder: Path) -> None:
    """Make the folder for the results, before the work is done rather than after it.

    Raises:
        TscmError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TscmError(f"results cannot be written to {folder}: {error.strerror}") from error


def write_results(result: ReplayResult, folder: Path) -> None:
    """Write ``observations.jsonl``, one line a frame, and ``result.json``.

    Raises:
        TscmError: the folder cannot be written.
    """
    make_folder(folder)
    try:
        with (folder / "observations.jsonl").open("w", encoding="utf-8") as file:
            write_observations(result.observations, file)
        (folder / "result.json").write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise TscmError(f"results cannot be written to {folder}: {error.strerror}") from error


def write_observations(observations: Iterable[Observation], file: TextIO) -> None:
    """One JSON object a line, in the order of the frames."""
    for observation in observations:
        file.write(json.dumps(observation_json(observation)) + "\n")


def observation_json(seen: Observation) -> dict[str, Any]:
    """One frame as a JSON object."""
    return {
        "stamp_ns": seen.stamp_ns,
        "status": seen.status.name,
        "reason": seen.reason,
        "session": seen.session,
        "keyframe_id": seen.keyframe.id if seen.keyframe else None,
        "map_size": seen.map_size,
        "searched": seen.searched,
        "stages": list(seen.stages),
        "candidates": [_candidate_json(candidate) for candidate in seen.candidates],
        "stage_ms": {item.stage: round(item.milliseconds, 3) for item in seen.stage_times},
    }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "rank": candidate.rank,
        "status": candidate.status.name,
        "match_id": candidate.keyframe_id,
        "session": candidate.session,
        "stamp_ns": candidate.stamp_ns,
        "similarity": candidate.similarity,
        "ratio": candidate.ratio,
        "temporal_support": candidate.temporal_support,
        "matches": candidate.matches,
        "inliers": candidate.inliers,
    }


def _score_json(judged: Score | None, observations: tuple[Observation, ...]) -> dict[str, Any]:
    if judged is None:
        accepted = sum(len(observation.accepted) for observation in observations)
        return dict.fromkeys(("revisits", "correct", "wrong", "precision", "recall")) | {"accepted": accepted}
    names = ("revisits", "accepted", "correct", "wrong", "precision", "recall")
    return {name: getattr(judged, name) for name in names}


def _count_statuses(observations: tuple[Observation, ...]) -> dict[str, int]:
    counts = Counter(observation.status for observation in observations)
    return {status.name: counts[status] for status in Status}
