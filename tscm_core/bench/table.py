"""The figures of a bench as tables, each budget beside its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tscm_core.bench.budgets import Budget
from tscm_core.bench.header import warnings_of
from tscm_core.bench.records import DONE, Figure, Row, Section

MET, MISSED = "met", "missed"


def header_lines(header: Mapping[str, Any]) -> list[str]:
    """On what was measured, a line each; warnings last."""
    packages = ", ".join(f"{name} {version}" for name, version in header["packages"].items())
    flags = ", ".join(header["flags"]) or "no flags that matter"
    return [
        f"tscm {header['tscm']}, Python {header['python']}, {packages}",
        f"{header['processor']} ({flags}), {header['cores']} cores; GPU: {header['gpu'] or 'none'}; {header['system']}",
        f"{header['date']}, load average {header['load_average']:g}",
        *(f"warning: {sentence}" for sentence in warnings_of(header)),
    ]


def section_table(section: Section) -> Table:
    """The rows of a section that was done: a column for each kind of figure, and the budgets."""
    table = Table(title=f"{section.title} ({section.seconds:.0f} s)", title_justify="left")
    kinds = _kinds(section.rows)
    table.add_column("")
    for figure in kinds.values():
        table.add_column(_heading(figure), justify="right")
    table.add_column("n", justify="right")
    if judged := any(figure.budget for row in section.rows for figure in row.figures):
        table.add_column("budget")
    for row in section.rows:
        cells = [_cell(row.figure(name)) for name in kinds]
        samples = str(max(figure.samples for figure in row.figures)) if row.figures else ""
        table.add_row(escape(row.what), *cells, samples, *([_verdicts(row)] if judged else []))
    return table


def remarks(section: Section) -> list[str]:
    """What stands below the table of a section, or in its place, a line each."""
    if section.state != DONE:
        return [f"{section.title}: {section.state}: {section.reason}"]
    return list(section.notes)


def summary(sections: Sequence[Section]) -> str:
    """How many budgets are met, and which are not."""
    figures = [(section, row, figure) for section in sections for row in section.rows for figure in row.figures]
    judged = [item for item in figures if item[2].met is not None]
    if not judged:
        return "none of these figures has a budget"
    missed = [f"{section.name}: {row.what}, {figure.name}" for section, row, figure in judged if not figure.met]
    text = f"{len(judged) - len(missed)} of {len(judged)} budgets met"
    return f"{text}; missed: {'; '.join(missed)}" if missed else text


def verdict(figure: Figure) -> str:
    """A budget and whether it is met: ``≤ 15 ms p50: met``; empty without a budget."""
    budget: Budget | None = figure.budget
    return f"{budget.text(figure.unit)}: {MET if figure.met else MISSED}" if budget else ""


def _kinds(rows: Sequence[Row]) -> dict[str, Figure]:
    """One figure of every name: with samples if there is such, those first, then as in the row that has most."""
    kinds: dict[str, Figure] = {}
    for row in sorted(rows, key=lambda row: -len(row.figures)):
        for figure in row.figures:
            if figure.name not in kinds or kinds[figure.name].p95 is None:
                kinds[figure.name] = figure
    return dict(sorted(kinds.items(), key=lambda item: item[1].p95 is None))


def _heading(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    return f"{figure.name}{unit}" + ("\np50 / p95" if figure.p95 is not None else "")


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return number(figure.value) if figure.p95 is None else f"{number(figure.value)} / {number(figure.p95)}"


def number(value: float) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.0e}"


def _verdicts(row: Row) -> Text:
    """A line for each budget of a row; named where there are several."""
    judged = [figure for figure in row.figures if figure.budget]
    lines = Text()
    for position, figure in enumerate(judged):
        name = f"{figure.name} " if len(judged) > 1 else ""
        lines.append("\n" if position else "")
        lines.append(f"{name}{verdict(figure)}", style="green" if figure.met else "bold red")
    return lines
