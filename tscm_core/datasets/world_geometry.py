"""Where a player can stand and walk in a level: a grid of how far each spot is from the next wall or ledge."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.drive_routes import METRES_PER_UNIT
from tscm_core.datasets.world_levels import Level
from tscm_core.errors import DatasetError

CELL = 4.0  # map units
MOST_STEP = 24.0  # map units: the highest step that a player climbs
LEAST_HEADROOM = 56.0
BODY_M = 0.75  # half the diagonal of a player's square body of 32 units, and a little
MOST_CELLS = 40_000_000
MOST_PARTS = 5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """`clearance` float32 [rows, columns]: m to the next obstacle, 0 in it.

    The cell in row r and column c is centred on `origin + cell * (c, r)`, all in m.
    """

    clearance: NDArray[np.float32]
    origin: tuple[float, float]
    cell: float

    def index(self, points: Array) -> NDArray[np.int64]:
        """Row and column [N, 2] of the cell at each point (x, y in m) [N, 2]; the nearest one for points outside."""
        cells = np.rint((points - np.array(self.origin)) / self.cell).astype(np.int64)[:, ::-1]
        return np.asarray(np.clip(cells, 0, np.array(self.clearance.shape) - 1), np.int64)

    def points(self, cells: NDArray[np.int64]) -> Array:
        """Middle (x, y in m) [N, 2] of cells given by row and column [N, 2]."""
        return np.asarray(np.array(self.origin) + self.cell * cells[:, ::-1], np.float64)

    def clear(self, points: Array) -> NDArray[np.float32]:
        """Clearance in m [N] at points (x, y in m) [N, 2]."""
        rows, columns = self.index(points).T
        return np.asarray(self.clearance[rows, columns], np.float32)


def walkable_space(level: Level) -> Space:
    """The clearance everywhere in a level as it stands when it begins: doors closed, lifts where they are.

    Raises:
        DatasetError: the level is too large to be laid out on a grid.
    """
    low = np.floor(level.lines.min(axis=(0, 1)) / CELL) * CELL - 2 * CELL
    columns, rows = (np.ceil((level.lines.max(axis=(0, 1)) - low) / CELL).astype(int) + 3).tolist()
    if rows * columns > MOST_CELLS:
        raise DatasetError(f"level {level.name} is too large: {rows} x {columns} cells of {CELL:.0f} units")
    sector = sector_grid(level, (float(low[0]), float(low[1])), (rows, columns))
    headroom = np.append(level.ceiling - level.floor, 0.0)  # the last for sector -1
    free = (headroom >= LEAST_HEADROOM)[sector].astype(np.uint8)
    for start, end in np.rint((level.lines[_blocking(level)] - low) / CELL).astype(int).tolist():
        cv2.line(free, start, end, 0)
    for x, y, radius in level.obstacles.tolist():  # the game takes them for squares
        first, last = ((round((x + r - low[0]) / CELL), round((y + r - low[1]) / CELL)) for r in (-radius, radius))
        cv2.rectangle(free, first, last, 0, cv2.FILLED)
    distance = cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float32(CELL * METRES_PER_UNIT)
    origin = low * METRES_PER_UNIT
    return Space(np.asarray(distance, np.float32), (float(origin[0]), float(origin[1])), CELL * METRES_PER_UNIT)


def sector_grid(level: Level, low: tuple[float, float], shape: tuple[int, int]) -> NDArray[np.int64]:
    """The sector [rows, columns] at each cell, -1 in the void: along each row, what the line before has on its east."""
    rows, columns = shape
    grid = np.full(shape, -1, np.int64)
    (x0, y0), (x1, y1) = level.lines[:, 0].T, level.lines[:, 1].T
    east = np.where(y1 > y0, level.sides[:, 0], level.sides[:, 1])  # the right side of a line that goes up
    below, above = np.minimum(y0, y1), np.maximum(y0, y1)
    for row in range(rows):
        y = low[1] + (row + 0.01) * CELL  # never exactly through a corner: those are whole numbers
        hit = np.flatnonzero((below < y) & (y < above))
        x = x0[hit] + (y - y0[hit]) / (y1[hit] - y0[hit]) * (x1[hit] - x0[hit])
        order = np.argsort(x, kind="stable")
        first = np.clip(np.ceil((x[order] - low[0]) / CELL).astype(int), 0, columns)
        for begin, end, inside in zip(first, np.append(first, columns)[1:], east[hit[order]], strict=True):
            grid[row, begin:end] = inside
    return grid


def _blocking(level: Level) -> NDArray[np.bool_]:
    """Lines [L] that a player cannot cross, or not in both directions."""
    right, left = level.sides.T
    step = np.abs(level.floor[right] - level.floor[left])
    gap = np.minimum(level.ceiling[right], level.ceiling[left]) - np.maximum(level.floor[right], level.floor[left])
    closed = (right < 0) | (left < 0) | level.impassable | (step > MOST_STEP) | (gap < LEAST_HEADROOM)
    return np.asarray(closed, np.bool_)


def connected(space: Space, least_m: float = BODY_M) -> list[NDArray[np.bool_]]:
    """The largest parts of a space that hang together, each a mask [rows, columns], the largest first."""
    room = (space.clearance >= least_m).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(room, connectivity=4)
    labels = np.asarray(labels)
    largest = sorted(range(1, count), key=lambda label: -int(stats[label, cv2.CC_STAT_AREA]))
    return [labels == label for label in largest[:MOST_PARTS]]
