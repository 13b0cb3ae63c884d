"""Pictures on which a compiled network must say what the network itself says, before it is trusted."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COUNT = 3
LEAST_AGREEMENT = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.8}
"""Least cosine between a descriptor of an engine, when it is compiled, and the network's own.

That of int8 only tells that nothing went wrong: its descriptors are compared with its own alone.
"""
LEAST_AGREEMENT_LATER = {**LEAST_AGREEMENT, "int8": 0.999}
"""... and between what it says when it is loaded and what is expected of it: in int8 what it said at first."""


def probe_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Made-up scenes of ``size`` = (width, height): shaded boxes with grain, the last one dark. Always the same.

    Returns:
        RGB ``uint8 [COUNT, H, W, 3]``.
    """
    return np.stack([_scene(number, size) for number in range(COUNT)])


def agreement(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The least cosine between rows ``[B, dim]`` of equal number; -1 if one of them is not finite or is zero."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    if found.shape != expected.shape or not (np.isfinite(lengths).all() and lengths.all()):
        return -1.0
    return float(np.min(np.sum(found * expected, axis=1) / lengths))


def _scene(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    width, height = size
    rng = np.random.default_rng(number)
    image = np.zeros((height, width, 3), np.float32)
    image += np.linspace(60, 160, height, dtype=np.float32)[:, None, None]
    for _ in range(30):
        left, top, right, bottom = rng.random(4) * (width, height, width, height)
        corner, other = (int(left), int(top)), (int(right), int(bottom))
        cv2.rectangle(
            image, corner, other, [float(value) for value in rng.integers(0, 256, 3)], int(rng.integers(-1, 4))
        )
    image += rng.normal(0, 8, image.shape).astype(np.float32)
    image *= 0.3 if number == COUNT - 1 else 1.0
    return np.asarray(np.clip(image, 0, 255), np.uint8)
