"""What is asked of each image of a replay, with bounds, session filters and images that are not remembered."""

from __future__ import annotations

import pytest
from toys import DIM, LOOKS_ALONE, ToyDescriber, direction, frame, keyframe

from tscm_core.config import Config
from tscm_core.evaluation.ground_truth import Query, TruePlaces, Truth
from tscm_core.evaluation.map_frames import MapFrames, asked_about
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Observation, Status

LAP = 30
SETTINGS = LOOKS_ALONE | {"recency.keyframes": 4, "recency.seconds": 0.0, "candidates.place_keyframes": 2}


def driven(**changes):
    """Two laps on Monday and one on Tuesday, with an image in between that is no keyframe."""
    running = LoopDetector(ToyDescriber(), Config().replace(SETTINGS | changes), "monday")
    observations = []
    for lap, session in enumerate(["monday", "monday", "tuesday"]):
        if session != running.session:
            running.begin_session(session)
        observations += [running.observe(frame(100 * lap + n, n, 20 * lap, x=float(n))) for n in range(LAP)]
        observations.append(running.observe(frame(100 * lap + LAP - 0.9, 0, x=LAP - 1.0)))
    assert observations[-1].status is Status.NOT_KEYFRAME
    return observations


@pytest.mark.parametrize("sessions", ["all", "within", "between"])
@pytest.mark.parametrize("most", [0, 40])
def test_each_image_is_asked_about_among_the_keyframes_that_were_searched(sessions, most):
    observations = driven(**{"candidates.sessions": sessions, "map.max_keyframes": most})
    frames = MapFrames(observations)
    assert len(frames.seen) == len(frames.queries) == 3 * LAP
    assert list(frames.remembered) == [seen.keyframe is not None for seen in frames.seen]
    assert all(frames.remembered) == (not most)
    there = []
    for number, seen in enumerate(frames.seen):
        begin, end = frames.searched(number)
        ids = [item.keyframe.id for item in frames.seen[begin:end] if item.keyframe is not None]
        assert len([id_ for id_ in ids if id_ in there]) == seen.searched
        if ids:
            assert (ids[0], ids[-1]) == seen.span
        matches = tuple(item.keyframe_id for item in seen.candidates)
        assert tuple(frames.seen[at].keyframe.id for at in frames.matches(seen)) == matches
        assert frames.query(number, (1,)) == Query(end, (1,), begin)
        there = [id_ for id_ in there if id_ not in seen.thinned] + ([seen.keyframe.id] if seen.keyframe else [])


def test_places_of_other_robots_are_no_positions_here():
    running = LoopDetector(ToyDescriber(), Config().replace(SETTINGS), "monday")
    for number in range(1, 10):
        running.foreign.add("red", keyframe(number, direction(number), "theirs", number))
    observations = [running.observe(frame(n, n, x=float(n))) for n in range(LAP)]
    frames = MapFrames(observations)
    assert {item.robot for seen in observations for item in seen.candidates} == {"", "red"}
    for seen in observations:
        own = [item.keyframe_id for item in seen.candidates if not item.robot]
        assert [frames.seen[at].keyframe.id for at in frames.matches(seen)] == own


def test_an_image_that_was_not_remembered_is_asked_about_and_never_to_be_found():
    observations = driven(**{"map.max_keyframes": LAP})  # the second and the third lap add nothing
    frames = MapFrames(observations)
    assert frames.remembered == (True,) * LAP + (False,) * 2 * LAP
    places = TruePlaces([query.pose for query in frames.queries], Truth(0.5), frames.remembered)
    plain = TruePlaces([query.pose for query in frames.queries], Truth(0.5))
    again = 2 * LAP + 5
    assert places.verdict(again, Query(LAP, ())).revisit
    assert not places.verdict(again, Query(2 * LAP, (), LAP)).revisit
    assert plain.verdict(again, Query(2 * LAP, (), LAP)).revisit


def test_what_was_looked_for_is_the_keyframe_where_nothing_else_is_said():
    item = keyframe(1, direction(1)[:DIM])
    assert asked_about(Observation(0, "a", Status.MAP_TOO_YOUNG, "", 1, 0, item)) is item
    assert asked_about(Observation(0, "a", Status.NOT_KEYFRAME, "", 1, 0)) is None
