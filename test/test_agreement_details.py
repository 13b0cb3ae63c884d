"""Which loops are asked, what each allows, and that all of it arrives where frames are judged."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from test_agreement import BESIDE, FIRST, RULE, Drive, candidate, view
from test_evidence import AGAINST, LOW, ON, evidence
from test_evidence import candidate as found_at
from toys import keyframe, unit

from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import orientation_from, pose_from_yaw
from tscm_core.recognition.records import Pose
from tscm_core.recognition.stopwatch import Stopwatch


def test_thirty_keyframes_are_asked():
    drive = Drive(aside=(60.0, 0.0), rule=RULE.replace({"odometry.min_loops": 30}))
    drive.drives(0, 30)
    assert drive.sees(30.0, BESIDE + 30)


def test_places_whose_poses_are_in_another_frame_are_another_drive(monkeypatch):
    drive = Drive(aside=(60.0, 0.0))
    drive.drives(0, 10)
    place = drive.place

    def in_the_map(number):
        return replace(place(number), pose=replace(place(number).pose, frame_id="map"))

    monkeypatch.setattr(drive.agreement, "_place_of", in_the_map)
    assert not drive.sees(10.0, BESIDE + 10)


def test_every_place_of_a_keyframe_is_judged_and_asked_later():
    drive = Drive(aside=(60.0, 0.0))
    drive.drives(0, 5)
    assert list(drive.sees(5.0, 5, BESIDE + 5)) == [BESIDE + 5]
    drive = Drive(aside=(60.0, 0.0))
    for here in range(5):
        drive.sees(float(here), here, BESIDE + here)
    assert not drive.sees(5.0, BESIDE + 5), "five contradict it, and five agree"
    drive.sees(6.0, 6)
    drive.sees(7.0, 7)
    refused = drive.sees(8.0, BESIDE + 8)[BESIDE + 8]
    assert ": since" in refused
    assert "7 contradict" in refused
    assert "6 agree" in refused


def test_what_contradicts_does_not_count_as_what_agrees():
    drive = Drive(aside=(60.0, 0.0), rule=FIRST)
    for here in range(3):
        drive.sees(float(here), here, evidence=2.0)
        drive.sees(float(here), BESIDE + here, evidence=2.0)
    assert drive.sees(3.0, 3, evidence=0.5)


def test_loops_that_say_little_contradict_nothing():
    """A wall that looks alike is seen for long, and refused; that must not speak against the place itself."""
    drive = Drive(aside=(60.0, 0.0), rule=FIRST)
    assert all(drive.sees(float(here), BESIDE + here, evidence=0.9, inliers=22) for here in range(15))
    assert not [here for here in range(15, 30) if drive.sees(float(here), here, evidence=5.0, inliers=99)]


def test_each_of_two_loops_may_be_as_far_off_as_it_was_seen():
    for first, then in ((0.5, None), (None, 0.5)):
        drive = Drive(aside=(8.0, 0.0))
        for here in range(5):
            drive.sees(float(here), here, metres=first)
        refused = drive.sees(5.0, BESIDE + 5, metres=then)
        assert "allow 6.7 m of difference" in refused[BESIDE + 5]  # 1.5 and 5 m, and a tenth of a metre twice


def test_another_reach_holds_for_the_loops_before_too():
    drive = Drive(aside=(25.0, 0.0))
    drive.drives(0, 10)
    assert drive.sees(10.0, BESIDE + 10)
    drive.rule = RULE.replace({"odometry.reach_m": 15.0})
    assert not drive.sees(11.0, BESIDE + 11)


def test_both_ways_count_and_backwards_too():
    drive = Drive()
    for here in range(100, 105):
        drive.sees(float(here), here, way=0.0)  # today's odometry counts no way
    assert "allow 14.4 m of difference" in drive.sees(100.0, 60, way=0.0)[60]  # from 104 back to 60 are 44 m


def test_how_turned_the_loops_before_were_seen_counts():
    drive = Drive(turned_deg=100.0)
    for here in range(5):
        drive.sees(float(here), here, turn_deg=60.0)
    assert not drive.sees(5.0, BESIDE + 5, turn_deg=0.0)
    drive = Drive(turned_deg=100.0)
    drive.drives(0, 5)
    assert drive.sees(5.0, BESIDE + 5, turn_deg=40.0), "twice 40 would explain it"


def test_headings_drift_with_the_way():
    """A tenth of a degree for each metre of the two ways of 200 m since."""
    for turned, refused in ((80.0, False), (90.0, True)):
        drive = Drive(turned_deg=turned)
        drive.drives(0, 5)
        found = drive.sees(202.0, BESIDE + 202)
        assert bool(found) is refused
        if refused:
            assert "odometry.max_turn_deg and odometry.max_drift allow 85" in found[BESIDE + 202]


def test_images_say_how_far_and_how_turned_between_days_too(monkeypatch):
    places = {n: Place(n, "b", 0, pose_from_yaw(float(n), 0.0, 3.0 if n == 6 else 0.0), float(n)) for n in range(1, 7)}
    judge = evidence(dict.fromkeys(places, 120), places)
    verify = judge.matcher.verify

    def without_a_turn(query, match, rule):
        seen = verify(query, match, rule)
        seen.turn_deg = 0.0
        return seen

    monkeypatch.setattr(judge.matcher, "verify", without_a_turn)
    for n in range(1, 7):
        now = keyframe(9, unit(0), "a", pose=pose_from_yaw(float(n), 0.0, 0.0), travelled_m=float(n))
        (seen,) = judge.judge(now, judge.shelf.of(n), (found_at(n, 1),), ON, Stopwatch())
        assert seen.failed == ((AGAINST,) if n == 6 else ())
    assert "turned otherwise" in judge.reason(seen, ON)


def test_what_odometry_excludes_keeps_the_status_of_the_test_before():
    places = {1: Place(1, "a", 0, pose_from_yaw(90.0, 0.0, 0.0), 0.0)}
    judge = evidence({1: 120}, places)
    now = keyframe(9, unit(0), "a", pose=pose_from_yaw(0.0, 0.0, 0.0), travelled_m=10.0)
    (seen,) = judge.judge(now, judge.shelf.of(1), (found_at(1, 1, LOW),), ON, Stopwatch())
    assert (seen.failed, seen.status) == ((LOW, AGAINST), LOW)


def matrix(orientation):
    x, y, z, w = orientation
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_an_orientation_from_another_undoes_that_and_does_the_second(seed):
    turns = np.random.default_rng(seed).normal(size=(2, 4))
    a, b = (Pose((0.0, 0.0, 0.0), tuple((turn / np.linalg.norm(turn)).tolist())) for turn in turns)
    np.testing.assert_allclose(
        matrix(orientation_from(a, b)), matrix(a.orientation).T @ matrix(b.orientation), atol=1e-9
    )


def test_features_of_images_are_not_held_on_to():
    """Of many drives, thirty loops each are kept: none may keep the images' features alive."""
    drive = Drive()
    views = {0: view(0.0, 1.0)}
    gone = weakref.ref(views[0])
    now = keyframe(1, unit(0), "today", pose=pose_from_yaw(0.0, 0.0, 0.0))
    assert not drive.agreement.contradictions(now, [candidate(0)], views, RULE, own_drives=True)
    views.clear()
    gc.collect()
    assert gone() is None
