"""The level of corridors that look alike: all joined, each with things of its own, and never out of the building."""

from __future__ import annotations

import numpy as np

from tscm_core.datasets.world_corridors import (
    BORDER,
    CELL,
    HALL,
    LENGTH,
    LEVEL,
    OWN,
    PANELS,
    PITCH,
    WIDTH,
    write_corridors,
)
from tscm_core.datasets.world_geometry import connected, walkable_space
from tscm_core.datasets.world_levels import LINE, SIDE, level_lumps, read_level
from tscm_core.datasets.world_routes import plan_walk

M = 1 / 32


def middle(number):
    """x of the middle of a corridor in m."""
    return (BORDER + PITCH * number + WIDTH / 2) * CELL * M


def walls_of(wad, number):
    """Texture of each piece of wall on the sides of a corridor (none where a niche opens), by x and row in cells."""
    lumps = dict(level_lumps(wad, LEVEL))
    lines, sides = np.frombuffer(lumps["LINEDEFS"], LINE), np.frombuffer(lumps["SIDEDEFS"], SIDE)
    ends = read_level(wad, LEVEL).lines / CELL
    left = BORDER + PITCH * number
    return {
        (int(x0) - left, int(min(y0, y1)) - BORDER - HALL): sides[line["right"]]["textures"][2]
        for ((x0, y0), (x1, y1)), line in zip(ends, lines, strict=True)
        if x0 == x1 and left <= x0 <= left + WIDTH and 0 <= min(y0, y1) - BORDER - HALL < LENGTH
    }


def test_every_corridor_hangs_together_with_the_others_and_nothing_leads_out(tmp_path):
    write_corridors(tmp_path / "own.wad")
    level = read_level(tmp_path / "own.wad", LEVEL)
    space = walkable_space(level)
    part = connected(space)[0]
    ahead = (BORDER + HALL + np.array([0.5, LENGTH / 2, LENGTH - 0.5])) * CELL * M
    for number in range(len(OWN)):
        rows, columns = space.index(np.array([(middle(number), y) for y in ahead])).T
        assert part[rows, columns].all()
    reached = space.points(np.argwhere(part))
    low, high = level.lines.min(axis=(0, 1)) * M, level.lines.max(axis=(0, 1)) * M
    assert (reached > low).all()
    assert (reached < high).all()
    assert len(OWN) >= 8


def test_corridors_look_alike_but_for_their_niche_and_panel(tmp_path):
    write_corridors(tmp_path / "own.wad")
    walls = [walls_of(tmp_path / "own.wad", number) for number in range(len(OWN))]
    for first in range(len(OWN)):
        for second in range(first):
            a, b = walls[first], walls[second]
            differ = {spot for spot in a.keys() | b.keys() if a.get(spot) != b.get(spot)}
            assert 2 <= len(differ) <= 4  # of 32 pieces: two niches and two panels
    for (_, _, panel, side, _, _), wall in zip(OWN, walls, strict=True):
        assert [spot for spot, texture in wall.items() if texture.decode() in PANELS] == [(max(side, 0) * WIDTH, panel)]
    # Each has its own place for niche, panel and light, and no two share a niche or a panel.
    for own in (lambda one: one[:2], lambda one: one[2:4], lambda one: one[4:]):
        assert len({own(one) for one in OWN}) == len(OWN)
    level = read_level(tmp_path / "own.wad", LEVEL)
    assert sorted(set(level.ceiling)) == [96, 128]


def test_a_walk_of_500_m_goes_through_every_corridor(tmp_path):
    write_corridors(tmp_path / "own.wad")
    level = read_level(tmp_path / "own.wad", LEVEL)
    walk = plan_walk(walkable_space(level), (level.start[0] * M, level.start[1] * M), 520.0, 0)
    assert walk.along[-1] > 500
    half = (BORDER + HALL + LENGTH / 2) * CELL * M
    near = walk.points[np.abs(walk.points[:, 1] - half) < 1.0]
    assert {int(np.argmin(np.abs(x - np.array([middle(n) for n in range(len(OWN))])))) for x in near[:, 0]} == set(
        range(len(OWN))
    )
