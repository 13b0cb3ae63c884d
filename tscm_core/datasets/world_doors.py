"""Open every door of a level, so that one walk can see most of it: a small WAD file with the same walls.

Floors that hurt, doors that shut by themselves and secrets (announced across the picture) become ordinary there.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.world_levels import LINE, NONE, SECTOR, SIDE, level_lumps

# Line specials that open a door: those in the line itself raise the sector behind it, the others all of their tag.
DOOR_HERE = (1, 26, 27, 28, 31, 32, 33, 34, 117, 118)
DOOR_BY_TAG = (2, 4, 29, 46, 61, 63, 86, 90, 99, 103, 105, 106, 108, 109, 111, 112, 114, 115, 133, 134, 135, 136, 137)
TROUBLE = (4, 5, 7, 9, 10, 11, 14, 16)  # specials of sectors
LINTEL = 4  # map units that an open door hangs below the lowest ceiling beside it


def write_open_level(wad: Path, name: str, target: Path) -> None:
    """Write a level of `wad` with its doors open to the WAD file `target`.

    Raises:
        DatasetError: the file cannot be read or lacks the level.
    """
    lumps = dict(level_lumps(wad, name))
    if {"LINEDEFS", "SIDEDEFS", "SECTORS"} <= lumps.keys():
        lumps["SECTORS"] = _open(lumps["LINEDEFS"], lumps["SIDEDEFS"], lumps["SECTORS"])
    target.write_bytes(pack_wad([(name, b""), *lumps.items()]))


def pack_wad(lumps: list[tuple[str, bytes]]) -> bytes:
    """The bytes of a WAD file that patches a game, made of named lumps."""
    body, directory = b"", b""
    for lump, data in lumps:
        directory += struct.pack("<ii8s", 12 + len(body), len(data), lump.encode("ascii"))
        body += data
    return struct.pack("<4sii", b"PWAD", len(lumps), 12 + len(body)) + body + directory


def _open(line_lump: bytes, side_lump: bytes, sector_lump: bytes) -> bytes:
    lines, sides = np.frombuffer(line_lump, LINE), np.frombuffer(side_lump, SIDE)
    sectors = np.frombuffer(sector_lump, SECTOR).copy()
    two = lines[(lines["left"] != NONE) & (lines["right"] != NONE)]
    right, left = sides["sector"][two["right"]], sides["sector"][two["left"]]
    for door in sorted(_doors(lines, two, left, sectors)):
        beside = [int(ceiling) for ceiling in sectors["ceiling"][np.r_[left[right == door], right[left == door]]]]
        higher = [ceiling for ceiling in beside if ceiling > sectors["ceiling"][door]]
        if higher:
            sectors["ceiling"][door] = min(higher) - LINTEL
    sectors["special"][np.isin(sectors["special"], TROUBLE)] = 0
    return bytes(sectors.tobytes())


def _doors(
    lines: NDArray[np.void], two: NDArray[np.void], left: NDArray[np.uint16], sectors: NDArray[np.void]
) -> set[int]:
    """Sectors that are doors, and closed ones only."""
    tags = lines["tag"][np.isin(lines["special"], DOOR_BY_TAG) & (lines["tag"] != 0)]
    tagged = np.flatnonzero(np.isin(sectors["tag"], tags))
    here = left[np.isin(two["special"], DOOR_HERE)]
    closed = sectors["ceiling"] <= sectors["floor"]
    return {int(sector) for sector in np.r_[tagged, here] if closed[sector]}
