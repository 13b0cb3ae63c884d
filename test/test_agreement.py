"""Loops between two drives: one that contradicts those before is refused, and what really changed is understood."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from toys import keyframe, unit

from tscm_core.config import Config
from tscm_core.recognition.agreement import Agreement
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Pose, RelativePose, Status
from tscm_core.recognition.two_view import TwoView

RULE = Config().replace({
    "odometry.max_drift": 0.1, "odometry.reach_m": 5.0, "odometry.max_turn_deg": 45.0, "odometry.min_loops": 5,
    "odometry.min_first_evidence": 0.0, "temporal.certain_inliers": 100,
})  # fmt: skip
FIRST = RULE.replace({"odometry.min_first_evidence": 1.0})
BESIDE = 10_000
"""Ids of places that are elsewhere: keyframe 10,000 + n lies as far aside of n, or as turned, as a test says."""


def at(frame, x, y=0.0, yaw_deg=0.0):
    """A pose by the odometry ``frame``: that of today begins 500 m away, turned by 130 degrees."""
    if frame == "today":
        c, s = np.cos(np.radians(130.0)), np.sin(np.radians(130.0))
        return pose_from_yaw(500.0 + c * x - s * y, s * x + c * y, np.radians(yaw_deg + 130.0), "odom")
    return pose_from_yaw(x, y, np.radians(yaw_deg), frame)


class Drive:
    """A robot drives along a line of places that it saw on another day, a metre apart."""

    def __init__(self, aside=(0.0, 0.0), turned_deg=0.0, rule=RULE, session="yesterday", own_drives=True):
        self.rule, self.own_drives, self.session = rule, own_drives, session
        self.aside, self.turned_deg = aside, turned_deg
        self.agreement = Agreement(self.place)
        self.today = "today"

    def place(self, number):
        x, (along, across) = number % BESIDE, self.aside if number >= BESIDE else (0.0, 0.0)
        pose = at("odom", x + along, across, self.turned_deg if number >= BESIDE else 0.0)
        return Place(number, self.session, number, pose, float(x))

    def sees(self, here, *numbers, turn_deg=0.0, metres=None, way=None, status=Status.ACCEPTED, pose=True, **found):
        """What is said against the places, seen from ``here`` metres along."""
        now = keyframe(20_000 + int(here), unit(0), "today", pose=at(self.today, here) if pose else None,
                       travelled_m=here if way is None else way)  # fmt: skip
        given = [replace(candidate(number, self.session, **found), status=status) for number in numbers]
        views = {number: view(turn_deg, metres) for number in numbers}
        return self.agreement.contradictions(now, given, views, self.rule, own_drives=self.own_drives)

    def drives(self, start, stop, offset=0):
        """The places that were refused on the way."""
        return [here for here in range(start, stop) if self.sees(float(here), here + offset)]


def candidate(number, session="yesterday", **found):
    return Candidate(number, session, number, None, 0.9, 0.5, 1, Status.ACCEPTED, **found)


def view(turn_deg, metres=None):
    metric = None if metres is None else RelativePose((metres, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0), True, (0.0,) * 36)
    turn = None if turn_deg is None else cv2.Rodrigues(np.radians(turn_deg) * np.array((0.0, 1.0, 0.0)))[0]
    return TwoView(np.zeros((0, 2), np.int64), np.zeros(0, np.bool_), metric, turn=turn)


@pytest.mark.parametrize("own_drives", [True, False])
def test_loops_that_agree_are_left_alone_wherever_the_odometries_begin(own_drives):
    assert Drive(own_drives=own_drives).drives(0, 100) == []


@pytest.mark.parametrize(("along", "refused"), [(10.9, False), (11.3, True), (60.0, True)])
def test_a_place_elsewhere_is_refused(along, refused):
    """All five must: twice 5 m, and a tenth of the two ways of 5 m since the oldest, are 11 m."""
    drive = Drive(aside=(along, 0.0))
    drive.drives(0, 5)
    found = drive.sees(5.0, BESIDE + 5)
    assert list(found) == ([BESIDE + 5] if refused else [])
    if refused:
        assert found[BESIDE + 5].startswith(
            "of the last keyframes with loops into session yesterday, 5 contradict keyframe 10005 "
            "(odometry.min_loops 5) and 0 agree: since it was at keyframe 4 the robot has come 1.0 m by "
            f"odometry, but the two places are {1.0 + along:.1f} m apart, and odometry.reach_m and odometry.max_drift "
            "allow 10.2 m of difference"
        )
    assert not drive.sees(6.0, 6), "one loop elsewhere does not speak against the others"


def test_where_the_images_show_the_distance_less_is_allowed():
    drive = Drive(aside=(5.0, 0.0))
    for here in range(5):
        assert not drive.sees(float(here), here, metres=0.5)
    assert not drive.sees(5.0, BESIDE + 5)
    near = drive.sees(5.0, BESIDE + 5, metres=0.5)
    assert "allow 3.2 m of difference" in near[BESIDE + 5]  # 1.5 m twice, and a tenth of a metre twice
    assert not drive.sees(5.0, BESIDE + 5, metres=3.0)


@pytest.mark.parametrize(
    ("turned", "seen", "refused"),
    [(40, 0, False), (60, 0, True), (60, 20, False), (180, 100, True), (-170, 0, True), (180, 140, False)],
)
def test_the_other_side_of_the_wall_is_refused(turned, seen, refused):
    """What the images show of a turn is allowed for, and 45 degrees."""
    drive = Drive(turned_deg=turned)
    drive.drives(0, 5)
    found = drive.sees(5.0, BESIDE + 5, turn_deg=seen)
    assert bool(found) is refused
    if refused:
        assert f"turned otherwise than from that place to this one, by {abs(turned)} deg" in found[BESIDE + 5]
        assert f"of which the images explain {seen}, and odometry.max_turn_deg" in found[BESIDE + 5]


def test_right_and_left_are_told_apart():
    """Both robots turned by 90 degrees since, but to other sides."""
    drive = Drive(turned_deg=90.0)
    drive.drives(0, 5)
    now = keyframe(30_000, unit(0), "today", pose=at("today", 5.0, 0.0, -90.0), travelled_m=5.0)
    other = replace(now, pose=at("today", 5.0, 0.0, 90.0))
    given = [candidate(BESIDE + 5)]
    views = {BESIDE + 5: view(0.0)}
    assert "by 180 deg" in drive.agreement.contradictions(now, given, views, RULE, own_drives=True)[BESIDE + 5]
    assert not drive.agreement.contradictions(other, given, views, RULE, own_drives=True)


def test_four_are_too_few_and_the_rule_says_how_many():
    for least, loops, refused in ((5, 4, False), (5, 5, True), (2, 1, False), (2, 2, True), (0, 30, False)):
        drive = Drive(aside=(60.0, 0.0), rule=RULE.replace({"odometry.min_loops": least}))
        drive.drives(0, loops)
        assert bool(drive.sees(float(loops), BESIDE + loops)) is refused


def test_several_places_of_one_keyframe_count_once():
    drive = Drive(aside=(60.0, 0.0))
    for here in range(4):
        drive.sees(float(here), here, here + 1, here + 2)
    assert not drive.sees(4.0, BESIDE + 4)
    drive.sees(4.0, 4)
    assert drive.sees(5.0, BESIDE + 5)


def test_a_drive_entered_at_a_wrong_place_is_left_again_after_as_many_keyframes():
    drive = Drive(aside=(60.0, 0.0))
    assert drive.drives(0, 8, BESIDE) == []
    assert drive.drives(8, 40) == list(range(8, 16)), "8 contradict the first right one, and 8 agree with the ninth"


def test_a_jump_of_the_odometry_is_understood_after_fifteen_keyframes_however_long_the_drive_was():
    drive = Drive()
    drive.drives(0, 200)
    drive.today = "odom"  # it begins again elsewhere, in a frame of the same name
    refused = [here for here in range(200, 300) if drive.sees(float(here), here + 300)]
    assert refused == list(range(200, 215))


def test_drift_is_allowed_for():
    """Odometry of today goes 9 per cent too far; 250 m later all it says still agrees."""
    drive = Drive()
    assert not [here for here in range(250) if drive.sees(1.09 * here, here)]
    slow = Drive(rule=RULE.replace({"odometry.max_drift": 0.0}))
    assert not [here for here in range(50) if slow.sees(1.09 * here, here)]
    assert slow.sees(300.0, 200), "50 agree to 5 m, and this is 100 m off"


@pytest.mark.parametrize("status", [Status.LOW_SIMILARITY, Status.NO_GEOMETRY, Status.NOT_CONSISTENT])
def test_what_failed_another_test_says_nothing_and_nothing_is_said_of_it(status):
    drive = Drive(aside=(60.0, 0.0))
    for here in range(20):
        assert not drive.sees(float(here), BESIDE + here, status=status)
    assert drive.drives(20, 30) == []
    assert not drive.sees(30.0, BESIDE + 30, status=status)
    assert drive.sees(31.0, BESIDE + 31)


def test_what_is_not_known_contradicts_nothing():
    drive = Drive(aside=(60.0, 0.0), turned_deg=180.0)
    drive.drives(0, 10)
    assert not drive.sees(10.0, BESIDE + 10, pose=False)
    drive.today = "map"  # poses of another frame are not compared
    assert not drive.sees(10.0, BESIDE + 10)
    drive.today = "today"
    near = RULE.replace({"odometry.reach_m": 0.0})
    drive.rule = near.replace({"odometry.max_turn_deg": 0.0})
    assert not drive.sees(10.0, BESIDE + 10)
    drive.rule = near
    assert not drive.sees(11.0, BESIDE + 11, turn_deg=None)
    assert "turned" in drive.sees(12.0, BESIDE + 12)[BESIDE + 12]
    drive.place = lambda number: Place(number, "yesterday", number, None, 0.0)
    unknown = Agreement(drive.place)
    drive.agreement = unknown
    assert drive.drives(0, 10) == []


def test_places_of_this_session_are_another_tests_task_unless_they_are_another_robots():
    for own_drives, refused in ((True, False), (False, True)):
        drive = Drive(aside=(60.0, 0.0), session="today", own_drives=own_drives)
        drive.drives(0, 10)
        assert bool(drive.sees(10.0, BESIDE + 10)) is refused


def test_drives_are_judged_each_by_its_own_loops():
    drive = Drive(aside=(60.0, 0.0))
    drive.drives(0, 20)
    drive.session = "last week"
    assert drive.drives(20, 30, BESIDE) == []


def test_height_counts():
    drive = Drive()
    drive.drives(0, 10)
    now = keyframe(
        30_000, unit(0), "today", pose=replace(at("today", 10.0), position=(0.0, 0.0, 900.0)), travelled_m=10.0
    )
    given = [candidate(10)]
    assert isinstance(now.pose, Pose)
    assert drive.agreement.contradictions(now, given, {}, RULE, own_drives=True)


# ------------------------------------------------------------------------------------------------ the first loops


def test_the_first_loops_must_have_evidence_until_five_agree():
    drive = Drive(rule=FIRST)
    little = drive.sees(0.0, 0, evidence=0.99, temporal_support=4, inliers=25)
    assert little[0] == (
        "of the last keyframes with loops into session yesterday, 0 agree with keyframe 0, fewer than "
        "odometry.min_loops 5, and the 4 in a row for it weigh 0.99, less than odometry.min_first_evidence 1"
    )
    assert not drive.sees(1.0, 1, evidence=1.0)
    assert all(drive.sees(float(here), here, evidence=0.5) for here in range(2, 12)), "these speak for no other"
    for here in range(12, 16):
        assert not drive.sees(float(here), here, evidence=1.0)
    assert not [here for here in range(16, 20) if drive.sees(float(here), here, evidence=0.5)]


def test_certain_inliers_need_no_more():
    for inliers, refused in ((99, True), (100, False)):
        assert bool(Drive(rule=FIRST).sees(0.0, 0, evidence=0.7, inliers=inliers)) is refused


@pytest.mark.parametrize("changes", [{"odometry.min_loops": 0}, {"odometry.min_first_evidence": 0.0},
                                     {"temporal.enabled": False}])  # fmt: skip
def test_nothing_is_asked_of_first_loops_if_settings_say_so(changes):
    assert not Drive(rule=FIRST.replace(changes)).sees(0.0, 0)


def test_loops_that_contradict_it_do_not_free_a_place_of_evidence():
    drive = Drive(aside=(60.0, 0.0), rule=FIRST)
    for here in range(4):
        assert not drive.sees(float(here), here, evidence=2.0)
    assert "0 agree with keyframe 10004" in drive.sees(4.0, BESIDE + 4, evidence=0.5)[BESIDE + 4]


def test_first_loops_of_a_drive_without_poses_are_left_alone():
    assert not Drive(rule=FIRST).sees(0.0, 0, pose=False)
