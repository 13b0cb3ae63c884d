"""Other robots' places: found as the own ones are, told apart by robot, forgotten when they must be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import DIM, LOOKS_ALONE, SECOND, ToyDescriber, ToyMatcher, direction, frame, keyframe, unit

from tscm_core.config import Config
from tscm_core.errors import KeyframeError
from tscm_core.recognition import stopwatch
from tscm_core.recognition.foreign_places import Added, ForeignPlaces
from tscm_core.recognition.local_features import encode_features
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Status
from tscm_core.recognition.stopwatch import Stopwatch

ALL = Config()
LOOKS = Config().replace(LOOKS_ALONE)
AT_ONCE = ALL.replace({"odometry.min_first_evidence": 0.0})
"""The first loops need no more evidence than the others."""


def matcher(inliers=40):
    return ToyMatcher(lambda place, other: inliers if place == other else 5)


def seen(number, place, session="a", x=None, change=0, stamp_s=None):
    """Keyframe ``number`` of a drive: it shows ``place``, ``x`` metres from where the drive began."""
    vector = stored_precision(direction(place, change))
    pose = None if x is None else pose_from_yaw(x, 0.0, 0.0)
    made = keyframe(number, vector, session, second=stamp_s, pose=pose, travelled_m=x or 0.0)
    return replace(made, features=encode_features(matcher().extract(frame(0, place), ALL.geometry)))


def query(place, change=0, **where):
    return seen(900 + place, place, "ours", change=change, **where)


def features(place):
    return matcher().extract(frame(0, place), ALL.geometry)


def told(robots, most=100, inliers=40):
    """What is known after each robot told of its keyframes."""
    places = ForeignPlaces(DIM, matcher(inliers), most)
    for robot, keyframes in robots.items():
        for item in keyframes:
            assert places.add(robot, item) is Added.NEW
    return places


def drive(first_place, count=20, **where):
    return [seen(1 + step, first_place + step, x=float(step), **where) for step in range(count)]


def look(places, place, config=LOOKS, **where):
    return places.judge(query(place, **where), features(place), config, Stopwatch())


# ------------------------------------------------------------------------------------------------ finding


def test_nothing_is_found_while_no_robot_has_told_anything():
    assert look(ForeignPlaces(DIM, matcher(), 10), 1) == ()
    assert ForeignPlaces(DIM, matcher(), 10).counts() == {}


def test_robots_whose_ids_and_sessions_are_the_same_are_told_apart():
    places = told({"red": drive(0), "team/blue": drive(100)})
    for place, robot in ((7, "red"), (107, "team/blue")):
        best, *others = look(places, place)
        assert (best.robot, best.keyframe_id, best.session, best.status) == (robot, 8, "a", Status.ACCEPTED)
        assert (best.stamp_ns, best.pose) == (8 * SECOND, pose_from_yaw(7.0, 0.0, 0.0))
        assert best.similarity == pytest.approx(1.0, abs=1e-3)
        assert {item.robot for item in others} == {"red", "team/blue"}
        assert not any(item.status is Status.ACCEPTED for item in others)
        assert places.reason(best, LOOKS).startswith(
            f"in the map of {robot}: shows the place of keyframe 8: similarity"
        )
    assert places.counts() == {"red": 20, "team/blue": 20}


def test_a_robots_places_are_judged_as_if_they_were_in_the_own_map():
    """The reference is a detector whose own map they are, driven on another day; its new keyframes are too recent."""
    config = ALL.replace({"keyframes.min_distance_m": 0.1, "odometry.enabled": False, "recency.keyframes": 1000})
    detector = LoopDetector(ToyDescriber(), config, matcher=matcher())
    detector.restore(drive(0), (), "ours")
    places, statuses = told({"red": drive(0)}), []
    for second, place in enumerate([3, 4, 50, 6, 7, 8, 9, 2, 3, 4, 5, 6]):
        now = frame(second, place, change=30, x=float(second))
        observation = detector.observe(now)
        asked = replace(query(place, 30), pose=now.pose, travelled_m=observation.keyframe.travelled_m)
        found = places.judge(asked, features(place), config, Stopwatch())
        assert tuple(replace(item, robot="") for item in found) == observation.candidates
        assert places.reason(found[0], config) == f"in the map of red: {observation.reason}"
        statuses.append(observation.status)
    assert {Status.ACCEPTED, Status.NOT_CONSISTENT, Status.LOW_SIMILARITY} == set(statuses)


@pytest.mark.parametrize("seed", range(3))
def test_of_every_robot_the_most_similar_keyframe_is_found(seed):
    rng = np.random.default_rng(seed)
    config = LOOKS.replace({"candidates.min_similarity": -1.0, "candidates.max_ratio": 1.0})
    maps = {
        robot: [keyframe(number, stored_precision(unit((seed, ord(robot[0]), number)))) for number in range(1, count)]
        for robot, count in (("red", 40), ("green", 7), ("blue", 2))
    }
    places = told(maps)
    for _ in range(20):
        asked = keyframe(1, stored_precision(unit(int(rng.integers(1 << 30)))), "ours")
        best = {}
        for item in places.judge(asked, None, config, Stopwatch()):
            best.setdefault(item.robot, item)
        assert {robot: item.keyframe_id for robot, item in best.items()} == {
            robot: max(known, key=lambda item: float(item.descriptor @ asked.descriptor)).id
            for robot, known in maps.items()
        }
        order = sorted(best.values(), key=lambda item: -item.similarity)
        assert list(best.values()) == order


def test_support_comes_from_frames_in_a_row_and_begins_anew_with_a_session():
    places = told({"red": drive(0), "blue": drive(100)})
    statuses = [look(places, place, AT_ONCE, x=float(place))[0].status for place in range(5)]
    assert statuses == [Status.NOT_CONSISTENT] * 3 + [Status.ACCEPTED] * 2
    places.begin_session()
    best = look(places, 5, ALL, x=5.0)[0]
    assert (best.status, best.temporal_support) == (Status.NOT_CONSISTENT, 1)
    assert places.reason(best, ALL).startswith("in the map of red: keyframe 6 (similarity 1.000) has the support of 1")


def test_a_new_session_of_our_own_drive_begins_anew_with_the_places_of_others_too():
    running = LoopDetector(ToyDescriber(), ALL, matcher=matcher())
    for item in drive(0):
        running.foreign.add("red", item)
    statuses = [running.observe(frame(place, place)).status for place in range(6)]
    assert statuses[-1] is Status.ACCEPTED
    running.begin_session("tuesday")
    best = running.observe(frame(6, 6)).candidates[0]
    assert (best.robot, best.keyframe_id, best.temporal_support) == ("red", 7, 1)
    assert best.status is Status.NOT_CONSISTENT


def test_odometry_of_another_robot_contradicts_no_single_loop():
    """Even where its drive has the name of ours, and by our odometry we are far from there."""
    places = told({"red": drive(0, session="ours")}, inliers=120)
    best = look(places, 4, ALL, x=500.0)[0]
    assert (best.robot, best.keyframe_id, best.status) == ("red", 5, Status.ACCEPTED)


@pytest.mark.parametrize("session", ["a", "ours"])
def test_a_loop_that_contradicts_those_before_is_refused(session):
    """Places 3 to 9 of red agree on where its odometry begins. Blue's, which we do not know, contradicts nothing."""
    places = told({"red": drive(0, session=session), "blue": drive(100)}, inliers=120)
    for step in range(3, 10):
        best = look(places, step, ALL, x=500.0 + step)[0]
        assert (best.robot, best.status) == ("red", Status.ACCEPTED)
    wrong = next(item for item in look(places, 19, ALL.replace({"odometry.reach_m": 1.0}), x=510.0) if item.inliers)
    assert (wrong.keyframe_id, wrong.failed) == (20, (Status.NOT_CONSISTENT,))
    assert places.reason(wrong, ALL).startswith(
        f"in the map of red: of the last keyframes with loops into session {session}, 7 contradict keyframe 20"
    )
    best = look(places, 119, ALL, x=511.0)[0]
    assert (best.robot, best.keyframe_id, best.status) == ("blue", 20, Status.ACCEPTED)
    places.begin_session()
    assert look(places, 19, ALL, x=512.0)[0].status is Status.ACCEPTED, "another drive of ours begins elsewhere"


