"""Support by the frames before: a place moves along with the robot, however it drives; a wrong match does not."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from toys import keyframe, unit

from tscm_core.config import TemporalConfig
from tscm_core.recognition.candidates import judged
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Status
from tscm_core.recognition.temporal import TemporalMemory, explain_temporal, judge_alone

RULE = TemporalConfig(
    min_support=4, certain_inliers=100, max_gap=1, max_difference_m=1.2, max_difference=0.4, max_step=3.0
)
SPACING = 1.0
HERE = pose_from_yaw(0.0, 0.0, 0.0)


def place(number, odometry=True, session="lap1", spacing=SPACING):
    """Keyframe ``number`` of a first lap with one keyframe a metre."""
    return Place(number, session, number, HERE if odometry else None, number * spacing if odometry else 0.0)


def candidate(number, failed=(), inliers=0, rank=1):
    return judged(
        Candidate(number, "lap1", number, None, 0.9, 0.5, rank, Status.ACCEPTED, inliers=inliers), tuple(failed)
    )


def supports(steps, rule=RULE, odometry=True, place_of=None, failed=(), way=SPACING):
    """Support of the best candidate of each frame; ``steps`` are the places that each frame may show."""
    memory = TemporalMemory(place_of or (lambda number: place(number, odometry)))
    answers = []
    for frame, numbers in enumerate(steps):
        now = keyframe(
            1000 + frame, unit(0), "lap2", pose=HERE if odometry else None, travelled_m=frame * way if odometry else 0.0
        )
        given = tuple(candidate(number, failed, rank=n + 1) for n, number in enumerate(numbers))
        seen = memory.judge(now, given, rule, verified=True)
        answers.append(max((item.temporal_support for item in seen), default=0))
    return answers


BOTH = pytest.mark.parametrize("odometry", [True, False])


@BOTH
@pytest.mark.parametrize("direction", [1, -1])
def test_forwards_and_in_reverse_it_grows_by_one_a_frame(odometry, direction):
    assert supports([[50 + direction * n] for n in range(25)], odometry=odometry) == [*range(1, 21), *[20] * 5]


@BOTH
@pytest.mark.parametrize(("places", "way"), [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0), (1.5, 1.5)])
def test_speed_does_not_matter(odometry, places, way):
    """At half speed every place shows in two frames, at twice the speed every second place in one."""
    steps = [[round(50 + places * n)] for n in range(10)]
    assert supports(steps, odometry=odometry, way=way) == list(range(1, 11))


@BOTH
def test_places_may_be_seen_one_beside_where_they_are(odometry):
    rng = np.random.default_rng(0)
    steps = [[50 + n + int(rng.integers(0, 2))] for n in range(15)]
    assert supports(steps, odometry=odometry) == list(range(1, 16))


def test_standing_still_at_the_place_supports_it():
    """With odometry as long as it likes; without it, four keyframes are enough and all that a robot can ask for."""
    assert supports([[50]] * 10, way=0.0) == list(range(1, 11))
    assert supports([[50]] * 10, odometry=False) == [1, 2, 3, *[4] * 7]


@BOTH
@pytest.mark.parametrize("gap", [0, 1, 2, 3])
def test_frames_that_see_nothing_are_bridged_up_to_the_gap(odometry, gap):
    """Every frame but every ``gap + 1``-th shows nothing."""
    steps = [[50 + n] if n % (gap + 1) == 0 else [] for n in range(20)]
    for allowed in range(4):
        rule = TemporalConfig(max_gap=allowed, max_difference_m=1.2, max_difference=0.4)
        seen = supports(steps, rule, odometry)[:: gap + 1]
        assert seen == (list(range(1, len(seen) + 1)) if gap <= allowed else [1] * len(seen))


@pytest.mark.parametrize("spacing", [0.25, 0.5, 1.0, 2.0])
def test_a_place_that_stays_while_the_robot_drives_on_is_not_supported_for_long(spacing):
    """However dense the keyframes: only while the robot has driven less than ``max_stay_m``, here 1.5 m."""
    seen = supports([[50]] * 30, way=spacing)
    assert max(seen) == math.ceil(1.5 / spacing)
    if spacing >= 0.5:  # the default of keyframes.min_distance_m
        assert max(seen) < RULE.min_support
    patient = replace(RULE, max_stay_m=0.0)
    assert max(supports([[50]] * 30, patient, way=spacing)) == int(2.0 / spacing) + 1  # 1.2 / (1 - 0.4) = 2 m


@BOTH
def test_places_that_jump_support_nothing(odometry):
    places = [10, 90, 40, 70, 20, 99, 55, 5, 80, 30]
    assert supports([[number] for number in places], odometry=odometry) == [1] * 10


@BOTH
def test_another_drive_of_the_map_is_another_chain(odometry):
    def place_of(number):
        return place(number, odometry, "a" if number < 55 else "b")

    seen = supports([[50 + n] for n in range(10)], odometry=odometry, place_of=place_of)
    assert seen == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


@BOTH
@pytest.mark.parametrize("status", [Status.NO_GEOMETRY, Status.NOT_CONSISTENT])
def test_what_was_refused_supports_nothing(odometry, status):
    assert supports([[50 + n] for n in range(5)], odometry=odometry, failed=(status,)) == [0] * 5


def test_how_similar_a_place_is_does_not_matter():
    low = (Status.LOW_SIMILARITY, Status.AMBIGUOUS)
    assert supports([[50 + n] for n in range(5)], failed=low) == [1, 2, 3, 4, 5]


@BOTH
def test_the_right_place_is_found_among_others(odometry):
    rng = np.random.default_rng(1)
    steps = [[int(rng.integers(500, 5000)), 50 + n, int(rng.integers(500, 5000))] for n in range(8)]
    assert supports(steps, odometry=odometry) == list(range(1, 9))


def plain_support(history, rule, odometry):
    """The longest agreeing chain to the newest frame, by trying every choice of one place for each of the frames.

    In a chain every two frames agree, and at most ``max_gap`` frames are left out between neighbours.
    """
    best = 0
    newest = len(history) - 1
    for choice in itertools.product(*[[*numbers, None] for numbers in history]):
        if choice[newest] is None:
            continue
        chain = [(frame, number) for frame, number in enumerate(choice) if number is not None]
        gaps = [b - a for (a, _), (b, _) in itertools.pairwise(chain)]
        if any(gap > rule.max_gap + 1 for gap in gaps):
            continue
        if all(plainly_agree(a, b, rule, odometry) for a, b in itertools.combinations(chain, 2)):
            best = max(best, len(chain))
    return best


def plainly_agree(a, b, rule, odometry):
    robot, moved = abs(b[0] - a[0]), abs(b[1] - a[1])
    if odometry:
        if robot * SPACING >= rule.max_stay_m and moved < 0.1 * robot:
            return False
        return abs(moved * SPACING - robot * SPACING) <= rule.max_difference_m + rule.max_difference * robot * SPACING
    return moved <= rule.max_step * robot and (moved > 0 or robot < 4)


@BOTH
def test_the_chain_is_never_longer_than_the_longest_of_all_and_mostly_as_long(odometry):
    rng = np.random.default_rng(2)
    rule = TemporalConfig(max_gap=1, max_difference_m=1.2, max_difference=0.4, max_step=2.0)
    equal = total = 0
    for _ in range(60):
        start = int(rng.integers(0, 12))
        steps = [
            [int(number) for number in {start + n + int(rng.integers(-1, 2)), int(rng.integers(0, 25))}][
                : rng.integers(3)
            ]
            for n in range(6)
        ]
        seen = supports(steps, rule, odometry)
        expected = [plain_support(steps[: n + 1], rule, odometry) for n in range(6)]
        for ours, longest in zip(seen, expected, strict=True):
            assert ours <= longest
            assert (ours == 0) == (longest == 0)
            equal, total = equal + (ours == longest), total + 1
    assert equal >= 0.95 * total


# ------------------------------------------------------------------------------------------------ verdicts


def test_evidence_is_what_the_frames_of_the_chain_weigh():
    memory, inliers = TemporalMemory(place), [30, 250, 80, 100]
    for frame, count in enumerate(inliers):
        now = keyframe(1000 + frame, unit(0), "lap2", pose=HERE, travelled_m=frame * SPACING)
        (seen,) = memory.judge(now, (candidate(50 + frame, inliers=count),), RULE, verified=True)
    assert seen.evidence == pytest.approx(0.9**2 * (0.3 + 1.0 + 0.8 + 1.0))
    (alone,) = judge_alone((candidate(50, inliers=30),), RULE, verified=True)
    assert alone.evidence == pytest.approx(0.9**2 * 0.3)
    (looks,) = judge_alone((candidate(50),), RULE, verified=False)
    assert looks.evidence == pytest.approx(0.9**2)


@pytest.mark.parametrize(("least", "refused"), [(2.4, False), (2.6, True)])
def test_evidence_may_be_asked_for(least, refused):
    memory, rule = TemporalMemory(place), replace(RULE, min_evidence=least)
    for frame in range(4):
        now = keyframe(1000 + frame, unit(0), "lap2", pose=HERE, travelled_m=frame * SPACING)
        (seen,) = memory.judge(now, (candidate(50 + frame, inliers=77),), rule, verified=True)  # 4 * 0.77 * 0.81 = 2.49
    assert (seen.status is Status.NOT_CONSISTENT) == refused
    if refused:
        assert "weigh 2.49, less than temporal.min_evidence 2.6" in explain_temporal(seen, rule, verified=True)


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize(("inliers", "frames"), [(99, 1), (100, 1), (99, 3), (99, 4), (0, 4)])
def test_verdict(verified, inliers, frames):
    memory = TemporalMemory(place)
    for frame in range(frames):
        now = keyframe(1000 + frame, unit(0), "lap2", pose=HERE, travelled_m=frame * SPACING)
        (seen,) = memory.judge(
            now, (candidate(50 + frame, (Status.LOW_SIMILARITY,), inliers),), RULE, verified=verified
        )
    supported = frames >= 4 or (verified and inliers >= 100)
    assert seen.temporal_support == frames
    assert seen.failed == (Status.LOW_SIMILARITY, *(() if supported else (Status.NOT_CONSISTENT,)))
    assert seen.status is Status.LOW_SIMILARITY


def test_refusals_are_explained_with_the_figures():
    (seen,) = judge_alone((candidate(50, inliers=40),), RULE, verified=True)
    assert (seen.failed, seen.temporal_support) == ((Status.NOT_CONSISTENT,), 1)
    assert explain_temporal(seen, RULE, verified=True) == (
        "keyframe 50 (similarity 0.900) has the support of 1 keyframes in a row, fewer than temporal.min_support 4, "
        "and 40 inliers are fewer than temporal.certain_inliers 100"
    )
    assert explain_temporal(seen, RULE, verified=False).endswith("fewer than temporal.min_support 4")


def test_an_image_alone_has_only_itself():
    good, bad = judge_alone((candidate(50, inliers=100), candidate(51, (Status.NO_GEOMETRY,), 5)), RULE, verified=True)
    assert (good.failed, good.temporal_support) == ((), 1)
    assert (bad.failed, bad.temporal_support) == ((Status.NO_GEOMETRY, Status.NOT_CONSISTENT), 0)
