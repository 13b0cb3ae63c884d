"""A made-up room whose every pixel is known: a textured wall, and a box before it, seen from anywhere near."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
CAMERA = np.array([[FOCAL, 0.0, (WIDTH - 1) / 2], [0.0, FOCAL, (HEIGHT - 1) / 2], [0.0, 0.0, 1.0]])
_SIDE_PX = 1200
_PLANES = ((4.0, (-4.0, -4.0), 8.0), (2.5, (-0.8, -0.5), 1.2))
"""Distance, left upper corner and side of each square, far ones first; metres in the frame of the first camera."""


@lru_cache
def texture(seed: int) -> np.ndarray:
    """Blobs of many sizes and colours, ``uint8 [S, S, 3]``, with corners on every scale."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.integers(0, 256, (size, size, 3), np.uint8), (_SIDE_PX, _SIDE_PX), interpolation=how)
        for size, how in ((12, cv2.INTER_CUBIC), (60, cv2.INTER_NEAREST), (240, cv2.INTER_NEAREST))
    ]
    return np.mean(layers, axis=0).astype(np.uint8)


def view(seed: int, position: tuple[float, float, float], turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a camera at ``position``, turned by ``turn`` [3, 3], sees: RGB [H, W, 3] and metres float32 [H, W]."""
    image, depth = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.float32)
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)  # [H, W, 3]
    rays = pixels @ np.linalg.inv(CAMERA).T @ turn.T
    for number, (distance, corner, side) in enumerate(_PLANES):
        metres = (distance - position[2]) / rays[..., 2]
        across = np.array(position[:2]) + rays[..., :2] * metres[..., None]  # [H, W, 2]
        inside = np.all((across >= corner) & (across <= np.array(corner) + side), axis=-1)
        shown = cv2.warpPerspective(
            texture(2 * seed + number), _homography(distance, corner, side, position, turn), (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR,
        )  # fmt: skip
        image[inside], depth[inside] = shown[inside], metres[inside]
    return image, depth


def _homography(
    distance: float, corner: tuple[float, float], side: float, position: tuple[float, float, float], turn: np.ndarray
) -> np.ndarray:
    """From pixels of the texture to pixels of the image."""
    step = side / _SIDE_PX
    on_plane = np.array([[step, 0.0, corner[0]], [0.0, step, corner[1]], [0.0, 0.0, distance]])
    on_plane[:, 2] -= position
    return CAMERA @ turn.T @ on_plane
