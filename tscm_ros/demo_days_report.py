"""What ``tscm demo two-days`` makes of the answers: figures, what must not be in them, and how they are shown."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tscm_core.commands.support import output
from tscm_core.maps.map_format import TABLES
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.records import Status
from tscm_ros.demo_drives import LOG, RESULT
from tscm_ros.demo_judging import Judged, Sighting, same_place
from tscm_ros.demo_report import TRUTH, Session, latencies, lost_images, short_times, show_columns, show_times

DAY_ONE, DAY_TWO, LATER = "day one, noon", "day two, evening", "day two, localization"
PICTURE = "two_days.png"


def figures(sessions: Sequence[Session], judged: Sequence[Judged]) -> dict[str, Any]:
    """What was counted and measured on the three drives."""
    names = {session.statuses[0].session: session.name for session in sessions}
    return {
        "parts": [_part(session, found, names) for session, found in zip(sessions, judged, strict=True)],
        "radius_m": TRUTH.radius_m,
        "max_yaw_deg": TRUTH.max_yaw_deg,
        "model_id": sessions[0].statuses[0].model_id,
        "processors": os.cpu_count(),
        "latency_ms": latencies(sessions),
    }


def _part(session: Session, judged: Judged, names: dict[str, str]) -> dict[str, Any]:
    times = latencies([session])
    return {
        "name": session.name,
        "images_sent": session.sent,
        "images_received": session.received,
        "images_dropped": session.dropped,
        "images_looked_up": len(judged.queries),
        "keyframes_added": len(session.keyframes),
        "map_size": session.statuses[-1].map_size,
        "revisits": judged.revisits,
        "recognised": judged.found,
        "loops_right": len(judged.right),
        "loops_wrong": len(judged.wrong),
        "sessions_named": {names.get(name, name): count for name, count in judged.sessions.items()},
        "node_ms": times.get("keyframe in the node"),
        "topic_to_topic_ms": times.get("image topic to candidate topic"),
    }


def contents(path: Path) -> dict[str, Any]:
    """What a map file holds: keyframes, the highest id, sessions, and a digest of all its rows.

    Raises:
        MapFileError: it cannot be read.
    """
    digest = hashlib.sha256()
    with MapReader(path) as reader:
        for table in TABLES:
            for row in reader.rows(table):
                digest.update(repr(tuple(row)).encode())
        return {
            "keyframes": reader.count,
            "last_id": max((item.id for item in reader.keyframes()), default=0),
            "sessions": len(reader.sessions()),
            "rows_sha256": digest.hexdigest(),
        }


def relocalized(asked: Sequence[Sighting], answers: Sequence[Any], known: Sequence[Sighting]) -> dict[str, int]:
    """Of the images asked about, at how many the best place is the right one, and how many were accepted as such."""
    places = {item.keyframe_id: item for item in known}
    best = [answer.candidates[0] if answer.candidates else None for answer in answers]
    right = [
        item is not None and item.keyframe_id in places and same_place(query, places[item.keyframe_id])
        for query, item in zip(asked, best, strict=True)
    ]
    return {
        "asked": len(asked),
        "right_at_rank_1": sum(right),
        "accepted": sum(item is not None and item.status == Status.ACCEPTED for item in best),
    }


def verdict(result: dict[str, Any]) -> list[str]:
    """What a working system must not show."""
    parts = {part["name"]: part for part in result["parts"]}
    problems = [problem for part in result["parts"] for problem in lost_images(part)]
    problems += [
        f"{name}: {part['loops_wrong']} loops are wrong" for name, part in parts.items() if part["loops_wrong"]
    ]
    for name, allowed in ((DAY_TWO, {DAY_ONE}), (LATER, {DAY_ONE, DAY_TWO})):
        if not parts[name]["recognised"]:
            problems.append(f"{name}: no place was recognised")
        others = sorted(set(parts[name]["sessions_named"]) - allowed)
        if others:
            problems.append(f"{name}: loops lead into {', '.join(others)}, though candidates.sessions is between")
    if parts[LATER]["keyframes_added"] or not result["map"]["the_same"]:
        problems.append(f"{LATER}: the map changed, though mode is localization")
    asked = result["relocalize"]
    if asked["right_at_rank_1"] < asked["asked"]:
        problems.append(
            f"relocalize: the best place is right for {asked['right_at_rank_1']} of {asked['asked']} images only"
        )
    return problems


def show(result: dict[str, Any], out: Path) -> None:
    """The figures for a person."""
    show_columns("One map on two days", [_column(part) for part in result["parts"]])
    show_times(result["latency_ms"])
    held, asked = result["map"], result["relocalize"]
    before, after = held["before_localization"], held["after_localization"]
    output.print(
        f"localization left the map {'as it was' if held['the_same'] else 'CHANGED'}: {before['keyframes']} keyframes "
        f"before, {after['keyframes']} after, {'the same' if held['the_same'] else 'another'} digest of all rows"
    )
    output.print(
        f"relocalize by a node just started on the saved map: right place first for {asked['right_at_rank_1']} of "
        f"{asked['asked']} images; first answer {asked['first_answer_s_after_start']:.1f} s after the start"
    )
    output.print(f"picture: {out / PICTURE}   figures: {out / RESULT}   node's log: {out / LOG}")


def _column(part: dict[str, Any]) -> dict[str, Any]:
    """The part as text: what is a record in the file is one line in the table."""
    named = "\n".join(f"{name}: {count}" for name, count in part["sessions_named"].items())
    times = {key: short_times(part[key]) for key in ("node_ms", "topic_to_topic_ms")}
    return part | {"sessions_named": named} | times
