"""Several drives on one map: which sessions are searched, and localization, which adds nothing."""

from __future__ import annotations

import pytest
from toys import LOOKS_ALONE, ToyDescriber, ToyMatcher, frame

from tscm_core.config import Config
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Status

LAP = 20
SETTINGS = LOOKS_ALONE | {"recency.keyframes": 5, "recency.seconds": 4.0, "candidates.place_keyframes": 2}


def detector(matcher=None, **changes):
    return LoopDetector(ToyDescriber(), Config().replace(SETTINGS | changes), "monday", matcher=matcher)


def lap(running, second=0, change=0):
    """Twenty places, one a second, seen a little differently."""
    return [running.observe(frame(second + number, number, change)) for number in range(LAP)]


def two_days(**changes):
    """Monday once round; on Tuesday twice."""
    running = detector(**changes)
    lap(running)
    running.begin_session("tuesday")
    return running, lap(running, 0, 20), lap(running, 100, 40)


def matched(seen):
    return {match.session for item in seen for match in item.candidates}


@pytest.mark.parametrize(
    ("sessions", "first", "second", "span"),
    [
        ("all", {"monday"}, {"monday", "tuesday"}, (1, 54)),
        ("between", {"monday"}, {"monday"}, (1, 20)),
        ("within", {"tuesday"}, {"tuesday"}, (21, 54)),
    ],
)
def test_sessions_decide_what_is_searched(sessions, first, second, span):
    running, once, again = two_days(**{"candidates.sessions": sessions})
    assert matched(once) | matched(again) == first | second
    assert matched(once[:5]) == (set() if sessions == "within" else {"monday"})
    assert again[-1].span == span
    assert again[-1].searched == span[1] - span[0] + 1
    assert len(running.memory) == 3 * LAP
    closed = again[0].accepted[0]
    assert closed.session == ("tuesday" if sessions == "within" else "monday")


def test_what_is_not_searched_is_no_rival_either():
    """The same place on both days would be AMBIGUOUS if Tuesday's stayed open; without it Monday's is alone."""
    running, _, _ = two_days(**{"candidates.sessions": "between"})
    seen = running.observe(frame(200, 3, 10))
    assert {match.session for match in seen.candidates} == {"monday"}


def test_nothing_to_search_in_names_the_filter():
    running = detector(**{"candidates.sessions": "between"})
    assert {item.status for item in lap(running)} == {Status.MAP_TOO_YOUNG}
    seen = running.observe(frame(50, 0))
    assert (seen.status, seen.searched, seen.span) == (Status.MAP_TOO_YOUNG, 0, (0, 0))
    assert seen.reason.endswith("or of a session that may be (candidates.sessions between)")


def test_within_a_session_recency_holds():
    running = detector(**{"candidates.sessions": "within", "recency.keyframes": 0, "recency.seconds": 3.5})
    seen = [running.observe(frame(number, number)) for number in range(8)]
    assert [item.searched for item in seen] == [0, 0, 0, 0, 1, 2, 3, 4]


# ------------------------------------------------------------------------------------------- between the days


@pytest.mark.parametrize("mode", ["mapping", "localization"])
def test_a_loop_into_another_day_that_contradicts_those_before_is_refused(mode):
    """By Tuesday's odometry the robot is at place 10, where Monday's place 19, 9 m further on, is seen."""
    running = detector(**{"odometry.enabled": True, "odometry.reach_m": 1.0})
    for number in range(LAP):
        running.observe(frame(number, number, x=float(number)))
    running.begin_session("tuesday")
    running.reconfigure(running.config.replace({"mode": mode}))
    for number in range(10):
        seen = running.observe(frame(number, number, 20, x=500.0 + number))
        assert (seen.status, seen.accepted[0].keyframe_id) == (Status.ACCEPTED, number + 1)
    wrong = running.observe(frame(10, 19, 20, x=510.0))
    assert (wrong.status, wrong.candidates[0].keyframe_id, wrong.loops) == (Status.NOT_CONSISTENT, 20, ())
    assert wrong.candidates[0].failed == (Status.NOT_CONSISTENT,)
    assert wrong.reason.startswith("of the last keyframes with loops into session monday, 10 contradict keyframe 20")
    assert running.observe(frame(11, 11, 20, x=511.0)).status is Status.ACCEPTED
    running.begin_session("wednesday")
    assert running.observe(frame(0, 15, 20, x=510.0)).status is Status.ACCEPTED, "Wednesday's odometry is another"


def test_without_odometry_nothing_is_compared_between_days():
    running = detector(**{"odometry.enabled": False, "odometry.reach_m": 1.0})
    for session, places in (("monday", range(LAP)), ("tuesday", (*range(10), 19))):
        running.begin_session(session)
        seen = [running.observe(frame(n, place, 20, x=float(n))) for n, place in enumerate(places)]
    assert {item.status for item in seen} == {Status.ACCEPTED}


