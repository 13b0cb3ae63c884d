"""Depth in metres from the depth buffer of a rendered world.

The buffer has 8 bits, linear in the distance along the optical axis. Scale and offset are those measured on a wall
from 17 to 1900 map units away, unit by unit: value k begins at `FIRST_UNITS + k * STEP_UNITS`. Floors and ceilings of
known height and walls seen aslant agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.drive_routes import METRES_PER_UNIT
from tscm_core.recognition.records import Depth

FIRST_UNITS = 10.88
STEP_UNITS = 7.138
STEP_M = STEP_UNITS * METRES_PER_UNIT
"""Of the quantisation, 0.22 m: a depth is the middle of its step, so it is at most half of this off."""
UNKNOWN = (0, 255)  # nearer than 0.56 m or nothing drawn; the sky, or farther than the buffer counts
FARTHEST_M = (FIRST_UNITS + 255 * STEP_UNITS) * METRES_PER_UNIT
"""57.2 m: what is farther is unknown."""


def depth_from_buffer(buffer: NDArray[np.uint8], size: tuple[int, int]) -> Depth:
    """Metres along the optical axis, float32 [h, w], 0 where unknown, from a depth buffer uint8 [H, W].

    `size` is (w, h); each pixel takes the value under its middle, since a mean over an edge is the depth of nothing.
    """
    table = ((FIRST_UNITS + (np.arange(256) + 0.5) * STEP_UNITS) * METRES_PER_UNIT).astype(np.float32)
    table[list(UNKNOWN)] = 0.0
    (width, height), (rows, columns) = size, buffer.shape
    down = ((np.arange(height) + 0.5) * rows / height).astype(int)
    right = ((np.arange(width) + 0.5) * columns / width).astype(int)
    return np.asarray(table[buffer[np.ix_(down, right)]], np.float32)
