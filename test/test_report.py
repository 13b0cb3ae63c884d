"""The page of a replay: it says what the result says, shows every pair, holds together, and needs nobody else."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from toys import SECOND, ToyDescriber, frame

from tscm_core.config import Config
from tscm_core.datasets.odometry_drift import OdometryDrive
from tscm_core.errors import DatasetError, TscmError
from tscm_core.evaluation.figures import AblationRow, curve_of
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.replay import replay_all
from tscm_core.evaluation.report import write_report
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Status

VOID = {"meta", "img", "br", "path"}
PLAIN = {
    "keyframes.min_interval_s": 0.0,
    "keyframes.min_texture": 0.0,
    "recency.keyframes": 2,
    "recency.seconds": 0.0,
    "recency.metres": 0.0,
    "candidates.min_similarity": 0.75,
    "candidates.max_ratio": 1.0,
    "candidates.place_keyframes": 0,
    "candidates.place_radius_m": 0.0,
    "geometry.enabled": False,
    "odometry.enabled": False,
    "temporal.enabled": False,
}


class Toy:
    """A drive of toy frames."""

    def __init__(self, path, frames):
        self.path, self._frames, self.image_count = Path(path), frames, len(frames)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def frames(self, refuse=None, wanted=None):
        yield from (one for one in self._frames if wanted is None or one.stamp_ns in wanted)


class Page(HTMLParser):
    """What stands on a page: its words by section, its tables, its pictures; and whether every tag is closed."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.words, self.sections, self.attributes = [], [], {}, []
        self.tables, self.markup = [], markup
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID or tag == "path":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag == "h2":
            self.sections[len(self.sections)] = ["", ""]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" in self.open or "script" in self.open:
            return
        self.words.append(data)
        if self.open[-1:] == ["td"]:
            self.tables[-1][-1].append(data)
        if self.sections and self.open:
            last = self.sections[len(self.sections) - 1]
            last[self.open[-1] != "h2"] += data + " "

    def section(self, name):
        return next(words for head, words in self.sections.values() if head.startswith(name))

    def values(self, attribute):
        return [value for _, name, value in self.attributes if name == attribute]

    def tile(self, name):
        """The figure that stands below a name in the head."""
        return self.words[self.words.index(name) + 1]


def drive(places, label="drive", changes=None, poses=True):
    """One frame a second; ``places``: what each looks like and where it stands."""
    frames = [
        frame(second, place, (changes or {}).get(second, 0), x if poses else None)
        for second, (place, x) in enumerate(places, start=1)
    ]
    return Toy(label, frames)


def report(tmp_path, *sources, settings=None, one_map=False, title="", alter=lambda result: result):
    detector = LoopDetector(ToyDescriber(), Config().replace(PLAIN | (settings or {})))
    result = alter(replay_all(sources, detector, Truth(1.0), one_map))
    path = tmp_path / "report.html"
    write_report(result, detector, sources, path, title=title)
    return result, Page(path.read_text(encoding="utf-8"))


LOOPS = [(1, 0.0), (2, 10.0), (3, 20.0), (4, 30.0), (5, 40.0), (1, 0.2), (3, 50.0), (9, 20.1), (8, 30.1), (2, 10.3)]
"""Right at 6 (as 1) and 10 (as 2), wrong at 7 (as 3), missed at 8 (place of 3) and 9 (place of 4)."""


@pytest.fixture
def page(tmp_path):
    return report(tmp_path, drive(LOOPS))