# ---------------------------------------------------------------------------------------------- localization


def localizing(**changes):
    running = detector(**changes)
    lap(running)
    running.begin_session("tuesday")
    running.reconfigure(running.config.replace({"mode": "localization"}))
    return running


def test_localization_recognises_and_adds_nothing():
    running = localizing()
    before = list(running.memory.places)
    seen = lap(running, 0, 20)
    assert {item.status for item in seen} == {Status.ACCEPTED}
    assert [item.accepted[0].keyframe_id for item in seen] == list(range(1, LAP + 1))
    assert {(item.keyframe, item.query.id, item.map_size, item.loops) for item in seen} == {(None, 0, LAP, ())}
    assert running.memory.places == before
    running.reconfigure(running.config.replace({"mode": "mapping"}))
    assert running.observe(frame(100, 300)).keyframe.id == 2 * LAP + 1  # ids tell how far apart keyframes came


def test_localization_gives_the_verdicts_that_mapping_gives():
    """All stages on: temporal support needs the frames before, and the gate the last one, remembered or not."""
    stages = {"geometry.enabled": True, "temporal.enabled": True, "temporal.certain_inliers": 100}
    verdicts = []
    for mode in ("mapping", "localization"):
        running = detector(ToyMatcher(lambda place, other: 60 if place == other else 3), **stages)
        first = [running.observe(frame(n, n, x=float(n))) for n in range(LAP)]
        running.begin_session("tuesday")
        running.reconfigure(running.config.replace({"mode": mode}))
        seen = [running.observe(frame(n / 2, n // 2, 20, x=n / 2)) for n in range(2 * LAP)]
        assert len(first) == LAP
        verdicts.append([(item.status, [match.keyframe_id for match in item.accepted]) for item in seen])
    mapping, localization = verdicts
    assert localization == mapping
    assert sum(status is Status.ACCEPTED for status, _ in mapping) > LAP / 2


def test_the_gate_moves_on_though_nothing_is_remembered():
    running = localizing(**{"keyframes.min_distance_m": 1.0})
    statuses = [running.observe(frame(n, n, x=0.4 * n)).status for n in range(9)]
    assert [status is Status.NOT_KEYFRAME for status in statuses] == [n % 3 != 0 for n in range(9)]


def test_a_drive_that_goes_on_without_adding_can_match_its_own_beginning():
    """The rule of the last so many keyframes counts those that were not remembered, or these would never be old."""
    running = detector(**{"recency.seconds": 0.0})
    lap(running)
    running.reconfigure(running.config.replace({"mode": "localization"}))
    seen = [running.observe(frame(100 + n, 400 + n)) for n in range(6)]
    assert [item.searched for item in seen] == [LAP - 5 + n for n in (0, 1, 2, 3, 4, 5)]
    assert running.observe(frame(120, LAP - 1, 20)).accepted[0].keyframe_id == LAP


def test_what_was_old_enough_stays_so_when_mapping_goes_on():
    running = detector(**{"recency.seconds": 0.0})
    lap(running)
    running.reconfigure(running.config.replace({"mode": "localization"}))
    searched = [running.observe(frame(100 + n, 400 + n)).searched for n in range(10)]
    running.reconfigure(running.config.replace({"mode": "mapping"}))
    searched += [running.observe(frame(200 + n, 500 + n)).searched for n in range(8)]
    assert searched == [LAP - 5 + n for n in range(6)] + [LAP] * 10 + [LAP + 1, LAP + 2]


def test_a_session_of_no_keyframes_ends_like_any_other():
    running = localizing()
    lap(running, 0, 20)
    running.begin_session("wednesday")
    running.reconfigure(running.config.replace({"mode": "mapping"}))
    seen = lap(running, 0, 40)
    assert [item.keyframe.id for item in seen] == list(range(2 * LAP + 1, 3 * LAP + 1))
    assert {item.keyframe.session for item in seen} == {"wednesday"}


def test_keyframes_with_a_stretch_between_them_that_was_not_remembered_are_two_places():
    """Localization for a while, and the ids go on as if nothing had been between: but there was."""
    running = detector(**{"recency.keyframes": 0, "recency.seconds": 0.0, "candidates.max_ratio": 0.99})
    running.observe(frame(0, 7))
    running.reconfigure(running.config.replace({"mode": "localization"}))
    for number in range(1, 10):
        running.observe(frame(number, 100 + number))
    running.reconfigure(running.config.replace({"mode": "mapping", "candidates.min_similarity": 1.0}))
    assert running.observe(frame(20, 7, 5)).keyframe.id == 11
    running.observe(frame(30, 300))
    seen = running.observe(frame(40, 7, 3))
    assert len({match.keyframe_id for match in seen.candidates[:2]}) == 2
    assert seen.candidates[0].ratio > 0.9
