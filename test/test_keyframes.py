"""The keyframe gate: each rule alone, each rule off, and what happens without odometry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from toys import SECOND, blank, direction, keyframe, picture, unit

from tscm_core.config import KeyframeConfig
from tscm_core.recognition.keyframes import KeyframeGate, comparable
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Frame, Pose

OFF = KeyframeConfig(min_distance_m=0.0, min_angle_deg=0.0, min_interval_s=0.0, min_novelty=0.0, min_texture=0.0)
HERE = pose_from_yaw(1.0, 2.0, 0.5)


def gate(pose=HERE, second=10.0, **rules):
    made = KeyframeGate(replace(OFF, **rules))
    made.last = keyframe(1, unit(0), second=second, pose=pose)
    return made


def frame(second=11.0, pose=HERE):
    return Frame(round(second * SECOND), picture(0), pose)


def moved(metres=0.0, degrees=0.0, frame_id="odom"):
    return pose_from_yaw(1.0 + metres, 2.0, 0.5 + math.radians(degrees), frame_id)


def test_with_all_rules_off_every_frame_passes():
    asked = gate()
    assert asked.refuse_motion(frame(10.0)) is None
    assert asked.refuse_texture(blank()) is None
    assert asked.refuse_novelty(frame(pose=None), unit(0)) is None


def test_the_first_frame_of_a_session_is_only_asked_for_texture():
    asked = KeyframeGate(replace(OFF, min_distance_m=5.0, min_interval_s=9.0, min_novelty=1.0, min_texture=0.02))
    assert asked.refuse_motion(frame()) is None
    assert asked.refuse_novelty(frame(), unit(0)) is None
    assert asked.refuse_texture(blank()) is not None


@pytest.mark.parametrize(("elapsed", "passes"), [(0.0, False), (0.19, False), (0.2, True), (0.3, True), (99.0, True)])
def test_interval(elapsed, passes):
    reason = gate(min_interval_s=0.2).refuse_motion(frame(10.0 + elapsed))
    assert (reason is None) is passes
    assert passes or reason == f"{elapsed:.2f} s after the last keyframe (keyframes.min_interval_s 0.2)"


@pytest.mark.parametrize(("metres", "passes"), [(0.0, False), (0.49, False), (-0.49, False), (0.5, True), (-7.0, True)])
def test_distance_alone(metres, passes):
    reason = gate(min_distance_m=0.5).refuse_motion(frame(pose=moved(metres, degrees=90)))
    assert (reason is None) is passes
    assert passes or f"moved {abs(metres):.2f} m and turned 90 deg" in reason


@pytest.mark.parametrize(("degrees", "passes"), [(0, False), (14.9, False), (-14.9, False), (15.1, True), (-90, True)])
def test_angle_alone(degrees, passes):
    reason = gate(min_angle_deg=15.0).refuse_motion(frame(pose=moved(9.0, degrees)))
    assert (reason is None) is passes
    assert passes or f"turned {abs(degrees):.0f} deg" in reason


def test_distance_or_angle_is_enough():
    both = gate(min_distance_m=0.5, min_angle_deg=15.0)
    assert both.refuse_motion(frame(pose=moved(0.6, 0))) is None
    assert both.refuse_motion(frame(pose=moved(0.0, 20))) is None
    reason = both.refuse_motion(frame(pose=moved(0.4, 10)))
    assert reason == (
        "moved 0.40 m and turned 10 deg since the last keyframe "
        "(keyframes.min_distance_m 0.5, keyframes.min_angle_deg 15)"
    )


def test_motion_is_not_asked_without_odometry_or_in_another_frame():
    for last, pose in ((None, HERE), (HERE, None), (None, None), (HERE, moved(frame_id="map"))):
        asked = gate(last, min_distance_m=0.5, min_angle_deg=15.0, min_interval_s=0.2)
        assert asked.refuse_motion(frame(pose=pose)) is None
        assert asked.refuse_motion(frame(10.1, pose)) is not None  # the clock still is


@pytest.mark.parametrize("pose", [Pose((math.nan, 0.0, 0.0)), Pose((0.0, 0.0, 0.0), (math.nan,) * 4)])
def test_numbers_that_are_none_are_no_motion(pose):
    last = Pose((0.0, 0.0, 0.0))
    assert gate(last, min_distance_m=0.5, min_angle_deg=15.0).refuse_motion(frame(pose=pose)) is not None


@pytest.mark.parametrize(("change", "passes"), [(0, False), (20, False), (21, True), (90, True)])
def test_novelty_alone(change, passes):
    """A change of 20 turns the descriptor to similarity 1 / √1.04 = 0.9806, novelty 0.0194."""
    asked = gate(None, min_novelty=0.02)
    reason = asked.refuse_novelty(frame(pose=None), direction(0, change))
    assert (reason is None) is passes
    novelty = 1 - 1 / math.sqrt(1 + (change / 100) ** 2)
    assert passes or f"changed by {novelty:.3f} since" in reason


def test_novelty_is_not_asked_where_odometry_answers():
    rules = {"min_novelty": 0.5}
    assert gate(**rules).refuse_novelty(frame(), unit(0)) is None
    for last, pose in ((None, HERE), (HERE, None), (HERE, moved(frame_id="map"))):
        assert gate(last, **rules).refuse_novelty(frame(pose=pose), unit(0)) is not None


def test_texture_alone():
    asked = gate(min_texture=0.02)
    assert asked.refuse_texture(picture(0)) is None
    reason = asked.refuse_texture(np.full((24, 32, 3), 90, np.uint8))
    assert reason == "only 0.0% of the image shows structure (keyframes.min_texture 0.02)"
    assert gate(min_texture=1.0).refuse_texture(picture(0)) is not None


def test_comparable_poses_are_known_and_in_one_frame():
    assert comparable(HERE, moved(3.0))
    assert not comparable(HERE, moved(frame_id="map"))
    assert not comparable(HERE, None)
    assert not comparable(None, HERE)
    assert not comparable(None, None)
