"""What a replay found: its drives, every keyframe judged, and all figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscm_core.config import Config
from tscm_core.evaluation.figures import AblationRow, count_statuses, frames_json, judged_json, latency
from tscm_core.evaluation.ground_truth import Score, TruePoses, Truth
from tscm_core.evaluation.judgement import JudgedFrame, score_of
from tscm_core.evaluation.map_frames import asked_about
from tscm_core.recognition.records import Observation, Pose

AS_TRUTH, NO_POSES = "as truth", "none"
"""What the detector had for odometry: the poses that judge it, or nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An image that could not be used, and why."""

    stamp_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class DriveReplay:
    """What came of one drive.

    Attributes:
        path: of the drive.
        label: its name among the drives of the replay, and that of its session.
        observations: of every image that could be used.
        refusals: the other images.
        odometry: what the detector had for odometry, in a few words.
        true_poses: by stamp; ``None`` if they are the ones that the detector had.
    """

    path: Path
    label: str
    observations: tuple[Observation, ...]
    refusals: tuple[Refusal, ...]
    odometry: str = AS_TRUTH
    true_poses: Mapping[int, Pose | None] | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay found.

    Attributes:
        drives: in the order in which they were driven.
        one_map: whether each drive went on with the map of those before it; if not, each began with an empty one, and
            the ids of keyframes begin again.
        judged: every keyframe, drive after drive, with what the poses say of it.
        truth: when two keyframes show the same place.
        model_id: of the network.
        config: the settings in use.
        ablation: the same drives with stages switched off and on; empty if that was not asked for.
    """

    drives: tuple[DriveReplay, ...]
    one_map: bool
    judged: tuple[JudgedFrame, ...]
    truth: Truth
    model_id: str
    config: Config
    ablation: tuple[AblationRow, ...] = ()

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Of all drives, one after another."""
        return tuple(seen for drive in self.drives for seen in drive.observations)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Of all drives, one after another."""
        return tuple(refusal for drive in self.drives for refusal in drive.refusals)

    @property
    def odometry(self) -> str:
        """What the detector had for odometry, in a few words."""
        return ", ".join(dict.fromkeys(drive.odometry for drive in self.drives))

    @property
    def true_poses(self) -> TruePoses:
        """Which say where each keyframe was."""
        return true_poses(self.drives)

    @property
    def score(self) -> Score | None:
        """The accepted candidates, judged; ``None`` where no keyframe has a pose."""
        return score_of(self.judged)

    @property
    def accepted(self) -> int:
        """Candidates that were accepted, judged or not."""
        return sum(len(seen.accepted) for seen in self.observations)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that judged candidates, in their order."""
        return tuple(dict.fromkeys(stage for seen in self.observations for stage in seen.stages))

    @property
    def maps(self) -> tuple[tuple[DriveReplay, ...], ...]:
        """The drives that share a map, map by map."""
        return (self.drives,) if self.one_map else tuple((drive,) for drive in self.drives)

    def judged_drives(self) -> Iterator[tuple[DriveReplay, tuple[JudgedFrame, ...]]]:
        """Each drive with its own judged keyframes."""
        judged = iter(self.judged)
        for drive in self.drives:
            count = sum(asked_about(seen) is not None for seen in drive.observations)
            yield drive, tuple(itertools.islice(judged, count))

    def to_json(self) -> dict[str, Any]:
        """The figures, as ``result.json`` holds them; what cannot be computed, for want of poses, is null."""
        top_places = self.config.candidates.top_places
        return {
            **frames_json(self.observations, len(self.refusals)),
            **judged_json(self.judged, self.accepted, top_places),
            "odometry": self.odometry,
            "radius_m": self.truth.radius_m,
            "max_yaw_deg": self.truth.max_yaw_deg,
            "statuses": count_statuses(self.observations),
            "stages": list(self.stages),
            "latency_ms": latency(self.observations),
            "model_id": self.model_id,
            "one_map": self.one_map,
            "drives": [_drive_json(drive, judged, top_places) for drive, judged in self.judged_drives()],
            "ablation": [row.to_json() for row in self.ablation] or None,
            "settings": {name: value for name, value, _ in self.config.settings()},
        }


def true_poses(drives: Sequence[DriveReplay]) -> TruePoses:
    """Which say where each keyframe of these drives was."""
    return TruePoses({drive.label: drive.true_poses for drive in drives if drive.true_poses is not None})


def _drive_json(drive: DriveReplay, judged: Sequence[JudgedFrame], top_places: int) -> dict[str, Any]:
    return {
        "path": str(drive.path),
        "session": drive.label,
        "odometry": drive.odometry,
        **frames_json(drive.observations, len(drive.refusals)),
        **judged_json(judged, sum(len(seen.accepted) for seen in drive.observations), top_places),
        "statuses": count_statuses(drive.observations),
        "latency_ms": latency(drive.observations),
    }
