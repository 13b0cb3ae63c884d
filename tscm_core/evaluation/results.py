"""The files of a replay: ``result.json`` with the figures, ``observations.jsonl`` with every frame."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tscm_core.errors import TscmError
from tscm_core.evaluation.replay import ReplayResult
from tscm_core.recognition.records import Candidate, Observation

OBSERVATIONS, RESULT, REPORT = "observations.jsonl", "result.json", "report.html"


def make_folder(folder: Path) -> None:
    """Make the folder for the results, before the work is done rather than after it.

    Raises:
        TscmError: it cannot be made, or what is in it cannot be replaced.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, "the folder is read-only for you")
    for name in (OBSERVATIONS, RESULT, REPORT):
        if (folder / name).is_dir():
            raise _unwritable(folder, f"{name} there is a folder")


@contextmanager
def staged(folder: Path, obsolete: Iterable[str] = ()) -> Iterator[Path]:
    """A folder to write files into; they take their places in ``folder`` once all are there, or none does.

    Files in ``folder`` whose names are ``obsolete`` go then, for they tell of something else than the new ones.

    Raises:
        TscmError: they cannot be written.
    """
    make_folder(folder)
    try:
        aside = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error
    try:
        yield aside
        for path in sorted(aside.iterdir()):
            path.replace(folder / path.name)
        for name in obsolete:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror) from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(aside)


def write_results(result: ReplayResult, folder: Path) -> None:
    """Write ``observations.jsonl``, one line a frame, and ``result.json``, both or neither.

    Raises:
        TscmError: the folder cannot be written.
    """
    with staged(folder) as aside:
        write_into(result, aside)


def write_into(result: ReplayResult, folder: Path) -> None:
    """Write both files into a folder of :func:`staged`, which names what goes wrong."""
    with (folder / OBSERVATIONS).open("w", encoding="utf-8") as file:
        write_observations(result.observations, file)
    (folder / RESULT).write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")


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
        "thinned": list(seen.thinned),
        "searched": seen.searched,
        "stages": list(seen.stages),
        "candidates": [_candidate_json(candidate) for candidate in seen.candidates],
        "stage_ms": {item.stage: round(item.milliseconds, 3) for item in seen.stage_times},
    }


def _candidate_json(candidate: Candidate) -> dict[str, Any]:
    return {
        "rank": candidate.rank,
        "status": candidate.status.name,
        "failed": [status.name for status in candidate.failed],
        "match_id": candidate.keyframe_id,
        "session": candidate.session,
        "stamp_ns": candidate.stamp_ns,
        "similarity": candidate.similarity,
        "ratio": candidate.ratio,
        "temporal_support": candidate.temporal_support,
        "evidence": round(candidate.evidence, 4),
        "matches": candidate.matches,
        "inliers": candidate.inliers,
        "relative_pose": _relative_pose_json(candidate),
    }


def _relative_pose_json(candidate: Candidate) -> dict[str, Any] | None:
    pose = candidate.relative_pose
    if pose is None:
        return None
    return {
        "translation": list(pose.translation),
        "orientation": list(pose.orientation),
        "metric_scale": pose.metric_scale,
        "covariance": list(pose.covariance),
    }


def _unwritable(folder: Path, why: str | None) -> TscmError:
    return TscmError(f"results cannot be written to {folder}: {why}")
