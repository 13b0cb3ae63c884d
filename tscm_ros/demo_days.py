"""``tscm demo two-days``: a map of yesterday is driven on, then only looked into, then asked where the robot is.

One node maps the hall and is told that another day begins (``new_session``), on which it looks for places of other days
alone (``candidates.sessions``). Then ``mode: localization`` must leave the map as it is. At last the node is killed and
another one, started on the saved map, is asked with one image where that was taken (``relocalize``).
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from std_srvs.srv import Trigger

from tscm_core.datasets.bag_writer import IMAGE_TOPIC
from tscm_core.datasets.drive_lighting import EVENING, LIGHTINGS
from tscm_core.datasets.image_messages import from_rgb
from tscm_core.datasets.synthetic_drive import DriveConfig, Lap
from tscm_core.evaluation.picture import draw
from tscm_core.recognition.records import Rgb
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.demo_days_report import DAY_ONE, DAY_TWO, LATER, PICTURE, contents, figures, relocalized, show, verdict
from tscm_ros.demo_drives import (
    LOG,
    RESULT,
    RenderedDrive,
    begin_afresh,
    remappings,
    render,
    require,
    say,
    send,
    set_parameter,
)
from tscm_ros.demo_judging import Judged, Sighting, judge, looked_up, places, scene, shown
from tscm_ros.demo_report import Session, images_of
from tscm_ros.messages import to_header
from tscm_ros.playback import NodeError, NodeProcess, Robot

__all__ = ["run", "show", "verdict"]

_HOUR_NS = 3600 * 10**9
DRIVES = {
    DAY_ONE: DriveConfig(laps=(Lap(lighting=LIGHTINGS["noon"], laps=1.1),)),
    DAY_TWO: DriveConfig(laps=(Lap(-12.0, 0.35, EVENING, 0.8),), start=0.35, seed=1, start_ns=24 * _HOUR_NS),
    LATER: DriveConfig(laps=(Lap(10.0, -0.3, LIGHTINGS["dusk"], 0.6),), start=0.7, seed=2, start_ns=26 * _HOUR_NS),
}
QUESTIONS = 5
"""Images that the restarted node is asked about."""


def run(out: Path) -> dict[str, Any]:
    """Render, drive, judge, draw; gives the figures, which also stand in ``result.json``.

    Raises:
        TscmError: something is missing, or the node did not do its part.
    """
    load = os.getloadavg()[0]
    begin_afresh(out, "map.tscm*", "map_after.tscm*", LOG, PICTURE)
    drives = {
        name: render(config, out / f"drive_{number}") for number, (name, config) in enumerate(DRIVES.items(), start=1)
    }
    with dds_for_one_machine():
        sessions = drive(drives, out)
        known = (*places(sessions[0]), *places(sessions[1]))
        asked, answers, first_s = ask(sessions[2], drives[LATER].bag, out)
    judged = (judge(sessions[0], (), known), judge(sessions[1], places(sessions[0])), judge(sessions[2], known))
    before, after = contents(out / "map.tscm"), contents(out / "map_after.tscm")
    result = {
        **figures(sessions, judged),
        "load_average_before": load,
        "map": {"before_localization": before, "after_localization": after, "the_same": before == after},
        "relocalize": relocalized(asked, answers, known) | {"first_answer_s_after_start": round(first_s, 2)},
    }
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    picture(sessions, judged, drives, out)
    return result


def drive(drives: dict[str, RenderedDrive], out: Path) -> tuple[Session, Session, Session]:
    """All three drives through one node, which is killed without warning at the end."""
    from tscm_msgs.srv import SaveMap

    with (
        NodeProcess(out / LOG, {"map_path": out / "map.tscm", "map.resume": False}, remappings()) as process,
        Robot() as robot,
    ):
        robot.wait_for_node(process, IMAGE_TOPIC)
        first = _play(robot, drives, DAY_ONE)
        say(require(robot.call(SaveMap, "save_map", SaveMap.Request())))
        say(require(robot.call(Trigger, "new_session", Trigger.Request())))
        say(set_parameter(robot, "candidates.sessions", "between"))
        second = _play(robot, drives, DAY_TWO)
        say(require(robot.call(SaveMap, "save_map", SaveMap.Request())))
        say(set_parameter(robot, "mode", "localization"))
        say(require(robot.call(Trigger, "new_session", Trigger.Request())))
        third = _play(robot, drives, LATER)
        say(require(robot.call(SaveMap, "save_map", SaveMap.Request(path=str((out / "map_after.tscm").absolute())))))
        process.stop(signal.SIGKILL)
    return first, second, third


def _play(robot: Robot, drives: dict[str, RenderedDrive], name: str) -> Session:
    say(f"{name}: sending {drives[name].bag.name} to the node in real time")
    return send(robot, drives[name], name, shown=name.capitalize())


def ask(session: Session, bag: Path, out: Path) -> tuple[list[Sighting], list[Any], float]:
    """Start a node on the map as it was saved, and ask it about images of a drive that no map holds.

    Gives the images, the answers, and the seconds from the start of the process to the first answer.
    """
    from tscm_msgs.srv import Relocalize

    seen = looked_up(session)
    asked = [seen[round(number * (len(seen) - 1) / (QUESTIONS - 1))] for number in range(QUESTIONS)]
    images = images_of([bag], {item.stamp_ns for item in asked})
    requests = [Relocalize.Request(image=_message(images[item.stamp_ns], item.stamp_ns)) for item in asked]
    started = time.monotonic()
    with (
        NodeProcess(out / LOG, {"map_path": out / "map_after.tscm"}, remappings()) as process,
        Robot() as robot,
    ):
        try:
            answers = [robot.call(Relocalize, "relocalize", requests[0])]
        except NodeError:
            process.require_alive()  # whose reason is the better one
            raise
        first_s = time.monotonic() - started
        answers += [robot.call(Relocalize, "relocalize", request) for request in requests[1:]]
    for answer in answers:
        say(require(answer))
    return asked, answers, first_s


def _message(image: Rgb, stamp_ns: int) -> Any:
    from sensor_msgs.msg import Image

    return from_rgb(image, Image(header=to_header(stamp_ns, "camera")))


def picture(
    sessions: tuple[Session, ...], judged: tuple[Judged, ...], drives: dict[str, RenderedDrive], out: Path
) -> None:
    """The three drives, the loops from one day to the other, and three pairs of images."""
    loops = [loop for item in judged for loop in item.loops]
    stamps = {seen.stamp_ns for loop in shown(loops) for seen in (loop.query, loop.match) if seen}
    images = images_of([item.bag for item in drives.values()], stamps)
    names = {("", session.statuses[0].session): session.name for session in sessions}
    ways = {f"{session.name}: {len(session.keyframes)} keyframes": places(session) for session in sessions[:2]}
    ways[f"{LATER}: none of {len(judged[2].queries)} images remembered"] = judged[2].queries
    title = "One map on two days: places that the robot recognised"
    draw(scene(title, ways, loops, {("", stamp): image for stamp, image in images.items()}, names), out / PICTURE)
