"""Interpolated poses against rotations worked out with complex numbers and matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.recognition.poses import PoseTrack, angle_rad, distance_m, interpolate, pose_from_yaw, yaw_rad
from tscm_core.recognition.records import Pose

SECOND = 1_000_000_000
ANGLES = st.floats(-math.pi, math.pi)


def about(axis, angle):
    """Unit quaternion (x, y, z, w) of a rotation about an axis."""
    direction = np.asarray(axis, float) / np.linalg.norm(axis)
    return (*(math.sin(angle / 2) * direction), math.cos(angle / 2))


def matrix(quaternion):
    x, y, z, w = quaternion
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def turned(quaternion):
    return Pose((0.0, 0.0, 0.0), tuple(map(float, quaternion)))


@settings(deadline=None)
@given(yaw=ANGLES)
def test_yaw_goes_in_and_comes_out(yaw):
    assert math.cos(yaw_rad(pose_from_yaw(1.0, 2.0, yaw)) - yaw) == pytest.approx(1.0)
    assert matrix(pose_from_yaw(0.0, 0.0, yaw).orientation)[:, 0] == pytest.approx([math.cos(yaw), math.sin(yaw), 0.0])


@pytest.mark.parametrize("yaw", [90, -90, 30, 170, -170])
def test_yaw_of_a_tilted_pose_is_where_its_x_axis_points(yaw):
    rotation = matrix(about((0, 0, 1), math.radians(yaw))) @ matrix(about((0, 1, 0), 0.3)) @ matrix(about((1, 0, 0), 1))
    half = math.sqrt(1 + np.trace(rotation)) / 2
    axis = [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    pose = turned((*(np.array(axis) / (4 * half)), half))
    assert math.degrees(yaw_rad(pose)) == pytest.approx(yaw)


@settings(deadline=None)
@given(angle=st.floats(0, math.pi), start=ANGLES, sign=st.sampled_from([1, -1]))
def test_angle_is_that_of_the_rotation_between(angle, start, sign):
    a = np.array(about((0.2, -0.5, 1.0), start))
    b = sign * np.array(about((0.2, -0.5, 1.0), start + angle))
    assert angle_rad(turned(a), turned(b)) == pytest.approx(angle, abs=1e-6)
    assert angle_rad(turned(b), turned(a)) == pytest.approx(angle, abs=1e-6)


def test_distance_is_euclidean():
    assert distance_m(Pose((1.0, 2.0, 3.0)), Pose((3.0, 5.0, 9.0))) == 7.0


@settings(max_examples=200, deadline=None)
@given(first=ANGLES, turn=st.floats(-3.1, 3.1), share=st.floats(0, 1), sign=st.sampled_from([1, -1]))
def test_slerp_turns_evenly_along_the_shorter_arc(first, turn, share, sign):
    axis = (1.0, 2.0, -0.5)
    a, b = about(axis, first), tuple(sign * value for value in about(axis, first + turn))
    between = interpolate(turned(a), turned(b), share)
    assert np.linalg.norm(between.orientation) == pytest.approx(1.0)
    assert matrix(between.orientation) == pytest.approx(matrix(about(axis, first + share * turn)), abs=1e-4)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 1.0, 3.62, 3.63, 90.0, 179.9])
def test_slerp_is_exact_on_both_sides_of_its_small_angle_branch(degrees):
    a, b = about((0, 0, 1), 0.3), about((0, 0, 1), 0.3 + math.radians(degrees))
    between = interpolate(turned(a), turned(b), 0.25)
    assert yaw_rad(between) == pytest.approx(0.3 + math.radians(degrees) / 4, abs=1e-6)
    assert interpolate(turned(a), turned(b), 0.0).orientation == pytest.approx(a)
    assert interpolate(turned(a), turned(b), 1.0).orientation == pytest.approx(b)


def test_positions_go_straight_and_the_frame_stays():
    a, b = Pose((0.0, 10.0, -2.0), frame_id="map"), Pose((4.0, 0.0, 2.0), frame_id="map")
    assert interpolate(a, b, 0.25) == Pose((1.0, 7.5, -1.0), frame_id="map")


# ---------------------------------------------------------------------------------------------- the track


def track(*seconds, **options):
    made = PoseTrack(**options)
    for second in seconds:
        made.add(round(second * SECOND), pose_from_yaw(10.0 * second, 0.0, 0.1 * second))
    return made


def x_at(poses, second, gap=0.5):
    pose = poses.at(round(second * SECOND), round(gap * SECOND))
    return pose and pytest.approx(pose.position[0])


def test_between_two_poses_it_interpolates():
    poses = track(1.0, 1.4, 2.0)
    assert [x_at(poses, second) for second in (1.0, 1.1, 1.4, 1.7, 2.0)] == [10, 11, 14, 17, 20]
    assert yaw_rad(poses.at(round(1.7 * SECOND), SECOND)) == pytest.approx(0.17)


def test_at_either_end_it_gives_the_nearest_within_the_gap():
    poses = track(1.0, 2.0)
    assert x_at(poses, 0.6) == 10
    assert x_at(poses, 2.5) == 20
    assert x_at(poses, 0.4) is None
    assert x_at(poses, 2.51) is None
    assert poses.at(round(2.5 * SECOND) + 1, SECOND // 2) is None
    assert x_at(PoseTrack(), 1.0) is None


def test_in_a_hole_only_poses_within_the_gap_are_used():
    poses = track(1.0, 3.0)
    assert x_at(poses, 1.4) == 10  # not on the way to a pose that is too far off
    assert x_at(poses, 2.6) == 30
    assert x_at(poses, 2.0) is None
    assert x_at(poses, 2.0, gap=1.0) == 20
    assert x_at(poses, 1.0, gap=0.0) == 10


def test_a_clock_that_began_again_forgets_the_past():
    poses = track(100.0, 101.0, 5.0, 6.0)
    assert poses.newest_ns == 6 * SECOND
    assert x_at(poses, 100.5) is None
    assert x_at(poses, 5.5) == 55
    assert x_at(track(10.0, 12.0, 10.5), 10.75) == 105  # also if it went back by less than the track is long
    assert x_at(track(10.0, 11.0, 10.999, 12.0), 10.5) == 105  # but a message that is a little late spoils nothing
    poses.clear()
    assert poses.newest_ns is None


def test_the_same_stamp_twice_keeps_the_first():
    poses = PoseTrack()
    for x in (1.0, 2.0):
        poses.add(SECOND, pose_from_yaw(x, 0.0, 0.0))
    assert x_at(poses, 1.0) == 1.0


def test_capacity_bounds_memory_and_the_newest_stay():
    poses = track(*range(1, 1000), capacity=10)
    assert [x_at(poses, second, gap=0.1) for second in range(990, 1000)] == [10 * second for second in range(990, 1000)]
    assert x_at(poses, 970, gap=0.1) is None
    assert len(poses._stamps) == len(poses._poses) < 20
