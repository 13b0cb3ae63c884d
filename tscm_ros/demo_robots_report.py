"""What ``tscm demo two-robots`` makes of the answers: figures, what must not be in them, and how they are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tscm_core.commands.support import output
from tscm_core.evaluation.figures import percentiles
from tscm_ros.demo_drives import RESULT
from tscm_ros.demo_judging import Judged
from tscm_ros.demo_report import TRUTH, Session, latencies, lost_images, short_times, show_columns, show_times

PICTURE = "two_robots.png"


def log_of(out: Path, robot: str) -> Path:
    """Where the node of a robot writes what it has to say."""
    return out / f"{robot}.log"


def figures(
    sessions: Sequence[Session], judged: Sequence[Judged], message_bytes: Sequence[Sequence[int]], rate_hz: float
) -> dict[str, Any]:
    """What was counted and measured.

    Args:
        sessions: the drives.
        judged: what became of each.
        message_bytes: of each drive, the sizes of its keyframe messages as they are sent.
        rate_hz: images a second of each camera.
    """
    return {
        "robots": [
            _drive(session, found, sum(sizes) * rate_hz / session.sent)
            for session, found, sizes in zip(sessions, judged, message_bytes, strict=True)
        ],
        "radius_m": TRUTH.radius_m,
        "max_yaw_deg": TRUTH.max_yaw_deg,
        "model_id": sessions[0].statuses[0].model_id,
        "rate_hz": rate_hz,
        "processors": os.cpu_count(),
        "keyframe_message_bytes": percentiles(size for sizes in message_bytes for size in sizes),
        "latency_ms": latencies(sessions),
    }


def _drive(session: Session, judged: Judged, bytes_per_s: float) -> dict[str, Any]:
    own = [loop for loop in judged.loops if loop.robot == session.robot]
    other = [loop for loop in judged.loops if loop.robot != session.robot]
    times = latencies([session])
    return {
        "name": session.name,
        "images_sent": session.sent,
        "images_received": session.received,
        "images_dropped": session.dropped,
        "keyframes": len(session.keyframes),
        "keyframe_bytes_per_s": round(bytes_per_s),
        "images_at_places_of_the_other": judged.revisits,
        "recognised": judged.found,
        "loops_into_the_other_right": sum(loop.right for loop in other),
        "loops_into_the_other_wrong": sum(not loop.right for loop in other),
        "loops_into_its_own_map_right": sum(loop.right for loop in own),
        "loops_into_its_own_map_wrong": sum(not loop.right for loop in own),
        "node_ms": times.get("keyframe in the node"),
        "topic_to_topic_ms": times.get("image topic to candidate topic"),
    }


def verdict(result: Mapping[str, Any]) -> list[str]:
    """What a working system must not show."""
    problems = []
    for robot in result["robots"]:
        problems += lost_images(robot)
        if not robot["loops_into_the_other_right"]:
            problems.append(f"{robot['name']}: no place of the other robot was recognised")
        wrong = robot["loops_into_the_other_wrong"] + robot["loops_into_its_own_map_wrong"]
        if wrong:
            problems.append(f"{robot['name']}: {wrong} loops are wrong")
    return problems


def show(result: dict[str, Any], out: Path) -> None:
    """The figures for a person."""
    title = (
        f"Two robots, {result['rate_hz']:g} images a second each, two nodes on {result['processors']} processor cores"
    )
    times = ("node_ms", "topic_to_topic_ms")
    show_columns(title, [robot | {key: short_times(robot[key]) for key in times} for robot in result["robots"]])
    show_times(result["latency_ms"])
    size = result["keyframe_message_bytes"]
    output.print(f"a keyframe message has {size['p50'] / 1000:.1f} kB (p95 {size['p95'] / 1000:.1f} kB)")
    logs = ", ".join(str(log_of(out, robot["name"])) for robot in result["robots"])
    output.print(f"picture: {out / PICTURE}   figures: {out / RESULT}   logs: {logs}")
