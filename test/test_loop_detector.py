"""The journey of a frame, with toy descriptors: every status is reached, explained with figures, and repeatable."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toys import LOOKS_ALONE, SECOND, ToyDescriber, ToyMatcher, blank, frame, picture, unit, without_times

from tscm_core.config import Config
from tscm_core.errors import ImageError, StampError
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Frame, Status

LAP = 30
SETTINGS = LOOKS_ALONE | {"recency.keyframes": 5, "recency.seconds": 4.0, "candidates.place_keyframes": 2}
ALL_STAGES = {"geometry.enabled": True, "temporal.enabled": True}


def detector(matcher=None, **changes):
    return LoopDetector(ToyDescriber(), Config().replace(SETTINGS | changes), matcher=matcher)


def two_laps(step=1.0, odometry=True):
    """Two laps of thirty places, one a second, seen a little differently the second time."""
    for number in range(2 * LAP):
        angle = 2 * np.pi * number / LAP
        way = {"x": 20 * np.cos(angle), "y": 20 * np.sin(angle)} if odometry else {}
        yield frame(number * step, number % LAP, 20 * (number // LAP), **way)


def lap_of(seen):
    return [item.keyframe.id for item in seen if item.keyframe]


# ---------------------------------------------------------------------------------------------- every status


def test_second_lap_closes_on_the_first():
    running = detector()
    seen = [running.observe(item) for item in two_laps()]
    assert [item.status for item in seen[:6]] == [Status.MAP_TOO_YOUNG] * 6
    assert {item.status for item in seen[6:LAP]} == {Status.LOW_SIMILARITY}
    for number, item in enumerate(seen[LAP:]):
        assert item.status is Status.ACCEPTED
        assert [loop.keyframe_id for loop in item.accepted] == [number + 1]
        assert item.accepted[0].similarity == pytest.approx(1 / np.sqrt(1.04), abs=1e-3)
        assert item.loops[0].keyframe_id == item.keyframe.id == LAP + number + 1
        assert item.stages == ("search",)
    assert lap_of(seen) == list(range(1, 2 * LAP + 1))


def test_map_too_young_is_explained():
    seen = detector().observe(frame(0, 0))
    assert (seen.status, seen.searched, seen.map_size, seen.candidates) == (Status.MAP_TOO_YOUNG, 0, 1, ())
    assert seen.reason == "none of the 0 keyframes in the map is old enough to be matched (recency.*)"


def test_not_keyframe_is_explained_and_not_remembered():
    running = detector()
    running.observe(frame(0, 0, x=0.0))
    for second, x, figure in ((0.1, 9.0, "0.10 s"), (1, 0.2, "0.20 m"), (2, 0.49, "0.49 m")):
        seen = running.observe(frame(second, 1, x=x))
        assert (seen.status, seen.map_size, seen.searched, seen.keyframe) == (Status.NOT_KEYFRAME, 1, 0, None)
        assert figure in seen.reason
        assert (seen.candidates, seen.stages, seen.loops) == ((), (), ())
    dull = running.observe(Frame(3 * SECOND, blank(5)))
    assert (dull.status, dull.keyframe) == (Status.NOT_KEYFRAME, None)
    assert "only 0.4% of the image" in dull.reason
    assert [item.stage for item in dull.stage_times] == ["keyframe", "describe"]
    same = running.observe(frame(4, 0))
    assert same.status is Status.NOT_KEYFRAME
    assert "0.000" in same.reason
    assert running.observe(frame(5, 0, x=0.5)).keyframe.id == 2


def test_low_similarity_is_explained():
    running = detector(**{"candidates.min_similarity": 0.99})
    seen = [running.observe(item) for item in two_laps()][-1]
    assert seen.status is Status.LOW_SIMILARITY
    assert seen.reason == "best similarity 0.981, to keyframe 30, is below candidates.min_similarity 0.99"
    assert seen.accepted == ()
    assert len(seen.candidates) == 5


def test_ambiguous_is_explained():
    running = detector(**{"candidates.min_similarity": 0.999})  # so strict that the second visit to place 7 stays open
    visits = [frame(0, 7), *(frame(number, 100 + number) for number in range(1, 20)), frame(20, 7, 10)]
    visits += [frame(number, 100 + number) for number in range(21, 40)]
    assert {running.observe(item).status for item in visits} == {Status.MAP_TOO_YOUNG, Status.LOW_SIMILARITY}
    running.reconfigure(Config().replace(SETTINGS))
    seen = running.observe(frame(40, 7, 20))
    assert (seen.status, seen.accepted) == (Status.AMBIGUOUS, ())
    assert {item.keyframe_id for item in seen.candidates[:2]} == {1, 21}
    assert seen.reason == (
        f"another place looks nearly the same as keyframe 1: ratio {seen.candidates[0].ratio:.3f} is above "
        "candidates.max_ratio 0.95"
    )


def same(inliers):
    """A matcher for which pictures of one place have so many inliers, and those of two have three."""
    return ToyMatcher(lambda place, other: inliers if place == other else 3)


@pytest.mark.parametrize(
    ("inliers", "support", "failed", "reason"),
    [
        (50, 1, (), "shows the place of keyframe 1: similarity 0.981, ratio"),
        (50, 2, (Status.NOT_CONSISTENT,), "has the support of 1 keyframes in a row, fewer than temporal.min_support 2"),
        (80, 2, (), "80 of 200 features agree, supported by 1 keyframes in a row"),
        (19, 1, (Status.NO_GEOMETRY, Status.NOT_CONSISTENT), "19 of 200 matched features agree with keyframe 1 "),
    ],
)
def test_stages_judge_in_order_and_their_evidence_comes_out(inliers, support, failed, reason):
    settings = {"temporal.min_support": support, "temporal.certain_inliers": 60}
    running = detector(same(inliers), **ALL_STAGES | settings)
    for item in itertools.islice(two_laps(), LAP):
        running.observe(item)
    seen = running.observe(next(itertools.islice(two_laps(), LAP, None)))
    best = next(item for item in seen.candidates if item.rank == 1)
    assert (best.keyframe_id, best.failed, best.status) == (1, failed, failed[0] if failed else Status.ACCEPTED)
    assert (best.matches, best.inliers) == (200, inliers)
    assert best.temporal_support == (Status.NO_GEOMETRY not in failed)
    assert seen.status is best.status
    assert reason in seen.reason
    assert seen.stages == ("search", "geometry", "temporal")
    names = ["keyframe", "describe", "features", "search", "geometry", "temporal"]
    assert [item.stage for item in seen.stage_times] == names
    assert all(item.milliseconds >= 0 for item in seen.stage_times)
    for item in seen.candidates:
        assert item.status is (item.failed[0] if item.failed else Status.ACCEPTED)
        if item.rank > 1:
            assert item.failed[:1] == (Status.LOW_SIMILARITY,)
            assert set(item.failed) >= {Status.NO_GEOMETRY, Status.NOT_CONSISTENT}
    assert len(seen.loops) == (not failed)


def test_support_grows_while_the_second_lap_follows_the_first():
    settings = {"temporal.min_support": 4, "temporal.certain_inliers": 1000}
    running = detector(same(50), **ALL_STAGES | settings)
    seen = [running.observe(item) for item in two_laps()][LAP:]
    supports = [next(item for item in one.candidates if item.rank == 1).temporal_support for one in seen]
    assert supports == [*range(1, 21), *[20] * (LAP - 20)]
    assert [one.status for one in seen] == [Status.NOT_CONSISTENT] * 3 + [Status.ACCEPTED] * (LAP - 3)


@pytest.mark.parametrize("odometry", [True, False])
def test_a_stage_is_switched_on_and_off_while_driving(odometry):
    running = detector(same(3), **ALL_STAGES)
    seen = []
    for number, item in enumerate(two_laps(odometry=odometry)):
        if number == LAP + 10:
            running.reconfigure(running.config.replace({"geometry.enabled": False, "temporal.min_support": 1}))
        seen.append(running.observe(item))
    first, second = seen[LAP : LAP + 10], seen[LAP + 10 :]
    assert {one.status for one in first} == {Status.NO_GEOMETRY}
    assert {one.stages for one in first} == {("search", "geometry", "temporal")}
    assert {one.status for one in second} == {Status.ACCEPTED}
    assert {one.stages for one in second} == {("search", "temporal")}
    assert all(one.keyframe.features for one in first)
    assert all(one.keyframe.features is None for one in second)
    assert running.features_of(first[0].keyframe.id) is not None
    assert running.features_of(second[0].keyframe.id) is None


def test_what_geometry_confirms_comes_first_though_another_place_looks_better():
    loose = {"candidates.min_similarity": -1.0, "geometry.places": 5, "temporal.min_support": 1}
    running = detector(same(3), **ALL_STAGES | loose)
    for item in itertools.islice(two_laps(odometry=False), LAP):
        running.observe(item)
    third = running.find(running.describe(picture(200)), running.searchable_at(LAP * SECOND))[2].keyframe_id
    running.matcher.inliers = lambda place, other: 50 if other == third - 1 else 3
    seen = running.observe(frame(LAP, 200))
    assert [item.rank for item in seen.candidates] == [3, 1, 2, 4, 5]
    assert (seen.status, [loop.candidate.keyframe_id for loop in seen.loops]) == (Status.ACCEPTED, [third])
    assert f"the place of keyframe {third}:" in seen.reason


# ---------------------------------------------------------------------------------------------- same in, same out


@pytest.mark.parametrize("odometry", [True, False])
def test_same_frames_give_same_observations(odometry):
    first, second = detector(), detector()
    for item in two_laps(odometry=odometry):
        assert without_times(first.observe(item)) == without_times(second.observe(item))


@pytest.mark.parametrize("odometry", [True, False])
def test_restored_detector_answers_bit_for_bit_the_same(odometry):
    driven = detector()
    seen = [driven.observe(item) for item in two_laps(odometry=odometry)]
    keyframes = [item.keyframe for item in seen if item.keyframe]
    loops = [loop for item in seen for loop in item.loops]
    restored = detector()
    restored.restore(iter(keyframes), iter(loops), "tuesday")
    driven.begin_session("tuesday")
    assert len(loops) == LAP
    assert restored.memory._anchors == driven.memory._anchors
    third = [frame(number, number, 40, x=float(5 * number)) for number in range(LAP)]
    ours, theirs = ([without_times(running.observe(item)) for item in third] for running in (restored, driven))
    assert ours == theirs
    assert {item[2] for item in ours} == {Status.ACCEPTED}
    assert [item.keyframe_id for item in restored.find(stored_precision(unit(4)), 2 * LAP)] == [
        item.keyframe_id for item in driven.find(stored_precision(unit(4)), 2 * LAP)
    ]


def test_ids_go_on_after_the_highest_though_some_are_missing():
    driven, restored = detector(), detector()
    keyframes = [driven.observe(item).keyframe for item in itertools.islice(two_laps(), 8)]
    restored.restore(keyframes[::3], (), "tuesday")
    assert restored.observe(frame(0, 50)).keyframe.id == 8
    assert len(restored.memory) == 4


def test_descriptors_are_kept_in_the_precision_of_map_files():
    seen = detector().observe(frame(0, 3))
    assert seen.keyframe.descriptor.dtype == np.float32
    assert np.array_equal(seen.keyframe.descriptor, unit(3).astype(np.float16).astype(np.float32))
    assert not np.array_equal(seen.keyframe.descriptor, unit(3))


# ---------------------------------------------------------------------------------------------- sessions and stamps


@pytest.mark.parametrize("stamp", [0, 4 * SECOND, 5 * SECOND])
def test_a_stamp_that_is_not_newer_changes_nothing(stamp):
    running, other = detector(), detector()
    for item in itertools.islice(two_laps(), 6):
        running.observe(item)
        other.observe(item)
    with pytest.raises(StampError) as caught:
        running.observe(replace(frame(0, 50), stamp_ns=stamp))
    with pytest.raises(StampError):
        running.observe(frame(4.5, 50))  # the older stamp did not become the one to be newer than
    assert ("the same" if stamp == 5 * SECOND else f"{5 - stamp / SECOND:.3f} s behind") in str(caught.value)
    for item in itertools.islice(two_laps(), 6, None):
        assert without_times(running.observe(item)) == without_times(other.observe(item))


def test_ids_go_on_over_sessions_and_stamps_begin_again():
    running = detector()
    seen = [running.observe(item) for item in two_laps()]
    running.begin_session("tuesday")
    assert running.searchable_at(0) == 2 * LAP
    again = [running.observe(item) for item in two_laps()]
    assert lap_of(seen + again) == list(range(1, 4 * LAP + 1))
    assert {item.session for item in again} == {item.keyframe.session for item in again} == {"tuesday"}
    assert again[0].keyframe.travelled_m == 0.0 < seen[-1].keyframe.travelled_m
    assert again[0].searched == 2 * LAP  # the other drive is never too recent
    assert again[0].status is Status.ACCEPTED


def test_travelled_way_adds_up_and_waits_while_odometry_is_away():
    running = detector()
    drive = [frame(0, 0, x=0.0), frame(1, 1, x=3.0, y=4.0), frame(2, 2), frame(3, 3, x=90.0, frame_id="map")]
    drive += [frame(4, 4, x=91.0, frame_id="map")]
    assert [running.observe(item).keyframe.travelled_m for item in drive] == pytest.approx([0, 5, 5, 5, 6])


def test_settings_change_from_the_next_frame_on():
    running = detector()
    running.observe(frame(0, 0, x=0.0))
    assert running.observe(frame(1, 1, x=0.4)).status is Status.NOT_KEYFRAME
    running.reconfigure(Config().replace(SETTINGS | {"keyframes.min_distance_m": 0.3, "map.thumbnail_width": 16}))
    seen = running.observe(frame(2, 1, x=0.4))
    assert seen.keyframe.id == 2
    assert len(seen.keyframe.thumbnail_jpeg) > 0


def test_find_searches_everything_and_adds_nothing():
    running = detector()
    for item in itertools.islice(two_laps(), 8):
        running.observe(item)
    found = running.find(running.describe(picture(7)), 8, 3)
    assert [item.rank for item in found] == [1, 2, 3]
    assert (found[0].keyframe_id, found[0].status) == (8, Status.ACCEPTED)
    assert found[0].similarity == pytest.approx(1.0, abs=1e-3)
    assert running.find(running.describe(picture(7)), 3)[0].similarity < 0.7  # it is the eighth
    assert len(running.memory) == 8
    assert len(running.find(running.describe(picture(7)), 8)) == 3  # eight neighbours at two keyframes a side


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((24, 32), np.uint8),
        np.zeros((24, 32, 4), np.uint8),
        np.zeros((24, 32, 3), np.float32),
        np.zeros((0, 32, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused_and_the_drive_goes_on(image):
    running = detector()
    with pytest.raises(ImageError):
        running.observe(Frame(0, image))
    assert len(running.memory) == 0
    assert running.observe(frame(1, 0)).keyframe.id == 1


def test_judging_does_not_remember():
    running = detector()
    seen = running.judge(frame(0, 0))
    assert (seen.keyframe.id, len(running.memory), running.gate.last) == (1, 0, None)
    running.remember(seen)
    assert (len(running.memory), running.gate.last.id) == (1, 1)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_poses_that_come_and_go_hide_no_loop(every):
    running = detector()
    statuses = []
    for number, item in enumerate(two_laps()):
        seen = running.observe(item if number % every == 0 else replace(item, pose=None))
        statuses.append(seen.status)
    assert set(statuses[LAP:]) <= {Status.ACCEPTED, Status.NOT_KEYFRAME}
    assert statuses[LAP:].count(Status.ACCEPTED) >= LAP - 1