def test_the_first_loops_need_more_evidence():
    """The four in a row that are enough later weigh 1.6 together, of 2; with poses alone."""
    for x, accepted in ((0.0, 4), (None, 3)):
        places = told({"red": drive(0)})
        found = [look(places, place, ALL, **({} if x is None else {"x": x + place}))[0] for place in range(6)]
        assert [item.status is Status.ACCEPTED for item in found] == [place >= accepted for place in range(6)]


def test_what_a_robot_beside_us_sees_at_this_moment_is_not_too_recent():
    places = told({"red": [seen(1, 3, "ours", stamp_s=50.0)]})
    best = look(places, 3, stamp_s=50.0)[0]
    assert (best.keyframe_id, best.status) == (1, Status.ACCEPTED)


def test_accepted_places_come_first_whichever_robot_has_them():
    places = told({"red": [seen(1, 3, change=60)], "blue": [seen(1, 3, change=10)], "green": [seen(1, 9)]})
    found = look(places, 3, LOOKS.replace({"candidates.min_similarity": 0.9}))
    assert [(item.robot, item.status) for item in found] == [
        ("blue", Status.ACCEPTED),
        ("red", Status.LOW_SIMILARITY),
        ("green", Status.LOW_SIMILARITY),
    ]


def test_a_place_without_features_cannot_be_verified():
    places = told({"red": [replace(item, features=None) for item in drive(0)]})
    best = look(places, 4, ALL)[0]
    assert Status.NO_GEOMETRY in best.failed
    assert best.matches == 0


