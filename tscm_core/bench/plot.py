"""One picture of a bench: descriptors by backend, matching by size of the map, and the stages of one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from tscm_core.bench.budgets import DESCRIBE, MATCH
from tscm_core.bench.records import DONE, Row, Section
from tscm_core.bench.students import DEFAULT
from tscm_core.bench.table import number
from tscm_core.errors import TscmError

_BACKENDS = {"eager": "#8c8c8c", "inductor": "#e08214", "onnxruntime": "#2b7bba", "tensorrt": "#5aae61"}
_STAGES = ("#2b7bba", "#74add1", "#fdb863", "#e08214", "#5aae61", "#9970ab", "#8c8c8c", "#d73027")
_BUDGET = "#b2182b"
_ROOM, _SHOWN_MS = 1.35, 0.1
"""Height of the plot over the tallest bar, whose whisker may go out of it, and the shortest stage that is drawn."""
_PANEL_INCHES, _HEIGHT_INCHES = 5.6, 4.6


def draw(header: Mapping[str, Any], sections: Sequence[Section], path: Path) -> bool:
    """Write a PNG with a panel for each of the three that was measured; false if none was.

    Raises:
        TscmError: the picture cannot be written.
    """
    done = {section.name: section.rows for section in sections if section.state == DONE and section.rows}
    panels = [(make, done[name]) for name, make in _PANELS.items() if name in done]
    if not panels:
        return False
    picture = Picture(figsize=(_PANEL_INCHES * len(panels), _HEIGHT_INCHES), layout="constrained")
    for axes, (make, rows) in zip(np.atleast_1d(picture.subplots(1, len(panels))), panels, strict=True):
        make(axes, rows)
        axes.spines[["top", "right"]].set_visible(False)
    about = f"tscm {header['tscm']} · {header['processor']} · {header['cores']} cores · {header['date'][:10]}"
    picture.suptitle(about + (" · busy machine" if header["busy"] else ""), fontsize=9, color="#555555")
    try:
        picture.savefig(path, dpi=130)
    except OSError as error:
        raise TscmError(f"picture {path} cannot be written: {error.strerror}") from error
    return True


def _describe(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars by student and threads, medians, with whiskers up to the 95th percentile."""
    groups = list(dict.fromkeys((str(row.tags["student"]), int(row.tags["threads"])) for row in rows))
    names = [name for name in _BACKENDS if any(row.tags["backend"] == name for row in rows)]
    timed = [(row, time) for row in rows if (time := row.figure("time")) is not None]
    top = _ROOM * max(time.value for _, time in timed)
    width = 0.8 / len(names)
    for row, time in timed:
        name, group = str(row.tags["backend"]), (str(row.tags["student"]), int(row.tags["threads"]))
        x = groups.index(group) + width * (names.index(name) - (len(names) - 1) / 2)
        above = max(0.0, (time.p95 or time.value) - time.value)
        axes.bar(x, time.value, 0.92 * width, color=_BACKENDS[name])
        axes.errorbar(x, time.value, yerr=[[0.0], [above]], color="#333333", linewidth=1, capsize=2)
        place = (x, min(time.value + above, 0.96 * top))
        axes.annotate(number(time.value), place, (0, 2), textcoords="offset points", ha="center", fontsize=7)
    for name in names:
        axes.bar(0, 0, color=_BACKENDS[name], label=name)
    if (DEFAULT, 1) in groups:
        at = groups.index((DEFAULT, 1))
        axes.plot([at - 0.45, at + 0.45], [DESCRIBE.limit] * 2, "--", color=_BUDGET, linewidth=1, label="budget, p50")
    axes.set_ylim(0.0, top)
    axes.set_xticks(range(len(groups)), [f"{name}\n{threads} thread{'s' * (threads != 1)}" for name, threads in groups])
    axes.set_ylabel("milliseconds, p50 and p95")
    axes.set_title("Describe one image")
    axes.legend(fontsize=7, frameon=False, loc="upper left")


def _match(axes: Axes, rows: Sequence[Row]) -> None:
    """Median and 95th percentile over the size of the map, both logarithmic."""
    timed = [(int(row.tags["places"]), time) for row in rows if (time := row.figure("time")) is not None]
    sizes = [size for size, _ in timed]
    axes.loglog(sizes, [time.value for _, time in timed], "o-", color="#2b7bba", label="p50")
    axes.loglog(sizes, [time.p95 or time.value for _, time in timed], "^:", color="#74add1", label="p95")
    marked = [size for size in MATCH if size <= max(sizes)]
    axes.plot(marked, [MATCH[size].limit for size in marked], "_", color=_BUDGET, ms=22, mew=2, label="budget, p50")
    for size, time in timed:
        axes.annotate(number(time.value), (size, time.value), (6, -11), textcoords="offset points", fontsize=8)
    axes.set_xlabel("places in the map")
    axes.set_ylabel("milliseconds, one thread")
    axes.set_title("Match one descriptor")
    axes.grid(visible=True, which="major", color="#e5e5e5")
    axes.margins(x=0.15, y=0.15)
    axes.legend(fontsize=8, frameon=False)


def _path(axes: Axes, rows: Sequence[Row]) -> None:
    """The medians of the stages, one on the other, beside the median of the whole."""
    bottom = 0.0
    stages = [(row, time) for row in rows if (time := row.figure("time")) is not None]
    for position, (row, time) in enumerate(
        item for item in stages if item[0].tags["stage"] != "all" and item[1].value >= _SHOWN_MS
    ):
        axes.bar(0, time.value, 0.5, bottom=bottom, color=_STAGES[position % len(_STAGES)])
        text = f"{row.what}  {number(time.value)}"
        axes.annotate(
            text, (0.25, bottom + time.value / 2), (8, 0), textcoords="offset points", fontsize=8, va="center"
        )
        bottom += time.value
    for _, time in (item for item in stages if item[0].tags["stage"] == "all"):
        above = max(0.0, (time.p95 or time.value) - time.value)
        axes.bar(1.6, time.value, 0.5, color="#cccccc")
        axes.errorbar(1.6, time.value, yerr=[[0.0], [above]], color="#333333", linewidth=1, capsize=3)
        axes.annotate(number(time.value), (1.6, time.value + above), (0, 3), textcoords="offset points", ha="center")
    axes.set_xticks([0, 1.6], ["stages, p50 each", "whole keyframe,\np50 and p95"])
    axes.set_xlim(-0.45, 2.1)
    axes.set_ylabel("milliseconds")
    axes.set_title("One image, the whole path")


_PANELS: dict[str, Callable[[Axes, Sequence[Row]], None]] = {"describe": _describe, "match": _match, "path": _path}
