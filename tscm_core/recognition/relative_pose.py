"""The pose of one camera relative to another from matched rays, and how far it can be trusted.

Throughout, ``R`` and ``t`` take a point from the query camera to the matched camera: ``x_m = R x_q + t``. That is the
pose of the query camera in the frame of the matched one. Errors are small turns about, and shifts along, the axes of
the matched camera. Rays are float64 [N, 2]: x / z and y / z.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.direction import other_directions
from tscm_core.recognition.records import RelativePose

Array = NDArray[np.float64]
Motion = tuple[Array, Array]
"""R float64 [3, 3] and t float64 [3]."""

_FEWEST_WITH_DEPTH = 10
_ITERATIONS = 8
_FAR = 1e6
_LEAST_ERROR = 0.25
"""No residual is trusted to be smaller than this share of the allowed error: corners are not found better."""
_INFLATION, _INFLATION_OF_DIRECTION = 4.0, 1.2
"""By how much errors that are really made, squared, exceed what the residuals promise.

Measured on 897 accepted loops of six rendered drives with known poses (median of the squared error in units of the
covariance: 4.8 of 5 degrees of freedom), and near that on made-up scenes with corners that are 1 pixel off.
"""
_WIDER_TURN = np.array([1.3, 1.3, 1.3, 1.0, 1.0])
"""The same for the rotation beside a direction, as a standard deviation; measured there without depth."""
_WIDEST_TURN, _WIDEST_SHIFT = math.pi / 2.0, 10.0


def recovered(essential: Array, q: Array, m: Array) -> Motion | None:
    """Rotation and direction of translation of E, ``m E q = 0``: those that put its inliers before both cameras."""
    try:
        _, turn, shift, _, _ = cv2.recoverPose(essential, q, m, np.eye(3), distanceThresh=_FAR)
    except cv2.error:
        return None
    motion = np.asarray(turn, np.float64), np.asarray(shift, np.float64).reshape(3)
    return motion if np.isfinite(motion[0]).all() and np.isfinite(motion[1]).all() else None


def turn_alone(q: Array, m: Array, error: float) -> tuple[Array, NDArray[np.bool_]]:
    """The rotation that takes rays of the query [N, 2] to those of the match, and which of them agree, bool [N].

    Kabsch's, repeated on what agreed. Where a camera only turned, or did not move at all, there is no essential matrix.
    """
    a, b = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (_homogeneous(q), _homogeneous(m)))
    turn, agreeing = np.eye(3), np.ones(len(a), np.bool_)
    for _ in range(3):
        u, _, vt = np.linalg.svd(b[agreeing].T @ a[agreeing])
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        off = np.linalg.norm(a @ turn.T - b, axis=1)
        agreeing = off <= error
        if agreeing.sum() < _FEWEST_WITH_DEPTH:
            break
    return turn, np.asarray(agreeing, np.bool_)


def direction_pose(start: Motion, q: Array, m: Array, error: float) -> RelativePose:
    """Rotation and direction of translation, refined from a good start, with covariance.

    Args:
        start: as :func:`recovered` gives it.
        q: rays of the inliers in the query, float64 [N, 2], N >= 8.
        m: rays of the match, float64 [N, 2].
        error: how large a residual may be, in the unit of the rays.
    """
    hq, hm = _homogeneous(q), _homogeneous(m)

    def step(pose: Motion, change: Array) -> Motion:
        moved = pose[1] + _across(pose[1]) @ change[3:]
        return _turned(pose[0], change[:3]), moved / np.linalg.norm(moved)

    def linearised(pose: Motion) -> tuple[Array, Array]:
        return _epipolar_residuals(pose, hq, hm)

    limits = np.array([_WIDEST_TURN] * 3 + [1.0] * 2)
    (turn, shift), spread = _refine(start, step, linearised, error, limits, _INFLATION_OF_DIRECTION)
    spread *= np.outer(_WIDER_TURN, _WIDER_TURN)
    across = _across(shift)
    changes, weights = other_directions(turn, shift, across, hq, hm, 0.5 * error)
    own = 2.0 * math.pi * math.sqrt(max(float(np.linalg.det(spread[3:, 3:])), 0.0))
    spread = (own * spread + (changes.T * weights) @ changes) / (own + weights.sum())
    basis = np.zeros((6, 5))
    basis[3:, :3], basis[:3, 3:] = np.eye(3), across
    return _record(turn, shift, basis @ spread @ basis.T, metric_scale=False)


def metric_pose(
    q: Array,
    m: Array,
    depth_q: NDArray[np.float32],
    depth_m: NDArray[np.float32],
    inliers: NDArray[np.bool_],
    error: float,
) -> RelativePose | None:
    """Pose in metres from the inliers with depth in one of the two images; ``None`` where too few have any.

    Depth of the matched place is taken where it has it, else that of the query.
    """
    known_m, known_q = (inliers & np.isfinite(depth) for depth in (depth_m, depth_q))
    if max(known_m.sum(), known_q.sum()) < _FEWEST_WITH_DEPTH:
        return None
    backwards = known_m.sum() >= known_q.sum()
    known, depth = (known_m, depth_m) if backwards else (known_q, depth_q)
    near, far = (m, q) if backwards else (q, m)
    points = _homogeneous(near[known]) * depth[known, None].astype(np.float64)
    found = _perspective(points, far[known], error)
    if found is None:
        return None
    turn, shift, spread = found
    if backwards:  # the points were those of the match, and the camera that of the query
        turn, shift, spread = _inverted(turn, shift, spread)
    return _record(turn, shift, spread, metric_scale=True)


def _perspective(points: Array, seen: Array, error: float) -> tuple[Array, Array, Array] | None:
    """R and t that take ``points`` [N, 3] to where ``seen`` [N, 2] sees them; covariance [6, 6], shift first."""
    try:
        ok, turn, shift, inliers = cv2.solvePnPRansac(
            points, seen, np.eye(3), None,
            iterationsCount=100, reprojectionError=2.0 * error, confidence=0.999, flags=cv2.SOLVEPNP_AP3P,
        )  # fmt: skip
    except cv2.error:
        return None
    if not ok or inliers is None or len(inliers) < _FEWEST_WITH_DEPTH:
        return None
    chosen = np.asarray(inliers).reshape(-1)
    points, seen = points[chosen], seen[chosen]
    rotation = np.asarray(cv2.Rodrigues(turn)[0], np.float64)

    def step(pose: Motion, change: Array) -> Motion:
        return _turned(pose[0], change[3:]), pose[1] + change[:3]

    def linearised(pose: Motion) -> tuple[Array, Array]:
        return _projection_residuals(pose, points, seen)

    limits = np.array([_WIDEST_SHIFT] * 3 + [_WIDEST_TURN] * 3)
    start = rotation, np.asarray(shift, np.float64).reshape(3)
    (rotation, place), spread = _refine(start, step, linearised, error, limits)
    if not np.isfinite(place).all():
        return None
    return rotation, place, spread


def _refine(
    pose: Motion,
    step: Callable[[Motion, Array], Motion],
    linearised: Callable[[Motion], tuple[Array, Array]],
    error: float,
    limits: Array,
    inflation: float = _INFLATION,
) -> tuple[Motion, Array]:
    """Least squares with Cauchy weights from a good start; gives the pose and the covariance of a small step.

    The covariance comes from the residuals that are left, and from the prior knowledge that no step is larger than
    ``limits``: without it a direction that the data say nothing about would have an infinite one. ``inflation`` is the
    factor by which it is larger than residuals that err each on its own would promise.
    """
    size, scale = len(limits), 0.5 * error
    left, slope = linearised(pose)
    for _ in range(_ITERATIONS):
        weights = 1.0 / (1.0 + (left / scale) ** 2)
        hessian = slope.T @ (weights[:, None] * slope)
        change = -np.linalg.solve(
            hessian + (1e-9 * np.trace(hessian) + 1e-12) * np.eye(size), slope.T @ (weights * left)
        )
        new = step(pose, change)
        new_left, new_slope = linearised(new)
        if not _cost(new_left, scale) < _cost(left, scale):
            break
        pose, left, slope = new, new_left, new_slope
    weights = 1.0 / (1.0 + (left / scale) ** 2)
    variance = float((weights * left**2).sum() / max(weights.sum() - size, 1.0))
    variance = inflation * max(variance, (_LEAST_ERROR * error) ** 2)
    return pose, _bounded_inverse(slope.T @ (weights[:, None] * slope) / variance, limits)


def _bounded_inverse(information: Array, limits: Array) -> Array:
    """The inverse of ``information`` and of what is known beforehand; positive however badly conditioned it is."""
    values, vectors = np.linalg.eigh(information * np.outer(limits, limits))
    scaled = vectors * limits[:, None]
    return np.asarray((scaled / (1.0 + np.maximum(values, 0.0))) @ scaled.T, np.float64)


def _cost(left: Array, scale: float) -> float:
    return float(np.log1p((left / scale) ** 2).sum())


def sampson(essential: Array, q: Array, m: Array) -> Array:
    """How far pairs of rays [N, 2] are from ``m E q = 0``, to first order (Sampson), signed [N]."""
    hq, hm = _homogeneous(q), _homogeneous(m)
    lines_m, lines_q = hq @ essential.T, hm @ essential
    below = (lines_m[:, :2] ** 2).sum(axis=1) + (lines_q[:, :2] ** 2).sum(axis=1)
    return np.asarray((hm * lines_m).sum(axis=1) / np.sqrt(np.maximum(below, 1e-18)))


def _epipolar_residuals(pose: Motion, q: Array, m: Array) -> tuple[Array, Array]:
    """How far pairs of rays [N, 3] are from the epipolar constraint, to first order: [N], and its slope [N, 5].

    The slope is by a turn and by a shift along the two directions of :func:`_across`, at a fixed denominator.
    """
    turn, shift = pose
    essential = _cross(shift) @ turn
    lines_m, lines_q = q @ essential.T, m @ essential
    below = np.sqrt(np.maximum((lines_m[:, :2] ** 2).sum(axis=1) + (lines_q[:, :2] ** 2).sum(axis=1), 1e-18))
    seen = q @ turn.T
    by_turn = _crossed(seen, m @ _cross(shift))  # the rows of the second are m x t
    by_shift = _crossed(seen, m) @ _across(shift)
    slope = np.concatenate([by_turn, by_shift], axis=1) / below[:, None]
    return (m * lines_m).sum(axis=1) / below, slope


def _projection_residuals(pose: Motion, points: Array, seen: Array) -> tuple[Array, Array]:
    """Where points [N, 3] are seen, less where they were seen: [2 N], and its slope [2 N, 6] by a shift and a turn."""
    turned = points @ pose[0].T
    x, y, z = (turned + pose[1]).T
    z = np.maximum(z, 1e-3)
    u, v, near = x / z, y / z, 1.0 / z
    slope = np.zeros((2 * len(points), 6))
    down = slope[len(points) :]
    across = slope[: len(points)]
    across[:, 0], across[:, 2] = near, -u * near
    down[:, 1], down[:, 2] = near, -v * near
    a, b, c = turned.T
    across[:, 3], across[:, 4], across[:, 5] = -u * b * near, (c + u * a) * near, -b * near
    down[:, 3], down[:, 4], down[:, 5] = -(c + v * b) * near, v * a * near, a * near
    return np.concatenate([u - seen[:, 0], v - seen[:, 1]]), slope


def _inverted(turn: Array, shift: Array, spread: Array) -> tuple[Array, Array, Array]:
    """The opposite way and its covariance: ``R' = R^T``, ``t' = -R^T t``, errors about the axes of its target."""
    back = turn.T
    moved = -back @ shift
    change = np.zeros((6, 6))  # d(t', turn') by d(t, turn)
    change[:3, :3], change[:3, 3:], change[3:, 3:] = -back, -back @ _cross(shift), -back
    return back, moved, change @ spread @ change.T


def _record(turn: Array, shift: Array, spread: Array, *, metric_scale: bool) -> RelativePose:
    x, y, z, w = quaternion(turn).tolist()
    tx, ty, tz = shift.tolist()
    spread = 0.5 * (spread + spread.T)
    return RelativePose((tx, ty, tz), (x, y, z, w), metric_scale, tuple(spread.reshape(-1).tolist()))


def quaternion(turn: Array) -> Array:
    """Quaternion x, y, z, w with w >= 0 of a rotation matrix float64 [3, 3]."""
    axis_angle = np.asarray(cv2.Rodrigues(turn)[0], np.float64).reshape(3)
    angle = float(np.linalg.norm(axis_angle))
    if angle < 1e-12:
        return np.array([0.0, 0.0, 0.0, 1.0])
    value = np.append(axis_angle / angle * math.sin(angle / 2.0), math.cos(angle / 2.0))
    return np.asarray(value if value[3] >= 0.0 else -value)


def _homogeneous(rays: Array) -> Array:
    return np.concatenate([rays, np.ones((len(rays), 1))], axis=1)


def _turned(turn: Array, axis_angle: Array) -> Array:
    return np.asarray(cv2.Rodrigues(axis_angle)[0] @ turn, np.float64)


def _cross(v: Array) -> Array:
    return np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])


def _crossed(a: Array, b: Array) -> Array:
    """Cross products of rows [N, 3]; numpy's own takes ten times as long."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )


def _across(direction: Array) -> Array:
    """Two unit vectors at right angles to ``direction`` and to each other, float64 [3, 2]."""
    least = np.eye(3)[int(np.argmin(np.abs(direction)))]
    first = _cross(direction) @ least
    first /= np.linalg.norm(first)
    return np.stack([first, _cross(direction) @ first], axis=1)
