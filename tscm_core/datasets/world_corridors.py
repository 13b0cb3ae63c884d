"""A level of our own: parallel corridors that look alike, joined at both ends, for loops that must not be closed.

Every corridor has the same walls with the same pillars. Its own are only a niche, a panel and a spot of other light,
each at another place. A plan on a grid becomes the lumps of a Doom level; walls and floors come from freedoom2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.world_doors import pack_wad
from tscm_core.datasets.world_levels import LINE, NONE, PLAYER_START, SECTOR, SIDE, THING, VERTEX

GAME, LEVEL = "freedoom2", "MAP01"
CELL = 64  # map units, 2 m
WIDTH, LENGTH, PITCH, HALL = 2, 16, 4, 2  # cells: of a corridor, from one to the next, depth of the halls at the ends
BORDER = 2
PILLAR_EVERY = 4
WALL, PILLAR, END = "BROWN96", "SUPPORT2", "STARTAN3"
PANELS = ("COMPTALL", "GRAY5", "METAL1", "BIGDOOR2")
FLOOR, CEILING = b"FLOOR4_8", b"CEIL3_5"
LIGHT = 176
VOID = -1
# Of each corridor: row and side (-1 left, 1 right) of its niche, row and side of its panel, row and light of its spot.
OWN = (
    (2, -1, 10, 1, 6, 128),
    (5, 1, 13, -1, 9, 224),
    (9, -1, 3, -1, 13, 144),
    (13, 1, 6, 1, 2, 208),
    (6, 1, 1, -1, 11, 112),
    (11, -1, 5, 1, 14, 240),
    (3, 1, 14, 1, 8, 128),
    (14, -1, 9, -1, 4, 208),
)
Grid = NDArray[np.int64]


def write_corridors(target: Path) -> None:
    """Write the level, as `LEVEL` for the game `GAME`, to the WAD file `target`. Raises OSError when it cannot."""
    plan = corridor_plan()
    lines, sides, corners = _lines(plan)
    start = (int((BORDER + 0.5 * WIDTH) * CELL), int((BORDER + 0.5 * HALL) * CELL), 90, PLAYER_START, 7)
    lumps = {
        "THINGS": np.array([start], THING),
        "LINEDEFS": np.array(lines, LINE),
        "SIDEDEFS": np.array(sides, SIDE),
        "VERTEXES": np.array(corners, VERTEX),
        "SECTORS": np.array(_sectors(), SECTOR),
    }
    target.write_bytes(pack_wad([(LEVEL, b""), *((name, table.tobytes()) for name, table in lumps.items())]))


def corridor_plan() -> Grid:
    """The sector of each cell, int64 [rows, columns]: 0 the halls, 3n + 1 corridor n, then its niche and its spot."""
    depth = 2 * (BORDER + HALL) + LENGTH
    plan = np.full((depth, 2 * BORDER + PITCH * (len(OWN) - 1) + WIDTH), VOID)
    plan[BORDER : BORDER + HALL, BORDER:-BORDER] = 0
    plan[-BORDER - HALL : -BORDER, BORDER:-BORDER] = 0
    for number, (niche, side, _, _, spot, _) in enumerate(OWN):
        left, first = BORDER + PITCH * number, BORDER + HALL
        plan[first : first + LENGTH, left : left + WIDTH] = 3 * number + 1
        plan[first + niche, left - 1 if side < 0 else left + WIDTH] = 3 * number + 2
        plan[first + spot, left : left + WIDTH] = 3 * number + 3
    return plan


def _sectors() -> list[tuple[object, ...]]:
    heights_and_lights = [(128, LIGHT)]
    for *_, light in OWN:
        heights_and_lights += [(128, LIGHT), (96, LIGHT), (128, light)]
    return [(0, ceiling, (FLOOR, CEILING), light, 0, 0) for ceiling, light in heights_and_lights]


def _lines(plan: Grid) -> tuple[list[tuple[int, ...]], list[tuple[object, ...]], list[tuple[int, int]]]:
    """One line for each edge between two cells of different sectors, the corridor on its right."""
    lines: list[tuple[int, ...]] = []
    sides: list[tuple[object, ...]] = []
    corners: dict[tuple[int, int], int] = {}
    for row, column, across in np.ndindex(*plan.shape, 2):
        # The edge on the west of a cell, going north, and the one on its south, going west: the cell on the right.
        here, there = int(plan[row, column]), int(plan[row - 1, column] if across else plan[row, column - 1])
        start, end = ((column + 1, row), (column, row)) if across else ((column, row), (column, row + 1))
        if here == there:
            continue
        if here == VOID:
            here, there, start, end = there, here, end, start
        numbers = [corners.setdefault((x * CELL, y * CELL), len(corners)) for x, y in (start, end)]
        along = CELL * (end[0] - start[0] + end[1] - start[1]) * (start[0] + start[1])  # textures run on
        texture = _texture(row, here, bool(across), start[1] > end[1]).encode("ascii")
        solid = there == VOID
        middle = texture if solid else b"-"
        wall = WALL.encode("ascii")
        lines.append((*numbers, 1 if solid else 4, 0, 0, len(sides), NONE if solid else len(sides) + 1))
        sides += [((along % 256, 0), (wall, wall, middle), sector) for sector in (here, there) if sector != VOID]
    return lines, sides, list(corners)


def _texture(row: int, sector: int, across: bool, on_right: bool) -> str:
    """What the wall beside a cell of the plan shows; `on_right` is the wall on the east of its corridor."""
    if across or sector == 0:
        return END if sector == 0 else WALL
    number, at = (sector - 1) // 3, row - BORDER - HALL
    _, _, panel, side, _, _ = OWN[number]
    if at == panel and (side > 0) == on_right:
        return PANELS[number % len(PANELS)]
    return PILLAR if at % PILLAR_EVERY == 0 else WALL
