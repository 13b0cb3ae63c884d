"""The parts of a report that are words and numbers: the head, the ablation, the latency, the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tscm_core.config import Config
from tscm_core.evaluation.report_svg import figure, label, line, number, plot, tag, text

_TILES = (
    ("recall_at_100_precision", "recall at 100 % precision", "the share of revisits closed if no loop may be wrong"),
    ("recall_at_99_precision", "recall at 99 % precision", ""),
    ("auc", "area under the curve", "average precision"),
    ("f1", "F1", "the best of any threshold"),
    ("precision", "precision", "as the settings are"),
    ("recall", "recall", "as the settings are"),
)
_COUNTS = (
    ("revisits", "revisits", ""),
    ("correct", "right loops", "right"),
    ("wrong", "wrong loops", "wrong"),
    ("missed", "missed revisits", "missed"),
)


def tiles(figures: Mapping[str, Any]) -> str:
    """The figures of a replay, large; ``figures`` as in ``result.json``, and ``missed``."""
    shown = [_tile(name, figure(figures.get(key)), note, "") for key, name, note in _TILES if key in figures]
    shown += [_tile(name, _count(figures.get(key)), "", kind) for key, name, kind in _COUNTS]
    return tag("div", *shown, _class="tiles")


def _count(value: object) -> str:
    return "unknown" if value is None else str(value)


def _tile(name: str, value: str, note: str, kind: str) -> str:
    parts = [tag("dt", text(name)), tag("dd", text(value), _class=kind if value not in {"0", "unknown"} else None)]
    return tag("dl", *parts, tag("dd", text(note), _class="note") if note else "", _class="tile")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int = 1) -> str:
    """A table that scrolls within its own box; columns from ``numbers_from`` on are numbers."""

    def cell(column: int, value: object, name: str) -> str:
        return tag(name, text(value), _class="number" if column >= numbers_from else None)

    lines = [tag("tr", *(cell(column, value, "td") for column, value in enumerate(row))) for row in rows]
    top = tag("tr", *(cell(column, value, "th") for column, value in enumerate(head)))
    return tag("div", tag("table", tag("thead", top), tag("tbody", *lines)), _class="scroll")


def facts_line(items: Iterable[tuple[str, object]]) -> str:
    """Short facts in one flowing line: name and value."""
    return tag("p", *(tag("span", tag("span", text(name), _class="muted"), " ", text(value)) for name, value in items),
               _class="facts")  # fmt: skip


def latency_plot(latency: Mapping[str, Mapping[str, float]]) -> str:
    """Bars: the median solid, the 95th percentile as a line behind it; each with its number."""
    if not latency:
        return tag("p", "No frame was measured.")
    width, row, left, bar = 520.0, 30.0, 96.0, 230.0
    most = max(item["p95"] for item in latency.values()) or 1.0
    parts = []
    for index, (stage, item) in enumerate(latency.items()):
        top, middle, high = index * row + 4, bar * item["p50"] / most, bar * item["p95"] / most
        parts.append(label(left - 8, top + 15, stage, "end", "lane-name"))
        parts.append(line([(left, top + 11), (left + high, top + 11)], "p95"))
        parts.append(line([(left + high, top + 6), (left + high, top + 16)], "p95"))
        parts.append(
            tag("path", d=f"M{number(left)} {number(top + 3)}h{number(middle)}v16H{number(left)}z", _class="p50")
        )
        words = f"{item['p50']:.2f} / {item['p95']:.2f} ms"
        parts.append(label(left + high + 8, top + 15, words))
    note = tag("p", "Solid: the median; line: 95 % of the frames that reached the stage are not slower.", _class="note")
    return plot(width, row * len(latency) + 6, "Latency of each stage", *parts) + note


def settings_table(config: Config) -> str:
    """Every setting; those that are not the default come first, and say what the default is."""
    defaults = {name: value for name, value, _ in Config().settings()}
    rows = [(name, _plain(value), "" if value == defaults[name] else f"default: {_plain(defaults[name])}")
            for name, value, _ in config.settings()]  # fmt: skip
    changed, others = [row for row in rows if row[2]], [row for row in rows if not row[2]]
    words = "All settings have their default." if not changed else ""
    head = ("setting", "value", "")
    rest = tag(
        "details",
        tag("summary", f"{len(others)} settings at their default"),
        table(head[:2], [row[:2] for row in others]),
    )
    return (table(head, changed) if changed else tag("p", words)) + rest


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
