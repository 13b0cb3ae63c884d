"""Precision over recall, one line for each set of stages, with the point that the settings chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tscm_core.evaluation.precision_recall import Curve
from tscm_core.evaluation.report_svg import Panel, figure, hint, legend, line, marks, plot, tag

_WIDTH, _HEIGHT = 520.0, 400.0
_PANEL = Panel(54.0, 26.0, 450.0, 322.0, (0.0, 1.0), (0.0, 1.02))
_GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
KINDS = 6
"""So many lines have a colour and dashes of their own."""


@dataclass(frozen=True, slots=True)
class NamedCurve:
    """A curve, what it is called, and recall and precision of what its settings accept; ``None`` if that is nothing."""

    name: str
    curve: Curve
    chosen: tuple[float, float] | None


def curves_plot(curves: Sequence[NamedCurve]) -> str:
    """The plot, the last curve in front, or the sentence that says why there is none."""
    drawn = [item for item in curves if item.curve.revisits]
    if not drawn:
        return tag("p", "No keyframe with a pose comes back to a place in the map: recall has no meaning here.")
    if not any(item.curve.thresholds for item in drawn):
        return tag("p", "Nothing would be accepted at any threshold: there is no curve.")
    kinds = range(KINDS - len(drawn), KINDS)
    parts = [_curve(item, max(0, kind)) for item, kind in zip(drawn, kinds, strict=True)]
    axes = _PANEL.axes("recall", "precision", _GRID, _GRID)
    said = [("line", f"curve v{max(0, kind)}", f"{item.name}: area {figure(item.curve.auc)}, recall at 100 % precision "
             f"{figure(item.curve.recall_at(1.0))}") for item, kind in zip(drawn, kinds, strict=True)]  # fmt: skip
    chosen = ("ring", "chosen", "what the settings accept")
    return plot(_WIDTH, _HEIGHT, "Precision over recall", axes, *parts) + legend([*said, chosen])


def _points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.recall, curve.precision, strict=True))


def _curve(item: NamedCurve, kind: int) -> str:
    points = _points(item.curve)
    if not points:
        return ""
    drawing = line([_PANEL.at(*point) for point in [(0.0, points[0][1]), *points]], f"curve v{kind}")
    if item.chosen is None:
        return drawing
    at = _PANEL.at(*item.chosen)
    words = f"{item.name}: recall {item.chosen[0]:.3f}, precision {item.chosen[1]:.3f} with the settings as they are"
    return drawing + marks("ring", [at], 6.0, f"chosen v{kind}") + hint(*at, words)
