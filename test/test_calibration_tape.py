"""A tape played finds what the images find; a grid over tapes is labelled by poses, or by the drive itself."""

from dataclasses import replace

import numpy as np
import pytest
from toys import ToyDescriber, frame

from tscm_core.config import Config
from tscm_core.evaluation.calibration_evidence import Setting
from tscm_core.evaluation.calibration_grid import PoseLabels, changes, evidence_of, exact, gather, passes, settings
from tscm_core.evaluation.calibration_labels import SelfLabels
from tscm_core.evaluation.calibration_tape import Tape, number_of, stand_in
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.replay import replay_all
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Candidate, Status
from tscm_core.recognition.two_view import TwoView

PLACES, SPARE = 40, 7
CONFIG = Config().replace({"recency.keyframes": 3, "recency.seconds": 3.0, "candidates.place_keyframes": 2})


class ToyMatcher:
    """The place of a picture is its only feature; two pictures of one place have many inliers, neighbours fewer."""

    def __init__(self, alike=(), most=90):
        self.alike = alike
        self.most = most
        self.extracted = 0

    def extract(self, frame, rule):
        self.extracted += 1
        red, green, _ = frame.image[0, 0]
        place = np.full((1, 32), red, np.uint8)
        place[0, 1:] = green
        nothing = np.full(1, np.nan, np.float32)
        return LocalFeatures(np.zeros((1, 2), np.float32), place, nothing, 64, 48)

    def verify(self, query, match, rule):
        a, b = (int(one.descriptors[0, 0]) + 256 * int(one.descriptors[0, 1]) for one in (query, match))
        count = {0: self.most, 1: 30, 2: 15}.get(abs(a - b), 9)
        if (a, b) in self.alike:
            count = 25
        pairs = np.zeros((100, 2), np.int64)
        return TwoView(pairs, np.arange(100) < count, None)


class ToyDrive:
    """Places in a row, one a second and two metres apart, with or without poses."""

    def __init__(self, path, numbers, poses=True, start=0):
        self.path, self.numbers, self.poses, self.start = path, numbers, poses, start
        self.image_count = len(numbers)

    def frames(self, refuse=None, wanted=None):
        for second, place in enumerate(self.numbers, start=self.start):
            yield frame(second, place, change=second % 7, x=2.0 * place if self.poses else None)


def two_laps(poses=True):
    """One lap, some new places, the lap again."""
    return [*range(PLACES), *range(100, 100 + SPARE), *range(PLACES)]


def recorded(tmp_path, numbers, poses=True, matcher=None, config=CONFIG):
    matcher = matcher or ToyMatcher()
    detector = LoopDetector(ToyDescriber(), config, matcher=matcher)
    half = PLACES + SPARE
    sources = [
        ToyDrive(tmp_path / "monday", numbers[:half], poses),
        ToyDrive(tmp_path / "tuesday", numbers[half:], poses),
    ]
    result = replay_all(sources, detector, Truth(2.5), one_map=True)
    return sources, Tape(result, ToyDescriber(), config, matcher)


def without_images(observation):
    """What was found of a keyframe, without what only pictures or clocks say."""
    keyframe = replace(observation.keyframe, descriptor=None, thumbnail_jpeg=b"", features=None)
    return replace(observation, keyframe=keyframe, query=keyframe, stage_times=())


@pytest.mark.parametrize("poses", [True, False])
@pytest.mark.parametrize(
    "changed", [{}, changes(Setting(40, 5, 80), 0.9), changes(Setting(12, 1, 12), -1.0), {"candidates.max_ratio": 0.5}]
)
def test_a_tape_played_finds_what_the_images_find(tmp_path, poses, changed):
    sources, tape = recorded(tmp_path, two_laps(), poses)
    detector = LoopDetector(ToyDescriber(), CONFIG.replace(changed), matcher=ToyMatcher())
    direct = replay_all(sources, detector, Truth(2.5), one_map=True)
    played = tape.play(changed)
    keyframes = [seen for seen in direct.observations if seen.keyframe]
    assert len(keyframes) == len(played.observations) > 80
    for ours, theirs in zip(played.observations, keyframes, strict=True):
        assert without_images(ours) == without_images(theirs)
    assert played.score == direct.score


def test_images_are_looked_at_once(tmp_path):
    matcher = ToyMatcher()
    _, tape = recorded(tmp_path, two_laps(), matcher=matcher)
    before = matcher.extracted
    tape.play({})
    tape.play(changes(Setting(15, 2, 60)))
    assert matcher.extracted == before == len(tape.keyframes)


def test_stand_in_pictures_carry_their_number():
    assert [number_of(stand_in(number)) for number in (0, 255, 256, 10**9)] == [0, 255, 256, 10**9]