def test_figures_are_those_of_the_result(page):
    result, seen = page
    figures = result.to_json()
    assert (figures["revisits"], figures["correct"], figures["wrong"], figures["missed"]) == (4, 2, 1, 2)
    counts = {"revisits": "revisits", "correct": "right loops", "wrong": "wrong loops", "missed": "missed revisits"}
    for key, name in counts.items():
        assert seen.tile(name) == str(figures[key])
    for key, name in (
        ("recall_at_100_precision", "recall at 100 % precision"),
        ("recall_at_99_precision", "recall at 99 % precision"),
        ("auc", "area under the curve"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall"),
    ):  # fmt: skip
        assert seen.tile(name) == f"{figures[key]:.3f}"
    for name, count in figures["statuses"].items():
        assert f"{name} {count}: " in "".join(seen.words)
    for stage, ms in figures["latency_ms"].items():
        assert stage in seen.words
        assert f"{ms['p50']:.2f} / {ms['p95']:.2f} ms" in seen.words


def test_every_wrong_and_every_missed_pair_is_shown(page):
    result, seen = page
    ids = [item.keyframe.id for item in result.judged]
    wrong = [(ids[query], ids[match]) for query, match in result.score.wrong_pairs]
    assert wrong == [(7, 3)]
    assert "Keyframe 7 was taken for keyframe 3" in seen.section("Wrong loops: 1")
    missed = seen.section("Missed revisits: 2")
    assert "Keyframe 8 was not recognised as keyframe 3" in missed
    assert "Keyframe 9 was not recognised as keyframe 4" in missed
    rows = {(row[0], row[2]) for table in seen.tables for row in table if len(row) >= 6}
    assert {("7", "3"), ("8", "3"), ("9", "4")} <= rows
    for item in result.judged:
        if item.missed:
            assert item.observation.reason in missed


def test_figures_and_distance_stand_beside_a_wrong_pair(page):
    result, seen = page
    words = seen.section("Wrong loops")
    candidate = result.judged[6].observation.accepted[0]
    assert f"similarity  {candidate.similarity:.3f}" in words
    assert "30.00 m" in words
    assert "6.00 and 2.00" in words  # seconds since the first image
    assert result.judged[6].observation.reason in words


def test_the_pictures_are_those_of_the_keyframes(tmp_path):
    def flat(number, one):
        image = np.full((24, 32, 3), 20 * number, np.uint8)
        image[0, 0] = one.image[0, 0]
        return dataclasses.replace(one, image=image)

    frames = [flat(number, one) for number, one in enumerate(drive(LOOPS).frames(), start=1)]
    _, seen = report(tmp_path, Toy("drive", frames))
    sources = [value for value in seen.values("src") if value.startswith("data:image/jpeg;base64,")]
    assert len(sources) == 3
    shown = set()
    for source in sources:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (24, 32 + 6 + 32, 3)
        shown.add((round(np.median(image[:, 8:28]) / 20), round(np.median(image[:, 42:]) / 20)))
    assert shown == {(7, 3), (8, 3), (9, 4)}


def test_of_many_pairs_ten_are_pictures_and_all_are_in_the_table(tmp_path):
    first = [(number, 10.0 * number) for number in range(1, 31)]
    again = [(number, 10.0 * number + 500.0) for number in range(1, 14)]  # look alike and stand elsewhere
    lost = [(100 + number, 10.0 * number) for number in range(14, 29)]  # stand there and look different
    result, seen = report(tmp_path, drive(first + again + lost))
    assert (result.score.wrong, result.to_json()["missed"]) == (13, 15)
    for name, count, start in (("Wrong loops", 13, 31), ("Missed revisits", 15, 44)):
        words = seen.section(f"{name}: {count}, the 10")
        assert words.count("was taken for") + words.count("was not recognised as") == 10
        assert f"All {count} in a table" in words
        rows = {row[0] for table in seen.tables for row in table if len(row) >= 6}
        assert {str(start + number) for number in range(count)} <= rows
    shown = [float(value) for value in re.findall(r"similarity  (-?[\d.]+)", seen.section("Missed revisits"))]
    assert shown == sorted(shown, reverse=True)


def test_it_needs_no_network_and_no_file(page):
    _, seen = page
    assert not re.search(r"https?:|//\w+\.|@import|url\((?!#)", seen.markup)
    for value in [*seen.values("src"), *seen.values("href")]:
        assert value.startswith("data:image/")
    assert "link" not in {tag for tag, _, _ in seen.attributes}
    assert len(seen.markup) < 8_000_000


def test_what_comes_from_data_is_escaped(tmp_path):
    evil = '<script>alert("x")</script>&\''
    result, seen = report(tmp_path, drive(LOOPS, evil), drive(LOOPS[:3], "b<i>"), title=evil + " title")
    assert seen.markup.count("<script>") == 1
    assert "<i>" not in seen.markup
    assert evil + " title" in seen.words
    assert any(drive.label in "".join(seen.words) for drive in result.drives)


def test_the_same_result_gives_the_same_bytes(tmp_path):
    sources = [drive(LOOPS)]
    detector = LoopDetector(ToyDescriber(), Config().replace(PLAIN))
    result = replay_all(sources, detector, Truth(1.0))
    for name in ("a.html", "b.html"):
        write_report(result, detector, sources, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_without_poses_it_says_that_nothing_can_be_judged(tmp_path):
    result, seen = report(tmp_path, drive(LOOPS, poses=False))
    assert result.score is None
    assert result.accepted == 3
    assert seen.tile("wrong loops") == "unknown"
    assert "No keyframe of this drive has a pose" in seen.section("Trajectory")
    assert "nobody knows" in seen.section("Wrong loops")
    assert "nobody knows" in seen.section("Missed revisits")
    assert "accepted (nothing to judge by)" in seen.section("Similarity")


def test_the_detector_may_have_had_no_poses_and_the_page_draws_the_true_ones(tmp_path):
    settings = {"keyframes.min_distance_m": 0.0, "keyframes.min_angle_deg": 0.0, "keyframes.min_novelty": 0.0}
    _, alike = report(tmp_path, drive(LOOPS), settings=settings)
    with OdometryDrive(drive(LOOPS), None) as blind:
        result, seen = report(tmp_path, blind, settings=settings)
    assert (result.score.revisits, result.score.correct, result.score.wrong) == (4, 2, 1)
    for name in ("Trajectory", "Wrong loops: 1", "Missed revisits: 2"):
        assert seen.section(name) == alike.section(name)
    plots = [page.markup.split("Trajectory with loops")[1].split("</svg>")[0] for page in (alike, seen)]
    assert plots[0] == plots[1]
    words = [page.words[page.words.index("odometry of the detector") + 1].strip() for page in (alike, seen)]
    assert words == ["as truth", "none"]


def test_without_revisits_recall_has_no_meaning(tmp_path):
    result, seen = report(tmp_path, drive([(number, 10.0 * number) for number in range(8)]))
    assert result.score.revisits == 0
    assert "recall has no meaning" in seen.section("Precision and recall")
    assert seen.tile("recall") == "none"


def test_with_nothing_accepted_the_nearest_to_it_is_shown(tmp_path):
    result, seen = report(tmp_path, drive([(number, 10.0 * number) for number in range(8)]))
    assert result.accepted == 0
    assert "Not one accepted loop is wrong" in seen.section("Wrong loops: 0")
    words = seen.section("Wrong places that came nearest")
    best = max(
        (candidate for item in result.judged for candidate in item.observation.candidates),
        key=lambda candidate: candidate.similarity,
    )
    assert f"similarity  {best.similarity:.3f}" in words.split("Keyframe")[1]


@pytest.mark.parametrize("poses", [True, False])
def test_one_keyframe_makes_a_page(tmp_path, poses):
    result, seen = report(tmp_path, drive([(1, 0.0)], poses=poses))
    assert len(result.judged) == 1
    assert "fewer than two keyframes" in seen.section("Similarity")
    assert f"{Status.MAP_TOO_YOUNG.name} 1: " in "".join(seen.words)


def test_drives_on_one_map_share_their_plots_and_others_have_their_own(tmp_path):
    def sources():
        return drive(LOOPS[:5], "first"), drive([(1, 0.1), (2, 77.0)], "second")

    result, together = report(tmp_path, *sources(), one_map=True)
    assert (result.score.correct, result.score.wrong) == (1, 1)
    assert sum(head.startswith("Trajectory") for head, _ in together.sections.values()) == 1
    assert "Keyframe 7 was taken for keyframe 2" in together.section("Wrong loops")
    assert "1.00 of second and 1.00 of first" in together.section("Wrong loops")
    result, apart = report(tmp_path, *sources())
    assert result.accepted == 0
    assert [head.strip() for head, _ in apart.sections.values() if head.startswith("Traj")] == [
        "Trajectory: first", "Trajectory: second",
    ]  # fmt: skip


def test_the_ablation_is_a_table_with_its_own_figures_and_a_curve_each(tmp_path):
    def alter(result):
        curve = curve_of(result.judged)
        rows = [AblationRow(name, {}, ("search",), result.score, curve, 3, 12.34) for name in ("top-1", "<all>")]
        return dataclasses.replace(result, ablation=tuple(rows))

    result, seen = report(tmp_path, drive(LOOPS), alter=alter)
    table = next(table for table in seen.tables if any(row[:1] == ["top-1"] for row in table))
    figures = result.to_json()
    shares = [f"{figures[key]:.3f}" for key in ("recall_at_100_precision", "recall_at_99_precision", "auc", "f1")]
    assert table[1:] == [
        [name, *shares, "2", "1", f"{2 / 3:.3f}", "0.500", "12.3"] for name in ("top-1", "<all>")
    ]  # fmt: skip
    words = seen.section("Precision and recall")
    for name in ("top-1", "<all>"):
        assert f"{name}: area {figures['auc']:.3f}, recall at 100 % precision {shares[0]}" in words


def test_settings_that_were_changed_stand_in_front(page):
    result, seen = page
    words = seen.section("Settings")
    before, after = words.split("settings at their default")
    assert "candidates.min_similarity" in before
    assert "0.75" in before
    assert f"default: {Config().candidates.min_similarity:g}" in before
    assert "map.thumbnail_width" in after
    assert {name for name, _, _ in result.config.settings()} <= set(words.split())


def test_a_page_that_cannot_be_written_is_said_so_and_leaves_nothing(tmp_path):
    sources = [drive(LOOPS)]
    detector = LoopDetector(ToyDescriber(), Config().replace(PLAIN))
    result = replay_all(sources, detector, Truth(1.0))
    (tmp_path / "folder.html").mkdir()
    for path in (tmp_path / "nowhere" / "report.html", tmp_path / "folder.html"):
        with pytest.raises(TscmError, match=f"report {re.escape(str(path))} cannot be written"):
            write_report(result, detector, sources, path)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]
    other = [Toy("changed", [one for one in drive(LOOPS).frames() if one.stamp_ns != 7 * SECOND])]
    with pytest.raises(DatasetError, match="no longer has the image of stamp 7000000000"):
        write_report(result, detector, other, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_numbers_in_the_plots_are_finite(page):
    for attribute in ("d", "cx", "cy", "x", "y"):
        for value in page[1].values(attribute):
            assert not re.search("nan|inf", value)
            assert all(math.isfinite(float(one)) for one in re.findall(r"-?\d+\.?\d*", value))
