"""Reading levels and finding where one can walk, on a level of four rooms made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from toy_level import DOOR, LINES, PILLAR, ROOMS, START, B, toy_lumps, write_toy

from tscm_core.datasets.world_doors import LINTEL, write_open_level
from tscm_core.datasets.world_geometry import CELL, connected, sector_grid, walkable_space
from tscm_core.datasets.world_levels import level_lumps, level_names, read_level
from tscm_core.errors import DatasetError

M = 1 / 32


@pytest.fixture
def level(tmp_path):
    return read_level(write_toy(tmp_path / "toy.wad"), "MAP01")


@pytest.fixture
def opened(tmp_path):
    write_open_level(write_toy(tmp_path / "toy.wad"), "MAP01", tmp_path / "open.wad")
    return read_level(tmp_path / "open.wad", "MAP01")


def distance_to_segment(point, start, end):
    along = np.clip(np.dot(point - start, end - start) / np.dot(end - start, end - start), 0, 1)
    return np.linalg.norm(point - start - along * (end - start))


def distance_to_square(point, x, y, radius):
    return np.linalg.norm(np.maximum(np.abs(point - (x, y)) - radius, 0))


def part_at(space, parts, x, y):
    """Number of the part that holds a point in map units, or None."""
    row, column = space.index(np.array([[x * M, y * M]]))[0]
    return next((number for number, part in enumerate(parts) if part[row, column]), None)


def test_a_level_is_read_as_it_was_written(level):
    assert level.start == START
    assert level.obstacles.tolist() == [list(PILLAR)]  # not what stands there for several players, nor a pickup
    assert level.lines.reshape(-1, 4).tolist() == [list(line[:4]) for line in LINES]
    assert level.sides.tolist() == [[line[4], -1 if line[5] is None else line[5]] for line in LINES]
    assert level.floor.tolist() == [room[4] for room in ROOMS.values()]


def test_sectors_lie_where_their_rooms_are(level):
    low, shape = (-600.0, -100.0), (300, 500)
    grid = sector_grid(level, low, shape)
    for row, column in np.random.default_rng(0).integers(0, shape, (400, 2)):
        x, y = low[0] + column * CELL, low[1] + row * CELL
        inside = [n for n, (x0, y0, x1, y1, *_) in enumerate(ROOMS.values()) if x0 < x < x1 and y0 < y < y1]
        on_line = any(x in room[:3:2] or y in room[1:4:2] for room in ROOMS.values())
        assert on_line or grid[row, column] == (inside or [-1])[0]


def test_clearance_is_the_distance_to_the_next_obstacle(level):
    space = walkable_space(level)
    blocking = [np.array(line[:4], float).reshape(2, 2) for line in LINES]  # closed, each of them
    for point in np.random.default_rng(1).uniform((10, 10), (502, 502), (200, 2)):
        walls = min(distance_to_segment(point, *ends) for ends in blocking)
        expected = min(walls, distance_to_square(point, *PILLAR)) * M
        assert space.clear(point[None] * M)[0] == pytest.approx(expected, abs=1.6 * CELL * M)
    assert space.clear(np.array([[-20.0, 5.0], [10.0, -20.0], [24.0, 24.0]])).tolist() == [0, 0, 0]
    cells = np.array([[3, 7], [40, 100]])
    assert space.index(space.points(cells)).tolist() == cells.tolist()


def test_doors_ledges_and_slits_part_rooms_and_an_open_door_joins_them(level, opened):
    spots = {"A": (96, 96), "B": (800, 256), "C": (256, 800), "D": (-256, 256)}
    closed, wide = walkable_space(level), walkable_space(opened)
    before = [part_at(closed, connected(closed), *spot) for spot in spots.values()]
    assert sorted(before) == [0, 1, 2, 3]
    after = {name: part_at(wide, connected(wide), *spot) for name, spot in spots.items()}
    assert after["A"] == after["B"] == 0
    assert len({*after.values()}) == 3


@pytest.mark.parametrize(("headroom", "marked"), [(55.0, False), (56.0, True), (56.0, False)])
def test_low_passages_and_marked_lines_close_an_open_door(opened, headroom, marked):
    opened.ceiling[DOOR] = opened.floor[B] + headroom  # the gap between A and B, whose floor is the higher
    opened.impassable[4] = marked
    space = walkable_space(opened)
    parts = connected(space)
    apart = part_at(space, parts, 96, 96) != part_at(space, parts, 800, 256)
    assert apart == (headroom < 56 or marked)


def test_an_open_level_changes_nothing_but_doors_and_troublesome_floors(tmp_path):
    wad = write_toy(tmp_path / "toy.wad")
    write_open_level(wad, "MAP01", tmp_path / "open.wad")
    assert level_names(tmp_path / "open.wad") == ("MAP01",)
    before, after = dict(level_lumps(wad, "MAP01")), dict(level_lumps(tmp_path / "open.wad", "MAP01"))
    assert {name for name in before if before[name] != after[name]} == {"SECTORS"}
    old, new = read_level(wad, "MAP01"), read_level(tmp_path / "open.wad", "MAP01")
    assert np.flatnonzero(old.ceiling != new.ceiling).tolist() == [1]
    assert new.ceiling[1] == 120 - LINTEL


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is not a WAD file"),
        (b"RIFF" + bytes(40), "is not a WAD file"),
        (b"PWAD\x05\0\0\0\x0c\0\0\0", "is cut off"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_wad_file_is_refused(tmp_path, data, sentence):
    wad = tmp_path / "some.wad"
    if data is not None:
        wad.write_bytes(data)
    with pytest.raises(DatasetError, match=sentence):
        level_names(wad)


def test_a_lump_that_lies_outside_the_file_is_refused(tmp_path):
    wad = write_toy(tmp_path / "toy.wad")
    data = bytearray(wad.read_bytes())
    entry = data.rindex(b"LINEDEFS") - 8  # offset and size stand before the name
    for offset in (len(data) - 5, -4):
        data[entry : entry + 4] = offset.to_bytes(4, "little", signed=True)
        wad.write_bytes(data)
        with pytest.raises(DatasetError, match="lump LINEDEFS lies outside the file"):
            write_open_level(wad, "MAP01", tmp_path / "open.wad")


def test_a_missing_or_damaged_level_is_refused(tmp_path):
    wad = write_toy(tmp_path / "toy.wad")
    assert level_names(wad) == ("E1M1", "MAP01")
    with pytest.raises(DatasetError, match=r"no level MAP09; it has E1M1, MAP01"):
        read_level(wad, "MAP09")
    for lump, data in toy_lumps().items():
        for left in (b"", data[: 0 if lump in ("THINGS", "LINEDEFS") else len(data) // 2]):
            with pytest.raises(DatasetError, match="damaged"):
                read_level(write_toy(wad, **{lump: left}), "MAP01")
    with pytest.raises(DatasetError, match="damaged"):
        read_level(wad, "E1M1")