def test_the_grid_holds_the_settings_in_use_and_never_lowers_what_is_certain():
    config = Config().replace({"geometry.min_inliers": 22, "temporal.min_support": 7, "temporal.certain_inliers": 66})
    grid = settings(config)
    assert Setting(22, 7, 66) in grid
    assert {one.certain_inliers for one in grid if one.min_inliers == 40} == {120}
    assert {one.certain_inliers for one in grid if one.min_inliers <= 22} == {66}
    assert len(grid) == len(set(grid)) == 8 * 6


def test_poses_label_the_pairs(tmp_path):
    _, tape = recorded(tmp_path, two_laps())
    firm = Setting(40, 3, 90)
    evidence = gather([tape, tape], [PoseLabels()] * 2, [firm])
    assert len(evidence.revisits) == 2 * PLACES
    assert evidence.unknown == 0
    assert all(pair.right and not pair.wrong for pair in evidence.pairs[firm])
    found = exact([tape, tape], [PoseLabels()] * 2, _figures(evidence, firm))
    assert (found.found, found.wrong) == (2 * PLACES, 0)


def _figures(evidence, setting):
    from tscm_core.evaluation.calibration_figures import Choice

    return Choice(evidence).figures(setting, 0.6)


def test_a_drive_without_poses_labels_itself(tmp_path):
    _, tape = recorded(tmp_path, two_laps(), poses=False)
    assert not tape.has_poses
    evidence = gather([tape], [SelfLabels(tape)], [Setting(12, 1, 60)])
    second_lap = range(PLACES + SPARE, 2 * PLACES + SPARE)
    assert evidence.revisits == set(second_lap)
    assert evidence.strangers >= set(range(PLACES, PLACES + SPARE))


def test_a_lone_likeness_is_no_proof_and_counts_against_the_thresholds(tmp_path):
    alike = {(100 + n, 10) for n in range(SPARE)}
    _, tape = recorded(tmp_path, two_laps(), poses=False, matcher=ToyMatcher(alike))
    lax = Setting(12, 1, 12)
    frames = tape.play({**changes(lax), "candidates.min_similarity": -1.0, "candidates.top_places": 100,
                        "geometry.places": 100}).judged  # fmt: skip
    pairs = evidence_of([([lax], frames)], SelfLabels(tape)).pairs[lax]
    doubtful = [pair for pair in pairs if pair.query in range(PLACES, PLACES + SPARE)]
    assert doubtful
    assert all(pair.wrong and not pair.right for pair in doubtful)


def test_settings_that_share_a_replay_get_what_their_own_would_give(tmp_path):
    _, tape = recorded(tmp_path, two_laps(), matcher=ToyMatcher(most=50))
    grid = [Setting(20, support, 60) for support in (1, 2, 3, 5)]
    together = gather([tape], [PoseLabels()], grid, min_similarity=0.6)
    for setting in grid:
        alone = gather([tape], [PoseLabels()], [setting], min_similarity=0.6)
        assert together.pairs[setting] == alone.pairs[setting]
    assert [len(together.pairs[setting]) for setting in grid] == [40, 39, 38, 36]


class DriftingDrive(ToyDrive):
    """Its frames carry poses that drift; the true ones judge."""

    odometry = "wheels"

    @property
    def true_poses(self):
        return {one.stamp_ns: one.pose for one in ToyDrive.frames(self)}

    def frames(self, refuse=None, wanted=None):
        for one in super().frames(refuse, wanted):
            x, y, z = one.pose.position
            yield replace(one, pose=replace(one.pose, position=(1.3 * x + 500.0, y, z)))


def test_a_tape_is_judged_by_the_true_poses_where_odometry_drifts(tmp_path):
    sources = [DriftingDrive(tmp_path / "monday", range(PLACES)), DriftingDrive(tmp_path / "tuesday", range(PLACES))]
    detector = LoopDetector(ToyDescriber(), CONFIG, matcher=ToyMatcher())
    direct = replay_all(sources, detector, Truth(1.0), one_map=True)
    played = Tape(direct, ToyDescriber(), CONFIG, ToyMatcher()).play({})
    assert played.score == direct.score
    assert direct.score.revisits == PLACES


@pytest.mark.parametrize(
    ("failed", "support", "inliers", "passed"),
    [
        ((), 3, 25, True),
        ((Status.LOW_SIMILARITY,), 3, 25, True),
        ((Status.NOT_CONSISTENT,), 3, 25, True),
        ((Status.NOT_CONSISTENT,), 2, 25, False),
        ((), 1, 99, True),
        ((Status.NOT_CONSISTENT,), 0, 99, False),
        ((Status.AMBIGUOUS,), 5, 99, False),
        ((Status.NO_GEOMETRY, Status.NOT_CONSISTENT), 0, 0, False),
    ],
)
def test_what_another_support_would_accept(failed, support, inliers, passed):
    first = failed[0] if failed else Status.ACCEPTED
    candidate = Candidate(1, "a", 0, None, 0.9, 0.0, 1, first, support, inliers, inliers, failed=failed)
    assert passes(candidate, Setting(20, 3, 60)) is passed
