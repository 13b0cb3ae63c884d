"""What ``tscm map`` prints of maps that it merged or repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tscm_core.commands.support import errors, output

if TYPE_CHECKING:
    from tscm_core.maps.map_merge import LoopBetween, Merged

_LISTED = 20


def merged_json(merged: Merged, out: Path) -> dict[str, Any]:
    """A merge as a JSON object, with every loop between the maps."""
    return {
        "path": str(out),
        "model_id": merged.model_id,
        "keyframes": merged.keyframes,
        "sessions": [asdict(session) | {"source": str(session.source)} for session in merged.sessions],
        "loops_carried": merged.carried,
        "loops_between": [_loop_json(loop) for loop in merged.between],
        "statuses": {item.status.name: item.keyframes for item in merged.statuses},
        "notes": list(merged.notes),
    }


def _loop_json(loop: LoopBetween) -> dict[str, Any]:
    match = loop.candidate
    return {
        "keyframe_id": loop.keyframe_id,
        "session": loop.session,
        "stamp_ns": loop.stamp_ns,
        "match_id": match.keyframe_id,
        "match_session": match.session,
        "match_stamp_ns": match.stamp_ns,
        "rank": match.rank,
        "similarity": match.similarity,
        "ratio": match.ratio,
        "temporal_support": match.temporal_support,
        "evidence": match.evidence,
        "matches": match.matches,
        "inliers": match.inliers,
        "relative_pose": None if match.relative_pose is None else asdict(match.relative_pose),
    }


def print_merged(merged: Merged, out: Path) -> None:
    """A merge for people: sessions, statuses, and the first loops between the maps."""
    print_notes(merged.notes)
    for session in merged.sessions:
        ids = f", ids {session.first_id} to {session.last_id}" if session.keyframes else ""
        output.print(
            f"session {escape(session.name)}: {session.keyframes} keyframes of {escape(str(session.source))}{ids}"
        )
    statuses = ", ".join(f"{item.keyframes} {item.status.name}" for item in merged.statuses)
    output.print(f"keyframes looked for in the maps before: {statuses or 'none'}")
    if merged.between:
        _print_loops(merged.between)
    output.print(
        f"{escape(str(out))}: {merged.keyframes} keyframes, {merged.carried} loops that the maps had, "
        f"{len(merged.between)} between them"
    )


def _print_loops(loops: Sequence[LoopBetween]) -> None:
    table = Table("keyframe", "session", "match", "session", "similarity", "inliers", "support", title="Loops between")
    for loop in loops[:_LISTED]:
        match = loop.candidate
        table.add_row(
            str(loop.keyframe_id), escape(loop.session), str(match.keyframe_id), escape(match.session),
            f"{match.similarity:.3f}", f"{match.inliers} of {match.matches}", str(match.temporal_support),
        )  # fmt: skip
    output.print(table)
    if len(loops) > _LISTED:
        output.print(f"... and {len(loops) - _LISTED} more: --json lists them all")


def print_notes(notes: Sequence[str]) -> None:
    """What a person should know, on standard error."""
    for note in notes:
        errors.print(f"[yellow]note:[/] {escape(note)}")


def print_repaired(file: Path, repaired: dict[str, Any]) -> None:
    """What came of the repair of ``file``, by the names of its record."""
    unknown = bool(repaired["pages_missing"])
    kept = ", ".join(
        f"{repaired[f'{things}_kept']} {things} kept, {_lost(repaired[f'{things}_lost'], repaired['counted'], unknown)}"
        for things in ("keyframes", "loops")
    )
    output.print(f"{escape(repaired['path'])}: {kept}; {escape(str(file))} is left as it is")
    if unknown:
        share = repaired["pages_missing"] / repaired["pages"]
        output.print(
            f"{repaired['pages_missing']} of the {repaired['pages']} pages that {escape(str(file))} should have are "
            f"cut off, {share:.1%} of it: what stood there cannot be counted"
        )


def _lost(lost: int, counted: bool, unknown: bool) -> str:
    if counted and not unknown:
        return f"{lost} lost"
    if lost:
        return f"at least {lost} lost"
    return "an unknown number lost" if unknown else "none known to be lost"
