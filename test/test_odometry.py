"""Odometry excludes what no drift explains, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from toys import keyframe, unit

from tscm_core.config import OdometryConfig
from tscm_core.recognition.odometry import contradiction
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Pose, RelativePose
from tscm_core.recognition.two_view import TwoView

RULE = OdometryConfig(max_drift=0.1, reach_m=5.0, max_turn_deg=45.0)
WAY_M = 60.0


def here(x=0.0, yaw_deg=0.0, session="drive", frame_id="odom"):
    return keyframe(9, unit(0), session, pose=pose_from_yaw(x, 0.0, np.radians(yaw_deg), frame_id), travelled_m=WAY_M)


PLACE = Place(4, "drive", 1, pose_from_yaw(0.0, 0.0, 0.0), 0.0)


def view(turn_deg=0.0, metres=None, axis=(0.0, 1.0, 0.0)):
    metric = None if metres is None else RelativePose((metres, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), True, (0.0,) * 36)
    turn = cv2.Rodrigues(np.radians(turn_deg) * np.array(axis))[0]
    return TwoView(np.zeros((0, 2), np.int64), np.zeros(0, np.bool_), metric, turn=turn)


@pytest.mark.parametrize(("apart", "excluded"), [(0.0, False), (10.9, False), (11.1, True), (60.0, True)])
def test_a_place_is_as_far_as_one_sees_and_as_odometry_drifts(apart, excluded):
    """5 m, and a tenth of 60 m."""
    found = contradiction(here(apart), PLACE, None, RULE)
    assert bool(found) == excluded
    if excluded:
        assert f"odometry puts keyframe 4 {apart:.1f} m away after 60 m of driving" in found


@pytest.mark.parametrize(("apart", "metres", "excluded"), [(6.9, 0.0, False), (7.1, 0.0, True), (9.9, 3.0, False)])
def test_where_the_images_show_the_distance_nothing_else_is_allowed_for(apart, metres, excluded):
    """1 m, a tenth of 60 m, and what the images show."""
    found = contradiction(here(apart), PLACE, view(metres=metres), RULE)
    assert bool(found) == excluded
    assert ("m that the images show" in found) == excluded


@pytest.mark.parametrize("axis", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.0, 0.8)])
@pytest.mark.parametrize(("driven", "seen", "excluded"), [(0, 0, False), (40, 0, False), (50, 0, True), (180, 10, True),
                                                          (180, 170, False), (90, 60, False)])  # fmt: skip
def test_turns_are_compared_however_the_camera_is_mounted(driven, seen, excluded, axis):
    found = contradiction(here(yaw_deg=driven), PLACE, view(seen, axis=axis), RULE)
    assert bool(found) == excluded
    if excluded:
        assert f"turned by {seen} deg against each other, but the robot by {driven} deg" in found


def test_what_is_not_known_excludes_nothing():
    far = here(1000.0, 180.0)
    assert contradiction(far, PLACE, None, RULE)
    assert not contradiction(here(1000.0, 180.0, "other drive"), PLACE, view(), RULE)
    assert not contradiction(here(1000.0, 180.0, frame_id="map"), PLACE, view(), RULE)
    assert not contradiction(replace(far, pose=None), PLACE, view(), RULE)
    assert not contradiction(far, replace(PLACE, pose=None), view(), RULE)
    blind = TwoView(np.zeros((0, 2), np.int64), np.zeros(0, np.bool_))  # no intrinsics: no turn is known
    assert not contradiction(here(yaw_deg=180.0), PLACE, blind, RULE)


def test_each_half_can_be_switched_off():
    assert not contradiction(here(1000.0), PLACE, view(), replace(RULE, reach_m=0.0))
    assert not contradiction(here(yaw_deg=180.0), PLACE, view(), replace(RULE, max_turn_deg=0.0))
    lifted = replace(here(), pose=Pose((0.0, 0.0, 1000.0)))
    assert "1000.0 m away" in contradiction(lifted, PLACE, view(), RULE)
