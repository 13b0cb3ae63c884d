"""Drives through the same loop detector as on the robot, judged by the poses that they carry."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from tscm_core.datasets.drive_source import DriveSource, WithTruth
from tscm_core.errors import DatasetError, ImageError, StampError, TscmError
from tscm_core.evaluation.figures import percentiles
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.judgement import judge_maps
from tscm_core.evaluation.map_frames import asked_about
from tscm_core.evaluation.replay_result import AS_TRUTH, NO_POSES, DriveReplay, Refusal, ReplayResult, true_poses
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Observation, Pose

__all__ = ["DriveReplay", "Progress", "Refusal", "ReplayResult", "labels", "percentiles", "replay", "replay_all"]

Progress = Callable[[int, int], None]

_OWN_ORIGIN = "enu"
"""Frame of poses made from satellite fixes: each drive counts its metres from its own first fix."""


def replay(
    source: DriveSource, detector: LoopDetector, truth: Truth, progress: Progress = lambda done, total: None
) -> ReplayResult:
    """Send every image of one drive through ``detector``, whose map must be empty, and judge the loops it accepts.

    Images that cannot be used are listed in the result and do not stop the replay.

    Raises:
        TscmError: the drive is damaged, or not one of its images can be used.
    """
    drive = _drive(source, detector, detector.session, _counting_on(progress, 0, source.image_count))
    return _result([drive], detector, truth, one_map=False)


def replay_all(
    sources: Sequence[DriveSource],
    detector: LoopDetector,
    truth: Truth,
    one_map: bool = False,
    progress: Progress = lambda done, total: None,
) -> ReplayResult:
    """Send several drives through ``detector``, each as a session named after it, and judge the loops it accepts.

    Args:
        sources: drives that are open; every figure is over all of them.
        detector: forgets what it has in its map.
        truth: when two keyframes show the same place.
        one_map: each drive goes on with the map of those before it; else each begins with an empty map. The poses of
            all drives must then be in one frame with one origin, or the figures mean nothing.
        progress: called with the images done and those in all drives.

    Raises:
        DatasetError: ``one_map``, and the drives say themselves that their poses are in different frames.
        TscmError: a drive is damaged, or not one of its images can be used.
    """
    total = sum(source.image_count for source in sources)
    before, drives = 0, list[DriveReplay]()
    for source, label in zip(sources, labels([source.path for source in sources]), strict=True):
        if one_map and drives:
            detector.begin_session(label)
        else:
            detector.restore((), (), label)
        drives.append(_drive(source, detector, label, _counting_on(progress, before, total)))
        if one_map:
            _refuse_different_frames(drives)
        before += source.image_count
    return _result(drives, detector, truth, one_map)


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each drive: its folder or file where that tells them apart, else its path; numbered if given twice."""
    whole = [path.resolve() for path in paths]
    names = [path.name for path in whole]
    if len(set(names)) < len(set(whole)):
        names = [str(path) for path in paths]
    return [
        f"{name} ({names[: number + 1].count(name)})" if names.count(name) > 1 else name
        for number, name in enumerate(names)
    ]


def _counting_on(progress: Progress, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total)


def _drive(source: DriveSource, detector: LoopDetector, label: str, progress: Callable[[int], None]) -> DriveReplay:
    observations: list[Observation] = []
    refusals: list[Refusal] = []

    def refuse(stamp_ns: int, error: TscmError) -> None:
        refusals.append(Refusal(stamp_ns, str(error)))

    for frame in source.frames(refuse):
        try:
            observations.append(detector.observe(frame))
        except (ImageError, StampError) as error:
            refuse(frame.stamp_ns, error)
        progress(len(observations) + len(refusals))
    if refusals and not observations:
        raise ImageError(f"drive {source.path}: none of its {len(refusals)} images can be used: {refusals[0].reason}")
    odometry, truth = _judge_of(source, observations)
    return DriveReplay(source.path, label, tuple(observations), tuple(refusals), odometry, truth)


def _judge_of(source: DriveSource, observations: Sequence[Observation]) -> tuple[str, dict[int, Pose | None] | None]:
    """What the detector had for odometry, and the true poses by stamp where they are others."""
    truth = source.true_poses if isinstance(source, WithTruth) else None
    if isinstance(source, WithTruth) and truth is not None:
        return source.odometry, dict(truth)
    posed = any(query.pose is not None for query in map(asked_about, observations) if query is not None)
    return AS_TRUTH if posed else NO_POSES, None


def _refuse_different_frames(drives: Sequence[DriveReplay]) -> None:
    frames = [_frames_of(drive) for drive in drives]
    here, now = frames[-1], drives[-1]
    for there, before in zip(frames[:-1], drives[:-1], strict=True):
        if here and there and (here != there or _OWN_ORIGIN in here):
            reason = (
                "poses from satellite fixes begin at each drive's own first fix"
                if here == there
                else (
                    f"the poses of {before.path} are in {', '.join(there)} and those of {now.path} in {', '.join(here)}"
                )
            )
            raise DatasetError(f"{before.path} and {now.path} cannot be judged on one map: {reason}")


def _frames_of(drive: DriveReplay) -> list[str]:
    known = true_poses([drive])
    poses = [known.of(query) for query in map(asked_about, drive.observations) if query is not None]
    return sorted({pose.frame_id for pose in poses if pose is not None})


def _result(drives: Sequence[DriveReplay], detector: LoopDetector, truth: Truth, one_map: bool) -> ReplayResult:
    seen = [drive.observations for drive in drives]
    maps = [tuple(itertools.chain.from_iterable(seen))] if one_map else seen
    judged = judge_maps(maps, truth, true_poses(drives))
    return ReplayResult(tuple(drives), one_map, judged, truth, detector.describer.model_id, detector.config)
