"""The score of a drive against a plain double loop over its definition."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.evaluation.ground_truth import Query, Score, Truth, score
from tscm_core.recognition.poses import pose_from_yaw, yaw_rad
from tscm_core.recognition.records import Pose

COORDINATES = st.floats(-20, 20)


def plain_score(poses, queries, truth):
    def true_match(a, b):
        apart = math.dist(a.position, b.position)
        turned = abs(yaw_rad(a) - yaw_rad(b))
        return apart <= truth.radius_m and math.degrees(min(turned, 2 * math.pi - turned)) <= truth.max_yaw_deg + 1e-6

    revisits = accepted = correct = found = 0
    for position, query in queries:
        possible = [other for other in range(query.searched) if true_match(poses[position], poses[other])]
        right = [match for match in query.matches if true_match(poses[position], poses[match])]
        revisits += 1 if possible else 0
        found += 1 if right else 0
        correct += len(right)
        accepted += len(query.matches)
    return revisits, accepted, correct, found


@settings(max_examples=150, deadline=None)
@given(data=st.data(), radius=st.floats(0, 30), yaw=st.sampled_from([0.0, 30.0, 90.0, 180.0]))
def test_score_equals_a_plain_double_loop(data, radius, yaw):
    headings = st.integers(-11, 12).map(lambda number: math.radians(15 * number + 2))
    places = data.draw(st.lists(st.tuples(COORDINATES, COORDINATES, headings), max_size=15))
    poses = [pose_from_yaw(*place) for place in places]
    queries = []
    for position in range(len(poses)):
        searched = data.draw(st.integers(0, position))
        matches = data.draw(st.lists(st.integers(0, max(searched - 1, 0)), max_size=3, unique=True)) if searched else []
        queries.append((position, Query(searched, tuple(matches))))
    truth = Truth(radius, yaw)
    got = score(poses, queries, truth)
    assert (got.revisits, got.accepted, got.correct, got.found) == plain_score(poses, queries, truth)
    assert len(got.correct_pairs) == got.correct
    assert len(got.wrong_pairs) == got.wrong == got.accepted - got.correct
    assert set(got.correct_pairs) | set(got.wrong_pairs) == {
        (p, match) for p, query in queries for match in query.matches
    }


def test_figures_by_hand():
    poses = [pose_from_yaw(x, 0.0, 0.0) for x in (0, 10, 20, 0, 10.5, 50)]
    queries = [(3, Query(2, (0,))), (4, Query(3, (1, 2))), (5, Query(3, (0,))), (2, Query(0, ()))]
    got = score(poses, queries, Truth(5.0))
    assert (got.revisits, got.accepted, got.correct, got.wrong, got.found) == (2, 4, 2, 2, 2)
    assert (got.precision, got.recall) == (0.5, 1.0)
    assert got.correct_pairs == ((3, 0), (4, 1))
    assert got.wrong_pairs == ((4, 2), (5, 0))


def test_radius_is_inclusive_and_a_revisit_outside_the_searched_ones_does_not_count():
    poses = [pose_from_yaw(x, 0.0, 0.0) for x in (0, 5)]
    assert score(poses, [(1, Query(1, ()))], Truth(5.0)).revisits == 1
    assert score(poses, [(1, Query(1, ()))], Truth(4.999)).revisits == 0
    assert score(poses, [(1, Query(0, ()))], Truth(5.0)).revisits == 0


def test_yaw_is_taken_the_short_way_round():
    poses = [pose_from_yaw(0.0, 0.0, math.radians(yaw)) for yaw in (175, -175, 0)]
    assert score(poses, [(1, Query(1, (0,)))], Truth(1.0, 10.0)).correct == 1
    assert score(poses, [(1, Query(1, (0,)))], Truth(1.0, 9.9)).correct == 0
    assert score(poses, [(2, Query(2, (0, 1)))], Truth(1.0, 174.0)).correct == 0
    assert score(poses, [(2, Query(2, (0, 1)))], Truth(1.0)).correct == 2


def test_height_counts():
    poses = [Pose((0.0, 0.0, 0.0)), Pose((0.0, 0.0, 3.0))]
    assert score(poses, [(1, Query(1, (0,)))], Truth(2.9)).wrong == 1
    assert score(poses, [(1, Query(1, (0,)))], Truth(3.0)).correct == 1


def test_nothing_accepted_and_no_revisits_have_no_figures():
    assert score([], [], Truth(1.0)) == Score(0, 0, 0, 0, (), ())
    empty = score([pose_from_yaw(0.0, 0.0, 0.0)], [(0, Query(0, ()))], Truth(1.0))
    assert (empty.precision, empty.recall) == (None, None)
