"""What ``tscm replay`` prints: the figures of ``result.json`` as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tscm_core.commands.support import output, print_table

_COLUMNS = {
    "variant": "variant",
    "recall_at_100_precision": "recall\n@100%P",
    "recall_at_99_precision": "recall\n@99%P",
    "auc": "AUC",
    "f1": "F1",
    "correct": "right",
    "wrong": "wrong",
    "recall": "recall",
    "mean_ms": "ms",
}
"""Keys of an ablation row and the heads of their columns."""
_ASIDE = ("statuses", "latency_ms", "recall_at", "nearest_wrong", "drives", "ablation", "settings", "stages")
"""Keys of the result that are not one figure."""


def print_result(result: dict[str, Any], out: Path, *, report: bool) -> None:
    """All figures, and where the files are."""
    from tscm_core.evaluation.results import OBSERVATIONS, REPORT, RESULT

    found = {f"recall@{k}": share for k, share in result["recall_at"].items() if share is not None}
    print_table("Replay", [*((name, value) for name, value in result.items() if name not in _ASIDE), *found.items()])
    _print_drives(result["drives"])
    nearest = result["nearest_wrong"]
    if nearest is not None:
        output.print(
            f"nearest wrong: similarity {nearest['similarity']:.3f}, {nearest['status']}, images at "
            f"{nearest['stamp_ns'] / 1e9:.3f} s and {nearest['match_stamp_ns'] / 1e9:.3f} s"
        )
    print_table("Statuses", result["statuses"].items())
    print_table(
        "Milliseconds",
        ((stage, f"p50 {ms['p50']:.2f}   p95 {ms['p95']:.2f}") for stage, ms in result["latency_ms"].items()),
    )
    if result["ablation"]:
        _print_rows("Ablation", result["ablation"], _COLUMNS)
    for what, name in (("to look at", REPORT), ("all figures", RESULT), ("every frame", OBSERVATIONS)):
        if report or name != REPORT:
            output.print(f"{what}: {escape(str(out / name))}")


def _print_drives(drives: list[dict[str, Any]]) -> None:
    names = ("session", "keyframes", "revisits", "correct", "wrong", "recall", "recall_at_100_precision")
    if len(drives) > 1:
        _print_rows("Drives", drives, {name: _COLUMNS.get(name, name) for name in names})


def _print_rows(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> None:
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False
    )
    for name, head in columns.items():
        named = name in ("variant", "session")
        table.add_column(head, justify="left" if named else "right", no_wrap=not named, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[name], 1 if name == "mean_ms" else 3) for name in columns))
    output.print(table)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else escape(str(value))
