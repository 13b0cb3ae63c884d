"""``tscm demo``: a robot drives through a rendered world, and the real node recognises where it has been.

Two sessions go over DDS into the node in a process of its own. Between them the map is saved by service, the node is
killed without warning, started anew and given the saved map.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tscm_core.commands.support import errors, print_json, progress
from tscm_core.datasets.bag_writer import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    FIRST_STAMP_NS,
    IMAGE_TOPIC,
    ODOMETRY_TOPIC,
    DriveWriter,
    fresh_bag,
)
from tscm_core.datasets.synthetic_drive import CAMERA, DEMO_SESSIONS, DriveConfig, plan_session, render_drive
from tscm_core.errors import TscmError
from tscm_core.evaluation.picture import draw
from tscm_core.recognition.poses import pose_from_yaw
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.demo_report import Session, figures, judge, scene, show_table, verdict
from tscm_ros.playback import NodeProcess, Robot


def run(out: Path) -> dict[str, Any]:
    """Render, drive, judge, draw; gives the figures, which also stand in ``result.json``.

    Raises:
        TscmError: something is missing, or the node did not do its part.
    """
    begin_afresh(out)
    bags = [render(config, out / f"drive_{number}") for number, config in enumerate(DEMO_SESSIONS, start=1)]
    map_path, log = out / "map.tscm", out / "node.log"
    with dds_for_one_machine():
        first = drive(bags[0], "first drive", log, map_path, load=False)
        second = drive(bags[1], "second drive, another day", log, map_path, load=True)
    sessions = (first, second)
    scores = tuple(judge(sessions, index) for index in range(len(sessions)))
    result = figures(sessions, scores)
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(scene(sessions, scores, bags), out / "demo.png")
    return result


def begin_afresh(out: Path) -> None:
    """Make the folder, and remove from it what an earlier demo left, so that nothing old passes for new.

    Raises:
        TscmError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in (*out.glob("map.tscm*"), out / "result.json", out / "demo.png", out / "node.log"):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise TscmError(f"folder {out} cannot be written: {error.strerror}") from error


def render(config: DriveConfig, path: Path) -> Path:
    """Render a drive into an mcap bag with images, camera info and odometry."""
    config = replace(config, start_ns=FIRST_STAMP_NS + config.start_ns)
    total = len(plan_session(config).poses) // config.ticks_per_frame
    say(f"rendering {path.name}: {total} images of {CAMERA.width} x {CAMERA.height} at {config.rate_hz:g} Hz")
    with (
        fresh_bag(path, overwrite=True) as fresh,
        DriveWriter(fresh) as bag,
        tempfile.TemporaryDirectory() as scratch,
        progress(f"Rendering {path.name}") as show,
    ):
        for number, frame in enumerate(render_drive(config, Path(scratch)), start=1):
            bag.odometry(frame.stamp_ns, pose_from_yaw(frame.x, frame.y, frame.yaw))
            bag.camera_info(frame.stamp_ns, CAMERA)
            bag.image(frame.stamp_ns, frame.image, "rgb8")
            show(number, max(total, number))
    return path


def drive(bag: Path, name: str, log: Path, map_path: Path, load: bool) -> Session:
    """Play a bag into a freshly started node, save the map, and kill the node without warning."""
    from tscm_msgs.srv import LoadMap, SaveMap

    parameters = {"map_path": map_path, "map.resume": False}
    remappings = {
        "image": IMAGE_TOPIC,
        "camera_info": CAMERA_INFO_TOPIC,
        "odometry": ODOMETRY_TOPIC,
        "depth": DEPTH_TOPIC,
    }
    with NodeProcess(log, parameters, remappings) as process, Robot() as robot:
        robot.wait_for_node(process, IMAGE_TOPIC)
        if load:
            say(require(robot.call(LoadMap, "load_map", LoadMap.Request())))
        say(f"{name}: sending {bag.name} to the node in real time")
        with progress(name.capitalize()) as show:
            sent = robot.play(bag, show)
        robot.wait_for_statuses(sent)
        say(require(robot.call(SaveMap, "save_map", SaveMap.Request())))
        process.stop(signal.SIGKILL)
        return Session(
            name,
            sent,
            tuple(robot.statuses),
            tuple(robot.keyframes),
            tuple(robot.candidates),
            tuple(robot.topic_latencies_ms()),
        )


def require(response: Any) -> str:
    """The sentence with which a service answered; raises TscmError if it failed."""
    if not response.success:
        raise TscmError(response.message)
    return str(response.message)


def say(text: str) -> None:
    """Tell what was done, on standard error."""
    errors.print(f"[dim]{text}[/]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every image arrived and every session has right loops and no wrong one."""
    parser = argparse.ArgumentParser(prog="tscm demo")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the node is ended on the way out
    try:
        result = run(options.out)
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130
    except TscmError as error:
        errors.print(f"[bold red]error:[/] {error}")
        return 1
    if options.json:
        print_json(result)
    else:
        show_table(result, options.out)
    problems = verdict(result)
    for problem in problems:
        errors.print(f"[bold red]{problem}[/]")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
