"""``tscm demo KIND``: what must not be in the figures of the two-day and of the two-robot demo."""

from __future__ import annotations

import copy
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from toys import ToyDescriber, frame

from tscm_core.cli import DemoKind
from tscm_core.config import Config
from tscm_core.errors import TscmError
from tscm_core.maps.live_map import open_live_map
from tscm_core.recognition.poses import pose_from_yaw
from tscm_ros import demo_days_report, demo_robots_report
from tscm_ros.demo_days_report import DAY_ONE, DAY_TWO, LATER, contents, relocalized
from tscm_ros.demo_judging import Judged, Loop, Sighting
from tscm_ros.demo_report import Session

try:
    from tscm_ros import demo, demo_days, demo_drives, demo_robots
    from tscm_ros.playback import NodeError
except ImportError as missing:
    import os

    if os.environ.get("CI"):
        raise
    pytest.skip(f"the demos cannot run here: {missing}", allow_module_level=True)


def part(name, named, **changes):
    return {
        "name": name, "images_sent": 9, "images_received": 9, "recognised": 3, "loops_wrong": 0, "keyframes_added": 4,
        "sessions_named": named,
    } | changes  # fmt: skip


DAYS = {
    "parts": [
        part(DAY_ONE, {}, recognised=0),
        part(DAY_TWO, {DAY_ONE: 3}),
        part(LATER, {DAY_ONE: 1, DAY_TWO: 2}, keyframes_added=0),
    ],
    "map": {"the_same": True},
    "relocalize": {"asked": 5, "right_at_rank_1": 5},
}
ROBOT = {
    "images_sent": 9, "images_received": 9, "loops_into_the_other_right": 2, "loops_into_the_other_wrong": 0,
    "loops_into_its_own_map_wrong": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "change", "sentence"),
    [
        (("parts", 0), {"images_received": 8}, f"{DAY_ONE}: only 8 of 9 images arrived"),
        (("parts", 0), {"loops_wrong": 2}, f"{DAY_ONE}: 2 loops are wrong"),
        (("parts", 1), {"recognised": 0}, f"{DAY_TWO}: no place was recognised"),
        (("parts", 2), {"recognised": 0}, f"{LATER}: no place was recognised"),
        (("parts", 1), {"sessions_named": {DAY_ONE: 3, DAY_TWO: 1}},
         f"{DAY_TWO}: loops lead into {DAY_TWO}, though candidates.sessions is between"),
        (("parts", 2), {"keyframes_added": 1}, f"{LATER}: the map changed, though mode is localization"),
        (("map",), {"the_same": False}, f"{LATER}: the map changed, though mode is localization"),
        (("relocalize",), {"right_at_rank_1": 4}, "relocalize: the best place is right for 4 of 5 images only"),
    ],
)  # fmt: skip
def test_what_went_wrong_on_two_days_is_said(where, change, sentence):
    assert demo_days_report.verdict(DAYS) == []
    result = copy.deepcopy(DAYS)
    place = result
    for key in where:
        place = place[key]
    place |= change
    assert demo_days_report.verdict(result) == [sentence]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images_received": 8}, "robot_b: only 8 of 9 images arrived"),
        ({"loops_into_the_other_right": 0}, "robot_b: no place of the other robot was recognised"),
        ({"loops_into_the_other_wrong": 1}, "robot_b: 1 loops are wrong"),
        ({"loops_into_its_own_map_wrong": 3}, "robot_b: 3 loops are wrong"),
    ],
)
def test_what_went_wrong_with_two_robots_is_said(change, sentence):
    robots = [ROBOT | {"name": "robot_a"}, ROBOT | {"name": "robot_b"}]
    assert demo_robots_report.verdict({"robots": robots}) == []
    assert demo_robots_report.verdict({"robots": [robots[0], robots[1] | change]}) == [sentence]


def status(session, looked_up, dropped, latency_ms):
    return SimpleNamespace(
        status=0 if looked_up else 1, session=session, is_keyframe=False, images_dropped=dropped, images_refused=1,
        stage_times=[], latency_ms=latency_ms, model_id="toy", map_size=7,
    )  # fmt: skip


