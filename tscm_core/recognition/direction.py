"""Which other directions of travel explain two views nearly as well as the best one?

Close to the best direction a covariance from slopes says so. Where the camera hardly moved, or where all that it saw
lies on one wall, quite different directions fit as well, and the slopes at the best one know nothing of them: on
rendered drives errors of 30 degrees came with a claimed one of 1. So a few dozen directions all around are tried, each
with the rotation that suits it best.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_RINGS = np.radians([3.0, 6.0, 12.0, 24.0, 45.0, 70.0, 88.0])
_SPOKES = 6
_STEPS = 3
_MOST = 60
"""Matches that are looked at: more take more time and say the same."""
_WIDEST_STEP = 0.2
_TEMPERATURE = 2.5
"""By how much the cost of a direction must be higher to be e times less likely.

1 if each match erred on its own; on rendered drives neighbours err together.
"""


def other_directions(turn: Array, shift: Array, across: Array, q: Array, m: Array, scale: float) -> tuple[Array, Array]:
    """Small turns and shifts to other motions, float64 [D, 5], and how probable each is beside the best one, [D].

    The best one, at its peak, has the density 1 per square radian.

    Args:
        turn: float64 [3, 3], the best rotation.
        shift: float64 [3], the best direction, of length 1.
        across: float64 [3, 2], unit vectors at right angles to ``shift``.
        q: rays of the query, float64 [N, 3].
        m: rays of the match, float64 [N, 3].
        scale: of the Cauchy cost of a residual.
    """
    directions, areas = _around(shift, across)
    chosen = np.unique(np.linspace(0, len(q) - 1, min(len(q), _MOST)).round().astype(np.int64))
    turns, costs = _suited(turn, np.concatenate([shift[None], directions]), q[chosen], m[chosen], scale)
    more = (costs[1:] - costs[0]) * (len(q) / len(chosen))
    density = np.exp(-np.clip(more / _TEMPERATURE, 0.0, 700.0))
    by_turn = np.stack([cv2.Rodrigues(other @ turn.T)[0].reshape(3) for other in turns[1:]])
    return np.concatenate([by_turn, directions @ across], axis=1), density * areas


def _around(shift: Array, across: Array) -> tuple[Array, Array]:
    """Directions [D, 3] in rings around ``shift``, and the part of the half sphere that each stands for."""
    ring, spoke = (grid.reshape(-1) for grid in np.meshgrid(np.arange(len(_RINGS)), np.arange(_SPOKES), indexing="ij"))
    angle, azimuth = _RINGS[ring], (spoke + 0.5 * (ring % 2)) * (2.0 * np.pi / _SPOKES)
    aside = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1) @ across.T
    directions = np.cos(angle)[:, None] * shift + np.sin(angle)[:, None] * aside
    widths = np.gradient(_RINGS)
    return directions, np.sin(angle) * widths[ring] * (2.0 * np.pi / _SPOKES)


def _suited(turn: Array, directions: Array, q: Array, m: Array, scale: float) -> tuple[Array, Array]:
    """The best rotation [D, 3, 3] for each direction [D, 3], from a good one, and its Cauchy cost [D]."""
    skew = _skew(directions)
    normals = m @ skew  # [D, N, 3], the rows m x t
    turns = np.repeat(turn[None], len(directions), axis=0)
    for _ in range(_STEPS):
        seen, raw, below = _residuals(turns, skew, normals, q)
        weights = 1.0 / (below**2 * (1.0 + (raw / (below * scale)) ** 2))
        slope = np.cross(seen, normals).transpose(0, 2, 1)  # [D, 3, N]
        weighted = slope * weights[:, None]
        hessian = weighted @ slope.transpose(0, 2, 1)
        damping = 1e-6 * np.trace(hessian, axis1=1, axis2=2) + 1e-12
        step = -np.linalg.solve(hessian + damping[:, None, None] * np.eye(3), weighted @ raw[..., None])[..., 0]
        step *= np.minimum(1.0, _WIDEST_STEP / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-12))
        turns = np.stack([cv2.Rodrigues(change)[0] for change in step]) @ turns
    _, raw, below = _residuals(turns, skew, normals, q)
    return turns, np.log1p((raw / (below * scale)) ** 2).sum(axis=1)


def _residuals(turns: Array, skew: Array, normals: Array, q: Array) -> tuple[Array, Array, Array]:
    """Turned rays [D, N, 3], how far they are from the epipolar constraint [D, N], and in which unit [D, N]."""
    seen = q @ turns.transpose(0, 2, 1)
    lines_m, lines_q = seen @ skew.transpose(0, 2, 1)[..., :2], (normals @ turns)[..., :2]
    below = np.sqrt(np.maximum((lines_m**2).sum(axis=-1) + (lines_q**2).sum(axis=-1), 1e-18))
    return seen, (normals * seen).sum(axis=-1), below


def _skew(vectors: Array) -> Array:
    """Matrices [D, 3, 3] of the cross products with vectors [D, 3]."""
    x, y, z = vectors.T
    nothing = np.zeros_like(x)
    return np.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], axis=1).reshape(-1, 3, 3)
