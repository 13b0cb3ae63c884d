"""What is too recent to be a loop, and which keyframes show one place."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import DIM, SECOND, keyframe, unit

from tscm_core.config import CandidateConfig, RecencyConfig
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Loop, Status

OFF = RecencyConfig(keyframes=0, seconds=0.0, metres=0.0)
ORDER_ONLY = CandidateConfig(place_keyframes=2, place_radius_m=0.0)
POSE_ONLY = CandidateConfig(place_keyframes=0, place_radius_m=2.0)


def memory(*keyframes, loops=()):
    made = PlaceMemory(DIM)
    made.add(keyframes)
    made.add((), loops)
    return made


def drive(count, session="a", first=1, step_m=None):
    """One keyframe a second, ``step_m`` metres apart if there is odometry."""
    return [
        keyframe(
            first + number, unit(first + number), session, second=number,
            pose=None if step_m is None else pose_from_yaw(number * step_m, 0.0, 0.0),
            travelled_m=number * (step_m or 0.0),
        )
        for number in range(count)
    ]  # fmt: skip


def loop(keyframe_id, match_id):
    return Loop(keyframe_id, Candidate(match_id, "a", 0, None, 0.9, 0.0, 1, Status.ACCEPTED))


def limit_of(made, *arguments):
    """For the frame that follows on the last keyframe."""
    return made.recent_limit(*arguments, made.places[-1].keyframe_id + 1 if made.places else 1)


# ---------------------------------------------------------------------------------------------- recency


@pytest.mark.parametrize(("count", "limit"), [(0, 20), (1, 19), (7, 13), (20, 0), (99, 0)])
def test_recency_by_count(count, limit):
    rule = replace(OFF, keyframes=count)
    assert limit_of(memory(*drive(20)), "a", 20 * SECOND, 0.0, rule) == limit


def test_recency_by_count_counts_what_was_passed_over_or_given_up_since():
    """Else a keyframe that was old enough would be too recent again, as soon as the next one is remembered."""
    rule, made = replace(OFF, keyframes=4), memory(*drive(3))
    assert made.recent_limit("a", 20 * SECOND, 0.0, rule, 10) == 3
    made.add(drive(3, first=10))
    assert made.recent_limit("a", 20 * SECOND, 0.0, rule, 13) == 3
    made.drop([11])
    assert made.recent_limit("a", 20 * SECOND, 0.0, rule, 14) == 3
    assert made.recent_limit("a", 20 * SECOND, 0.0, rule, 16) == 5


@pytest.mark.parametrize(("seconds", "limit"), [(0.0, 20), (1.0, 20), (1.5, 19), (7.0, 14), (20.0, 1), (99.0, 0)])
def test_recency_by_time(seconds, limit):
    """The newest keyframe is one second old; exactly as old as the rule says is old enough."""
    rule = replace(OFF, seconds=seconds)
    assert limit_of(memory(*drive(20)), "a", 20 * SECOND, 0.0, rule) == limit


@pytest.mark.parametrize(("metres", "limit"), [(0.0, 20), (0.5, 20), (0.6, 19), (3.0, 15), (10.0, 1), (99.0, 0)])
def test_recency_by_way(metres, limit):
    rule = replace(OFF, metres=metres)
    assert limit_of(memory(*drive(20, step_m=0.5)), "a", 20 * SECOND, 10.0, rule) == limit


def test_without_odometry_the_way_says_nothing():
    rule = replace(OFF, metres=1000.0)
    assert limit_of(memory(*drive(20)), "a", 20 * SECOND, None, rule) == 20


def test_a_keyframe_without_a_pose_does_not_end_what_is_too_near():
    keyframes = drive(20, step_m=0.1)
    keyframes[9] = replace(keyframes[9], pose=None)
    assert limit_of(memory(*keyframes), "a", 20 * SECOND, 2.0, replace(OFF, metres=5.0)) == 0


def test_any_rule_alone_is_enough_and_the_strictest_counts():
    driven = memory(*drive(20, step_m=0.5))
    rule = RecencyConfig(keyframes=3, seconds=5.0, metres=4.0)
    assert limit_of(driven, "a", 20 * SECOND, 10.0, rule) == 13  # metres
    assert limit_of(driven, "a", 20 * SECOND, 10.0, replace(rule, seconds=12.0)) == 9
    assert limit_of(driven, "a", 20 * SECOND, 10.0, replace(rule, keyframes=15)) == 5


@pytest.mark.parametrize(
    "rule", [RecencyConfig(1000, 0.0, 0.0), RecencyConfig(0, 1e4, 0.0), RecencyConfig(0, 0.0, 1e4)]
)
def test_other_sessions_are_never_too_recent(rule):
    both = memory(*drive(8, "a", step_m=0.5), *drive(5, "b", first=9, step_m=0.5))
    assert limit_of(both, "c", 0, 0.0, rule) == 13
    assert limit_of(both, "b", 5 * SECOND, 2.5, rule) == 8
    assert limit_of(both, "a", 8 * SECOND, 4.0, rule) == 13
    assert limit_of(PlaceMemory(DIM), "a", 0, 0.0, rule) == 0


# ---------------------------------------------------------------------------------------------- one place or two


def test_neighbours_in_order_are_one_place():
    driven = memory(*drive(10), *drive(5, "b", first=11))
    assert [driven.same_place(4, other, ORDER_ONLY) for other in range(10)] == [2 <= other <= 6 for other in range(10)]
    assert not driven.same_place(9, 10, ORDER_ONLY)  # another drive
    assert driven.same_place(4, 4, replace(ORDER_ONLY, place_keyframes=0))


def test_near_poses_in_one_frame_of_one_session_are_one_place():
    def at(number, x, session="a", frame_id="odom"):
        return keyframe(number, unit(number), session, pose=pose_from_yaw(x, 0.0, 0.0, frame_id))

    far = [keyframe(number, unit(number), pose=pose_from_yaw(100.0, 0.0, 0.0)) for number in (2, 3, 4)]
    driven = memory(at(1, 0.0), *far, at(5, 2.0), at(6, 2.1), at(7, 0.0, "b"), at(8, 0.0, frame_id="map"))
    same = [driven.same_place(0, other, POSE_ONLY) for other in range(len(driven))]
    assert same == [True, False, False, False, True, False, False, False]
    assert [driven.same_place(other, 0, POSE_ONLY) for other in range(len(driven))] == same
    assert not driven.same_place(0, 4, replace(POSE_ONLY, place_radius_m=0.0))


def test_radius_nought_means_that_poses_are_not_used():
    here = pose_from_yaw(1.0, 1.0, 0.0)
    driven = memory(*(keyframe(number, unit(number), pose=here) for number in range(1, 9)))
    assert driven.same_place(0, 7, POSE_ONLY)
    assert not driven.same_place(0, 7, ORDER_ONLY)


def test_accepted_loops_join_places_also_over_several_laps():
    driven = memory(*drive(60), loops=[loop(31, 1), loop(32, 2), loop(51, 31)])
    assert driven.same_place(30, 0, ORDER_ONLY)
    assert driven.same_place(0, 30, ORDER_ONLY)
    assert driven.same_place(30, 2, ORDER_ONLY)  # its match is a neighbour
    assert driven.same_place(50, 1, ORDER_ONLY)  # third lap, by the second
    assert driven.same_place(50, 31, ORDER_ONLY)
    assert not driven.same_place(30, 3, ORDER_ONLY)
    assert not driven.same_place(40, 10, ORDER_ONLY)


def test_loops_count_by_id_not_by_position():
    frames = [replace(item, id=100 + 10 * item.id) for item in drive(20)]
    driven = memory(*frames, loops=[loop(300, 110)])
    assert driven.same_place(19, 0, ORDER_ONLY)
    assert driven.places[19].keyframe_id == 300
    assert len(driven) == len(driven.index) == 20


# ---------------------------------------------------------------------------------------------- as it is loaded


def test_of_two_loops_of_one_frame_the_same_one_leads_on_whether_they_were_just_closed_or_read_from_a_file():
    """A frame has them in the order of their inliers, a file in that of their ranks."""
    strong, weak = (
        Loop(30, replace(loop(30, match).candidate, rank=rank, inliers=inliers))
        for match, rank, inliers in ((12, 2, 80), (3, 1, 40))
    )
    for first in range(1, 21):
        closed, loaded = (memory(*drive(30), loops=both) for both in ((strong, weak), (weak, strong)))
        at = first - 1
        assert closed.same_place(29, at, ORDER_ONLY) == loaded.same_place(29, at, ORDER_ONLY), first
    assert closed.same_place(29, 2, ORDER_ONLY)


def test_what_was_given_up_is_not_counted_between_positions():
    made = memory(*drive(20))
    made.drop([2, 5, 10, 15])
    for begin in range(21):
        for limit in range(21):
            there = {1 + position for position in range(begin, limit)} - {2, 5, 10, 15}
            assert made.count(begin, limit) == len(there)
            assert (made.span(begin, limit) == (0, 0)) == (not there)


def test_how_many_there_are_is_right_for_another_thread_at_any_moment():
    counts = []

    class Watched(PlaceMemory):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if "_positions" in vars(self) and "_dropped" in vars(self):
                counts.append(len(self))

    made = Watched(DIM)
    made.add(drive(300))
    counts.clear()
    for number in range(2, 299):
        made.drop([number])
    assert len(made.places) < 300  # they were moved together
    assert len(counts) >= 297
    assert min(counts) == 3
