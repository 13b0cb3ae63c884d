"""The curve against a plain loop over all thresholds, written from the definitions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.evaluation.precision_recall import BestF1, Decision, curve

SIMILARITIES = st.sampled_from([-0.5, 0.0, 0.1, 0.2, 0.25, 0.5, 0.7, 0.9, 1.0]) | st.floats(-1.0, 1.0)


def decision(similarity, right=True, revisit=True, match=0):
    return Decision(1, match, similarity, right, revisit)


NO_MATCH = Decision(1, None, 0.0, None, True)


@st.composite
def decided(draw):
    kind = draw(st.sampled_from(["right", "wrong at a revisit", "wrong", "nothing", "match without a pose"]))
    similarity = draw(SIMILARITIES)
    if kind == "nothing":
        return Decision(1, None, similarity, None, draw(st.booleans()))
    right = {"right": True, "match without a pose": None}.get(kind, False)
    return decision(similarity, right, kind in ("right", "wrong at a revisit", "match without a pose"))


def plain_points(decisions):
    """(threshold, precision, recall) for every similarity that a judged match has, the highest first."""
    revisits = sum(1 for one in decisions if one.revisit)
    judged = [one for one in decisions if one.match is not None and one.right is not None]
    points = []
    for threshold in sorted({one.score for one in judged}, reverse=True):
        accepted = [one for one in judged if one.score >= threshold]
        right = [one for one in accepted if one.right]
        found = [one for one in right if one.revisit]
        points.append((threshold, len(right) / len(accepted), len(found) / revisits if revisits else None))
    return points, revisits


def plain_area(points):
    area, before = 0.0, 0.0
    for _, precision, recall in points:
        area += (recall - before) * precision
        before = recall
    return area


@settings(max_examples=300, deadline=None)
@given(st.lists(decided(), max_size=25))
def test_the_curve_is_that_of_a_plain_loop_over_thresholds(decisions):
    got = curve(decisions)
    points, revisits = plain_points(decisions)
    assert got.revisits == revisits
    assert list(zip(got.thresholds, got.precision, strict=True)) == [point[:2] for point in points]
    if not revisits:
        assert (got.recall, got.auc, got.recall_at(1.0), got.best_f1) == ((), None, None, BestF1(None, None))
        return
    assert list(got.recall) == [recall for *_, recall in points]
    assert got.auc == pytest.approx(plain_area(points), abs=1e-12)
    for asked in (1.0, 0.99, 0.5, 0.0):
        assert got.recall_at(asked) == max([recall for _, have, recall in points if have >= asked], default=0.0)
        assert got.threshold_at(asked) == min([at for at, have, _ in points if have >= asked], default=None)
    f1 = {at: 2 * p * r / (p + r) if p + r else 0.0 for at, p, r in points}
    if not f1:
        assert got.best_f1 == (0.0, None)
        return
    value, threshold = got.best_f1
    assert value == pytest.approx(max(f1.values()), abs=1e-12)
    assert f1[threshold] == pytest.approx(value, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(st.lists(decided(), max_size=25), st.randoms())
def test_what_holds_for_every_curve(decisions, random):
    got = curve(decisions)
    assert all(higher > lower for higher, lower in itertools.pairwise(got.thresholds))
    assert all(before <= after for before, after in itertools.pairwise(got.recall))
    assert all(0.0 <= value <= 1.0 for value in (*got.precision, *got.recall))
    shuffled = list(decisions)
    random.shuffle(shuffled)
    assert curve(shuffled) == got
    if got.revisits:
        assert 0.0 <= got.auc <= max(got.recall, default=0.0) + 1e-12
        assert got.recall_at(1.0) <= got.recall_at(0.99) <= got.recall_at(0.0) == max(got.recall, default=0.0)


def test_figures_by_hand():
    """Ten revisits of which nine are seen; the third most similar match is wrong."""
    right = [decision(at) for at in (0.9, 0.8, 0.6, 0.5)]
    got = curve([*right, decision(0.7, right=False), *[NO_MATCH] * 5])
    assert got.thresholds == (0.9, 0.8, 0.7, 0.6, 0.5)
    assert got.precision == (1.0, 1.0, 2 / 3, 3 / 4, 4 / 5)
    assert got.recall == (0.1, 0.2, 0.2, 0.3, 0.4)
    assert got.auc == pytest.approx(0.1 + 0.1 + 0.1 * 3 / 4 + 0.1 * 4 / 5)
    assert (got.recall_at(1.0), got.threshold_at(1.0)) == (0.2, 0.8)
    assert (got.recall_at(0.8), got.threshold_at(0.8)) == (0.4, 0.5)
    assert got.best_f1 == (pytest.approx(2 * 0.8 * 0.4 / 1.2), 0.5)


def test_ties_are_one_point_whatever_their_order():
    tied = [decision(0.8), decision(0.8, right=False), decision(0.9)]
    for order in itertools.permutations(tied):
        got = curve(order)
        assert (got.thresholds, got.precision) == ((0.9, 0.8), (1.0, 2 / 3))
        assert got.recall == (1 / 3, 2 / 3)


def test_ninety_nine_of_a_hundred_is_ninety_nine_per_cent():
    for count in (100, 200, 700, 2900):
        right = [decision(0.9)] * (count - count // 100)
        got = curve([*right, *[decision(0.9, right=False, revisit=False)] * (count // 100)])
        assert got.recall_at(0.99) == 1.0
        assert got.recall_at(1.0) == 0.0


def test_nothing_accepted_is_no_recall_and_no_revisits_is_no_figure():
    nothing = curve([NO_MATCH, NO_MATCH])
    assert (nothing.thresholds, nothing.auc, nothing.recall_at(1.0), nothing.best_f1) == ((), 0.0, 0.0, (0.0, None))
    assert nothing.threshold_at(0.5) is None
    for decisions in ([], [decision(0.9, right=False, revisit=False)]):
        empty = curve(decisions)
        assert (empty.auc, empty.recall_at(1.0), empty.recall_at(0.0), empty.best_f1) == (
            None,
            None,
            None,
            (None, None),
        )
    assert empty.precision == (0.0,)


def test_all_wrong_is_zero_and_not_an_error():
    wrong = curve([decision(at, right=False) for at in (0.9, 0.8, 0.7)])
    assert wrong.precision == (0.0, 0.0, 0.0)
    assert (wrong.auc, wrong.recall_at(1.0), wrong.threshold_at(1.0)) == (0.0, 0.0, None)
    assert wrong.best_f1 == (0.0, 0.9)


def test_a_match_without_a_pose_is_neither_right_nor_wrong():
    got = curve([decision(0.9), decision(0.95, right=None)])
    assert (got.thresholds, got.precision, got.recall, got.revisits) == ((0.9,), (1.0,), (0.5,), 2)
