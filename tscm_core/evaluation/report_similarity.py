"""How similar every keyframe of a map is to every other one: the picture in which loops are stripes."""

from __future__ import annotations

import base64
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.evaluation.report_facts import MapFacts
from tscm_core.evaluation.report_svg import Panel, crowded, hint, label, legend, marks, plot, tag, ticks

MOST_CELLS = 400
_SIDE, _LEFT, _TOP = 400.0, 54.0, 26.0
_BAR_LEFT, _BAR_WIDTH, _WIDTH, _HEIGHT = 468.0, 12.0, 520.0, 472.0
_MOST_HINTS = 1200


def similarity_plot(facts: MapFacts) -> str:
    """The matrix with the accepted loops on it, or the sentence that says why there is none."""
    if len(facts.seen) < 2:
        return tag("p", "There are fewer than two keyframes: nothing to compare.")
    cells = similarity_cells(facts.descriptors)
    low, high = _scale(cells)
    panel = Panel(_LEFT, _TOP, _SIDE, _SIDE, (0.0, float(len(facts.seen))), (0.0, float(len(facts.seen))), down=True)
    count = ticks(*panel.xs, 5)
    axes = panel.axes("match: number of the keyframe", "query: number of the keyframe, downwards", count, count)
    picture = tag(
        "image", href=_png(cells, low, high), x=_LEFT, y=_TOP, width=_SIDE, height=_SIDE,
        preserveAspectRatio="none", _class="cells",
    )  # fmt: skip
    drawing = plot(_WIDTH, _HEIGHT, "Similarity matrix", axes, picture, _loops(panel, facts), _bar(low, high))
    return drawing + _legend(facts) + _note(len(facts.seen), len(cells))


def similarity_cells(descriptors: NDArray[np.float32], most: int = MOST_CELLS) -> NDArray[np.float32]:
    """Similarities float32 ``[C, C]``, C at most ``most``: the highest of each block, so that no stripe is lost.

    The similarity of a keyframe to itself counts only where a cell is one keyframe.
    """
    step = math.ceil(len(descriptors) / most)
    rows = [descriptors[begin : begin + step] for begin in range(0, len(descriptors), step)]
    starts = np.arange(0, len(descriptors), step)
    return np.stack([np.maximum.reduceat((row @ descriptors.T).max(axis=0), starts) for row in rows])


def _scale(cells: NDArray[np.float32]) -> tuple[float, float]:
    """From the tenth below nearly all of them up to 1."""
    low = math.floor(float(np.percentile(cells, 2)) * 10) / 10
    return min(low, 0.9), 1.0


def _png(cells: NDArray[np.float32], low: float, high: float) -> str:
    """White is low and black is high; the stylesheet turns it round in the dark scheme."""
    grey = 255.0 * (1.0 - np.clip((cells - low) / (high - low), 0.0, 1.0))
    _, encoded = cv2.imencode(".png", grey.round().astype(np.uint8))
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode()


def _loops(panel: Panel, facts: MapFacts) -> str:
    wrong = {(pair.query, pair.match) for pair in facts.wrong}
    right = set(facts.judged.correct_pairs) if facts.judged else set()
    parts = []
    for shape, kind, links in (
        ("square", "unjudged", set(facts.accepted) - wrong - right),
        ("dot", "right", right),
        ("ring", "missed", {(pair.query, pair.match) for pair in facts.missed}),
        ("cross", "wrong", wrong),
    ):
        points = [panel.at(match + 0.5, query + 0.5) for query, match in sorted(links)]
        parts.append(marks(shape, points, crowded(3.0 if shape == "dot" else 4.0, len(points)), kind))
    ids = [keyframe.id for keyframe in facts.keyframes]
    said = [(panel.at(match + 0.5, query + 0.5), f"keyframe {ids[query]} was taken for {ids[match]}")
            for query, match in facts.accepted]  # fmt: skip
    return "".join(parts) + "".join(hint(*point, words) for point, words in said[:_MOST_HINTS])


def _bar(low: float, high: float) -> str:
    stops = tag("stop", offset="0", stop_color="#000") + tag("stop", offset="1", stop_color="#fff")
    scale = tag("linearGradient", stops, id="grey", x1="0", y1="0", x2="0", y2="1")
    panel = Panel(_BAR_LEFT, _TOP, _BAR_WIDTH, _SIDE, (0.0, 1.0), (low, high))
    bar = tag("rect", x=_BAR_LEFT, y=_TOP, width=_BAR_WIDTH, height=_SIDE, fill="url(#grey)", _class="cells")
    numbers = [label(_BAR_LEFT + _BAR_WIDTH + 5, panel.y(value) + 4, f"{value:g}") for value in ticks(low, high, 5)]
    name = label(_WIDTH, _TOP - 9, "similarity", "end", "axis-name")
    return tag("defs", scale) + bar + "".join(numbers) + name


def _legend(facts: MapFacts) -> str:
    if facts.judged is None:
        return legend([("square", "unjudged", "accepted (nothing to judge by)")])
    return legend([
        ("dot", "right", "accepted, right"),
        ("cross", "wrong", "accepted, wrong"),
        ("ring", "missed", "missed, with the nearest right place"),
    ])  # fmt: skip


def _note(keyframes: int, cells: int) -> str:
    words = "Marks stand in the lower left half; the upper right half shows the same similarities without them."
    if cells < keyframes:
        each = math.ceil(keyframes / MOST_CELLS)
        words += f" A cell is the highest similarity of {each} by {each} keyframes."
    return tag("p", words, _class="note")
