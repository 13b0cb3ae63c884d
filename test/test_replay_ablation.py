"""The ablation of a replay: every variant as if it had been replayed alone, and the work of all done once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from toys import ToyDescriber, frame, without_times

from tscm_core.config import Config
from tscm_core.evaluation.ablation import FULL, VARIANTS, Ablation
from tscm_core.evaluation.figures import curve_of
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.remembering import RememberingDescriber, RememberingMatcher
from tscm_core.evaluation.replay import replay_all
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.two_view import TwoView

CONFIG = Config().replace(
    {
        "candidates.min_similarity": 0.8,
        "candidates.max_ratio": 0.95,
        "geometry.min_inliers": 20,
        "temporal.certain_inliers": 1000,
        "temporal.min_support": 3,
    }
)
TRUTH = Truth(1.0)
BOTH = "+ geometry + temporal"


class Clock:
    """Time passes only while somebody works."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Describing(ToyDescriber):
    def __init__(self, clock):
        super().__init__()
        self.clock, self.count = clock, 0

    def describe(self, images):
        self.count += len(images)
        self.clock.seconds += 1.0 * len(images)
        return super().describe(images)


class Matching:
    """What stands in the second pixel of an image is its structure: equal structures have 40 inliers, others none."""

    def __init__(self, clock):
        self.clock, self.extracted, self.verified = clock, 0, 0

    def extract(self, seen, rule):
        self.extracted += 1
        self.clock.seconds += 0.125
        descriptors = np.zeros((1, 32), np.uint8)
        descriptors[0, :3] = seen.image[0, 1]
        return LocalFeatures(np.zeros((1, 2), np.float32), descriptors, np.full(1, np.nan, np.float32), 32, 24)

    def verify(self, query, match, rule):
        self.verified += 1
        self.clock.seconds += 0.03125
        same = np.array_equal(query.descriptors, match.descriptors)
        return TwoView(np.zeros((50, 2), np.int64), np.arange(50) < 40 * same)


def shown(number, look, structure, x, y):
    seen = frame(1 + number, look, 20, x, y)
    image = seen.image.copy()
    image[0, 0, 2] = 10 * (number // 30)  # a little less similar on the second lap
    image[0, 1] = structure, 0, 0
    return replace(seen, image=image)


def two_laps():
    """Frame 40 looks like place 25 and is not; frame 47 sees what frame 17 saw, in another place of the same build."""
    for number in range(60):
        place, angle = number % 30, 2 * math.pi * (number % 30) / 30
        look = 25 if number == 40 else place
        structure = 200 if number == 40 else place
        aside = 50.0 if number == 47 else 0.0
        yield shown(number, look, structure, 20 * math.cos(angle) + aside, 20 * math.sin(angle))


@dataclass
class Frames:
    path: Path
    seen: list

    @property
    def image_count(self):
        return len(self.seen)

    def frames(self, refuse=None):
        return iter(self.seen)


@pytest.fixture
def source(tmp_path):
    return Frames(tmp_path / "laps", list(two_laps()))


@pytest.fixture
def workers(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return Describing(clock), Matching(clock)


@pytest.fixture
def ablated(source, workers):
    describer, matcher = workers
    calls = []

    def progress_of(name):
        return lambda done, total: calls.append((name, done, total))

    remembering = RememberingDescriber(describer), RememberingMatcher(matcher)
    detector, result = Ablation([source], *remembering, CONFIG, TRUTH).run(progress_of)
    return detector, result, {row.variant: row for row in result.ablation}, calls


def test_variants_are_told_in_their_order(ablated):
    _, result, rows, calls = ablated
    assert list(rows) == list(VARIANTS) == ["top-1", "ratio", "+ temporal", "+ geometry", BOTH, FULL]
    further = [(), (), ("temporal",), ("geometry",), ("geometry", "temporal"), ("geometry", "odometry", "temporal")]
    assert [row.stages for row in rows.values()] == [("search", *stages) for stages in further]
    assert result.stages == rows[FULL].stages
    assert list(dict.fromkeys(name for name, *_ in calls)) == [FULL, *list(VARIANTS)[:-1]]
    assert {(done, total) for _, done, total in calls} == {(number, 60) for number in range(1, 61)}


def test_each_variant_is_what_a_replay_with_its_settings_gives(ablated, source):
    _, _, rows, _ = ablated
    for name, row in rows.items():
        config = CONFIG.replace(VARIANTS[name])
        alone = replay_all([source], LoopDetector(ToyDescriber(), config, matcher=Matching(Clock())), TRUTH)
        assert (row.score, row.curve, row.accepted) == (alone.score, curve_of(alone.judged), alone.accepted)


def test_the_full_variant_is_the_result(ablated, source):
    detector, result, rows, _ = ablated
    plain = replay_all([source], LoopDetector(ToyDescriber(), CONFIG, matcher=Matching(Clock())), TRUTH)
    assert list(map(without_times, result.observations)) == list(map(without_times, plain.observations))
    assert (rows[FULL].score, rows[FULL].changes, result.config) == (result.score, {}, CONFIG)
    assert detector.features_of(1) is not None


def test_each_stage_removes_what_it_is_for(ablated):
    """A wrong loop breeds another: frame 55, at place 25, takes frame 40 for it, which is joined to it by then."""
    rows = ablated[2]
    wrong = {name: {query for query, _ in row.score.wrong_pairs} for name, row in rows.items()}
    assert wrong["top-1"] == wrong["ratio"] == {40, 47, 55}
    assert 40 not in wrong["+ temporal"]  # it comes alone
    assert wrong["+ geometry"] == {47}  # the others are of another build
    assert 40 not in wrong[BOTH]
    assert wrong[FULL] == set()  # odometry puts the place of frame 47 somewhere else
    assert rows["top-1"].score.revisits == 29
    assert rows["+ geometry"].score.recall == 28 / 29  # frame 40 was a revisit


def test_the_work_is_done_once_and_counted_for_everybody(ablated, workers):
    describer, matcher = workers
    _, result, rows, _ = ablated
    assert (describer.count, matcher.extracted) == (60, 60)
    pairs = sum(min(len(seen.candidates), CONFIG.geometry.places) for seen in result.observations)
    assert pairs <= matcher.verified < 2 * pairs  # not three times, though three variants verify
    assert [rows[name].frame_ms for name in ("top-1", "ratio", "+ temporal")] == [1000.0] * 3
    assert rows[FULL].frame_ms == pytest.approx(1125.0 + 31.25 * pairs / 60)
    assert rows["+ geometry"].frame_ms == pytest.approx(rows[FULL].frame_ms, rel=0.01)
    assert result.to_json()["latency_ms"]["describe"] == {"p50": 1000.0, "p95": 1000.0}


def test_rows_are_in_the_result_and_without_poses_hold_only_what_is_known(source, workers, tmp_path):
    blind = Frames(tmp_path / "blind", [replace(item, pose=None) for item in source.seen])
    remembering = RememberingDescriber(workers[0]), RememberingMatcher(workers[1])
    _, result = Ablation([blind], *remembering, CONFIG, TRUTH).run(lambda name: lambda done, total: None)
    rows = result.to_json()["ablation"]
    assert [row["variant"] for row in rows] == list(VARIANTS)
    for row in rows:
        known = {name for name, value in row.items() if value is not None}
        assert known == {"variant", "settings", "stages", "accepted", "mean_ms"}
    assert rows[0]["settings"] == VARIANTS["top-1"]
    assert rows[0]["accepted"] > 0
