"""The answer of an ablation: its arithmetic, and the page that shows it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tscm_core.training.ablation_arms import BASE, Arm

SHOWN_KS = (1, 5)
START, TEACHER = "start", "teacher"


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1); ``None`` of fewer than two values."""

    mean: float
    deviation: float | None


class Paired(NamedTuple):
    """Differences, value by value: their mean, sample standard deviation, and standard error of the mean."""

    mean: float
    deviation: float | None
    standard_error: float | None

    @property
    def beyond_spread(self) -> bool | None:
        """Whether the mean is larger in size than the standard deviation; ``None`` where there is none."""
        return None if self.deviation is None else abs(self.mean) > self.deviation


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of one value or more."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def paired(values: Sequence[float], base: Sequence[float]) -> Paired:
    """``values - base``, seed by seed: what the seeds have in common does not count."""
    mean, deviation = spread([ours - theirs for ours, theirs in zip(values, base, strict=True)])
    return Paired(mean, deviation, None if deviation is None else deviation / math.sqrt(len(values)))


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """One set of images that recall is measured on.

    Attributes:
        name: in tables.
        about: a sentence of whoever chose it; may be empty.
        protocol: which images ask and answer, and which answers are right.
        radius: within which an answer is right, in ``unit``.
        unit: of the positions.
        queries: of which ``queries_with_positive`` have a right image.
        database: images that may answer.
        apart: whether it shares neither images nor areas with what was learnt from, in words.
    """

    name: str
    about: str
    protocol: str
    radius: float
    unit: str
    queries: int
    queries_with_positive: int
    database: int
    apart: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tables: an arm, the start or the teacher.

    Attributes:
        name: in tables.
        recall: by set and k, 0..1: one value for each seed; of the teacher one in all.
        model_ids: of the networks that were judged, in the same order.
        arm: what was minimised; ``None`` of the references.
        steps: that each run took.
        images_per_s: in training, of each run that says it.
    """

    name: str
    recall: Mapping[str, Mapping[int, Sequence[float]]]
    model_ids: Sequence[str]
    arm: Arm | None = None
    steps: Sequence[int] = ()
    images_per_s: Sequence[float] = ()

    def to_json(self, base: Row | None) -> dict[str, Any]:
        """Every figure; differences to ``base`` where the row is another arm."""
        arm = {"loss": self.arm.loss, "form": self.arm.form, "weights": self.arm.terms} if self.arm else {}
        return {
            "name": self.name,
            **arm,
            "steps": list(self.steps),
            "images_per_s": spread(self.images_per_s).mean if self.images_per_s else None,
            "model_ids": list(self.model_ids),
            "recall": {
                name: {str(k): spread(values)._asdict() | {"by_seed": list(values)} for k, values in by_k.items()}
                for name, by_k in self.recall.items()
            },
            f"minus_{BASE}": {
                name: {str(k): paired(by_k[k], base.recall[name][k])._asdict() for k in by_k}
                for name, by_k in self.recall.items()
            }
            if base is not None and self.arm and base is not self
            else None,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All that an ablation found; the text around it is in ``to_markdown``.

    ``conditions`` are the settings that all arms share, by name, as they are to be shown.
    """

    command: str
    config: str
    seeds: Sequence[int]
    select: str
    conditions: Mapping[str, str]
    sets: Sequence[EvaluationFacts]
    rows: Sequence[Row]

    @property
    def base(self) -> Row | None:
        """The row that others are compared with, if it was run."""
        return next((row for row in self.rows if row.name == BASE), None)

    def table_of(self, facts: EvaluationFacts) -> list[str]:
        """Markdown: recall of every row on one set, in percent, and its difference to the base arm."""
        heads = ["", *(f"recall@{k}" for k in SHOWN_KS)]
        if self.base:
            heads += [f"recall@1 minus `{BASE}`, paired", "beyond the spread"]
        lines = [_line(heads), _line(["---"] + ["---:"] * (len(heads) - 1))]
        for row in self.rows:
            by_k = row.recall[facts.name]
            cells = [f"`{row.name}`" if row.arm else row.name, *(percent(spread(by_k[k])) for k in SHOWN_KS)]
            if self.base:
                cells += _compared(row, self.base, facts.name)
            lines.append(_line(cells))
        return lines


def _compared(row: Row, base: Row, name: str) -> list[str]:
    if not row.arm or row is base:
        return ["", ""]
    difference = paired(row.recall[name][1], base.recall[name][1])
    error = difference.standard_error
    shown = f"{100 * difference.mean:+.1f}" + ("" if error is None else f" (standard error {100 * error:.1f})")
    return [shown, {None: "one seed", True: "yes", False: "no"}[difference.beyond_spread]]


def percent(found: Spread) -> str:
    """``71.3 ± 0.8``, of fractions 0..1."""
    return f"{100 * found.mean:.1f}" + ("" if found.deviation is None else f" ± {100 * found.deviation:.1f}")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
