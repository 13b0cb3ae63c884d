"""Loops of a map as a pose graph in the text format of g2o, and as a table with all evidence.

What is what:

- ``VERTEX_SE3:QUAT id x y z qx qy qz qw``: a keyframe with a pose, under its id. The pose is the one that the map has:
  of the robot's base, in the frame of its odometry. Drives that have each an odometry of their own begin each at its
  own origin; loops between them are what ties them together.
- ``EDGE_SE3:QUAT match keyframe x y z qx qy qz qw``, then 21 numbers: an accepted loop, as the pose of the keyframe's
  base in the matched one's, and the upper triangle of the information matrix, row by row: x y z in metres, turns about
  x y z in radians, of an error in the frame of the keyframe, as the optimisers take it. (g2o itself takes the last
  three for half angles: it then trusts rotations less than it could, never more.)

The map has the pose of one **camera** relative to the other, and does not know where the camera sits on the robot. So
that has to be told; without it no loop becomes an edge, since an edge between bases would be wrong wherever the robot
turned. Nor does one whose translation is only a direction: there is no edge for that. ``loops.csv`` has these too.

Edges along a drive, from odometry, are made only if asked for. The map does not know how good the odometry was: they
claim 5 % of the way and 1 cm, and 1 degree.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.records import Keyframe, Loop, Pose, RelativePose
from tscm_core.recognition.relative_pose import quaternion

Array = NDArray[np.float64]

FORWARD = Pose((0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5), "base")
"""An optical frame (z forward, x right) at the origin of a base (x forward, z up)."""
SAME = Pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), "base")
"""Where poses are of the optical frame itself."""

_STEP_SHARE, _STEP_M, _STEP_RAD = 0.05, 0.01, math.radians(1.0)
_FARTHEST_M = 1e9
"""Of a step's uncertainty; what is larger comes of a number that is no position."""
EDGE = "edge"
NO_CAMERA_POSE, NO_SCALE, NO_RELATIVE_POSE, NO_POSE, NO_INFORMATION = (
    "camera pose not given", "direction without scale", "no relative pose", "keyframe without pose",
    "covariance is not positive",
)  # fmt: skip
_COLUMNS = (
    "keyframe_id", "match_id", "session", "stamp_ns", "match_session", "match_stamp_ns", "rank", "similarity", "ratio",
    "temporal_support", "matches", "inliers", "graph", "metric_scale", "tx", "ty", "tz", "qx", "qy", "qz", "qw",
    "covariance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """Which edges a pose graph gets.

    ``camera`` is the pose of the camera's optical frame in the robot's base; ``None``: not known.
    """

    camera: Pose | None = None
    odometry: bool = False


@dataclass(frozen=True, slots=True)
class _Vertex:
    session: str
    stamp_ns: int
    pose: Pose | None


class GraphWriter:
    """Takes keyframes and then loops, and writes vertices, edges and the table of loops.

    Attributes:
        loops: how many there were.
        outcomes: what became of them: :data:`EDGE`, or why not.
        odometry_edges: how many were written.
    """

    def __init__(self, graph: IO[str], table: IO[str], rule: EdgeRule) -> None:
        self.loops = self.odometry_edges = 0
        self.outcomes: Counter[str] = Counter()
        self._graph = graph
        self._table = csv.writer(table)
        self._table.writerow(_COLUMNS)
        self._camera = None if rule.camera is None else matrix(rule.camera)
        self._odometry = rule.odometry
        self._vertices: dict[int, _Vertex] = {}
        self._last: dict[str, Keyframe] = {}

    @property
    def loop_edges(self) -> int:
        """Loops that became edges."""
        return self.outcomes[EDGE]

    def keyframe(self, keyframe: Keyframe) -> Pose | None:
        """Write the next keyframe; gives its pose, if it has one that can be used."""
        pose = keyframe.pose if keyframe.pose is not None and _is_pose(keyframe.pose) else None
        self._vertices[keyframe.id] = _Vertex(keyframe.session, keyframe.stamp_ns, pose)
        if pose is not None:
            self._write("VERTEX_SE3:QUAT", [keyframe.id], [*pose.position, *_unit(pose)])
            if self._odometry:
                self._step(self._last.get(keyframe.session), keyframe)
        self._last[keyframe.session] = keyframe
        return pose

    @np.errstate(all="ignore")
    def _step(self, before: Keyframe | None, now: Keyframe) -> None:
        a = None if before is None else self._vertices[before.id].pose
        b = self._vertices[now.id].pose
        if before is None or a is None or b is None or a.frame_id != b.frame_id:
            return
        moved = np.linalg.inv(matrix(a)) @ matrix(b)
        metres = _STEP_M + _STEP_SHARE * math.hypot(*moved[:3, 3])
        if metres > _FARTHEST_M or not np.isfinite(moved).all():
            return
        spread = np.diag([metres**2] * 3 + [_STEP_RAD**2] * 3)
        self._write("EDGE_SE3:QUAT", [before.id, now.id], _numbers(moved), _upper(np.diag(1.0 / np.diag(spread))))
        self.odometry_edges += 1

    def loop(self, loop: Loop) -> None:
        """Write the next loop between keyframes that were written."""
        match = loop.candidate
        relative, query = match.relative_pose, self._vertices[loop.keyframe_id]
        outcome = self._edge(loop.keyframe_id, match.keyframe_id, relative)
        self.loops += 1
        self.outcomes[outcome] += 1
        geometry: list[object] = [""] * 9
        if relative is not None:
            seen = map(repr, (*relative.translation, *relative.orientation))
            geometry = [int(relative.metric_scale), *seen, " ".join(map(repr, relative.covariance))]
        self._table.writerow(
            [
                loop.keyframe_id, match.keyframe_id, query.session, query.stamp_ns, match.session, match.stamp_ns,
                match.rank, repr(match.similarity), repr(match.ratio), match.temporal_support, match.matches,
                match.inliers, outcome, *geometry,
            ]
        )  # fmt: skip

    @np.errstate(all="ignore")
    def _edge(self, keyframe_id: int, match_id: int, relative: RelativePose | None) -> str:
        """Write the edge of a loop if it can be one; gives what became of it."""
        if relative is None or not _is_pose(Pose(relative.translation, relative.orientation)):
            return NO_RELATIVE_POSE
        if not relative.metric_scale:
            return NO_SCALE
        if self._vertices[keyframe_id].pose is None or self._vertices[match_id].pose is None:
            return NO_POSE
        if self._camera is None:
            return NO_CAMERA_POSE
        moved, spread = between_bases(relative, self._camera)
        information = _information(spread)
        if information is None or not np.isfinite(moved).all():
            return NO_INFORMATION
        self._write("EDGE_SE3:QUAT", [match_id, keyframe_id], _numbers(moved), _upper(information))
        return EDGE

    def _write(self, tag: str, ids: list[int], *numbers: list[float]) -> None:
        values = (repr(value) for part in numbers for value in part)
        self._graph.write(" ".join([tag, *map(str, ids), *values]) + "\n")


def between_bases(relative: RelativePose, camera: Array) -> tuple[Array, Array]:
    """The pose of one base in the other, float64 [4, 4], and its covariance [6, 6], shift first.

    With X the camera in the base and T the query camera in the matched one it is X T X^-1. The covariance of the map is
    of small shifts and turns about the axes of the matched camera, ``t + dt`` and ``exp(w) R``; optimisers take an
    error that is applied on the right, ``T exp(e)``, so that ``e = R^T (dt, w)``, and then the adjoint of X moves it to
    the base.

    Args:
        relative: pose of the query camera in the optical frame of the matched one, in metres.
        camera: the optical frame in the base, float64 [4, 4].
    """
    seen = matrix(Pose(relative.translation, relative.orientation))
    moved = camera @ seen @ np.linalg.inv(camera)
    back = np.kron(np.eye(2), seen[:3, :3].T)
    change = _adjoint(camera) @ back
    spread = change @ np.array(relative.covariance).reshape(6, 6) @ change.T
    return np.asarray(moved, np.float64), np.asarray(0.5 * (spread + spread.T), np.float64)


def _information(spread: Array) -> Array | None:
    """The inverse of a covariance, float64 [6, 6]; ``None`` unless both are finite and positive, as in any edge."""
    try:
        np.linalg.cholesky(spread)
        information = np.asarray(np.linalg.inv(spread), np.float64)
        np.linalg.cholesky(0.5 * (information + information.T))
    except np.linalg.LinAlgError:
        return None
    return information if np.isfinite(information).all() else None


def matrix(pose: Pose) -> Array:
    """float64 [4, 4] of a pose, whose quaternion need not be of length 1."""
    x, y, z, w = _unit(pose)
    made = np.eye(4)
    made[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    made[:3, 3] = pose.position
    return made


def _is_pose(pose: Pose) -> bool:
    """Whether a pose can be used: odometry without orientation may come with a quaternion of zeros."""
    return all(map(math.isfinite, (*pose.position, *pose.orientation))) and 0.1 < math.hypot(*pose.orientation) < 10.0


def _unit(pose: Pose) -> list[float]:
    return [value / math.hypot(*pose.orientation) for value in pose.orientation]


def _numbers(made: Array) -> list[float]:
    """Position and quaternion of a matrix: x y z qx qy qz qw."""
    turn: list[float] = quaternion(made[:3, :3]).tolist()
    shift: list[float] = made[:3, 3].tolist()
    return shift + turn


def _upper(information: Array) -> list[float]:
    """21 numbers: the upper triangle, row by row."""
    symmetric = np.asarray(0.5 * (information + information.T), np.float64)
    values: list[float] = symmetric[np.triu_indices(6)].tolist()
    return values


def _adjoint(made: Array) -> Array:
    """How a small motion (shift, turn) on the right of T looks on the right of X T X^-1, float64 [6, 6]."""
    turn, (x, y, z) = made[:3, :3], made[:3, 3]
    whole = np.kron(np.eye(2), turn)
    whole[:3, 3:] = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ turn
    return np.asarray(whole, np.float64)
