"""The peers and the variants of drives that benchmarks/ makes, on toys."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from toys import ToyDescriber, direction

from tscm_core.config import Config
from tscm_core.datasets.drive_source import open_drive
from tscm_core.errors import DatasetError
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.recognition.loop_detector import LoopDetector

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PLACES, SIZE = 24, (192, 144)
TRUTH = Truth(1.0)


def module(name):
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


bags, comparison, drives, kept, tables, variants = map(
    module, ("bag_of_words", "comparison", "drives", "kept", "tables", "variants")
)


class Describer(ToyDescriber):
    """The toy on images that are large enough to have local features; noise does not disturb it."""

    input_size = SIZE

    def __init__(self):
        super().__init__()
        self.asked = 0

    def describe(self, images):
        self.asked += len(images)
        return np.stack([direction(round(float(image[:8, :8].mean()) / 10.0)) for image in images])


def blocks(place):
    """An image with corners, another one for each place."""
    small = np.random.default_rng(place).integers(0, 256, (SIZE[1] // 12, SIZE[0] // 12, 3), np.uint8)
    image = cv2.resize(small, SIZE, interpolation=cv2.INTER_NEAREST)
    image[:8, :8] = 10 * place
    return image


def lap(folder, places):
    (folder / "images").mkdir(parents=True)
    rows = [("image", "x", "y")]
    for number, place in enumerate(places):
        cv2.imwrite(str(folder / "images" / f"{number:03d}.png"), blocks(place)[..., ::-1])
        rows.append((f"{number:03d}.png", float(place), 0.0))
    with (folder / "positions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return lap(folder / "lap1", range(PLACES)), lap(folder / "lap2", range(PLACES))


@pytest.fixture(scope="module")
def two_laps(world):
    return variants.laps(f"{world[0]},{world[1]}")


def bag(seed, words=40):
    row = np.random.default_rng(seed).random(words) * (np.random.default_rng(seed + 1).random(words) < 0.3)
    return (row / row.sum()).astype(np.float32)


def test_the_score_is_that_of_dbow_in_a_plain_loop():
    rows, query = np.stack([bag(seed) for seed in range(20)]), bag(5)
    plain = [1.0 - 0.5 * sum(abs(float(v) - float(w)) for v, w in zip(row, query, strict=True)) for row in rows]
    np.testing.assert_allclose(bags.scores(rows, query), plain, atol=1e-6)
    assert int(np.argmax(bags.scores(rows, query))) == 5


def test_words_are_weighted_by_how_often_they_are_here_and_how_rare_elsewhere():
    idf = np.array([0.0, 1.0, 2.0, 0.5], np.float32)
    row = bags.weighted(np.array([0, 0, 1, 2, 2, 2]), idf)
    np.testing.assert_allclose(row, np.array([0.0, 1.0, 6.0, 0.0]) / 7.0, rtol=1e-6)
    assert not bags.weighted(np.zeros(0, np.int64), idf).any()


@pytest.mark.parametrize("kind", ["ORB", "SIFT"])
def test_a_vocabulary_knows_its_images_again(kind):
    images = [blocks(place) for place in range(8)]
    vocabulary, again = bags.train(images, kind, 48), bags.train(images, kind, 48)
    assert vocabulary.name == again.name
    found = [bags.nearest(bags.extract(image, kind), vocabulary.words) for image in images]
    for word, idf in enumerate(vocabulary.idf):
        having = sum(word in set(one.tolist()) for one in found)
        assert idf == pytest.approx(np.log(8 / max(1, having)), abs=1e-6)
    rows = np.stack([vocabulary.describe(image) for image in images])
    assert [int(np.argmax(bags.scores(rows, row))) for row in rows] == list(range(8))


def test_no_query_of_a_set_trains_its_vocabulary(tmp_path):
    lap(tmp_path, range(6))
    with (tmp_path / "frames.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("image", "split"), *((f"{number:03d}.png", "query" if number % 2 else "gallery") for number in range(6))]
        )
    assert [path.stem for path in bags.training_images(tmp_path)] == ["000", "002", "004"]
    assert [path.stem for path in bags.training_images(tmp_path, most=2)] == ["000", "004"]


def xs(shots):
    return [shot.pose.position[0] for shot in shots]


def times(shots):
    return [(shot.stamp_ns - shots[0].stamp_ns) / 1e9 for shot in shots]


def test_variants_have_the_poses_and_stamps_of_another_way_to_drive(two_laps):
    ways, there = variants.variants(*two_laps, TRUTH), list(range(PLACES))
    steps = [number * variants.STEP_S for number in range(2 * PLACES)]
    assert (xs(ways["plain"]), times(ways["plain"])) == (there + there, steps)
    assert (xs(ways["in reverse"]), times(ways["in reverse"])) == (there + there[::-1], steps)
    assert xs(ways["at half speed"]) == there[::2] + there
    assert times(ways["at half speed"]) == steps[: PLACES // 2 + PLACES]
    left = [number for number in range(2 * PLACES) if (number + 1) % 3]
    assert xs(ways["every third lost"]) == [(there + there)[number] for number in left]
    assert times(ways["every third lost"]) == [steps[number] for number in left]
    assert xs(variants.at_half_speed(*two_laps, two_laps[0] * 2)) == there * 3


def test_a_stand_is_one_pose_for_a_minute_with_fresh_noise(two_laps):
    shots = variants.with_stand(*two_laps, TRUTH)
    stand = [shot for shot in shots if shot.noise is not None]
    assert len(stand) == 900
    assert len(shots) == 2 * PLACES + 900
    assert set(xs(stand)) == {PLACES / 2}
    assert stand[-1].stamp_ns - stand[0].stamp_ns == pytest.approx(899 / 15 * 1e9, abs=2)
    assert all(earlier < later for earlier, later in zip(times(shots), times(shots)[1:], strict=False))
    first, second, plain = stand[0].image(), stand[1].image(), two_laps[1][PLACES // 2].image()
    assert (first != second).mean() > 0.5
    grain = (first.astype(float) - plain)[(plain > 20) & (plain < 235)]
    assert grain.std() == pytest.approx(variants.NOISE, rel=0.1)


def test_a_drive_that_never_comes_back_has_no_place_to_stand(two_laps):
    first, second = two_laps
    with pytest.raises(DatasetError, match="no place of the first lap"):
        variants.with_stand(first[:4], second[10:], TRUTH)


def test_one_folder_is_cut_into_two_laps(world):
    first, second = variants.laps(f"{world[0]}@10")
    assert (xs(first), xs(second)) == (list(range(10)), list(range(10, PLACES)))
    with pytest.raises(DatasetError, match="IMAGES_OF_THE_FIRST"):
        variants.laps(str(world[0]))


def test_variants_are_driven_and_judged_with_odometry_and_without(two_laps):
    detector = LoopDetector(Describer(), Config().replace({"geometry.enabled": False, "temporal.enabled": False}))
    ways = variants.variants(*two_laps, TRUTH)
    for drift in (2.0, None):
        rows = {row["variant"]: row for row in drives.run(detector, ways, TRUTH, drift)}
        assert {row["wrong"] for row in rows.values()} == {0}
        assert rows["plain"]["recall"] == 1.0
        assert rows["every third lost"]["of_the_plain_loops"] == 1.0
        assert rows[variants.STAND]["keyframes_standing"] == rows[variants.STAND]["published_standing"] == 0
        assert rows["plain"]["revisits"] == PLACES


def test_peers_answer_the_same_keyframes_and_are_kept(world, tmp_path):
    vocabulary = bags.train([blocks(place) for place in range(PLACES)], "ORB", 16)

    def rows():
        describer = Describer()
        ours = kept.KeptDescriber(describer, tmp_path)
        bag_rows = kept.Kept(vocabulary.describe, tmp_path / "bags.npz")
        peers = [
            comparison.Peer("bag", bag_rows.of, bags.scores),
            comparison.Peer("top-1", comparison.whole(ours), comparison.inner),
        ]
        with open_drive(world[0]) as first, open_drive(world[1]) as second:
            compared = comparison.Comparison([first, second], ours, peers, Config(), ("bag",))
            found = compared.rows(TRUTH)
            assert {row["wrong_ever"] for row in compared.rows(Truth(2.0 * PLACES))} == {0}
        ours.kept.save()
        bag_rows.save()
        return found, describer.asked

    (found, asked), (again, asked_again) = rows(), rows()
    assert [row["method"] for row in found] == ["bag", "bag + geometry", "top-1", "ours, no odometry test", "ours"]
    by_name = {row["method"]: row for row in found}
    assert by_name["top-1"]["recall_at_100_precision"] == by_name["bag"]["recall_at_100_precision"] == 1.0
    assert by_name["top-1"]["answers"] == by_name["bag"]["answers"] == PLACES + 4
    assert by_name["top-1"]["wrong_ever"] == 4  # lap one's last four see keyframes of ten seconds ago: other places
    assert (asked, asked_again) == (PLACES, 0)
    assert [{**row, "ms": 0} for row in again] == [{**row, "ms": 0} for row in found]


def test_a_geometry_that_confirms_nothing_leaves_no_answers(two_laps):
    config = Config().replace({"geometry.min_inliers": 1000})
    source = variants.ShotDrive(Path("drive"), variants.timed(two_laps[0] + two_laps[1]))
    ours = kept.KeptDescriber(Describer())
    peer = comparison.Peer("top-1", comparison.whole(ours), comparison.inner)
    found = comparison.Comparison([source], ours, [peer], config, ("top-1",)).rows(TRUTH)
    assert [row["answers"] > 0 for row in found] == [True, False, False, False]


def test_json_is_whole_and_names_are_asked_for(tmp_path):
    tables.write_json(tmp_path / "out.json", {"a": 1})
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert tables.named("walk=a=b") == ("walk", "a=b")
    with pytest.raises(Exception, match="NAME=PATH"):
        tables.named("walk")
