"""The tree of frames that ``/tf`` and ``/tf_static`` of a bag describe, and where in it a camera is at a moment."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tscm_core.datasets.pose_messages import pose_of, stamp_of
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Pose

FIXED_FRAMES = ("map", "odom", "world")
"""Frames that stand still, the best first: the first that is above the camera is the one poses are given in."""

BODY_FRAMES = ("base_link", "base_footprint")
"""The robot itself, for bags whose tree lacks the camera."""

_Quaternion = tuple[float, float, float, float]
_BODY_FROM_OPTICAL: _Quaternion = (0.5, -0.5, 0.5, 0.5)  # of a camera's frame: x forward is its z, z up is its -y


class TransformTree:
    """Transforms of a child to its parent, moving or static, as a bag brought them."""

    def __init__(self) -> None:
        self._moving: dict[tuple[str, str], list[tuple[int, Pose]]] = {}
        self._static: dict[tuple[str, str], Pose] = {}

    def add(self, message: Any, static: bool) -> None:
        """Take a ``tf2_msgs/TFMessage``; transforms with a number that is not finite are left out."""
        for item in message.transforms:
            parent, child = _name(item.header.frame_id), _name(item.child_frame_id)
            moved = item.transform
            pose = pose_of(moved.translation, moved.rotation, parent)
            if pose is None or parent == child:
                continue
            if static:
                self._static[child, parent] = pose
            else:
                self._moving.setdefault((child, parent), []).append((stamp_of(item.header), pose))

    def chain(self, leaves: Iterable[str], fixed: Iterable[str] = FIXED_FRAMES) -> TransformChain | None:
        """The way from the first of ``leaves`` that is below one of ``fixed`` up to the first such frame, or none."""
        parents = self._parents()
        roots = [_name(frame) for frame in fixed]
        for leaf in map(_name, leaves):
            above = _ancestors(leaf, parents)
            root = next((frame for frame in roots if frame in above), None)
            if root is not None:
                links = [leaf, *above[: above.index(root) + 1]]
                return TransformChain([self._link(*link) for link in itertools.pairwise(links)], leaf, root)
        return None

    def _parents(self) -> dict[str, str]:
        """The parent of each child; where a bag names two for one, the one named more often, a static one first."""
        counts = {link: len(poses) for link, poses in self._moving.items()} | dict.fromkeys(self._static, math.inf)
        parents: dict[str, str] = {}
        for (child, parent), _ in sorted(counts.items(), key=lambda item: (item[1], item[0])):
            parents[child] = parent
        return parents

    def _link(self, child: str, parent: str) -> PoseTrack | Pose:
        if (child, parent) in self._static:
            return self._static[child, parent]
        track = PoseTrack(capacity=10**9)
        for stamp_ns, pose in sorted(self._moving[child, parent], key=lambda item: item[0]):
            track.add(stamp_ns, pose)
        return track


class TransformChain:
    """Poses of ``leaf`` in ``root``, put together link by link.

    The pose looks along x with z up, as ground truth expects it, also where the leaf is a camera's optical frame (z
    forward, y down): which of the two it is, is seen from which of its axes points up more.
    """

    def __init__(self, links: list[PoseTrack | Pose], leaf: str, root: str) -> None:
        self._links, self.leaf, self.root = links, leaf, root
        self._optical: bool | None = None

    def at(self, stamp_ns: int, max_gap_ns: int) -> Pose | None:
        """The pose at ``stamp_ns``, each link interpolated as ``PoseTrack.at`` does; ``None`` where a link has none."""
        pose = Pose((0.0, 0.0, 0.0), frame_id=self.root)
        for link in self._links:
            step = link if isinstance(link, Pose) else link.at(stamp_ns, max_gap_ns)
            if step is None:
                return None
            pose = compose(step, pose)
        if self._optical is None:
            self._optical = _is_optical(pose)
        turn = multiply(pose.orientation, _BODY_FROM_OPTICAL) if self._optical else pose.orientation
        return replace(pose, orientation=turn, frame_id=self.root)


def compose(outer: Pose, inner: Pose) -> Pose:
    """The pose ``inner``, given in the frame whose pose is ``outer``, in the frame of ``outer``."""
    x, y, z = rotate(outer.orientation, inner.position)
    place = (outer.position[0] + x, outer.position[1] + y, outer.position[2] + z)
    return Pose(place, multiply(outer.orientation, inner.orientation), outer.frame_id)


def multiply(a: _Quaternion, b: _Quaternion) -> _Quaternion:
    """The rotation ``b`` and then ``a``; quaternions (x, y, z, w)."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(turn: _Quaternion, point: tuple[float, float, float]) -> tuple[float, float, float]:
    """``point`` turned by a unit quaternion."""
    x, y, z, w = turn
    x, y, z, _ = multiply(multiply(turn, (*point, 0.0)), (-x, -y, -z, w))
    return x, y, z


def _is_optical(pose: Pose) -> bool:
    return -rotate(pose.orientation, (0.0, 1.0, 0.0))[2] > rotate(pose.orientation, (0.0, 0.0, 1.0))[2]


def _ancestors(frame: str, parents: dict[str, str]) -> list[str]:
    """Frames above one, the nearest first; a circle is gone round once."""
    above: list[str] = []
    while frame in parents and parents[frame] not in above:
        frame = parents[frame]
        above.append(frame)
    return above


def _name(frame: str) -> str:
    """Frames had a leading slash before tf2."""
    return frame.lstrip("/")