def sighting(number, x, robot=""):
    return Sighting(robot, "s", number, number, pose_from_yaw(x, 0.0, 0.0))


def loop(session, right, robot="", by=""):
    return Loop(sighting(1, 0.0, by), sighting(2, 0.0, robot), robot, session, 0.9, right)


def test_figures_of_two_days_leave_out_what_the_node_lost_before():
    statuses = (status("s", True, 5, 30.0), status("s", False, 6, 1.0))
    session = Session(LATER, 3, statuses, (), (), (20.0,), lost=(5, 1))
    judged = Judged((sighting(1, 0.0),), 1, 1, (loop("s", True), loop("t", False)))
    only = demo_days_report.figures([session], [judged])["parts"][0]
    assert (only["images_received"], only["images_dropped"], only["keyframes_added"], only["map_size"]) == (3, 1, 0, 7)
    assert (only["loops_right"], only["loops_wrong"], only["sessions_named"]) == (1, 1, {LATER: 1, "t": 1})
    assert only["node_ms"] == {"p50": 30.0, "p95": 30.0}  # of what was looked up, though it is no keyframe


def test_figures_of_two_robots_tell_whose_places_were_found_and_what_is_sent():
    sessions = [
        Session(name, 30, (status("s", True, 0, 30.0),), (object(),) * 2, (), (25.0,), name)
        for name in ("robot_a", "robot_b")
    ]
    judged = [
        Judged((), 4, 2, (loop("s", True, "robot_b", "robot_a"), loop("s", False, "robot_b", "robot_a"))),
        Judged((), 3, 1, (loop("s", True, "robot_b", "robot_b"), loop("s", True, "robot_a", "robot_b"))),
    ]
    result = demo_robots_report.figures(sessions, judged, [[1000, 2000], [3000, 3000]], 15.0)
    into = [(item["loops_into_the_other_right"], item["loops_into_the_other_wrong"]) for item in result["robots"]]
    assert into == [(1, 1), (1, 0)]
    assert [item["loops_into_its_own_map_right"] for item in result["robots"]] == [0, 1]
    assert [item["keyframe_bytes_per_s"] for item in result["robots"]] == [1500, 3000]  # in two seconds
    assert result["keyframe_message_bytes"]["p50"] == 2500.0


def test_relocalize_is_right_if_the_best_place_is():
    known = [sighting(1, 0.0), sighting(2, 40.0)]
    asked = [sighting(9, 1.0)] * 4
    best = [SimpleNamespace(keyframe_id=key, status=kind) for key, kind in ((1, 0), (1, 6), (2, 0), (3, 0))]
    answers = [SimpleNamespace(candidates=[item, SimpleNamespace(keyframe_id=1, status=0)]) for item in best]
    assert relocalized(asked, answers, known) == {"asked": 4, "right_at_rank_1": 2, "accepted": 3}
    assert relocalized(asked[:1], [SimpleNamespace(candidates=[])], known)["right_at_rank_1"] == 0


def test_the_contents_of_a_map_are_the_same_until_a_row_is_added(tmp_path):
    with open_live_map(tmp_path / "map.tscm", True, ToyDescriber(), Config(), "monday") as live:
        live.observe(frame(0, 0, x=0.0))
        live.save()
        live.save(tmp_path / "copy.tscm")
        live.observe(frame(1, 1, x=1.0))
        live.save(tmp_path / "more.tscm")
    first, copied, more = (contents(tmp_path / f"{name}.tscm") for name in ("map", "copy", "more"))
    assert first == copied
    assert (first["keyframes"], first["last_id"], more["keyframes"], more["last_id"]) == (1, 1, 2, 2)
    assert first["rows_sha256"] != more["rows_sha256"]


