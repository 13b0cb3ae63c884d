"""Random walks: as long as asked for, clear of walls, smooth, repeatable; and the laps beside them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tscm_core.datasets.world_geometry import BODY_M, Space
from tscm_core.datasets.world_routes import lap_poses, plan_walk
from tscm_core.errors import DatasetError

CELL_M = 0.125


@pytest.fixture(scope="module")
def space():
    """A hall of 30 x 20 m with two pillars and a dead wall, and a separate hall of 20 x 20 m."""
    free = np.zeros((20 * 8, 60 * 8), np.uint8)
    free[1:-1, 1 : 30 * 8] = 1
    free[1:-1, 40 * 8 : -1] = 1
    free[60:90, 60:80] = free[90:120, 150:170] = free[1:100, 110:112] = 0
    return Space(
        cv2.distanceTransform(free, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) * np.float32(CELL_M), (-7.0, 3.0), CELL_M
    )


@pytest.fixture(scope="module")
def walk(space):
    return plan_walk(space, (-4.0, 6.0), 150.0, seed=3)


def test_a_walk_is_as_long_as_asked_and_clear_of_walls(space, walk):
    assert walk.along[-1] == pytest.approx(150.0, abs=0.2)
    assert space.clear(walk.points).min() >= BODY_M
    assert walk.points[:, 0].max() < 23.1  # the other hall cannot be reached
    assert np.median(space.clear(walk.points)) > 1.3


def test_a_walk_is_smooth_and_looks_where_it_goes(walk):
    steps = np.diff(walk.points, axis=0)
    assert np.hypot(*steps.T).max() < 0.2
    going = np.arctan2(steps[:, 1], steps[:, 0])
    off = np.abs(np.angle(np.exp(1j * (walk.heading[:-1] - going))))
    assert np.median(np.degrees(off)) < 5
    assert np.degrees(np.abs(np.diff(walk.heading))).max() < 25


def test_a_walk_sees_most_of_the_space(space, walk):
    free = np.argwhere(space.clearance[:, :240] > 1.0)[::97]
    nearest = [np.hypot(*(walk.points - point).T).min() for point in space.points(free)]
    assert np.mean(np.array(nearest) < 4.0) > 0.9


def test_a_seed_gives_one_walk_and_another_seed_another(space, walk):
    again = plan_walk(space, (-4.0, 6.0), 150.0, seed=3)
    assert np.array_equal(again.points, walk.points)
    other = plan_walk(space, (-4.0, 6.0), 150.0, seed=4)
    assert not np.array_equal(other.points[:50], walk.points[:50])


def test_a_start_in_the_wall_or_nowhere_means_the_largest_part(space):
    for start in (None, (-100.0, -100.0)):
        assert plan_walk(space, start, 20.0, seed=0).points[:, 0].max() < 23.1


def test_the_first_lap_keeps_to_the_line_at_even_spacing(walk, space):
    poses = lap_poses(walk, space, 0.8, 0.0, 0.0, seed=0)
    steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    assert 150 / 0.8 <= len(poses) < 1.3 * 150 / 0.8
    assert steps.max() < 0.95
    assert np.median(steps) == pytest.approx(0.8, abs=0.1)
    assert np.degrees(np.abs(np.diff(poses[:, 2]))).max() < 45


def test_another_lap_sways_and_turns_within_its_limits(walk, space):
    poses = lap_poses(walk, space, 0.8, 0.4, 12.0, seed=5)
    assert np.array_equal(poses, lap_poses(walk, space, 0.8, 0.4, 12.0, seed=5))
    apart = np.linalg.norm(poses[:, None, :2] - walk.points[None], axis=2)
    assert 0.3 < apart.min(axis=1).max() <= 0.41
    assert space.clear(poses[:, :2]).min() >= BODY_M - CELL_M
    first = lap_poses(walk, space, 0.8, 0.0, 0.0, seed=0)
    assert abs(len(first) - len(poses)) <= 1
    on_line = lap_poses(walk, space, 0.8, 1e-9, 12.0, seed=5)
    at = np.linalg.norm(on_line[:, None, :2] - walk.points[None], axis=2).argmin(axis=1)
    turned = np.degrees(np.abs(np.angle(np.exp(1j * (on_line[:, 2] - walk.heading[at])))))
    assert 8 < np.quantile(turned, 0.9) <= 12.1


def test_no_room_is_said_in_a_sentence(space):
    with pytest.raises(DatasetError, match="too narrow"):
        plan_walk(Space(np.full((50, 50), 0.3, np.float32), (0.0, 0.0), CELL_M), None, 20.0, seed=0)
    with pytest.raises(DatasetError, match="too close together"):
        plan_walk(Space(np.full((12, 12), 2.0, np.float32), (0.0, 0.0), CELL_M), None, 20.0, seed=0)
