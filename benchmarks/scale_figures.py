"""The figures of scale.py as lines of a table: one figure a line, a column for each size, and the growth between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tscm_core.bench.table import number

_LINES = (
    ("file, MB", "file_mb"),
    ("file a place, kB", "file_a_place_kb"),
    ("disk while it is loaded, MB", "disk_peak_mb"),
    ("memory, MB", "memory_mb"),
    ("memory a place, kB", "memory_a_place_kb"),
    ("most memory while opening, MB", "open_peak_mb"),
    ("more memory while saving, MB", "save_peak_mb"),
    ("more memory while loading, MB", "load_peak_mb"),
)
_TAKEN = (
    ("open after a restart", "open"),
    ("open after a kill", "open_after_kill"),
    ("new session", "new_session"),
    ("save", "save"),
    ("save while driving", "save_driving"),
    ("load", "load"),
)
"""Seconds, and how many of them are the processor's: those do not depend on what else the machine has to do."""
_DRIVEN = (
    ("search", "search_ms"),
    ("geometry", "geometry_ms"),
    ("store", "store_ms"),
    ("observe", "observe_ms"),
    ("observe, processor", "observe_cpu_ms"),
    ("late", "late_ms"),
    ("relocalize", "relocalize_ms"),
    ("relocalize, processor", "relocalize_cpu_ms"),
)
_PHASES = {"quiet": "", "saving": " during a save"}
_WHOLE = ("frames", "dropped")


def heads(maps: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The heads of the columns by key."""
    columns = {"figure": ""}
    for before, figures in zip([None, *maps], maps, strict=False):
        if before is not None:
            columns[_growth_key(figures)] = f"x {figures['places'] / before['places']:g}"
        columns[_key(figures)] = f"{figures['places']:,}"
    return columns


def table_rows(maps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines: figures by size, and by how much each grew from the size before."""
    flat = [flattened(figures) for figures in maps]
    names = list(dict.fromkeys(name for figures in flat for name in figures))
    return [_row(name, maps, [figures.get(name) for figures in flat]) for name in names]


def flattened(figures: Mapping[str, Any]) -> dict[str, tuple[float, ...] | str]:
    """The figures of one map by line: one number, p50 and p95, or a text that has no growth."""
    lines: dict[str, tuple[float, ...] | str] = {title: (figures[key],) for title, key in _LINES}
    for title, key in _TAKEN:
        lines[f"{title}, s"], lines[f"{title}, processor, s"] = (figures[key]["s"],), (figures[key]["cpu_s"],)
    for phase, words in _PHASES.items():
        seen = figures[phase]
        for title, key in _DRIVEN:
            if seen[key] and seen[key]["max"]:
                lines[f"{title}{words}, ms"] = (seen[key]["p50"], seen[key]["p95"])
        lines[f"longest observe{words}, ms"] = (seen["observe_ms"]["max"],)
        lines[f"images, dropped{words}"] = ", ".join(str(seen[key]) for key in _WHOLE)
        asked = seen["frames"] + seen["relocalized"]
        lines[f"places found{words}, %"] = number(100.0 * (seen["found"] + seen["relocated"]) / asked)
    lines["longest observe during a load, ms"] = (figures["loading"]["observe_ms"]["max"],)
    return lines


def _row(
    name: str, maps: Sequence[Mapping[str, Any]], values: Sequence[tuple[float, ...] | str | None]
) -> dict[str, Any]:
    row: dict[str, Any] = {"figure": name}
    before: tuple[float, ...] | str | None = None
    for at, (figures, value) in enumerate(zip(maps, values, strict=True)):
        row[_key(figures)] = _cell(value)
        if at:
            row[_growth_key(figures)] = _growth(before, value)
        before = value
    return row


def _cell(value: tuple[float, ...] | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else " / ".join(map(number, value))


def _growth(before: tuple[float, ...] | str | None, after: tuple[float, ...] | str | None) -> str:
    """By what the first of the numbers grew, p50 of p50 and p95: what else the machine has to do shows less in it."""
    if not (isinstance(before, tuple) and isinstance(after, tuple)):
        return ""
    grown = after[0] / before[0] if before[0] else math.nan
    return number(grown) if math.isfinite(grown) else ""


def _key(figures: Mapping[str, Any]) -> str:
    return f"{figures['places']}"


def _growth_key(figures: Mapping[str, Any]) -> str:
    return f"growth to {figures['places']}"