@pytest.mark.parametrize("problems", [[], ["a loop is wrong"]])
def test_every_kind_is_a_demo_that_gives_its_exit_code(monkeypatch, capsys, tmp_path, problems):
    assert [kind.value for kind in DemoKind] == list(demo.DEMOS)
    for kind in demo.DEMOS:
        ran = demo.Demo(lambda out, kind=kind: {"kind": kind, "out": str(out)}, lambda result: problems, print)
        monkeypatch.setitem(demo.DEMOS, kind, ran)
        assert demo.main([kind, "--out", str(tmp_path), "--json"]) == len(problems)
        assert json.loads(capsys.readouterr().out) == {"kind": kind, "out": str(tmp_path)}


def test_what_failed_in_the_background_is_raised_where_it_is_waited_for():
    release = threading.Event()
    failing = demo_robots.in_background(lambda: release.wait() and (_ for _ in ()).throw(NodeError("gone")))
    done = demo_robots.in_background(lambda: "session")
    assert done() == "session"
    release.set()
    with pytest.raises(TscmError, match="gone"):
        failing()


def test_a_drive_has_what_came_of_it_alone():
    """The node has answered for two images before, and dropped one; two of three images of this drive are answered."""
    before = [status("s", True, 1, 1.0)] * 2
    answers = [status("s", True, 2, 1.0)] * 2
    robot = SimpleNamespace(statuses=list(before), keyframes=["old"], candidates=["old"], answered=lambda: 4)
    waited = []

    def play(bag, namespace):
        assert namespace == "/robot_a"
        robot.statuses += answers
        robot.keyframes.append("new")
        return 3

    robot.play, robot.wait_for_statuses = play, waited.append
    robot.topic_latencies_ms = lambda of: [float(stamp) for stamp in (5, 6) if stamp in of]
    rendered = demo_drives.RenderedDrive("bag", {6: pose_from_yaw(0.0, 0.0, 0.0)})
    session = demo_drives.send(robot, rendered, "drive", "/robot_a")
    assert waited == [7]
    assert (session.keyframes, session.candidates, session.topic_ms) == (("new",), (), (6.0,))
    assert (session.robot, session.sent, session.received, session.dropped) == ("robot_a", 3, 3, 1)


def test_each_robot_has_topics_of_its_own():
    assert demo_drives.remappings()["image"] == "/camera/image_raw"
    ours = demo_drives.remappings("/robot_a")
    assert (ours["__ns"], ours["image"], ours["odometry"]) == (
        "/robot_a",
        "/robot_a/camera/image_raw",
        "/robot_a/odometry",
    )


def test_old_results_do_not_pass_for_new_ones_and_nothing_else_is_removed(tmp_path):
    for name in ("map.tscm", "map.tscm.live", "result.json", "two_days.png", "my_map.tscm"):
        (tmp_path / name).touch()
    demo_drives.begin_afresh(tmp_path, "map.tscm*", "two_days.png")
    assert [path.name for path in tmp_path.iterdir()] == ["my_map.tscm"]
    with pytest.raises(TscmError, match="cannot be written"):
        demo_drives.begin_afresh(tmp_path / "my_map.tscm", "two_days.png")


def test_the_drives_are_planned_to_fit_the_demos():
    """Day two looks at the places of day one from elsewhere, and is over within what the demo may take."""
    from tscm_core.datasets.synthetic_drive import plan_session

    plans = {name: plan_session(config).poses for name, config in (demo_days.DRIVES | demo_robots.DRIVES).items()}
    seconds = {name: len(poses) / 30.0 for name, poses in plans.items()}
    assert sum(seconds[name] for name in demo_days.DRIVES) < 120
    assert all(seconds[name] < 60 for name in demo_robots.DRIVES)
    stamps = [config.start_ns for config in demo_days.DRIVES.values()]
    assert np.diff(stamps).min() > 3600 * 10**9
    along = plans["robot_a"][:, :2]
    late = plans["robot_b"][len(plans["robot_b"]) * 7 // 10 :, :2]  # B comes to where A was, and not at the same moment
    assert np.linalg.norm(late[:, None] - along[None], axis=2).min(axis=1).max() < 1.0
    length = min(len(along), len(plans["robot_b"]))
    assert np.linalg.norm(along[:length] - plans["robot_b"][:length, :2], axis=1).min() > 5.0
