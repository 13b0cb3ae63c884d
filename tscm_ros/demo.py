"""``tscm demo``: a robot drives through a rendered world, and the real node recognises where it has been.

Two sessions go over DDS into the node in a process of its own. Between them the map is saved by service, the node is
killed without warning, started anew and given the saved map. ``tscm demo two-days`` and ``tscm demo two-robots`` are in
modules of their own.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscm_core.commands.support import errors, print_json, progress
from tscm_core.datasets.bag_writer import IMAGE_TOPIC
from tscm_core.datasets.synthetic_drive import DEMO_SESSIONS
from tscm_core.errors import TscmError
from tscm_core.evaluation.picture import draw
from tscm_ros import demo_days, demo_robots
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.demo_drives import LOG, RESULT, begin_afresh, remappings, render, require, say
from tscm_ros.demo_report import Session, figures, judge, scene, show_table, verdict
from tscm_ros.playback import NodeProcess, Robot

PICTURE = "demo.png"


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo: what runs it, what must not be in its figures, and how they are shown."""

    run: Callable[[Path], dict[str, Any]]
    verdict: Callable[[dict[str, Any]], list[str]]
    show: Callable[[dict[str, Any], Path], None]


def run(out: Path) -> dict[str, Any]:
    """Render, drive, judge, draw; gives the figures, which also stand in ``result.json``.

    Raises:
        TscmError: something is missing, or the node did not do its part.
    """
    begin_afresh(out, "map.tscm*", LOG, PICTURE)
    bags = [render(config, out / f"drive_{number}").bag for number, config in enumerate(DEMO_SESSIONS, start=1)]
    map_path, log = out / "map.tscm", out / LOG
    with dds_for_one_machine():
        first = drive(bags[0], "first drive", log, map_path, load=False)
        second = drive(bags[1], "second drive, another day", log, map_path, load=True)
    sessions = (first, second)
    scores = tuple(judge(sessions, index) for index in range(len(sessions)))
    result = figures(sessions, scores)
    (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    draw(scene(sessions, scores, bags), out / PICTURE)
    return result


def drive(bag: Path, name: str, log: Path, map_path: Path, load: bool) -> Session:
    """Play a bag into a freshly started node, save the map, and kill the node without warning."""
    from tscm_msgs.srv import LoadMap, SaveMap

    parameters = {"map_path": map_path, "map.resume": False}
    with NodeProcess(log, parameters, remappings()) as process, Robot() as robot:
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


DEMOS = {
    "drives": Demo(run, verdict, show_table),
    "two-days": Demo(demo_days.run, demo_days.verdict, demo_days.show),
    "two-robots": Demo(demo_robots.run, demo_robots.verdict, demo_robots.show),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a demo; 0 if every image arrived, places were recognised and no loop is wrong."""
    parser = argparse.ArgumentParser(prog="tscm demo")
    parser.add_argument("kind", nargs="?", choices=tuple(DEMOS), default="drives")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    demo = DEMOS[options.kind]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the node is ended on the way out
    try:
        result = demo.run(options.out)
    except KeyboardInterrupt:
        errors.print("stopped")
        return 130
    except TscmError as error:
        errors.print(f"[bold red]error:[/] {error}")
        return 1
    if options.json:
        print_json(result)
    else:
        demo.show(result, options.out)
    problems = demo.verdict(result)
    for problem in problems:
        errors.print(f"[bold red]{problem}[/]")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
