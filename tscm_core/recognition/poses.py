"""Where the camera was at the moment of an image, from poses at other moments."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from tscm_core.recognition.records import Pose

_LATE_NS = 1_000_000_000
Quaternion = tuple[float, float, float, float]


def distance_m(a: Pose, b: Pose) -> float:
    """Metres between two positions in the same frame."""
    return math.dist(a.position, b.position)


def angle_rad(a: Pose, b: Pose) -> float:
    """Angle of the rotation from ``a`` to ``b``, 0 to π."""
    return orientations_apart_rad(a.orientation, b.orientation)


def orientations_apart_rad(a: Quaternion, b: Quaternion) -> float:
    """Angle of the rotation from one orientation to another, 0 to π."""
    return 2.0 * math.acos(min(1.0, abs(_dot(a, b))))


def orientation_from(a: Pose, b: Pose) -> Quaternion:
    """The orientation of ``b`` as seen from ``a``, x y z w."""
    ax, ay, az, aw = a.orientation
    bx, by, bz, bw = b.orientation
    return (
        aw * bx - ax * bw - ay * bz + az * by,
        aw * by + ax * bz - ay * bw - az * bx,
        aw * bz - ax * by + ay * bx - az * bw,
        aw * bw + ax * bx + ay * by + az * bz,
    )


def yaw_rad(pose: Pose) -> float:
    """Heading about the z axis, counter-clockwise from x, -π to π."""
    x, y, z, w = pose.orientation
    return math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))


def pose_from_yaw(x: float, y: float, yaw: float, frame_id: str = "odom") -> Pose:
    """A pose on the ground plane; metres and radians."""
    return Pose((x, y, 0.0), (0.0, 0.0, math.sin(yaw / 2.0), math.cos(yaw / 2.0)), frame_id)


def interpolate(before: Pose, after: Pose, share: float) -> Pose:
    """The pose at ``share`` (0 to 1) of the way: straight in position, along the shorter arc in orientation."""
    position = tuple(a + (b - a) * share for a, b in zip(before.position, after.position, strict=True))
    return Pose(
        (position[0], position[1], position[2]),
        _slerp(before.orientation, after.orientation, share),
        after.frame_id,
    )


class PoseTrack:
    """Poses in order of time, kept up to ``capacity``, the oldest forgotten first."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._stamps: list[int] = []
        self._poses: list[Pose] = []

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest pose."""
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp_ns: int, pose: Pose) -> None:
        """Append a pose. One that is a little late is left out; one far behind means that the clock began again."""
        if self._stamps and stamp_ns <= self._stamps[-1]:
            if self._stamps[-1] - stamp_ns < _LATE_NS:
                return
            self.clear()
        self._stamps.append(stamp_ns)
        self._poses.append(pose)
        if len(self._stamps) >= 2 * self._capacity:
            del self._stamps[: -self._capacity], self._poses[: -self._capacity]

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._poses.clear()

    def at(self, stamp_ns: int, max_gap_ns: int) -> Pose | None:
        """The pose at ``stamp_ns``: interpolated between its neighbours, or the nearest one at either end of the track.

        ``None`` if the poses that it would be made from are further than ``max_gap_ns`` away.
        """
        after = bisect.bisect_left(self._stamps, stamp_ns)
        if after < len(self._stamps) and self._stamps[after] == stamp_ns:
            return self._poses[after]
        near = [
            i
            for i in (after - 1, after)
            if 0 <= i < len(self._stamps) and abs(self._stamps[i] - stamp_ns) <= max_gap_ns
        ]
        if not near:
            return None
        if len(near) == 1:
            return self._poses[near[0]]
        before = after - 1
        share = (stamp_ns - self._stamps[before]) / (self._stamps[after] - self._stamps[before])
        return interpolate(self._poses[before], self._poses[after], share)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _slerp(a: Quaternion, b: Quaternion, share: float) -> Quaternion:
    cosine = _dot(a, b)
    if cosine < 0.0:
        b, cosine = (-b[0], -b[1], -b[2], -b[3]), -cosine
    if cosine > 0.9995:
        weights = (1.0 - share, share)
    else:
        angle = math.acos(cosine)
        weights = (
            math.sin((1.0 - share) * angle) / math.sin(angle),
            math.sin(share * angle) / math.sin(angle),
        )
    mixed = [weights[0] * x + weights[1] * y for x, y in zip(a, b, strict=True)]
    length = math.sqrt(_dot(mixed, mixed))
    return (mixed[0] / length, mixed[1] / length, mixed[2] / length, mixed[3] / length)
