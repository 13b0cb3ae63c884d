"""The pieces of the report: scales, marks, cells and lanes against plain loops."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from toys import SECOND, keyframe, unit

from tscm_core.config import Config
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.precision_recall import Decision, curve
from tscm_core.evaluation.report_curves import NamedCurve, curves_plot
from tscm_core.evaluation.report_facts import Drive, map_facts
from tscm_core.evaluation.report_similarity import similarity_cells
from tscm_core.evaluation.report_svg import Panel, mark, number, tag, ticks
from tscm_core.evaluation.report_timeline import SHAPES, timeline
from tscm_core.evaluation.report_trajectory import trajectory
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Candidate, Observation, Status


def candidate(match, status=Status.ACCEPTED, similarity=0.9, inliers=30, failed=None):
    tests = failed if failed is not None else (() if status is Status.ACCEPTED else (status,))
    return Candidate(match, "a", 0, None, similarity, 0.5, 1, status, inliers=inliers, failed=tests)


def seen(number_of, candidates=(), x=None, status=None, vector=None):
    """A keyframe at ``number_of`` seconds, or another frame if ``status`` says so."""
    pose = None if x is None else pose_from_yaw(x, 0.5 * x, 0.0)
    status = status or (candidates[0].status if candidates else Status.MAP_TOO_YOUNG)
    place = (
        None
        if status is Status.NOT_KEYFRAME
        else keyframe(number_of, unit(number_of) if vector is None else vector, pose=pose)
    )
    return Observation(number_of * SECOND, "a", status, f"reason {number_of}", number_of, max(0, number_of - 2), place,
                       tuple(candidates), ("search", "geometry"))  # fmt: skip


def facts(*observations, radius=1.0):
    return map_facts([Drive(0, "a", observations)], Truth(radius))


@pytest.mark.parametrize(("count", "most"), [(1, 10), (7, 10), (10, 10), (11, 10), (37, 10), (40, 10)])
def test_cells_hold_the_highest_similarity_of_their_block(count, most):
    vectors = np.stack([unit(number_of) for number_of in range(count)])
    cells = similarity_cells(vectors, most)
    step = -(-count // most)
    side = -(-count // step)
    assert cells.shape == (side, side)
    assert side <= most
    for row in range(side):
        for column in range(side):
            block = (vectors[row * step : (row + 1) * step] @ vectors[column * step : (column + 1) * step].T).max()
            assert cells[row, column] == pytest.approx(block, abs=1e-6)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.37, 0.991), (-31.2, 18.0), (0.0, 86400.0), (1e-4, 3e-4), (5.0, 5.0)])
def test_ticks_are_few_round_and_within(scale):
    found = ticks(*scale, 5)
    assert 1 <= len(found) <= 11
    assert all(scale[0] - 1e-9 <= value <= scale[1] + 1e-9 for value in found)
    steps = {round(after - before, 12) for before, after in itertools.pairwise(found)}
    assert len(steps) <= 1
    assert all(f"{step:.0e}"[0] in "125" for step in steps)


def test_a_panel_puts_the_ends_of_its_scales_at_its_corners():
    panel = Panel(10.0, 20.0, 100.0, 50.0, (2.0, 4.0), (-1.0, 1.0))
    assert panel.at(2.0, -1.0) == (10.0, 70.0)
    assert panel.at(4.0, 1.0) == (110.0, 20.0)
    down = Panel(10.0, 20.0, 100.0, 50.0, (2.0, 4.0), (-1.0, 1.0), down=True)
    assert down.at(3.0, -1.0) == (60.0, 20.0)
    assert Panel(0.0, 0.0, 8.0, 8.0, (3.0, 3.0), (0.0, 1.0)).at(3.0, 0.0) == (4.0, 8.0)


def test_attributes_are_escaped_and_numbers_short():
    assert tag("a", "x<y", _class='"&', two_words=1.5, gone=None) == '<a class="&quot;&amp;" two-words="1.5">x<y</a>'
    assert [number(value) for value in (1.0, 0.126, -2.5, 0.001, float("nan"))] == ["1", "0.13", "-2.5", "0", "0"]


def test_every_status_has_a_shape_of_its_own():
    assert set(SHAPES) == set(Status)
    assert len({mark(shape, 0.0, 0.0, 3.0) for shape in SHAPES.values()}) == len(Status)


def test_lanes_show_when_each_status_was():
    frames = [seen(1), seen(2), seen(3, status=Status.NOT_KEYFRAME), seen(4, [candidate(1)]), seen(5, [candidate(2)]),
              seen(6, [candidate(1, Status.NO_GEOMETRY)])]  # fmt: skip
    page = timeline(facts(*frames), Config())
    width = 1000.0 - 168.0 - 18.0

    def runs(status):
        data = re.search(rf'd="([^"]*)" class="run s{status.value}"', page)
        boxes = re.findall(r"M([\d.]+) [\d.]+h([\d.]+)v", data[1]) if data else []
        return [
            (round((float(left) - 168.0) / width * 6, 2), round(float(wide) / width * 6, 2)) for left, wide in boxes
        ]

    assert runs(Status.MAP_TOO_YOUNG) == [(0.0, 2.0)]
    assert runs(Status.NOT_KEYFRAME) == [(2.0, 1.0)]
    assert runs(Status.ACCEPTED) == [(3.0, 2.0)]
    assert runs(Status.NO_GEOMETRY) == [(5.0, 1.0)]
    assert runs(Status.AMBIGUOUS) == []
    assert "5.0 s, NO_GEOMETRY: reason 6" in page
    assert page.count("reason 4") == 2  # with its similarity and with its inliers


def test_the_way_is_drawn_to_one_scale():
    frames = [seen(number_of, x=float(x)) for number_of, x in enumerate((0, 10, 30, 70), start=1)]
    page = trajectory(facts(*frames))
    way = re.search(r'd="M([^"]*)" class="way way0"', page)[1]
    points = np.array([[float(value) for value in point.split()] for point in way.split("L")])
    steps = np.diff(points, axis=0)
    assert steps[:, 1] / steps[:, 0] == pytest.approx(-0.5, abs=0.01)  # y = x / 2, upwards
    assert steps[1, 0] / steps[0, 0] == pytest.approx(2.0, abs=0.01)


def test_pairs_are_wrong_missed_or_refused_and_in_order():
    frames = [seen(number_of, x=10.0 * number_of) for number_of in (1, 2, 3, 4)]
    frames += [
        seen(5, [candidate(1, inliers=30), candidate(2, Status.LOW_SIMILARITY, 0.5)], x=99.0),
        seen(6, [candidate(2, inliers=50)], x=98.0),
        seen(7, [candidate(1, Status.NO_GEOMETRY, 0.8, 10), candidate(3, Status.LOW_SIMILARITY, 0.4)], x=30.2),
        seen(8, [candidate(1)], x=10.1),
        seen(9, x=20.0, vector=(unit(9) + unit(2)) / 2),
    ]
    found = facts(*frames)
    assert [(pair.query, pair.match) for pair in found.wrong] == [(5, 1), (4, 0)]  # more inliers first
    assert [(pair.query, pair.match, pair.candidate is None) for pair in found.missed] == [(8, 1, True), (6, 2, False)]
    assert found.missed[0].similarity == pytest.approx(float(frames[8].keyframe.descriptor @ unit(2)))
    assert {(pair.query, pair.match) for pair in found.refused} == {(4, 1), (6, 0)}
    assert found.wrong[0].distance_m == pytest.approx(np.hypot(78.0, 39.0))
    assert found.judged.correct_pairs == ((7, 0),)
    assert found.accepted == ((4, 0), (5, 1), (7, 0))


def test_the_chosen_point_is_what_the_settings_accept():
    rng = np.random.default_rng(5)
    taken = [
        Decision(number_of, 0, float(score), bool(right), True)
        for number_of, (score, right) in enumerate(zip(rng.random(60), rng.random(60) < 0.7, strict=True))
    ]
    page = curves_plot([NamedCurve("a", curve(taken), (0.25, 0.75))])
    assert "a: recall 0.250, precision 0.750 with the settings as they are" in page
    assert "with the settings" not in curves_plot([NamedCurve("a", curve(taken), None)])
    assert "no curve" in curves_plot([NamedCurve("a", curve([Decision(0, None, 0.0, None, True)]), None)])


def test_lanes_of_two_drives_with_the_same_stamps_are_told_apart():
    first = [seen(number_of, x=20.0 * number_of) for number_of in range(1, 6)]
    second = [Observation(one.stamp_ns, "b", Status.ACCEPTED, "", 9, 5, keyframe(10 + number_of, unit(number_of), "b",
              number_of, pose_from_yaw(500.0, 0.0, 0.0)), (candidate(1),) if number_of == 3 else ())
              for number_of, one in enumerate(first, start=1)]  # fmt: skip
    found = map_facts([Drive(0, "a", tuple(first)), Drive(1, "b", tuple(second))], Truth(1.0))
    assert [(pair.query, pair.match) for pair in found.wrong] == [(7, 0)]
    page = timeline(found, Config())
    assert ">wrong loop  1</text>" in page
    assert page.count('class="border"') == 2
