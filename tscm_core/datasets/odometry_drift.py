"""Odometry as robots have it, made from poses that are true: it drifts, or there is none.

The poses of a recorded drive are often better than the odometry of a robot, and a detector that is judged by the poses
it was given is helped by its own judge. Here it gets worse ones, and the true ones stay with the judge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType

import numpy as np

from tscm_core.datasets.drive_source import DriveSource
from tscm_core.errors import ImageError
from tscm_core.recognition.records import Frame, Pose

TURN_DEG_PER_M = 0.01
"""Degrees that the heading turns in a metre, for each per cent: over 100 m it leads as far aside as lengthwise."""

WANDER_M = 10.0
"""Metres after which the errors of a step and those of a later one have little in common."""

NO_ODOMETRY = "none"


def drifted(poses: Iterable[Pose | None], percent: float, seed: int = 0) -> Iterator[Pose | None]:
    """The poses that odometry would tell of a drive whose true poses are ``poses``.

    Each step is measured ``percent`` % too long or too short, and the heading turns by ``percent`` times
    ``TURN_DEG_PER_M`` a metre to one side about the vertical; a coin decides which. These two errors stay for the whole
    drive and have the same size in every drive, so that no lucky draw flatters. On top of each comes one of mean 0 and
    the same standard deviation, which wanders along the way (a Gauss-Markov process of length ``WANDER_M``). On a
    straight way of 100 m the position is off by about ``percent`` % lengthwise and as much aside, and further off after
    longer ways, since the heading goes on turning. Turning on the spot is measured without error.

    As a rule of thumb, not measured here: 1 % is good visual-inertial odometry, 2 % good visual one, 5 % poor wheels.

    Args:
        poses: in the order of the drive, in one frame whose z points up; ``None`` where a pose is not known.
        percent: 0 or more; 0 gives the poses back.
        seed: the same gives the same drift.

    Yields:
        One pose for each, in the same frame; the first known one is as it was, ``None`` stays ``None``.
    """
    drift, before, place = _Drift(percent, seed), None, (0.0, 0.0, 0.0)
    for pose in poses:
        if pose is None:
            yield None
            continue
        if before is None:
            place = pose.position
        else:
            dx, dy, dz = (now - then for now, then in zip(pose.position, before.position, strict=True))
            mx, my, mz = drift.measured(dx, dy, dz)
            place = (place[0] + mx, place[1] + my, place[2] + mz)
        before = pose
        yield Pose(place, _turned(pose, drift.turned), pose.frame_id)


class _Drift:
    """What is wrong with each step. ``turned`` is by how much the heading is off so far, in radians."""

    def __init__(self, percent: float, seed: int) -> None:
        self._percent, self._random = percent, np.random.default_rng(seed)
        self._constant = self._random.choice((-1.0, 1.0), 2)  # of length and heading
        self._wander = self._random.standard_normal(2)
        self.turned = 0.0

    def measured(self, dx: float, dy: float, dz: float) -> tuple[float, float, float]:
        """A step as odometry measures it."""
        step = math.hypot(dx, dy, dz)
        kept = math.exp(-step / WANDER_M)
        self._wander = kept * self._wander + math.sqrt(1.0 - kept * kept) * self._random.standard_normal(2)
        longer, bend = (float(error) * self._percent for error in self._constant + self._wander)
        bend *= math.radians(TURN_DEG_PER_M) * step
        scale, heading = 1.0 + longer / 100.0, self.turned + bend / 2.0
        c, s = scale * math.cos(heading), scale * math.sin(heading)
        self.turned += bend
        return c * dx - s * dy, s * dx + c * dy, scale * dz


def _turned(pose: Pose, angle: float) -> tuple[float, float, float, float]:
    """The orientation of ``pose`` after a turn about the z axis of its frame."""
    x, y, z, w = pose.orientation
    c, s = math.cos(angle / 2.0), math.sin(angle / 2.0)
    return (c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z)


class OdometryDrive:
    """A drive whose frames carry other poses than it has: those of :func:`drifted`, or none.

    It keeps the poses that the drive has, for they are the true ones (see ``drive_source.WithTruth``).
    """

    def __init__(self, source: DriveSource, percent: float | None, seed: int = 0) -> None:
        """Wrap ``source``; ``percent`` as in :func:`drifted`, ``None``: the frames carry no poses."""
        self.path, self.odometry = source.path, NO_ODOMETRY if percent is None else f"drift {percent:g} %"
        self._source, self._percent, self._seed = source, percent, seed
        self._true_poses: dict[int, Pose | None] = {}
        self._odometry: dict[int, Pose | None] = {}

    def __enter__(self) -> OdometryDrive:
        """Open the drive.

        Raises:
            TscmError: as the drive does.
        """
        self._source.__enter__()
        self.image_count = self._source.image_count
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._source.__exit__(kind, value, trace)

    @property
    def true_poses(self) -> Mapping[int, Pose | None]:
        """By stamp, of the frames read so far."""
        return self._true_poses

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The frames; see ``DriveSource.frames``. What was never read before is decoded with all the others."""
        known = wanted is not None and all(stamp_ns in self._odometry for stamp_ns in wanted)
        if self._percent is None or known:
            for frame in self._source.frames(refuse, wanted):
                yield self._told(frame, None if self._percent is None else self._odometry[frame.stamp_ns])
            return
        frames, ahead = itertools.tee(self._source.frames(refuse))
        for frame, pose in zip(frames, drifted((one.pose for one in ahead), self._percent, self._seed), strict=True):
            told = self._told(frame, pose)
            if wanted is None or frame.stamp_ns in wanted:
                yield told

    def _told(self, frame: Frame, pose: Pose | None) -> Frame:
        self._true_poses.setdefault(frame.stamp_ns, frame.pose)
        self._odometry.setdefault(frame.stamp_ns, pose)
        return replace(frame, pose=pose)
