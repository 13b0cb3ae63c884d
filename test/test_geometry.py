"""What geometry says of candidates: who is looked at, who is refused and why, and who wins between two alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from two_view_scenes import scene

from tscm_core.config import GeometryConfig
from tscm_core.recognition.candidates import judged
from tscm_core.recognition.geometry import OrbMatcher, explain_geometry, judge_geometry, look, with_pose
from tscm_core.recognition.local_features import extract
from tscm_core.recognition.records import Candidate, Frame, RelativePose, Status
from tscm_core.recognition.two_view import TwoView, verify

RULE = GeometryConfig(places=3, min_inliers=20, max_ratio=0.8)
POSE = RelativePose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), False, (0.0,) * 36)
LOW, ALIKE, NONE = Status.LOW_SIMILARITY, Status.AMBIGUOUS, Status.NO_GEOMETRY


class Counts:
    """A matcher that says how many inliers the features of each keyframe have, and notes what it was asked."""

    def __init__(self, inliers):
        self.inliers, self.asked = inliers, []

    def extract(self, frame, rule):
        raise AssertionError

    def verify(self, query, match, rule):
        self.asked.append(match)
        count = self.inliers[match]
        return TwoView(np.zeros((count + 5, 2), np.int64), np.arange(count + 5) < count, POSE)


def candidates(*failed):
    return tuple(
        judged(Candidate(10 + n, "a", n, None, 0.9 - n / 10, 0.5, n + 1, Status.ACCEPTED), tuple(item))
        for n, item in enumerate(failed)
    )


def judge(given, inliers, rule=RULE, excluded=(), known=range(100)):
    matcher = Counts(dict(zip((item.keyframe_id for item in given), inliers, strict=True)))
    views = look("query", given, lambda number: number if number in known else None, matcher, rule)
    judged_ones = judge_geometry(given, views, excluded, rule)
    return tuple(with_pose(item, views) for item in judged_ones), matcher


def test_only_the_best_places_are_looked_at_and_the_others_fail():
    seen, matcher = judge(candidates((), (LOW,), (), (), (LOW,)), [70, 30, 10, 90, 90])
    assert matcher.asked == [10, 11, 12]
    assert [(item.inliers, item.matches) for item in seen] == [(70, 75), (30, 35), (10, 15), (0, 0), (0, 0)]
    assert [item.failed for item in seen] == [(), (LOW, ALIKE), (NONE,), (NONE,), (LOW, NONE)]
    assert [item.status for item in seen] == [Status.ACCEPTED, LOW, NONE, NONE, LOW]
    assert [item.relative_pose for item in seen] == [POSE, None, None, None, None]  # the accepted one's
    assert [item.rank for item in seen] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_as_many_places_as_asked_for(count):
    _, matcher = judge(candidates(*[()] * 5), [50] * 5, replace(RULE, places=count))
    assert len(matcher.asked) == min(count, 5)


def test_inliers_settle_what_looks_alike():
    seen, _ = judge(candidates((ALIKE,), (ALIKE,)), [60, 30])
    assert [item.failed for item in seen] == [(), (ALIKE,)]  # 60 is more than 0.8 of 30
    seen, _ = judge(candidates((ALIKE,), (ALIKE,)), [60, 19])
    assert [item.failed for item in seen] == [(), (NONE,)]
    seen, _ = judge(candidates((LOW, ALIKE), (LOW, ALIKE)), [60, 19])
    assert [item.failed for item in seen] == [(LOW,), (LOW, NONE)]


@pytest.mark.parametrize(("rival", "failed"), [(48, ()), (49, (ALIKE,)), (60, (ALIKE,)), (300, (ALIKE,)), (19, ())])
def test_inliers_make_ambiguous_what_did_not_look_alike(rival, failed):
    seen, _ = judge(candidates((), ()), [60, rival])
    assert seen[0].failed == failed
    off, _ = judge(candidates((), ()), [60, rival], replace(RULE, max_ratio=1.0))
    assert off[0].failed == ()


def test_a_rival_with_too_few_inliers_is_no_rival():
    seen, _ = judge(candidates((), ()), [21, 19])
    assert [item.failed for item in seen] == [(), (NONE,)]


def test_a_rival_that_cannot_be_the_place_is_no_rival():
    seen, _ = judge(candidates((), ()), [60, 60], excluded={11})
    assert [item.failed for item in seen] == [(), (ALIKE,)]


def test_the_verdict_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        before = [tuple(s for s in (LOW, ALIKE) if rng.random() < 0.3) for _ in range(5)]
        inliers = rng.integers(0, 60, 5).tolist()
        seen, _ = judge(candidates(*before), inliers)
        shown = [count if n < 3 else 0 for n, count in enumerate(inliers)]
        for n, item in enumerate(seen):
            expected = [LOW] if LOW in before[n] else []
            others = [count for m, count in enumerate(shown) if m != n and count >= 20]
            if shown[n] < 20:
                expected.append(NONE)
            elif any(count > 0.8 * shown[n] for count in others):
                expected.append(ALIKE)
            assert item.failed == tuple(expected)
            assert item.status is (expected[0] if expected else Status.ACCEPTED)


def test_a_place_without_features_has_no_geometry_and_says_so():
    seen, matcher = judge(candidates((), ()), [60, 60], known=[11])
    assert matcher.asked == [11]
    assert [item.failed for item in seen] == [(NONE,), ()]
    assert explain_geometry(seen[0], RULE) == (
        "no local feature of keyframe 10 (similarity 0.900) was matched: none fits, it has none, or it is not among "
        "the best 3 places (geometry.places)"
    )


def test_refusals_are_explained_with_the_figures():
    seen, _ = judge(candidates((), ()), [12, 30])
    assert explain_geometry(seen[0], RULE) == (
        "12 of 17 matched features agree with keyframe 10 (similarity 0.900), fewer than geometry.min_inliers 20"
    )
    seen, _ = judge(candidates((), ()), [40, 39])
    assert explain_geometry(seen[0], RULE) == (
        "keyframe 10 fits with 40 inliers, but another place fits as well or nearly (geometry.max_ratio 0.8)"
    )


def test_no_candidates_are_no_trouble():
    assert judge((), [])[0] == ()


def test_the_real_matcher_is_the_two_functions():
    made = scene(np.random.default_rng(0))
    seen, plain = OrbMatcher().verify(made.query, made.match, RULE), verify(made.query, made.match, RULE)
    assert np.array_equal(seen.pairs, plain.pairs)
    assert np.array_equal(seen.inliers, plain.inliers)
    assert seen.relative_pose == plain.relative_pose
    frame = Frame(0, np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8))
    assert np.array_equal(OrbMatcher().extract(frame, RULE).points, extract(frame, RULE).points)
