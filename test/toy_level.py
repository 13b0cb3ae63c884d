"""A level of four rooms, made by hand.

Room A holds the start and a pillar, a closed door leads east to room B, a ledge of 64 units north to room C, and
a slit of 48 units headroom west to room D.
"""

from __future__ import annotations

import numpy as np

from tscm_core.datasets.world_doors import pack_wad
from tscm_core.datasets.world_levels import LINE, NONE, SECTOR, SIDE, THING, VERTEX

ROOMS = {  # x0, y0, x1, y1, floor, ceiling
    "A": (0, 0, 512, 512, 0, 128),
    "door": (512, 192, 528, 320, 0, 0),
    "B": (528, 0, 1040, 512, 16, 120),
    "C": (0, 512, 512, 1024, 64, 192),
    "D": (-512, 0, 0, 512, 80, 200),
}
PILLAR = (256, 256, 16)
START = (96, 96)
A, DOOR, B, C, D = range(5)
# x0, y0, x1, y1, sector to the right, sector to the left (None is void), flags, special
LINES = (
    (512, 0, 0, 0, A, None, 1, 0),
    (0, 0, 0, 512, A, D, 4, 0),
    (0, 512, 512, 512, A, C, 4, 0),
    (512, 512, 512, 320, A, None, 1, 0),
    (512, 320, 512, 192, A, DOOR, 4, 1),
    (512, 192, 512, 0, A, None, 1, 0),
    (512, 320, 528, 320, DOOR, None, 1, 0),
    (528, 192, 512, 192, DOOR, None, 1, 0),
    (528, 192, 528, 320, B, DOOR, 4, 1),
    (528, 320, 528, 512, B, None, 1, 0),
    (528, 0, 528, 192, B, None, 1, 0),
    (528, 512, 1040, 512, B, None, 1, 0),
    (1040, 512, 1040, 0, B, None, 1, 0),
    (1040, 0, 528, 0, B, None, 1, 0),
    (0, 512, 0, 1024, C, None, 1, 0),
    (0, 1024, 512, 1024, C, None, 1, 0),
    (512, 1024, 512, 512, C, None, 1, 0),
    (0, 0, -512, 0, D, None, 1, 0),
    (-512, 0, -512, 512, D, None, 1, 0),
    (-512, 512, 0, 512, D, None, 1, 0),
)


def toy_lumps():
    corners = sorted({corner for line in LINES for corner in (line[:2], line[2:4])})
    sides, lines = [], []
    for x0, y0, x1, y1, right, left, flags, special in LINES:
        numbers = []
        for sector in (right, left):
            numbers.append(NONE if sector is None else len(sides))
            sides += [] if sector is None else [((0, 0), (b"-", b"-", b"WALL"), sector)]
        lines.append((corners.index((x0, y0)), corners.index((x1, y1)), flags, special, 0, *numbers))
    sectors = [(floor, ceiling, (b"F", b"F"), 160, 9, 0) for *_, floor, ceiling in ROOMS.values()]
    things = [(*START, 0, 1, 7), (*PILLAR[:2], 0, 48, 7), (400, 400, 0, 2035, 7 | 16), (400, 100, 0, 2012, 7)]
    return {
        "THINGS": np.array(things, THING).tobytes(),
        "LINEDEFS": np.array(lines, LINE).tobytes(),
        "SIDEDEFS": np.array(sides, SIDE).tobytes(),
        "VERTEXES": np.array(corners, VERTEX).tobytes(),
        "SECTORS": np.array(sectors, SECTOR).tobytes(),
    }


def write_toy(path, **changed):
    """Write the level as MAP01, behind another, with some lumps changed; gives the path back."""
    lumps = {**toy_lumps(), **changed}
    path.write_bytes(pack_wad([("E1M1", b""), ("THINGS", b""), ("MAP01", b""), *lumps.items()]))
    return path
