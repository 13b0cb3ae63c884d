"""Replaying real drives, judged by their positions; and how a replay deals with what a drive may hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shared_data import network, shared
from toys import SECOND, ToyDescriber, frame, picture, without_times

from tscm_core.config import Config
from tscm_core.datasets.bag_writer import DriveWriter, bag_from_images
from tscm_core.datasets.drive_source import open_drive
from tscm_core.datasets.odometry_drift import OdometryDrive
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import BagError, DatasetError, ImageError, TscmError
from tscm_core.evaluation.figures import curve_of, latency, percentiles
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.judgement import decisions, judge_maps, score_of
from tscm_core.evaluation.replay import labels, replay, replay_all
from tscm_core.evaluation.results import make_folder, staged, write_into, write_results
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Status

LOOKS = Config().replace(
    {
        "geometry.enabled": False,
        "temporal.enabled": False,
        "odometry.enabled": False,
        "candidates.min_similarity": 0.8,
    }
)
"""The toys have no local features, and this is about the replay."""

DRIVE_KEYS = [
    "frames", "refused", "keyframes", "keyframes_without_pose",
    "revisits", "accepted", "correct", "wrong", "precision", "recall", "missed",
    "recall_at_100_precision", "recall_at_99_precision", "auc", "f1", "f1_threshold", "f1_threshold_of",
    "recall_at", "nearest_wrong",
]  # fmt: skip
RESULT_KEYS = [
    *DRIVE_KEYS, "odometry", "radius_m", "max_yaw_deg", "statuses", "stages", "latency_ms", "model_id",
    "one_map", "drives", "ablation", "settings",
]  # fmt: skip
LINE_KEYS = [
    "stamp_ns", "status", "reason", "session", "keyframe_id", "map_size", "thinned", "searched", "stages", "candidates",
    "stage_ms",
]  # fmt: skip
CANDIDATE_KEYS = [
    "rank", "status", "failed", "match_id", "session", "stamp_ns", "similarity", "ratio", "temporal_support",
    "evidence", "matches",
    "inliers", "relative_pose",
]  # fmt: skip


def replay_folder(folder, radius, **settings):
    config = Config().replace({name.replace("__", "."): value for name, value in settings.items()})
    with open_drive(folder) as drive:
        return replay_all([drive], LoopDetector(network(), config), Truth(radius))


@pytest.fixture(scope="module")
def corridor():
    return replay_folder(shared("corridor_two_laps"), 2.0)


def without_latency(result):
    shown = result.to_json()
    shown["latency_ms"] = 0
    shown["drives"] = [{**drive, "latency_ms": 0} for drive in shown["drives"]]
    return shown


# ---------------------------------------------------------------------------------------------- real drives


@pytest.mark.shared_data
def test_corridor_closes_its_second_lap_and_nothing_wrong(corridor):
    assert len(corridor.observations) == 84
    assert (corridor.score.wrong, corridor.score.precision) == (0, 1.0)
    assert corridor.score.recall >= 0.85
    assert curve_of(corridor.judged).recall_at(1.0) >= 0.95
    for seen in corridor.observations:
        for match in seen.accepted:
            lap = (seen.stamp_ns - match.stamp_ns) / SECOND * 2
            assert min(abs(lap - 40), abs(lap - 80)) <= 3


@pytest.mark.shared_data
def test_campus_walk_closes_nothing_at_any_similarity():
    result = replay_folder(shared("campus_walk"), 25.0, candidates__min_similarity=-1.0)
    assert len(result.observations) == 72
    assert (result.score.accepted, result.score.precision) == (0, None)
    assert curve_of(result.judged).thresholds == ()
    assert result.to_json()["nearest_wrong"]["similarity"] > 0.3


@pytest.mark.shared_data
def test_replaying_twice_gives_the_same_from_a_folder_and_from_a_bag(corridor, tmp_path):
    for _ in bag_from_images(shared("corridor_two_laps"), tmp_path / "corridor_two_laps", 2.0):
        pass
    again = replay_folder(tmp_path / "corridor_two_laps", 2.0)
    assert list(map(without_times, again.observations)) == list(map(without_times, corridor.observations))
    ours, theirs = without_latency(corridor), without_latency(again)
    assert ours["drives"][0].pop("path") != theirs["drives"][0].pop("path")
    assert ours == theirs


@pytest.mark.shared_data
def test_results_are_files_with_known_keys(corridor, tmp_path):
    write_results(corridor, tmp_path / "deep" / "out")
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == ["observations.jsonl", "result.json"]
    result = json.loads((tmp_path / "deep" / "out" / "result.json").read_text())
    assert list(result) == RESULT_KEYS
    assert (result["frames"], result["radius_m"], result["wrong"], result["refused"]) == (84, 2.0, 0, 0)
    assert result["recall"] == corridor.score.found / corridor.score.revisits
    assert result["missed"] == corridor.score.revisits - corridor.score.found
    assert result["model_id"] == network().model_id
    stages = ["search", "geometry", "odometry", "temporal"]
    assert result["stages"] == stages
    assert list(result["latency_ms"]) == ["keyframe", "describe", "features", *stages, "all"]
    for times in result["latency_ms"].values():
        assert list(times) == ["p50", "p95"]
        assert 0 <= times["p50"] <= times["p95"]
    assert sum(result["statuses"].values()) == 84
    assert list(result["statuses"]) == [status.name for status in Status]
    assert result["settings"] == {name: value for name, value, _ in Config().settings()}
    (drive,) = result["drives"]
    assert list(drive) == ["path", "session", "odometry", *DRIVE_KEYS, "statuses", "latency_ms"]
    assert {name: drive[name] for name in DRIVE_KEYS} == {name: result[name] for name in DRIVE_KEYS}
    assert result["ablation"] is None


@pytest.mark.shared_data
def test_every_frame_is_a_line(corridor, tmp_path):
    write_results(corridor, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "observations.jsonl").read_text().splitlines()]
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
            assert candidate["failed"] == [status.name for status in expected.failed]
            assert (candidate["failed"] or ["ACCEPTED"])[0] == candidate["status"]


# ---------------------------------------------------------------------------------------------- toy drives


def write_bag(path, frames, poses=True):
    with DriveWriter(path) as bag:
        for item in frames:
            if item.pose and poses:
                bag.odometry(item.stamp_ns, item.pose)
            bag.image(item.stamp_ns, item.image, "rgb8")
    return path


def circle(count=60, places=30, start=0, change=20, **pose):
    for number in range(start, start + count):
        angle = 2 * math.pi * number / places
        turned = change * (number // places)
        yield frame(1 + number, number % places, turned, 20 * math.cos(angle), 20 * math.sin(angle), **pose)


class Frames:
    """Frames in memory as a source of a drive."""

    def __init__(self, path, frames):
        self.path, self._frames = Path(path), list(frames)
        self.image_count = len(self._frames)

    def frames(self, refuse=None, wanted=None):
        return iter(self._frames)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def replay_toys(path, truth=None, progress=lambda done, total: None):
    with DriveBag(path) as drive:
        return replay(drive, LoopDetector(ToyDescriber(), LOOKS), truth or Truth(1.0), progress)


def replay_frames(*drives, one_map=False, truth=None, config=LOOKS, **options):
    return replay_all(drives, LoopDetector(ToyDescriber(), config), truth or Truth(1.0), one_map, **options)


def test_replay_is_the_detector_frame_by_frame(tmp_path):
    calls = []
    result = replay_toys(write_bag(tmp_path / "bag", circle()), progress=lambda *at: calls.append(at))
    alone = LoopDetector(ToyDescriber(), LOOKS)
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
    for name in ("auc", "f1", "f1_threshold", "recall_at_100_precision", "recall_at_99_precision"):
        assert shown[name] is None
    assert shown["recall_at"] == {"1": None, "5": None, "10": None}
    nearest = shown["nearest_wrong"]
    assert nearest["similarity"] == max(match.similarity for seen in result.observations for match in seen.candidates)
    assert (nearest["stamp_ns"] - nearest["match_stamp_ns"], nearest["status"]) == (30 * SECOND, "ACCEPTED")


def test_a_drive_without_poses_has_no_score_but_its_loops(tmp_path):
    result = replay_toys(write_bag(tmp_path / "bag", circle(), poses=False))
    shown = result.to_json()
    assert result.score is None
    assert (shown["accepted"], shown["keyframes_without_pose"], shown["odometry"]) == (30, 60, "none")
    counted = {"frames", "refused", "keyframes", "keyframes_without_pose", "accepted", "recall_at", "f1_threshold_of"}
    judged = set(DRIVE_KEYS) - counted
    assert [shown[name] for name in judged] == [None] * len(judged)
    assert shown["recall_at"] == {"1": None, "5": None, "10": None}
    assert set(shown) == set(RESULT_KEYS)


def test_a_keyframe_without_a_pose_is_left_out_of_the_judgement():
    running = LoopDetector(ToyDescriber(), LOOKS)
    seen = [running.observe(item) for item in circle()]
    all_judged = judge_maps([seen], Truth(1.0))
    assert score_of(all_judged).correct == 30
    later = [
        replace(
            item,
            query=replace(item.query, id=item.query.id * 3),
            keyframe=replace(item.keyframe, id=item.keyframe.id * 3),
            span=(item.span[0] * 3, item.span[1] * 3),
            candidates=tuple(replace(match, keyframe_id=match.keyframe_id * 3) for match in item.candidates),
        )
        for item in seen
    ]
    # ids are names, not places in a row
    assert [frame.verdict for frame in judge_maps([later], Truth(1.0))] == [frame.verdict for frame in all_judged]
    half = [
        replace(item, query=replace(item.query, pose=None), keyframe=replace(item.keyframe, pose=None))
        if n == 7
        else item
        for n, item in enumerate(seen)
    ]
    partly = judge_maps([half], Truth(1.0))
    scored = score_of(partly)
    assert (scored.revisits, scored.correct, scored.wrong) == (29, 29, 0)
    taken = decisions(partly)
    assert len(taken) == 59
    assert {one.right for one in taken if one.match == 7} == {None}
    assert score_of(judge_maps([[]], Truth(1.0))) is None


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


# ---------------------------------------------------------------------------------------------- the figures


def test_a_decision_is_the_first_candidate_that_failed_nothing_but_the_threshold():
    """At a threshold that nobody reaches, the curve is that of everything that only the threshold refused."""
    high = LOOKS.replace({"candidates.min_similarity": 1.0, "candidates.max_ratio": 0.95})
    strict, loose = (
        replay_frames(Frames(tmp, circle()), config=config)
        for tmp, config in (("a", high), ("a", LOOKS.replace({"candidates.min_similarity": -1.0})))
    )
    assert strict.score.accepted == 0
    for frame_of, taken in zip(strict.judged, decisions(strict.judged), strict=True):
        passing = [match for match in frame_of.observation.candidates if set(match.failed) <= {Status.LOW_SIMILARITY}]
        assert taken.score == (passing[0].similarity if passing else 0.0)
        assert (taken.match is None) == (not passing)
    assert curve_of(strict.judged).recall_at(0.0) == 1.0
    assert loose.score.found == 30


@pytest.mark.shared_data
def test_with_temporal_support_the_score_is_its_evidence(corridor):
    for frame_of, taken in zip(corridor.judged, decisions(corridor.judged), strict=True):
        passing = [match for match in frame_of.observation.candidates if set(match.failed) <= {Status.LOW_SIMILARITY}]
        assert taken.score == (passing[0].evidence if passing else 0.0)
    assert corridor.to_json()["f1_threshold_of"] == "temporal.min_evidence"


def test_recall_at_rank_and_missed_equal_a_plain_loop():
    """Poses that lie by a few metres, so that the right place is not always the most similar one."""
    rng = np.random.default_rng(5)
    lying = [
        replace(item, pose=pose_from_yaw(*(np.array(item.pose.position[:2]) + rng.normal(0, 8, 2)), 0.0))
        for item in circle(change=200)
    ]
    config = LOOKS.replace({"candidates.min_similarity": 0.4, "candidates.top_places": 8})
    result = replay_frames(Frames("a", lying), truth=Truth(9.0), config=config)
    poses = {seen.keyframe.id: seen.keyframe.pose.position for seen in result.observations}
    hits, missed, revisits, nearest = {1: 0, 5: 0}, 0, 0, 0.0
    for seen in result.observations:
        here = seen.keyframe.id
        same = [other for other in list(poses)[: seen.searched] if math.dist(poses[here], poses[other]) <= 9.0]
        right = [match for match in seen.candidates if match.keyframe_id in same]
        wrong = [match.similarity for match in seen.candidates if match.keyframe_id not in same]
        nearest = max([nearest, *wrong])
        revisits += bool(same)
        missed += bool(same) and not any(match.status is Status.ACCEPTED for match in right)
        for k in hits:
            hits[k] += any(match.rank <= k for match in right)
    shown = result.to_json()
    assert 0 < hits[1] < hits[5] < revisits
    assert (shown["revisits"], shown["missed"]) == (revisits, missed)
    assert shown["recall_at"] == {"1": hits[1] / revisits, "5": hits[5] / revisits, "10": None}
    assert shown["nearest_wrong"]["similarity"] == nearest
    assert missed == sum(frame.missed for frame in result.judged)


# ---------------------------------------------------------------------------------------------- several drives


def test_drives_with_a_map_each_are_pooled_and_listed(tmp_path):
    a, b = Frames(tmp_path / "monday", circle(60)), Frames(tmp_path / "tuesday", circle(45))
    calls = []
    both = replay_frames(a, b, progress=lambda *at: calls.append(at))
    alone = [replay_frames(one) for one in (a, b)]
    assert calls == [(number, 105) for number in range(1, 106)]
    assert [len(drives) for drives in both.maps] == [1, 1]
    assert (both.score.revisits, both.score.found) == (45, 45)
    for drive, single in zip(both.drives, alone, strict=True):
        assert list(map(without_times, drive.observations)) == list(map(without_times, single.observations))
    shown = without_latency(both)
    assert shown["drives"] == [drive for single in alone for drive in without_latency(single)["drives"]]
    assert [drive["session"] for drive in shown["drives"]] == ["monday", "tuesday"]
    pairs = set(both.score.correct_pairs)
    assert pairs == {(n + 30, n) for n in range(30)} | {(60 + n + 30, 60 + n) for n in range(15)}


def test_drives_on_one_map_find_the_places_of_those_before(tmp_path):
    a, b = Frames(tmp_path / "monday", circle(30)), Frames(tmp_path / "tuesday", circle(30))
    apart, together = (replay_frames(a, b, one_map=one_map) for one_map in (False, True))
    assert (apart.score.revisits, apart.score.accepted) == (0, 0)
    assert (together.score.revisits, together.score.accepted, together.score.correct) == (30, 30, 30)
    assert set(together.score.correct_pairs) == {(30 + number, number) for number in range(30)}
    assert [drive["revisits"] for drive in together.to_json()["drives"]] == [0, 30]
    (one,) = together.maps
    assert [drive.label for drive in one] == ["monday", "tuesday"]
    loops = [match for seen in together.observations for match in seen.accepted]
    assert {match.session for match in loops} == {"monday"}


def test_a_replay_begins_with_an_empty_map_whatever_the_detector_saw():
    detector = LoopDetector(ToyDescriber(), LOOKS)
    first = replay_all([Frames("a", circle(30))], detector, Truth(1.0))
    again = replay_all([Frames("a", circle(30))], detector, Truth(1.0), one_map=True)
    assert list(map(without_times, first.observations)) == list(map(without_times, again.observations))


def test_drives_in_different_frames_cannot_share_a_map(tmp_path):
    odom, world, here, there = (
        Frames(tmp_path / name, circle(5, frame_id=frame_id))
        for name, frame_id in (("a", "odom"), ("b", "map"), ("c", "enu"), ("d", "enu"))
    )
    with pytest.raises(DatasetError, match=r"a and .*b cannot be judged on one map: .* in odom and .* in map"):
        replay_frames(odom, world, one_map=True)
    with pytest.raises(DatasetError, match=r"c and .*d cannot be judged on one map: .* own first fix"):
        replay_frames(here, there, one_map=True)
    assert len(replay_frames(here, there).drives) == 2
    unknown = Frames(tmp_path / "e", [replace(item, pose=None) for item in circle(5)])
    assert len(replay_frames(odom, unknown, odom, one_map=True).judged) > 5


def test_drives_are_named_so_that_they_can_be_told_apart(tmp_path):
    a, b = tmp_path / "x" / "lap", tmp_path / "y" / "lap"
    assert labels([a, tmp_path / "z"]) == ["lap", "z"]
    assert labels([a, b]) == [str(a), str(b)]
    assert labels([a, a, tmp_path / "x" / ".." / "x" / "lap"]) == ["lap (1)", "lap (2)", "lap (3)"]
    assert labels([a, b, a]) == [f"{a} (1)", str(b), f"{a} (2)"]


# ---------------------------------------------------------------------------------------------- true poses


BLIND = LOOKS.replace(
    {
        "keyframes.min_distance_m": 0.0,
        "keyframes.min_angle_deg": 0.0,
        "recency.metres": 0.0,
        "candidates.place_radius_m": 0.0,
    }
)
"""The poses of the frames decide nothing."""


class Lying(Frames):
    """The frames say that the robot stands still; where it truly was is known apart."""

    odometry = "/odom"

    def __init__(self, path, frames):
        true = list(frames)
        super().__init__(path, [replace(one, pose=pose_from_yaw(0.0, 0.0, 0.0)) for one in true])
        self.true_poses = {one.stamp_ns: one.pose for one in true}


def test_true_poses_judge_where_the_drive_has_them():
    truth, lie = (replay_frames(kind("a", circle(45)), config=BLIND) for kind in (Frames, Lying))
    assert [frame.verdict for frame in lie.judged] == [frame.verdict for frame in truth.judged]
    assert (lie.score.revisits, lie.score.correct, lie.score.wrong) == (15, 15, 0)
    assert {seen.keyframe.pose.position for seen in lie.observations} == {(0.0, 0.0, 0.0)}
    assert (truth.odometry, lie.odometry) == ("as truth", "/odom")
    assert lie.to_json()["drives"][0]["odometry"] == "/odom"


def test_each_drive_is_judged_by_its_own_true_poses():
    """The stamps of both drives are the same, the places are not; one_map is refused by the frames of the truth."""
    there = [replace(one, pose=pose_from_yaw(500.0, 0.0, 0.0)) for one in circle(30)]
    result = replay_frames(Lying("a", circle(30)), Lying("b", there), one_map=True, config=BLIND)
    assert (result.score.correct, result.score.wrong) == (0, 30)
    places = [result.true_poses.of(frame.keyframe).position[0] for frame in result.judged]
    assert places[:30] == [one.pose.position[0] for one in circle(30)]
    assert places[30:] == [500.0] * 30
    other = Lying("b", circle(30, frame_id="map"))
    with pytest.raises(DatasetError, match="in odom and those of b in map"):
        replay_frames(Lying("a", circle(30)), other, one_map=True, config=BLIND)


def test_the_detector_may_have_no_poses_at_all():
    with OdometryDrive(Frames("a", circle(45)), None) as drive:
        blind = replay_frames(drive)
    assert {seen.keyframe.pose for seen in blind.observations} == {None}
    assert (blind.score.revisits, blind.score.correct) == (15, 15)
    shown = blind.to_json()
    assert (shown["odometry"], shown["keyframes_without_pose"]) == ("none", 0)


# ---------------------------------------------------------------------------------------------- files and times


def test_results_that_cannot_be_written_are_an_error(tmp_path):
    result = replay_toys(write_bag(tmp_path / "bag", circle(3)))
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(TscmError, match=r"results cannot be written to .*file"):
            write_results(result, folder)
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(TscmError, match=r"results cannot be written to .*out: report.html there is a folder"):
        make_folder(tmp_path / "out")


def write_and_fail(result, folder, error):
    with staged(folder) as aside:
        write_into(result, aside)
        raise error


def test_files_come_all_at_once_or_not_at_all(tmp_path):
    result = replay_frames(Frames("a", circle(3)))
    (tmp_path / "result.json").write_text("of yesterday")
    with pytest.raises(TscmError, match=r"results cannot be written to .*: No space left"):
        write_and_fail(result, tmp_path, OSError(28, "No space left"))
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(result, tmp_path, KeyboardInterrupt())
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == "of yesterday"
    write_results(result, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["frames"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["observations.jsonl", "result.json"]


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).random(101)
    ordered = sorted(values)
    assert percentiles(values) == {"p50": round(ordered[50], 3), "p95": round(ordered[95], 3)}


def test_latency_is_over_the_frames_that_reached_a_stage():
    running = LoopDetector(ToyDescriber(), LOOKS)
    seen = [running.observe(frame(0, 0)), running.observe(frame(0.1, 1)), running.observe(frame(1, 2))]
    figures = latency(seen)
    times = [{item.stage: item.milliseconds for item in one.stage_times} for one in seen]
    assert {"all", "keyframe", "describe", "search"} <= set(figures)
    assert figures["search"]["p50"] == round((times[0]["search"] + times[2]["search"]) / 2, 3)
    assert figures["all"]["p50"] == round(sorted(sum(one.values()) for one in times)[1], 3)
    assert latency([]) == {}
