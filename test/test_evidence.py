"""Geometry, odometry and the frames before as one: what is kept, in which order things are judged, and real drives."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from shared_data import network, shared
from toys import SECOND, ToyMatcher, keyframe, unit
from two_view_scenes import descriptors, features

from tscm_core.config import Config
from tscm_core.datasets.drive_source import open_drive
from tscm_core.evaluation.remembering import RememberingDescriber
from tscm_core.recognition.candidates import judged
from tscm_core.recognition.evidence import Evidence, FeatureShelf, decoded, ordered, stages
from tscm_core.recognition.local_features import encode_features
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Status
from tscm_core.recognition.stopwatch import Stopwatch

LOW, ALIKE, AGAINST, NONE = Status.LOW_SIMILARITY, Status.AMBIGUOUS, Status.NOT_CONSISTENT, Status.NO_GEOMETRY
ON = Config().replace({"geometry.enabled": True, "temporal.enabled": True, "odometry.enabled": True})


def some(seed=0):
    rng = np.random.default_rng(seed)
    return features(rng.uniform(0, 400, (5, 2)), descriptors(5, rng))


# ------------------------------------------------------------------------------------------------ the shelf


def test_a_shelf_without_a_file_keeps_everything():
    shelf, made = FeatureShelf(), {number: some(number) for number in range(600)}
    for number, item in made.items():
        shelf.put(number, item)
    assert all(shelf.of(number) is item for number, item in made.items())
    assert shelf.of(600) is None


def test_a_shelf_over_a_file_keeps_few_and_asks_again_for_the_others():
    blobs, asked = {number: encode_features(some(number)) for number in range(600)}, []

    def load(number):
        asked.append(number)
        return blobs.get(number)

    shelf = FeatureShelf(load)
    for number in range(600):
        assert encode_features(shelf.of(number)) == blobs[number]
    assert asked == list(range(600))
    assert encode_features(shelf.of(599)) == blobs[599]
    assert len(asked) == 600
    assert encode_features(shelf.of(0)) == blobs[0]
    assert asked[600:] == [0]
    assert len(shelf._features) == 256


@pytest.mark.parametrize("blob", [None, b"", b"tsf0" + bytes(30), bytes(10)])
def test_features_that_cannot_be_read_are_none(blob):
    assert decoded(blob) is None
    assert FeatureShelf({1: blob}.get).of(1) is None


# ------------------------------------------------------------------------------------------------ the order


def test_stages_are_those_that_are_switched_on():
    assert stages(ON) == ("search", "geometry", "odometry", "temporal")
    assert stages(ON, alone=True) == ("search", "geometry", "temporal")
    assert stages(ON.replace({"geometry.enabled": False})) == ("search", "odometry", "temporal")
    off = {"geometry.enabled": False, "odometry.enabled": False, "temporal.enabled": False}
    assert stages(ON.replace(off)) == ("search",)


def candidate(number, rank, *failed, inliers=0):
    made = Candidate(number, "lap1", number, None, 0.9, 0.5, rank, Status.ACCEPTED, inliers=inliers)
    return judged(made, tuple(failed))


def test_candidates_come_in_the_order_of_the_evidence_for_them():
    given = [
        candidate(1, 1, LOW, NONE, AGAINST, inliers=19),
        candidate(2, 2, NONE, AGAINST, inliers=15),
        candidate(3, 3, AGAINST, inliers=30),
        candidate(4, 4, LOW, inliers=90),
        candidate(5, 5, inliers=40),
        candidate(6, 6, inliers=50),
        candidate(7, 7, NONE, AGAINST, inliers=3),
    ]
    expected = [6, 5, 4, 3, 2, 7, 1]
    for turn in range(len(given)):
        found = ordered(tuple(given[turn:] + given[:turn]))
        assert [item.keyframe_id for item in found] == expected


def evidence(inliers, places):
    """Judges candidates for which ``inliers`` says, by id, how many features agree."""
    shelf = FeatureShelf()
    matcher = ToyMatcher(lambda _, other: inliers[other])
    for number in inliers:
        mark = np.zeros((1, 32), np.uint8)
        mark[0, :2] = number % 256, number // 256
        shelf.put(number, features(np.zeros((1, 2)), mark))
    return Evidence(shelf, matcher, places.__getitem__)


def test_a_place_that_odometry_excludes_is_no_rival_and_supports_nothing():
    here, far = pose_from_yaw(1.0, 0.0, 0.0), pose_from_yaw(90.0, 0.0, 0.0)
    places = {1: Place(1, "a", 0, pose_from_yaw(0.0, 0.0, 0.0), 0.0), 2: Place(2, "a", 0, far, 30.0)}
    judge = evidence({1: 60, 2: 60}, places)
    config = ON.replace({"temporal.min_support": 1, "geometry.max_ratio": 0.8, "odometry.reach_m": 10.0})
    now = keyframe(9, unit(0), "a", pose=here, travelled_m=60.0)
    query, given = judge.shelf.of(1), (candidate(2, 1), candidate(1, 2))
    best, second = judge.judge(now, query, given, config, Stopwatch())
    assert (best.keyframe_id, best.failed, best.temporal_support) == (1, (), 1)
    assert second.keyframe_id == 2
    assert AGAINST in second.failed
    assert second.temporal_support == 0
    assert "odometry puts keyframe 2 89.0 m away after 30 m" in judge.reason(replace(second, status=AGAINST), config)
    off = config.replace({"odometry.enabled": False})
    both = evidence({1: 60, 2: 60}, places).judge(now, query, given, off, Stopwatch())
    assert [item.failed for item in both] == [(ALIKE,), (ALIKE,)]


def test_each_stage_adds_what_failed_at_its_end():
    places = {1: Place(1, "b", 0, None, 0.0)}
    config = ON.replace({"temporal.min_support": 2, "temporal.certain_inliers": 100, "geometry.min_inliers": 20})
    now = keyframe(9, unit(0), "a")
    for inliers, failed in ((10, (LOW, NONE, AGAINST)), (50, (LOW, AGAINST)), (100, (LOW,))):
        judge = evidence({1: inliers}, places)
        (seen,) = judge.judge(now, judge.shelf.of(1), (candidate(1, 1, LOW),), config, Stopwatch())
        assert (seen.failed, seen.status) == (failed, LOW)
        (alone,) = judge.judge_alone(judge.shelf.of(1), (candidate(1, 1, LOW),), config)
        assert alone.failed == failed


# ------------------------------------------------------------------------------------------------ real drives


def observed(name, poses, **settings):
    """Every observation of a drive beside where it was; the robot knows its odometry only with ``poses``."""
    config = Config().replace({key.replace("__", "."): value for key, value in settings.items()})
    detector = LoopDetector(describer(), config)
    with open_drive(shared(name)) as drive:
        frames = [(frame if poses else replace(frame, pose=None), frame.pose.position) for frame in drive.frames()]
    return [(detector.observe(frame), position) for frame, position in frames]


@functools.cache
def describer():
    """Describes each image once, however often it is driven past."""
    return RememberingDescriber(network())


def apart(a, b):
    return math.dist(a[:2], b[:2])


@pytest.mark.shared_data
@pytest.mark.parametrize("poses", [True, False])
def test_corridor_is_closed_on_its_second_lap_and_nowhere_else(poses):
    seen = observed("corridor_two_laps", poses)
    where = {item.keyframe.id: position for item, position in seen if item.keyframe}
    order = sorted(where)
    revisits = found = 0
    for item, position in seen:
        if item.keyframe is None:
            continue
        assert [match for match in item.accepted if apart(where[match.keyframe_id], position) > 2.0] == []
        known = [where[number] for number in order[: item.searched]]
        revisit = any(apart(other, position) <= 2.0 for other in known)
        revisits, found = revisits + revisit, found + (revisit and bool(item.accepted))
        for match in item.accepted:
            assert match.inliers >= Config().geometry.min_inliers
            rule = Config().temporal
            assert match.temporal_support >= rule.min_support or match.inliers >= rule.certain_inliers
    assert revisits >= 38
    assert found >= 0.85 * revisits


@pytest.mark.shared_data
def test_a_walk_without_a_revisit_closes_nothing_though_looks_and_odometry_refuse_nothing():
    settings = {"candidates__min_similarity": -1.0, "candidates__max_ratio": 1.0, "odometry__enabled": False}
    seen = observed("campus_walk", poses=False, **settings)
    assert len(seen) == 72
    assert [item.stamp_ns / SECOND for item, _ in seen if item.accepted] == []
    assert sum(len(item.candidates) for item, _ in seen) > 100
    assert {status for item, _ in seen for match in item.candidates for status in match.failed} <= {
        NONE,
        ALIKE,
        AGAINST,
    }
