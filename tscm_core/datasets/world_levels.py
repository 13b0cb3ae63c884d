"""Levels of a Doom WAD file: the lumps that say where walls, floors and obstacles are.

Format: the Unofficial Doom Specs, chapters 2 (directory) and 4 (maps), https://www.gamers.org/dhs/helpdocs/dmsp1666.html.
Everything here is in map units (1/32 m), as stored.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tscm_core.errors import DatasetError

LEVEL_NAME = re.compile(r"E\dM\d|MAP\d\d")
LEVEL_LUMPS = ("THINGS", "LINEDEFS", "SIDEDEFS", "VERTEXES", "SEGS", "SSECTORS", "NODES", "SECTORS")
THING = np.dtype([("x", "<i2"), ("y", "<i2"), ("angle", "<i2"), ("kind", "<i2"), ("flags", "<i2")])
LINE = np.dtype([(name, "<u2") for name in ("start", "end", "flags", "special", "tag", "right", "left")])
SIDE = np.dtype([("offset", "<i2", 2), ("textures", "S8", 3), ("sector", "<u2")])
VERTEX = np.dtype([("x", "<i2"), ("y", "<i2")])
SECTOR = np.dtype(
    [("floor", "<i2"), ("ceiling", "<i2"), ("flats", "S8", 2), ("light", "<i2"), ("special", "<i2"), ("tag", "<i2")]
)
RECORDS = {"THINGS": THING, "LINEDEFS": LINE, "SIDEDEFS": SIDE, "VERTEXES": VERTEX, "SECTORS": SECTOR}
NONE = 0xFFFF  # a line without a left side
ONE_PLAYER_LEAVES_OUT = 16  # flag of a thing that only stands there with several players
PLAYER_START = 1
RADIUS = {
    **dict.fromkeys((25, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 37, 41, 42, 43, 44, 45, 46, 47, 48), 16),
    **dict.fromkeys((49, 50, 51, 52, 53, 55, 56, 57, 70, 73, 74, 75, 76, 77, 78, 85, 86, 2028), 16),
    54: 32,
    2035: 10,
}
"""Map units from the middle of each kind of solid decoration to its side."""


@dataclass(frozen=True)
class Level:
    """One level. `sides` int64 [L, 2]: the sector right and left of each line, -1 where there is none."""

    name: str
    lines: NDArray[np.float64]  # [L, 2, 2]: start and end, each x, y
    sides: NDArray[np.int64]
    impassable: NDArray[np.bool_]  # [L]
    floor: NDArray[np.float64]  # [S]
    ceiling: NDArray[np.float64]  # [S]
    obstacles: NDArray[np.float64]  # [O, 3]: x, y, radius
    start: tuple[float, float]


def level_names(wad: Path) -> tuple[str, ...]:
    """The levels of a WAD file, in its order.

    Raises:
        DatasetError: the file cannot be read or is no WAD file.
    """
    return tuple(name for name, _, _ in _directory(wad, _read(wad)) if LEVEL_NAME.fullmatch(name))


def read_level(wad: Path, name: str) -> Level:
    """One level of a WAD file.

    Raises:
        DatasetError: the file cannot be read, lacks the level, or its lumps contradict each other.
    """
    tables = {lump: np.frombuffer(data, RECORDS[lump]) for lump, data in level_lumps(wad, name) if lump in RECORDS}
    try:
        return _level(name, tables)
    except (KeyError, IndexError) as error:
        raise DatasetError(f"level {name} in {wad} is damaged: its lumps do not fit together ({error})") from error


def level_lumps(wad: Path, name: str) -> list[tuple[str, bytes]]:
    """Names and bytes of the lumps of one level; those made of records are cut to whole records.

    Raises:
        DatasetError: the file cannot be read, lacks the level, or a lump lies outside the file.
    """
    data = _read(wad)
    directory = _directory(wad, data)
    starts = [at for at, (lump, _, _) in enumerate(directory) if lump == name]
    if not starts:
        raise DatasetError(f"{wad.name} has no level {name}; it has {', '.join(level_names(wad))}")
    lumps = []
    for lump, offset, size in directory[starts[-1] + 1 : starts[-1] + 11]:
        if LEVEL_NAME.fullmatch(lump):
            break
        if offset < 0 or size < 0 or offset + size > len(data):
            raise DatasetError(f"level {name} in {wad} is damaged: lump {lump} lies outside the file")
        whole = size - size % RECORDS[lump].itemsize if lump in RECORDS else size
        lumps.append((lump, data[offset : offset + whole]))
    return lumps


def _read(wad: Path) -> bytes:
    try:
        data = wad.read_bytes()
    except OSError as error:
        raise DatasetError(f"level file {wad} cannot be read: {error.strerror or error}") from error
    if data[:4] not in (b"IWAD", b"PWAD") or len(data) < 12:
        raise DatasetError(f"{wad} is not a WAD file")
    return data


def _directory(wad: Path, data: bytes) -> list[tuple[str, int, int]]:
    """Name, offset and size of every lump."""
    count, at = struct.unpack_from("<ii", data, 4)
    if count < 0 or at < 0 or at + 16 * count > len(data):
        raise DatasetError(f"{wad} is cut off: its directory lies outside the file")
    entries = (struct.unpack_from("<ii8s", data, at + 16 * index) for index in range(count))
    return [(name.split(b"\0")[0].decode("ascii", "replace"), offset, size) for offset, size, name in entries]


def _level(name: str, tables: dict[str, NDArray[np.void]]) -> Level:
    lines, sides, sectors = tables["LINEDEFS"], tables["SIDEDEFS"], tables["SECTORS"]
    corners = np.stack([tables["VERTEXES"]["x"], tables["VERTEXES"]["y"]], axis=1).astype(np.float64)
    here = tables["THINGS"][(tables["THINGS"]["flags"] & ONE_PLAYER_LEAVES_OUT) == 0]
    starts = here[here["kind"] == PLAYER_START]
    if not len(starts) or not len(lines) or sides["sector"].max(initial=0) >= len(sectors):
        raise IndexError("no player start, no lines, or a side of a missing sector")
    return Level(
        name=name,
        lines=np.stack([corners[lines["start"]], corners[lines["end"]]], axis=1),
        sides=np.stack([_sector(sides["sector"], lines["right"]), _sector(sides["sector"], lines["left"])], axis=1),
        impassable=(lines["flags"] & 1).astype(bool),
        floor=sectors["floor"].astype(np.float64),
        ceiling=sectors["ceiling"].astype(np.float64),
        obstacles=_obstacles(here),
        start=(float(starts["x"][0]), float(starts["y"][0])),
    )


def _sector(sector_of_side: NDArray[np.uint16], side: NDArray[np.uint16]) -> NDArray[np.int64]:
    there = side != NONE
    return np.where(there, sector_of_side[np.where(there, side, 0)].astype(np.int64), -1)


def _obstacles(things: NDArray[np.void]) -> NDArray[np.float64]:
    solid = [(thing["x"], thing["y"], RADIUS[int(thing["kind"])]) for thing in things if int(thing["kind"]) in RADIUS]
    return np.array(solid, np.float64).reshape(-1, 3)
