"""What the demo makes of the messages that came out of the node: figures, verdict, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from tscm_core.commands.support import output
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.evaluation.ground_truth import Query, Score, Truth, score
from tscm_core.evaluation.picture import Drive, Pair, Scene
from tscm_core.evaluation.replay import percentiles
from tscm_core.recognition.records import Pose, Rgb, Status

TRUTH = Truth(radius_m=5.0, max_yaw_deg=60.0)
"""A loop is right if the two cameras stood within 5 m of each other and looked within 60 degrees the same way."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one drive through the node gave.

    ``robot`` is the namespace of the node without slashes, ``truth`` has the true pose of each image by its stamp, and
    ``lost`` are the images that the running node had dropped and refused before.
    """

    name: str
    sent: int
    statuses: tuple[Any, ...]
    keyframes: tuple[Any, ...]
    candidates: tuple[Any, ...]
    topic_ms: tuple[float, ...]
    robot: str = ""
    truth: Mapping[int, Pose] = field(default_factory=dict)
    lost: tuple[int, int] = (0, 0)

    @property
    def dropped(self) -> int:
        """Images that the node received and had no time for."""
        return int(self.statuses[-1].images_dropped) - self.lost[0] if self.statuses else 0

    @property
    def received(self) -> int:
        """Images that reached the node."""
        refused = int(self.statuses[-1].images_refused) - self.lost[1] if self.statuses else 0
        return len(self.statuses) + self.dropped + refused


def pose_of(message: Any) -> Pose:
    """The odometry in a message of ours."""
    place, turn = message.pose.pose.position, message.pose.pose.orientation
    return Pose((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w), message.pose.header.frame_id)


def all_keyframes(sessions: Sequence[Session]) -> tuple[Any, ...]:
    """The keyframes of all sessions in the order of the map."""
    return tuple(keyframe for session in sessions for keyframe in session.keyframes)


def judge(sessions: Sequence[Session], index: int) -> Score:
    """The score of one session, whose map began with the keyframes of the sessions before it."""
    keyframes = all_keyframes(sessions)
    position = {keyframe.id: number for number, keyframe in enumerate(keyframes)}
    accepted = {
        message.keyframe_id: tuple(position[item.keyframe_id] for item in message.candidates if item.status == 0)
        for message in sessions[index].candidates
    }
    searched = {status.keyframe_id: status.searched for status in sessions[index].statuses if status.is_keyframe}
    queries = [
        (position[keyframe.id], Query(searched[keyframe.id], accepted.get(keyframe.id, ())))
        for keyframe in sessions[index].keyframes
    ]
    return score([pose_of(keyframe) for keyframe in keyframes], queries, TRUTH)


def figures(sessions: Sequence[Session], scores: Sequence[Score]) -> dict[str, Any]:
    """Everything that was counted and measured."""
    return {
        "sessions": [
            {
                "name": session.name,
                "images_sent": session.sent,
                "images_received": session.received,
                "images_dropped": session.dropped,
                "keyframes": len(session.keyframes),
                **{
                    name: getattr(judged, name)
                    for name in ("revisits", "accepted", "correct", "wrong", "precision", "recall")
                },
            }
            for session, judged in zip(sessions, scores, strict=True)
        ],
        "radius_m": TRUTH.radius_m,
        "max_yaw_deg": TRUTH.max_yaw_deg,
        "model_id": sessions[0].statuses[0].model_id,
        "latency_ms": latencies(sessions),
    }


def latencies(sessions: Sequence[Session]) -> dict[str, dict[str, float]]:
    """Per stage inside the node, image callback to status, and image topic to candidate topic."""
    times: dict[str, list[float]] = {}
    for status in (status for session in sessions for status in session.statuses):
        for item in status.stage_times:
            times.setdefault(item.stage, []).append(item.milliseconds)
        looked_up = status.status != Status.NOT_KEYFRAME  # in localization mode no image becomes a keyframe
        kind = "keyframe in the node" if looked_up else "other frame in the node"
        times.setdefault(kind, []).append(status.latency_ms)
    times["image topic to candidate topic"] = [ms for session in sessions for ms in session.topic_ms]
    return {stage: percentiles(values) for stage, values in times.items() if values}


def scene(sessions: Sequence[Session], scores: Sequence[Score], bags: Sequence[Path]) -> Scene:
    """The picture: both drives, all loops, and three pairs of images."""
    keyframes = all_keyframes(sessions)
    ends = [0, *(len(all_keyframes(sessions[: index + 1])) for index in range(len(sessions)))]
    drives = tuple(
        Drive(f"{session.name}: {len(session.keyframes)} keyframes", tuple(range(begin, end)))
        for session, begin, end in zip(sessions, ends, ends[1:], strict=False)
    )
    right = tuple(pair for judged in scores for pair in judged.correct_pairs)
    wrong = tuple(pair for judged in scores for pair in judged.wrong_pairs)
    shown = [*wrong[:1], *(right[round(share * (len(right) - 1))] for share in (0.15, 0.5, 0.9) if right)][:3]
    images = images_of(bags, {stamp_of(keyframes[number]) for pair in shown for number in pair})
    return Scene(
        title="A robot drives through a rendered world: loops that the node closed",
        poses=tuple(pose_of(keyframe) for keyframe in keyframes),
        drives=drives,
        right=right,
        wrong=wrong,
        pairs=tuple(pair_of(pair, keyframes, images, sessions) for pair in shown),
    )


def pair_of(
    pair: tuple[int, int], keyframes: Sequence[Any], images: dict[int, Rgb], sessions: Sequence[Session]
) -> Pair:
    """Query above, match below, with their similarity."""
    query, match = (keyframes[number] for number in pair)
    candidates = (message for session in sessions for message in session.candidates if message.keyframe_id == query.id)
    similarity = next(
        item.similarity for message in candidates for item in message.candidates if item.keyframe_id == match.id
    )
    caption = f"keyframe {query.id} is at the place of {match.id}\nsimilarity {similarity:.3f}"
    return Pair(images[stamp_of(query)], images[stamp_of(match)], caption)


def images_of(bags: Sequence[Path], stamps: set[int]) -> dict[int, Rgb]:
    """The images with these stamps, by stamp."""
    found: dict[int, Rgb] = {}
    for path in bags:
        with DriveBag(path) as bag:
            found |= {frame.stamp_ns: frame.image for frame in bag.frames() if frame.stamp_ns in stamps}
    return found


def stamp_of(message: Any) -> int:
    """The stamp in the header, in nanoseconds."""
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def verdict(result: dict[str, Any]) -> list[str]:
    """What a working system must not show."""
    problems = []
    for session in result["sessions"]:
        problems += lost_images(session)
        if not session["correct"]:
            problems.append(f"{session['name']}: no place was recognised")
        if session["wrong"]:
            problems.append(f"{session['name']}: {session['wrong']} loops are wrong")
    return problems


def lost_images(figures: Mapping[str, Any]) -> list[str]:
    """One sentence if images of a drive did not reach the node."""
    sent, received = figures["images_sent"], figures["images_received"]
    return [f"{figures['name']}: only {received} of {sent} images arrived"] if received < sent else []


def show_table(result: dict[str, Any], out: Path) -> None:
    """The figures for a person."""
    show_columns("Two drives through the node", result["sessions"])
    show_times(result["latency_ms"])
    output.print(f"picture: {out / 'demo.png'}   figures: {out / 'result.json'}   node's log: {out / 'node.log'}")


def show_columns(title: str, columns: Sequence[Mapping[str, Any]]) -> None:
    """A column for each, headed by its ``name``; all have the same keys."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column["name"], justify="right")
    for row in (key for key in columns[0] if key != "name"):
        values = (column[row] for column in columns)
        table.add_row(
            row.replace("_", " "),
            *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values),
        )
    output.print(table)


def show_times(latency_ms: Mapping[str, Mapping[str, float]]) -> None:
    """Median and 95th percentile of each stage."""
    times = Table("milliseconds", "p50", "p95", title="What it costs", title_justify="left")
    for stage, ms in latency_ms.items():
        times.add_row(stage, f"{ms['p50']:.2f}", f"{ms['p95']:.2f}")
    output.print(times)


def short_times(ms: Mapping[str, float] | None) -> str:
    """Median and 95th percentile in a few letters."""
    return f"{ms['p50']:.1f} (p95 {ms['p95']:.1f})" if ms else "-"
