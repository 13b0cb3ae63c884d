"""The drive seen from above, with its loops: right, wrong and missed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tscm_core.evaluation.report_facts import MapFacts
from tscm_core.evaluation.report_svg import Panel, crowded, hint, legend, line, marks, number, plot, tag, ticks
from tscm_core.recognition.records import Pose

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 520.0, 54.0, 16.0, 26.0, 46.0
_LOWEST, _HIGHEST = 110.0, 440.0
_MOST_HINTS = 1200
WAYS = 4
"""So many drives of one map have a line of their own kind; then they begin again."""


def trajectory(facts: MapFacts) -> str:
    """The plot with its legend, or the sentence that says why there is none. Metres, one scale in both directions."""
    places = _places(facts.poses)  # [N, 2]
    known: NDArray[np.bool_] = np.asarray(np.isfinite(places).all(axis=1), np.bool_)
    if facts.judged is None or not known.any():
        return tag("p", "No keyframe of this drive has a pose: there is no way to draw and nothing to judge loops by.")
    panel = _panel(places[known])
    axes = panel.axes("x [m]", "y [m]", ticks(*panel.xs, 6), ticks(*panel.ys, max(2, round(panel.height / 70))))
    ways = [_way(panel, places, known, facts, drive) for drive in range(len(facts.drives))]
    drawing = plot(
        _WIDTH, _TOP + panel.height + _BOTTOM, "Trajectory with loops", axes, *ways, _loops(panel, places, facts)
    )
    return drawing + _legend(facts)


def _places(poses: Sequence[Pose | None]) -> NDArray[np.float64]:
    return np.array([pose.position[:2] if pose else (np.nan, np.nan) for pose in poses]).reshape(-1, 2)


def _panel(places: NDArray[np.float64]) -> Panel:
    low, high = places.min(axis=0), places.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum((high - low) * 1.06, 1.0)
    width = _WIDTH - _LEFT - _RIGHT
    height = float(np.clip(width * extent[1] / extent[0], _LOWEST, _HIGHEST))
    metres = max(extent[0] / width, extent[1] / height)  # of one unit of the drawing
    (left, lower), (right, upper) = (
        middle - np.array([width, height]) * metres / 2,
        middle + np.array([width, height]) * metres / 2,
    )
    return Panel(_LEFT, _TOP, width, height, (float(left), float(right)), (float(lower), float(upper)))


def _way(panel: Panel, places: NDArray[np.float64], known: NDArray[np.bool_], facts: MapFacts, drive: int) -> str:
    mine = np.flatnonzero(known & (np.array(facts.drive_of) == drive))
    points = [panel.at(*places[position]) for position in mine]
    if not points:
        return ""
    beginning = hint(*points[0], f"{facts.drives[drive].label}: begins here")
    start = marks("square", points[:1], 4.5, "start") + beginning
    return line(points, f"way way{drive % WAYS}") + start


def _loops(panel: Panel, places: NDArray[np.float64], facts: MapFacts) -> str:
    judged = facts.judged
    right = judged.correct_pairs if judged else ()
    wrong = [(pair.query, pair.match) for pair in facts.wrong]
    missed = [panel.at(*places[pair.query]) for pair in facts.missed]
    small, large = (crowded(radius, len(right) + len(wrong) + len(missed)) for radius in (2.6, 4.5))
    return "".join((
        _edges(panel, places, right, "right"),
        marks("dot", [panel.at(*places[query]) for query, _ in right], small, "right"),
        marks("ring", missed, large, "missed"),
        _edges(panel, places, wrong, "wrong"),
        marks("cross", [panel.at(*places[query]) for query, _ in wrong], large, "wrong"),
        _hints(panel, places, facts),
    ))  # fmt: skip


def _edges(panel: Panel, places: NDArray[np.float64], links: Iterable[tuple[int, int]], kind: str) -> str:
    pairs = [(panel.at(*places[query]), panel.at(*places[match])) for query, match in links]
    data = "".join(f"M{number(x)} {number(y)}L{number(u)} {number(v)}" for (x, y), (u, v) in pairs)
    return tag("path", d=data, _class=f"edge {kind}") if data else ""


def _hints(panel: Panel, places: NDArray[np.float64], facts: MapFacts) -> str:
    ids = [keyframe.id for keyframe in facts.keyframes]
    words = [
        (pair.query, f"missed: keyframe {ids[pair.query]} shows the place of {ids[pair.match]}")
        for pair in facts.missed
    ]
    words += [
        (pair.query, f"wrong: keyframe {ids[pair.query]} was taken for {ids[pair.match]}") for pair in facts.wrong
    ]
    right = facts.judged.correct_pairs if facts.judged else ()
    words += [(query, f"right: keyframe {ids[query]} was taken for {ids[match]}") for query, match in right]
    return "".join(hint(*panel.at(*places[query]), said) for query, said in words[:_MOST_HINTS])


def _legend(facts: MapFacts) -> str:
    judged = facts.judged
    ways = [("line", f"way way{number % WAYS}", drive.label) for number, drive in enumerate(facts.drives[:12])]
    loops = [
        ("dot", "right", f"right loops: {judged.correct if judged else 0}"),
        ("cross", "wrong", f"wrong loops: {len(facts.wrong)}"),
        ("ring", "missed", f"revisits missed: {len(facts.missed)}"),
    ]
    return legend([*ways, ("square", "start", "where a drive begins"), *loops])