def test_other_robots_are_never_within_the_drive():
    places = told({"red": drive(0)})
    assert look(places, 4, LOOKS.replace({"candidates.sessions": "within"})) == ()
    assert look(places, 4, LOOKS.replace({"candidates.sessions": "between"}))[0].keyframe_id == 5


def test_the_time_of_a_stage_is_that_of_all_robots(monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(ticks) * 1e-3)
    watch = Stopwatch()
    with watch.stage("search"):  # of the own map
        pass
    told({"red": drive(0), "blue": drive(100)}).judge(query(4), features(4), ALL, watch)
    times = {item.stage: item.milliseconds for item in watch.times}
    assert list(times) == ["search", "geometry", "odometry", "temporal"]
    assert len(watch.times) == 4
    assert list(times.values()) == pytest.approx([3.0, 2.0, 4.0, 2.0])  # odometry is asked twice of each robot


# ------------------------------------------------------------------------------------------------ remembering


def test_a_keyframe_that_comes_again_changes_nothing():
    places = told({"red": drive(0, 5)})
    for item in drive(0, 5):
        assert places.add("red", item) is Added.REPEATED
    assert places.counts() == {"red": 5}
    assert places.add("blue", drive(0, 5)[2]) is Added.NEW


@pytest.mark.parametrize(
    "change",
    [
        {"id": 3},
        {"id": 3, "session": "b"},
        {"id": 5, "stamp_ns": 1},
        {"id": 1, "session": "b"},
        {"stamp_ns": 3 * SECOND, "id": 3, "session": "b"},
    ],
)
def test_an_id_that_was_taken_means_that_the_robot_began_another_map(change):
    places = told({"red": drive(0, 5), "blue": drive(0, 5)})
    begun = replace(seen(9, 77), **change)
    assert places.add("red", begun) is Added.OF_ANOTHER_MAP
    assert places.counts() == {"red": 1, "blue": 5}
    found = look(places, 77)
    assert (found[0].robot, found[0].keyframe_id) == ("red", begun.id)
    assert {item.robot for item in look(places, 2)[:1]} == {"blue"}
    assert places.add("red", replace(seen(9, 78), id=begun.id + 1)) is Added.NEW


def test_a_robot_that_goes_on_with_its_map_after_a_pause_loses_nothing():
    places = told({"red": drive(0, 5)})
    assert places.add("red", seen(60, 50, "next day")) is Added.NEW
    assert places.counts() == {"red": 6}


def test_beyond_the_bound_those_go_that_are_missed_least():
    """The robot stands still in the middle of its way: what it sees again and again is what can be spared."""
    ways = [0, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5, 6]
    places = told({"red": [seen(1 + step, place) for step, place in enumerate(ways)]}, most=8)
    assert places.counts() == {"red": 8}
    for place in range(7):
        best = look(places, place)[0]
        assert (best.status, ways[best.keyframe_id - 1]) == (Status.ACCEPTED, place)
    for step, place in enumerate(ways):
        assert places.add("red", seen(1 + step, place)) is Added.REPEATED


def test_the_bound_holds_though_every_keyframe_is_the_end_of_a_drive():
    places = told({"red": [seen(1 + step, step, f"session {step}") for step in range(30)]}, most=4)
    assert places.counts() == {"red": 4}
    assert {item.keyframe_id for item in look(places, 99)} <= {27, 28, 29, 30}
    assert look(places, 29)[0].keyframe_id == 30


def test_support_goes_on_while_places_are_given_up():
    places, statuses = told({"red": drive(0)}, most=22), []
    for step in range(12):
        statuses.append(look(places, step, AT_ONCE, x=float(step))[0].status)
        places.add("red", seen(100 + step, 500, x=40.0))
    assert places.counts() == {"red": 22}
    assert statuses == [Status.NOT_CONSISTENT] * 3 + [Status.ACCEPTED] * 9


@pytest.mark.parametrize(
    ("robot", "change", "problem"),
    [
        ("", {}, "robots have names"),
        ("red", {"id": 0}, "ids begin at 1"),
        ("red", {"descriptor": unit(1, DIM + 1)}, r"shape \[65\], not \[64\]"),
        ("red", {"descriptor": np.zeros(DIM, np.float32)}, "length 1"),
        ("red", {"descriptor": np.full(DIM, np.nan, np.float32)}, "length 1"),
    ],
)
def test_a_keyframe_that_cannot_be_used_is_refused_and_changes_nothing(robot, change, problem):
    places = told({"red": drive(0, 5)})
    with pytest.raises(KeyframeError, match=problem):
        places.add(robot, replace(seen(9, 9), **change))
    assert places.counts() == {"red": 5}
