"""``tscm demo two-robots``: two robots drive through one hall, and each recognises places that the other has seen.

Two nodes in namespaces of their own run at the same time, each with its own camera and its own map, and each listens to
the keyframes of the other (``robots.keyframe_topics``).
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message

from tscm_core.datasets.bag_writer import IMAGE_TOPIC
from tscm_core.datasets.drive_lighting import EVENING
from tscm_core.datasets.synthetic_drive import DriveConfig, Lap
from tscm_core.evaluation.picture import draw
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.demo_drives import RESULT, RenderedDrive, begin_afresh, remappings, render, require, say, send
from tscm_ros.demo_judging import Judged, judge, places, scene, shown
from tscm_ros.demo_report import Session, images_of
from tscm_ros.demo_robots_report import PICTURE, figures, log_of, show, verdict
from tscm_ros.playback import NodeProcess, Robot

__all__ = ["run", "show", "verdict"]

DRIVES = {
    "robot_a": DriveConfig(laps=(Lap(),)),
    "robot_b": DriveConfig(laps=(Lap(-8.0, 0.3, EVENING),), start=0.4, seed=1),
}
"""Robot B begins where A comes to after 40 % of its way."""


def run(out: Path) -> dict[str, Any]:
    """Render, drive, judge, draw; gives the figures, which also stand in ``result.json``.

    Raises:
        TscmError: something is missing, or a node did not do its part.
    """
    load = os.getloadavg()[0]
    begin_afresh(out, *(f"{name}.{end}" for name in DRIVES for end in ("tscm*", "log")), PICTURE)
    drives = {name: render(config, out / name) for name, config in DRIVES.items()}
    with dds_for_one_machine():
        sessions = drive(drives, out)
    seen = {session.robot: places(session) for session in sessions}
    judged = tuple(
        judge(session, seen[other.robot], seen[session.robot])
        for session, other in zip(sessions, reversed(sessions), strict=True)
    )
    message_bytes = [[len(serialize_message(item)) for item in session.keyframes] for session in sessions]
    result = figures(sessions, judged, message_bytes, DRIVES["robot_a"].rate_hz) | {"load_average_before": load}
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    picture(sessions, judged, drives, out)
    return result


def drive(drives: dict[str, RenderedDrive], out: Path) -> tuple[Session, ...]:
    """Both drives at the same time, each through the node of its robot."""
    from tscm_msgs.srv import SaveMap

    with ExitStack() as stack:
        processes: list[NodeProcess] = []
        robots: dict[str, Robot] = {}
        for name in drives:
            others = ", ".join(f"/{other}/tscm/keyframes" for other in drives if other != name)
            parameters = {
                "map_path": out / f"{name}.tscm",
                "map.resume": False,
                "robots.keyframe_topics": others,
            }
            processes.append(stack.enter_context(NodeProcess(log_of(out, name), parameters, remappings(f"/{name}"))))
            robots[name] = stack.enter_context(Robot(f"{name}_body", f"/{name}/tscm"))
        for process, (name, robot) in zip(processes, robots.items(), strict=True):
            robot.wait_for_node(process, f"/{name}{IMAGE_TOPIC}")
        say(f"{' and '.join(drives)}: sending both drives in real time")
        sessions = _send_all(robots, drives)
        for robot in robots.values():
            say(require(robot.call(SaveMap, "save_map", SaveMap.Request())))
        for process in processes:
            process.stop(signal.SIGINT)
    return sessions


def _send_all(robots: dict[str, Robot], drives: dict[str, RenderedDrive]) -> tuple[Session, ...]:
    """Send all drives at once; the progress of the first stands for all."""
    first, *others = robots
    waiting = [
        in_background(lambda name=name: send(robots[name], drives[name], name, f"/{name}"))  # type: ignore[misc]
        for name in others
    ]
    driven = send(robots[first], drives[first], first, f"/{first}", shown="Two robots drive")
    return driven, *(wait() for wait in waiting)


def in_background(work: Callable[[], Session]) -> Callable[[], Session]:
    """Begin ``work`` in a thread that ends with the program; gives what waits for it, and raises what it raised."""
    done: list[Session] = []
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is waited for
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()

    def wait() -> Session:
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    return wait


def picture(
    sessions: tuple[Session, ...], judged: tuple[Judged, ...], drives: dict[str, RenderedDrive], out: Path
) -> None:
    """Both drives, the loops between the robots, and three pairs of images."""
    loops = [loop for item in judged for loop in item.loops if loop.robot != loop.query.robot or not loop.right]
    wanted = [seen for loop in shown(loops) for seen in (loop.query, loop.match) if seen]
    images = {
        (name, stamp): image
        for name, rendered in drives.items()
        for stamp, image in images_of([rendered.bag], {seen.stamp_ns for seen in wanted if seen.robot == name}).items()
    }
    names = {(session.robot, session.statuses[0].session): session.name for session in sessions}
    ways = {f"{session.name}: {len(session.keyframes)} keyframes": places(session) for session in sessions}
    title = "Two robots in one hall at the same time: places of the other that each recognised"
    draw(scene(title, ways, loops, images, names), out / PICTURE)
