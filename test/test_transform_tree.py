"""Chains of frames, held against 4 x 4 matrices multiplied one after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bag_messages import SECOND, tf_message

from tscm_core.datasets.transform_tree import TransformTree, compose, multiply, rotate
from tscm_core.recognition.poses import yaw_rad
from tscm_core.recognition.records import Pose

NONE = (0.0, 0.0, 0.0, 1.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)  # of a camera's optical frame in the body that looks along x


def matrix(position, turn):
    """4 x 4, from the formula of a rotation by a quaternion."""
    x, y, z, w = turn
    made = np.eye(4)
    made[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    made[:3, 3] = position
    return made


def yaw(degrees):
    half = math.radians(degrees) / 2
    return (0.0, 0.0, math.sin(half), math.cos(half))


def random_turn(rng):
    turn = rng.normal(size=4)
    return tuple(float(value) for value in turn / np.linalg.norm(turn))


def test_quaternions_turn_as_matrices_do():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b, point = random_turn(rng), random_turn(rng), tuple(rng.normal(size=3))
        expected = matrix((0, 0, 0), a) @ matrix((0, 0, 0), b)
        assert np.allclose(matrix((0, 0, 0), multiply(a, b)), expected)
        assert rotate(a, point) == pytest.approx(tuple(matrix((0, 0, 0), a)[:3, :3] @ point))
        both = compose(Pose((1.0, 2.0, 3.0), a, "map"), Pose(point, b, "base"))
        assert np.allclose(matrix(both.position, both.orientation), matrix((1, 2, 3), a) @ matrix(point, b))
        assert both.frame_id == "map"


def tree(moving=(), static=()):
    made = TransformTree()
    for link in moving:
        made.add(tf_message(link), static=False)
    if static:
        made.add(tf_message(*static), static=True)
    return made


MOVING = [
    (stamp * SECOND, parent, child, place, turn)
    for parent, child, steps in (
        ("map", "odom", [(0, (5, 0, 0), yaw(90)), (2, (5, 0, 0), yaw(90))]),
        ("odom", "base_link", [(0, (0, 0, 0), yaw(0)), (2, (4, 0, 0), yaw(60))]),
    )
    for stamp, place, turn in steps
]
MOUNT = (0, "base_link", "camera_link", (0.2, 0.0, 0.5), yaw(10))


def test_a_chain_is_the_product_of_its_links_at_the_stamp():
    made = tree(MOVING, [MOUNT])
    chain = made.chain(["camera_link"])
    assert (chain.leaf, chain.root) == ("camera_link", "map")
    got = chain.at(SECOND, 2 * SECOND)
    expected = matrix((5, 0, 0), yaw(90)) @ matrix((2, 0, 0), yaw(30)) @ matrix((0.2, 0, 0.5), yaw(10))
    assert np.allclose(matrix(got.position, got.orientation), expected)
    assert (got.frame_id, math.degrees(yaw_rad(got))) == ("map", pytest.approx(130.0))


def test_an_optical_frame_looks_where_its_z_axis_points():
    """Positions are the camera's; the heading is that of the body that carries it."""
    optical = (0, "camera_link", "camera_optical", (0.0, 0.0, 0.0), OPTICAL)
    made = tree(MOVING, [MOUNT, optical])
    for stamp in (0, SECOND, 2 * SECOND):
        body, camera = (made.chain([leaf]).at(stamp, 2 * SECOND) for leaf in ("camera_link", "camera_optical"))
        assert camera.position == pytest.approx(body.position)
        assert yaw_rad(camera) == pytest.approx(yaw_rad(body))
        forward = matrix((0, 0, 0), camera.orientation)[:3, 0]
        assert np.allclose(forward, matrix((0, 0, 0), body.orientation)[:3, 0])


def test_the_best_fixed_frame_above_and_the_first_leaf_in_the_tree_are_taken():
    assert tree(MOVING).chain(["camera", "base_link"]).leaf == "base_link"
    assert tree(MOVING, [MOUNT]).chain(["camera_link", "base_link"]).leaf == "camera_link"
    assert tree(MOVING).chain(["base_link"]).root == "map"
    assert tree(MOVING[2:]).chain(["base_link"]).root == "odom"
    assert tree(MOVING).chain(["base_link"], ["odom"]).root == "odom"
    assert tree(MOVING).chain(["base_link"], ["earth"]) is None
    assert tree([], [MOUNT]).chain(["camera_link"]) is None
    assert tree().chain(["camera_link"]) is None


def test_a_slash_before_a_name_is_none():
    made = tree([(0, "/odom", "/base_link", (1, 2, 3), NONE)])
    assert made.chain(["/base_link"]).at(0, 0) == Pose((1.0, 2.0, 3.0), NONE, "odom")


def test_a_link_that_says_nothing_near_the_stamp_gives_no_pose():
    chain = tree([*MOVING[:2], (0, "odom", "base_link", (0, 0, 0), NONE)]).chain(["base_link"])
    assert chain.at(SECOND // 2, SECOND) is not None
    assert chain.at(2 * SECOND, SECOND) is None


def test_numbers_that_are_not_finite_are_left_out():
    made = tree([*MOVING[2:], (SECOND, "odom", "base_link", (math.nan, 0, 0), NONE)])
    assert made.chain(["base_link"]).at(SECOND, SECOND).position == pytest.approx((2.0, 0.0, 0.0))


def test_of_two_parents_the_one_named_more_often_counts_and_circles_end():
    twice = [(n, "odom", "base_link", (1, 0, 0), NONE) for n in range(3)] + [(0, "map", "base_link", (9, 9, 9), NONE)]
    assert tree(twice).chain(["base_link"]).root == "odom"
    circle = [(0, "a", "b", (1, 0, 0), NONE), (0, "b", "a", (1, 0, 0), NONE), (0, "a", "a", (1, 0, 0), NONE)]
    assert tree(circle).chain(["a", "b"]) is None
