"""Replaying real drives, judged by their positions; and how a replay deals with what a bag may hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from shared_data import network, shared
from toys import SECOND, ToyDescriber, frame, picture, without_times

from tscm_core.config import Config
from tscm_core.datasets.bag_writer import DriveWriter, bag_from_images
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import BagError, ImageError, TscmError
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.replay import judge, latency, percentiles, replay, write_results
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Status

RESULT_KEYS = [
    "frames", "refused", "keyframes", "keyframes_without_pose",
    "revisits", "accepted", "correct", "wrong", "precision", "recall", "radius_m",
    "max_yaw_deg", "statuses", "latency_ms", "model_id",
]  # fmt: skip
LINE_KEYS = [
    "stamp_ns", "status", "reason", "session", "keyframe_id", "map_size", "searched", "stages", "candidates",
    "stage_ms",
]  # fmt: skip
CANDIDATE_KEYS = [
    "rank", "status", "match_id", "session", "stamp_ns", "similarity", "ratio", "temporal_support", "matches",
    "inliers",
]  # fmt: skip


def replay_images(folder, bag, radius, rate=2.0):
    for _ in bag_from_images(folder, bag, rate):
        pass
    with DriveBag(bag) as drive:
        return replay(drive, LoopDetector(network(), Config()), Truth(radius))


@pytest.fixture(scope="module")
def corridor(tmp_path_factory):
    return replay_images(shared("corridor_two_laps"), tmp_path_factory.mktemp("corridor") / "bag", 2.0)


# ---------------------------------------------------------------------------------------------- real drives


@pytest.mark.shared_data
def test_corridor_closes_its_second_lap_and_nothing_wrong(corridor):
    assert len(corridor.observations) == 84
    assert corridor.score.wrong == 0
    assert corridor.score.precision == 1.0
    second = corridor.observations[40:80]
    assert sum(seen.status is Status.ACCEPTED for seen in second) >= 20
    assert {seen.status for seen in corridor.observations[:20]} == {Status.MAP_TOO_YOUNG, Status.NOT_KEYFRAME}
    for seen in corridor.observations:
        for match in seen.accepted:
            lap = (seen.stamp_ns - match.stamp_ns) / SECOND * 2
            assert min(abs(lap - 40), abs(lap - 80)) <= 3


@pytest.mark.shared_data
def test_campus_walk_closes_nothing(tmp_path):
    result = replay_images(shared("campus_walk"), tmp_path / "bag", 25.0)
    assert len(result.observations) == 72
    assert (result.score.accepted, result.score.precision) == (0, None)
    assert Status.LOW_SIMILARITY in {seen.status for seen in result.observations}


@pytest.mark.shared_data
def test_replaying_twice_gives_the_same(corridor, tmp_path):
    again = replay_images(shared("corridor_two_laps"), tmp_path / "bag", 2.0)
    assert list(map(without_times, again.observations)) == list(map(without_times, corridor.observations))
    ours, theirs = corridor.to_json(), again.to_json()
    assert {**ours, "latency_ms": 0} == {**theirs, "latency_ms": 0}


@pytest.mark.shared_data
def test_results_are_files_with_known_keys(corridor, tmp_path):
    write_results(corridor, tmp_path / "deep" / "out")
    result = json.loads((tmp_path / "deep" / "out" / "result.json").read_text())
    assert list(result) == RESULT_KEYS
    assert (result["frames"], result["radius_m"], result["wrong"], result["refused"]) == (84, 2.0, 0, 0)
    assert result["precision"] == 1.0
    assert result["recall"] == corridor.score.found / corridor.score.revisits
    assert result["model_id"] == network().model_id
    assert list(result["latency_ms"]) == ["keyframe", "describe", "search", "all"]
    for times in result["latency_ms"].values():
        assert list(times) == ["p50", "p95"]
        assert 0 <= times["p50"] <= times["p95"]
    assert sum(result["statuses"].values()) == 84
    assert list(result["statuses"]) == [status.name for status in Status]
    assert result["statuses"]["ACCEPTED"] == result["accepted"] == result["correct"]
    lines = [json.loads(line) for line in (tmp_path / "deep" / "out" / "observations.jsonl").read_text().splitlines()]
    assert [line["stamp_ns"] for line in lines] == [seen.stamp_ns for seen in corridor.observations]
    for line, seen in zip(lines, corridor.observations, strict=True):
        assert list(line) == LINE_KEYS
        assert (line["status"], line["reason"], line["map_size"]) == (seen.status.name, seen.reason, seen.map_size)
        assert (line["searched"], line["session"], line["stages"]) == (seen.searched, seen.session, list(seen.stages))
        assert line["keyframe_id"] == (seen.keyframe.id if seen.keyframe else None)
        assert list(line["stage_ms"]) == [item.stage for item in seen.stage_times]
        for candidate, expected in zip(line["candidates"], seen.candidates, strict=True):
            assert list(candidate) == CANDIDATE_KEYS
            assert candidate["match_id"] == expected.keyframe_id
            assert candidate["similarity"] == expected.similarity


# ---------------------------------------------------------------------------------------------- toy drives


def write_bag(path, frames, poses=True):
    with DriveWriter(path) as bag:
        for item in frames:
            if item.pose and poses:
                bag.odometry(item.stamp_ns, item.pose)
            bag.image(item.stamp_ns, item.image, "rgb8")
    return path


def circle(count=60, places=30):
    for number in range(count):
        angle = 2 * math.pi * number / places
        change = 20 * (number // places)
        yield frame(1 + number, number % places, change, 20 * math.cos(angle), 20 * math.sin(angle))


def replay_toys(path, truth=None, progress=lambda done, total: None):
    with DriveBag(path) as drive:
        return replay(drive, LoopDetector(ToyDescriber()), truth or Truth(1.0), progress)


def test_replay_is_the_detector_frame_by_frame(tmp_path):
    calls = []
    result = replay_toys(write_bag(tmp_path / "bag", circle()), progress=lambda *at: calls.append(at))
    alone = LoopDetector(ToyDescriber())
    for seen, item in zip(result.observations, circle(), strict=True):
        assert without_times(seen)[:3] == without_times(alone.observe(item))[:3]
    assert calls == [(number, 60) for number in range(1, 61)]
    assert (result.score.revisits, result.score.accepted, result.score.correct) == (30, 30, 30)
    assert result.refusals == ()


def test_wrong_loops_are_counted_as_wrong(tmp_path):
    lying = (replace(item, pose=pose_from_yaw(7.0 * number, 0.0, 0.0)) for number, item in enumerate(circle()))
    result = replay_toys(write_bag(tmp_path / "bag", lying))
    assert (result.score.revisits, result.score.accepted, result.score.wrong) == (0, 30, 30)
    shown = result.to_json()
    assert (shown["precision"], shown["recall"], shown["wrong"]) == (0.0, None, 30)


def test_a_drive_without_poses_has_no_score_but_its_loops(tmp_path):
    result = replay_toys(write_bag(tmp_path / "bag", circle(), poses=False))
    shown = result.to_json()
    assert result.score is None
    assert shown["accepted"] == 30
    assert [shown[name] for name in ("revisits", "correct", "wrong", "precision", "recall")] == [None] * 5
    assert list(shown) != []
    assert set(shown) == set(RESULT_KEYS)


def test_a_keyframe_without_a_pose_is_left_out_of_the_judgement():
    running = LoopDetector(ToyDescriber())
    seen = [running.observe(item) for item in circle()]
    assert judge(seen, Truth(1.0)).correct == 30
    later = [
        replace(
            item,
            keyframe=replace(item.keyframe, id=item.keyframe.id * 3),
            candidates=tuple(replace(match, keyframe_id=match.keyframe_id * 3) for match in item.candidates),
        )
        for item in seen
    ]
    assert judge(later, Truth(1.0)) == judge(seen, Truth(1.0))  # ids are names, not places in a row
    half = [
        replace(item, keyframe=replace(item.keyframe, pose=None)) if n == 7 else item for n, item in enumerate(seen)
    ]
    partly = judge(half, Truth(1.0))
    assert (partly.revisits, partly.correct, partly.wrong) == (29, 29, 0)
    assert judge([], Truth(1.0)) is None


def test_bad_images_and_stamps_are_listed_and_do_not_stop_the_drive(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        for second in (1, 2, 3, 3, 2, 4):
            encoding = "wrong8" if second == 2 else "rgb8"
            bag.image(second * SECOND, picture(second), encoding)
    calls = []
    result = replay_toys(tmp_path / "bag", progress=lambda *at: calls.append(at[0]))
    assert [seen.stamp_ns // SECOND for seen in result.observations] == [1, 3, 4]
    assert len(result.refusals) == 3
    assert calls[-1] == 6
    assert any("wrong8" in refusal.reason for refusal in result.refusals)
    assert any("same as" in refusal.reason for refusal in result.refusals)
    assert (result.to_json()["frames"], result.to_json()["refused"]) == (6, 3)


def test_a_bag_of_nothing_but_bad_images_is_an_error(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.image(SECOND, picture(1), "wrong8")
    with pytest.raises(ImageError, match=r"none of its 1 images can be used: .*wrong8"):
        replay_toys(tmp_path / "bag")


def test_a_missing_bag_is_an_error(tmp_path):
    with pytest.raises(BagError, match="does not exist"):
        replay_toys(tmp_path / "absent")


def test_results_that_cannot_be_written_are_an_error(tmp_path):
    result = replay_toys(write_bag(tmp_path / "bag", circle(3)))
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(TscmError, match=r"results cannot be written to .*file"):
            write_results(result, folder)


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).random(101)
    ordered = sorted(values)
    assert percentiles(values) == {"p50": round(ordered[50], 3), "p95": round(ordered[95], 3)}


def test_latency_is_over_the_frames_that_reached_a_stage():
    running = LoopDetector(ToyDescriber())
    seen = [running.observe(frame(0, 0)), running.observe(frame(0.1, 1)), running.observe(frame(1, 2))]
    figures = latency(seen)
    times = [{item.stage: item.milliseconds for item in one.stage_times} for one in seen]
    assert set(figures) == {"all", "keyframe", "describe", "search"}
    assert figures["search"]["p50"] == round((times[0]["search"] + times[2]["search"]) / 2, 3)
    assert figures["all"]["p50"] == round(sorted(sum(one.values()) for one in times)[1], 3)
    assert latency([]) == {}
