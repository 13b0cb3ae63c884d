"""Which loops count as right: nothing that a node says of a place is believed unless it is true of it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tscm_core.errors import TscmError
from tscm_core.evaluation.picture import draw
from tscm_core.recognition.poses import pose_from_yaw
from tscm_ros.demo_judging import judge, looked_up, places, same_place, scene, shown
from tscm_ros.demo_report import Session

SECOND = 10**9


def header(stamp_s):
    return SimpleNamespace(stamp=SimpleNamespace(sec=stamp_s, nanosec=0))


def drive(name, truth, queries, keyframes=None, loops=(), robot=""):
    """A drive: true (x, degrees) by second, the seconds looked up, ids of keyframes by second, loops by second."""
    keyframes = keyframes or {}
    poses = {second * SECOND: pose_from_yaw(x, 0.0, math.radians(turn)) for second, (x, turn) in truth.items()}
    statuses = [
        SimpleNamespace(
            header=header(second),
            status=0 if second in queries else 1,
            session=name,
            keyframe_id=keyframes.get(second, 0),
        )
        for second in truth
    ]
    messages = [SimpleNamespace(header=header(second), id=key, session=name) for second, key in keyframes.items()]
    candidates = [SimpleNamespace(header=header(second), candidates=items) for second, items in loops]
    return Session(name, len(truth), tuple(statuses), tuple(messages), tuple(candidates), (), robot, poses)


def candidate(key, second, session, robot="", status=0):
    return SimpleNamespace(
        keyframe_id=key, stamp=header(second).stamp, session=session, robot=robot, status=status, similarity=0.9
    )


MONDAY = drive("monday", {1: (0.0, 0), 2: (10.0, 0), 3: (20.0, 0)}, (1, 2, 3), {1: 1, 2: 2, 3: 3})
TUESDAY = {101: (0.5, 0), 102: (10.0, 90), 103: (4.9, 59), 104: (5.1, 0), 105: (0.0, 0)}


def tuesday(*loops, queries=(101, 102, 103, 104)):
    return drive("tuesday", TUESDAY, queries, loops=loops)


def test_an_image_at_an_old_place_is_a_revisit_and_found_if_a_loop_leads_there():
    judged = judge(tuesday((101, [candidate(1, 1, "monday")])), places(MONDAY))
    assert [item.stamp_ns // SECOND for item in judged.queries] == [101, 102, 103, 104]
    assert (judged.revisits, judged.found) == (3, 1)  # 102 stands at 10 m but looks aside; 104 is 4.9 m from 10 m
    assert (len(judged.right), len(judged.wrong), judged.sessions) == (1, 0, {"monday": 1})


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (candidate(2, 2, "monday"), "it is 9.5 m away"),
        (candidate(1, 1, "sunday"), "the session is another"),
        (candidate(1, 2, "monday"), "the stamp is that of another keyframe"),
        (candidate(7, 1, "monday"), "there is no such keyframe"),
        (candidate(1, 1, "monday", robot="robot_b"), "that robot has no such keyframe"),
    ],
)
def test_what_a_candidate_says_must_be_true(wrong, why):
    judged = judge(tuesday((101, [wrong])), places(MONDAY))
    assert (len(judged.right), len(judged.wrong), judged.found) == (0, 1, 0), why


def test_what_was_not_accepted_is_no_loop():
    judged = judge(tuesday((101, [candidate(2, 2, "monday", status=3)])), places(MONDAY))
    assert judged.loops == ()


def test_loops_within_a_drive_are_judged_but_are_no_revisits():
    again = drive("round", {1: (0.0, 0), 2: (30.0, 0), 3: (0.3, 0)}, (1, 2, 3), {1: 1, 2: 2, 3: 3},
                  [(3, [candidate(1, 1, "round")])])  # fmt: skip
    judged = judge(again, (), places(again))
    assert (judged.revisits, judged.found, len(judged.right)) == (0, 0, 1)
    assert [loop.right for loop in judge(again, ()).loops] == [False]


def test_robots_are_told_apart_and_see_only_what_the_other_has_seen_before():
    """Both have a keyframe 1; robot_b comes to where robot_a was a second before, and robot_a never follows."""
    a = drive("a", {1: (0.0, 0), 3: (50.0, 0)}, (1, 3), {1: 1, 3: 2}, robot="robot_a")
    b = drive("b", {1: (90.0, 0), 2: (0.2, 0)}, (1, 2), {1: 1, 2: 2}, robot="robot_b",
              loops=[(2, [candidate(1, 1, "a", robot="robot_a"), candidate(1, 1, "b")])])  # fmt: skip
    judged = judge(b, places(a), places(b))
    assert [(loop.robot, loop.right) for loop in judged.loops] == [("robot_a", True), ("robot_b", False)]
    assert (judged.revisits, judged.found) == (1, 1)
    assert judge(a, places(b), places(a)).revisits == 0


def test_an_answer_for_an_image_that_was_never_sent_is_an_error():
    stray = drive("stray", {1: (0.0, 0)}, (1,), {5: 1})
    with pytest.raises(TscmError, match="5000000000, which no image had"):
        places(stray)


def test_the_same_place_is_near_and_looked_at_the_same_way():
    one = looked_up(tuesday())
    assert same_place(one[0], one[3])
    assert not same_place(one[0], one[1])
    assert not same_place(places(MONDAY)[0], one[3])  # 5.1 m


def test_the_picture_has_all_drives_loops_and_images(tmp_path):
    day_two = tuesday((101, [candidate(1, 1, "monday"), candidate(3, 3, "monday")]), (103, [candidate(9, 1, "monday")]))
    judged = judge(day_two, places(MONDAY))
    chosen = shown(judged.loops)
    assert [loop.right for loop in chosen] == [False, True, True]
    assert chosen[0].match == places(MONDAY)[2]  # of two wrong loops the one that leads somewhere
    images = {("", second * SECOND): np.full((48, 64, 3), second, np.uint8) for second in (1, 3, 101)}
    names = {("", "monday"): "Monday", ("", "tuesday"): "Tuesday"}
    drawn = scene("title", {"first": places(MONDAY), "second": judged.queries}, judged.loops, images, names)
    assert [(way.label, way.positions) for way in drawn.drives] == [("first", (0, 1, 2)), ("second", (3, 4, 5, 6))]
    assert (drawn.right, drawn.wrong) == (((3, 0),), ((3, 2),))
    assert drawn.pairs[0].query[0, 0, 0] == 101
    assert drawn.pairs[0].match[0, 0, 0] == 3
    assert drawn.pairs[1].caption == (
        "above: Tuesday\nbelow: Monday, keyframe 1\nsimilarity 0.900; truly 0.5 m and 0 degrees apart"
    )
    draw(drawn, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0
