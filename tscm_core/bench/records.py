"""What a bench finds, as values, and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tscm_core.bench.budgets import P95, Budget
from tscm_core.bench.measure import Samples

DONE, SKIPPED, FAILED = "done", "not run", "failed"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: taken once (``samples`` 1, no ``p95``), or the median and 95th percentile of several samples."""

    name: str
    unit: str
    value: float
    p95: float | None = None
    samples: int = 1
    budget: Budget | None = None

    @property
    def met(self) -> bool | None:
        """Whether its budget is met; ``None`` if it has none."""
        if self.budget is None:
            return None
        return self.budget.met(self.p95 if self.budget.of == P95 and self.p95 is not None else self.value)

    def to_json(self) -> dict[str, Any]:
        """As ``bench.json`` holds it: with ``p50`` and ``p95``, or with ``value``."""
        shown: dict[str, Any] = {"name": self.name, "unit": self.unit}
        if self.p95 is None:
            shown["value"] = _rounded(self.value)
        else:
            shown |= {"p50": _rounded(self.value), "p95": _rounded(self.p95)}
        shown["samples"] = self.samples
        if self.budget is not None:
            shown |= {"budget": asdict(self.budget), "met": self.met}
        return shown

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> Figure:
        """What :meth:`to_json` made."""
        budget = Budget(**shown["budget"]) if "budget" in shown else None
        value = shown["value"] if "value" in shown else shown["p50"]
        return cls(shown["name"], shown["unit"], value, shown.get("p95"), shown["samples"], budget)


def sampled(samples: Samples, name: str = "time", unit: str = "ms", budget: Budget | None = None) -> Figure:
    """Median and 95th percentile of samples, as a figure."""
    return Figure(name, unit, samples.p50, samples.p95, samples.count, budget)


def known(*figures: tuple[str, str, float | None]) -> tuple[Figure, ...]:
    """Figures by name, unit and value; those that this system does not tell are left out."""
    return tuple(Figure(name, unit, value) for name, unit, value in figures if value is not None)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one thing. ``tags`` say what it is for programs, ``what`` says it for people."""

    what: str
    figures: tuple[Figure, ...]
    tags: Mapping[str, str | int] = field(default_factory=dict)

    def figure(self, name: str) -> Figure | None:
        """The figure of that name; ``None`` if there is none."""
        return next((figure for figure in self.figures if figure.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """As ``bench.json`` holds it."""
        return {
            "what": self.what,
            "tags": dict(self.tags),
            "figures": [figure.to_json() for figure in self.figures],
        }

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> Row:
        """What :meth:`to_json` made."""
        return cls(shown["what"], tuple(map(Figure.from_json, shown["figures"])), shown["tags"])


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of the bench found. ``notes`` say how it was measured and what was left out, a sentence each."""

    name: str
    title: str
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    state: str = DONE
    reason: str = ""
    """Why it was not run, or failed; empty when it was done."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As ``bench.json`` holds it."""
        return {
            "name": self.name,
            "title": self.title,
            "state": self.state,
            "reason": self.reason,
            "seconds": _rounded(self.seconds),
            "rows": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> Section:
        """What :meth:`to_json` made."""
        rows = tuple(map(Row.from_json, shown["rows"]))
        notes = tuple(shown["notes"])
        return cls(shown["name"], shown["title"], rows, notes, shown["state"], shown["reason"], shown["seconds"])


def bench_json(header: Mapping[str, Any], sections: Iterable[Section]) -> dict[str, Any]:
    """Everything, as ``bench.json`` holds it; ``missed`` names the figures that do not keep their budget."""
    listed = list(sections)
    missed = [
        f"{section.name}: {row.what}: {figure.name}"
        for section in listed
        for row in section.rows
        for figure in row.figures
        if figure.met is False
    ]
    return {
        "header": dict(header),
        "sections": [section.to_json() for section in listed],
        "missed": missed,
        "failed": [section.name for section in listed if section.state == FAILED],
    }


def _rounded(value: float) -> float:
    """Five significant digits: more is noise."""
    return float(f"{value:.5g}")
