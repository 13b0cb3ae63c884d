"""Poses and intrinsics of messages: what is made of their numbers, and which of them are none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bag_messages import covariance_message, info_message, odometry_message, stamped_message

from tscm_core.datasets.pose_messages import (
    intrinsics_from_message,
    intrinsics_problem,
    pose_from_odometry,
    pose_from_stamped,
)
from tscm_core.recognition.records import Intrinsics, Pose


def test_quaternions_are_made_unit_length():
    assert pose_from_odometry(odometry_message((1, 2, 3), (0, 0, 0.6 * 5, 0.8 * 5))) == Pose(
        (1.0, 2.0, 3.0), (0.0, 0.0, pytest.approx(0.6), pytest.approx(0.8)), "odom"
    )
    assert pose_from_odometry(odometry_message((1, 2, 3), (0, 0, 0, 0))) == Pose((1.0, 2.0, 3.0))


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_poses_with_a_number_that_is_not_finite_are_none(place, value):
    numbers = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0]
    numbers[place] = value
    assert pose_from_odometry(odometry_message(numbers[:3], numbers[3:])) is None


@pytest.mark.parametrize("message", [stamped_message, covariance_message])
def test_poses_with_and_without_covariance_are_the_same_pose(message):
    half = math.sqrt(0.5)
    assert pose_from_stamped(message((1, 2, 3), (0, 0, 3, 3), frame_id="utm")) == Pose(
        (1.0, 2.0, 3.0), (0.0, 0.0, pytest.approx(half), pytest.approx(half)), "utm"
    )
    assert pose_from_stamped(message((1, math.nan, 3), (0, 0, 0, 1))) is None


# ---------------------------------------------------------------------------------------------- intrinsics


def test_intrinsics_are_those_of_the_camera_matrix():
    message = info_message(k=(500.0, 1.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0))
    assert intrinsics_from_message(message) == Intrinsics(640, 480, 500.0, 510.0, 320.0, 240.0)
    assert intrinsics_problem(message) == ""


@pytest.mark.parametrize(
    ("model", "d", "expected"),
    [
        ("plumb_bob", (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("plumb_bob", (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4, 0.0)),
        ("rational_polynomial", (1, 2, 3, 4, 5, 6, 7, 8), (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)),
        ("equidistant", (0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_distortion_is_kept(model, d, expected):
    camera = intrinsics_from_message(info_message(d=d, model=model))
    assert (camera.distortion_model, camera.distortion) == (model, expected)


@pytest.mark.parametrize(("model", "d"), [("plumb_bob", (0.0,) * 5), ("", ()), ("inverse_brown_conrady", (0.0,) * 5)])
def test_a_lens_that_bends_nothing_is_a_pinhole(model, d):
    camera = intrinsics_from_message(info_message(d=d, model=model))
    assert (camera.distortion_model, camera.distortion) == ("", ())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"model": "inverse_brown_conrady", "d": (0.1,) * 5},
            'model "inverse_brown_conrady" with 5 coefficients is unkn',
        ),
        ({"model": "plumb_bob", "d": (0.1,) * 8}, "with 8 coefficients is unknown: known are plumb_bob (5)"),
        ({"d": (0.1, math.nan, 0.0, 0.0, 0.0)}, "is unknown"),
        ({"k": (0.0,) * 9}, "never calibrated"),
        ({"k": (500.0, 0, math.inf, 0, 500.0, 1.0, 0, 0, 1)}, "never calibrated"),
        ({"size": (0, 480)}, "image size is 0 x 480"),
    ],
)
def test_what_gives_no_intrinsics_says_why(changes, problem):
    assert intrinsics_from_message(info_message(**changes)) is None
    assert problem in intrinsics_problem(info_message(**changes))


def test_joined_pixels_and_a_part_of_the_sensor_are_those_of_the_images_sent():
    """A point of the scene falls where the sensor's own pixel coordinates, cut and joined, say."""
    message = info_message(size=(1280, 960), binning=(2, 4), roi=(100, 40, 800, 600))
    camera = intrinsics_from_message(message)
    assert (camera.width, camera.height) == (400, 150)
    k = message.k.reshape(3, 3)
    for point in np.random.default_rng(0).normal((0, 0, 5), size=(20, 3)):
        u, v = (k @ point)[:2] / point[2]
        assert camera.fx * point[0] / point[2] + camera.cx == pytest.approx((u - 100) / 2)
        assert camera.fy * point[1] / point[2] + camera.cy == pytest.approx((v - 40) / 4)
    assert intrinsics_from_message(info_message(binning=(1, 1))) == intrinsics_from_message(info_message())
