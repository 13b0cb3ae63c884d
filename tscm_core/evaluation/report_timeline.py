"""What became of every frame, along the drive: its status, and the evidence of its best candidate."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence

from tscm_core.config import Config
from tscm_core.evaluation.map_frames import asked_about
from tscm_core.evaluation.report_facts import MapFacts
from tscm_core.evaluation.report_svg import (
    Panel,
    crowded,
    hint,
    label,
    line,
    marks,
    number,
    plot,
    swatch,
    tag,
    text,
    ticks,
)
from tscm_core.recognition.geometry import GEOMETRY
from tscm_core.recognition.records import Observation, Status

_WIDTH, _LEFT, _RIGHT, _LANE, _HIGH = 1000.0, 168.0, 18.0, 20.0, 150.0
_MOST_HINTS = 2500
_NARROWEST = 1.6
SHAPES = {
    Status.ACCEPTED: "dot",
    Status.NOT_KEYFRAME: "bar",
    Status.MAP_TOO_YOUNG: "minus",
    Status.LOW_SIMILARITY: "down",
    Status.AMBIGUOUS: "square",
    Status.NOT_CONSISTENT: "up",
    Status.NO_GEOMETRY: "cross",
}
_MEANING = {
    Status.ACCEPTED: "a loop: the frame shows a remembered place",
    Status.NOT_KEYFRAME: "not searched: too near to the last keyframe, or without structure",
    Status.MAP_TOO_YOUNG: "nothing in the map is old enough to be a loop",
    Status.LOW_SIMILARITY: "the best place does not look similar enough",
    Status.AMBIGUOUS: "another place fits about as well",
    Status.NOT_CONSISTENT: "the frames before do not support the place, or odometry excludes it",
    Status.NO_GEOMETRY: "the two images do not show one rigid scene",
}
Moment = tuple[float, float, Observation]
"""When a frame was taken and when the next one was, seconds since the beginning, and what became of it."""


def timeline(facts: MapFacts, config: Config) -> str:
    """The lanes of statuses, similarity and inliers below them, and what each status means."""
    moments = list(_moments(facts))
    if not moments:
        return tag("p", "There is no frame.")
    scale = (0.0, max(moments[-1][1], 1e-3))
    rows = len(Status) + (2 if facts.judged else 0)
    width = _WIDTH - _LEFT - _RIGHT
    lanes = Panel(
        _LEFT, 26.0 if len(facts.drives) > 1 else 4.0, width, _LANE * rows, scale, (0.0, float(rows)), down=True
    )
    least = config.candidates.min_similarity
    similarity = _below(lanes, _similarities(moments, config))
    parts = [_lanes(lanes, moments, facts), _evidence(similarity, moments, "similarity", "min_similarity", least)]
    last = similarity
    if GEOMETRY in {stage for _, _, seen in moments for stage in seen.stages}:
        last = _below(similarity, (0.0, _most_inliers(moments, config)))
        parts.append(_evidence(last, moments, "inliers", "min_inliers", config.geometry.min_inliers))
    parts.append(last.axes("seconds since the beginning", "", ticks(*scale, 10), ()))
    bottom = last.top + last.height
    return plot(
        _WIDTH, bottom + 46, "Timeline", *parts, _borders(lanes, moments, facts, bottom), wide=True
    ) + _statuses(facts)


def _evidence(panel: Panel, moments: Sequence[Moment], field: str, setting: str, least: float) -> str:
    axes = panel.axes("", f"{field} of the best candidate", (), ticks(*panel.ys, 4))
    return axes + _dots(panel, moments, field) + _threshold(panel, least, f"{setting} {least:g}")


def _moments(facts: MapFacts) -> Iterator[Moment]:
    """The frames of all drives, one drive after the other, however much time was between them."""
    beginning = 0.0
    for drive in facts.drives:
        stamps = [seen.stamp_ns for seen in drive.observations]
        last = (stamps[-1] - stamps[-2]) / 1e9 if len(stamps) > 1 else 1.0
        ends = [beginning + (stamp - stamps[0]) / 1e9 for stamp in stamps[1:]]
        ends.append((ends[-1] if ends else beginning) + last)
        starts = [beginning, *ends[:-1]]
        yield from zip(starts, ends, drive.observations, strict=False)
        beginning = ends[-1] if stamps else beginning


def _below(panel: Panel, ys: tuple[float, float]) -> Panel:
    return Panel(panel.left, panel.top + panel.height + 40, panel.width, _HIGH, panel.xs, ys)


def _lanes(panel: Panel, moments: Sequence[Moment], facts: MapFacts) -> str:
    counts = Counter(seen.status for _, _, seen in moments)
    rows = [(status.name, counts[status], f"s{status.value}", [seen.status is status for _, _, seen in moments])
            for status in Status]  # fmt: skip
    if facts.judged is not None:
        for name, pairs, kind in (("wrong loop", facts.wrong, "wrong"), ("missed revisit", facts.missed, "missed")):
            inside = _inside(moments, {pair.query for pair in pairs})
            rows.append((name, sum(inside), kind, inside))
    parts = []
    for row, (name, count, kind, inside) in enumerate(rows):
        top = panel.y(row)
        parts.append(tag("rect", x=panel.left, y=top + 2, width=panel.width, height=_LANE - 4, _class="lane"))
        parts.append(label(panel.left - 8, top + 14, f"{name}  {count}", "end", "lane-name"))
        parts.append(_runs(panel, moments, inside, top + 2, kind))
    return "".join(parts)


def _inside(moments: Sequence[Moment], positions: set[int]) -> list[bool]:
    """For each frame whether it is one of these keyframes; stamps do not tell, for drives may have the same."""
    following = itertools.count()
    return [asked_about(seen) is not None and next(following) in positions for _, _, seen in moments]


def _runs(panel: Panel, moments: Sequence[Moment], inside: Sequence[bool], top: float, kind: str) -> str:
    """One box for each run of frames that belong to the lane, however many frames there are."""
    data, begin = [], None
    for number_of, belongs in enumerate([*inside, False]):
        if belongs and begin is None:
            begin = number_of
        elif not belongs and begin is not None:
            left, right = panel.x(moments[begin][0]), panel.x(moments[number_of - 1][1])
            data.append(f"M{number(left)} {number(top)}h{number(max(right - left, _NARROWEST))}v{number(_LANE - 4)}")
            data[-1] += f"h-{number(max(right - left, _NARROWEST))}z"
            begin = None
    return tag("path", d="".join(data), _class=f"run {kind}") if data else ""


def _borders(panel: Panel, moments: Sequence[Moment], facts: MapFacts, bottom: float) -> str:
    """Where one drive ends and the next begins, with their names."""
    if len(facts.drives) == 1:
        return ""
    parts, at = [], 0
    for drive in facts.drives:
        if drive.observations:
            x = panel.x(moments[at][0])
            parts.append(line([(x, panel.top - 14), (x, bottom)], "border"))
            parts.append(label(x + 4, panel.top - 8, drive.label))
            at += len(drive.observations)
    return "".join(parts)


def _threshold(panel: Panel, value: float, words: str) -> str:
    if not panel.ys[0] <= value <= panel.ys[1]:
        return ""
    y = panel.y(value)
    return line([(panel.left, y), (panel.left + panel.width, y)], "threshold") + label(
        panel.left + 5, y - 4, words, _class="threshold-name"
    )


def _dots(panel: Panel, moments: Sequence[Moment], field: str) -> str:
    points: dict[Status, list[tuple[float, float]]] = {status: [] for status in Status}
    said: list[str] = []
    for begin, _, seen in moments:
        if not seen.candidates:
            continue
        best = seen.candidates[0]
        value = min(max(float(getattr(best, field)), panel.ys[0]), panel.ys[1])
        points[best.status].append(panel.at(begin, value))
        if len(said) < _MOST_HINTS:
            said.append(hint(*panel.at(begin, value), f"{begin:.1f} s, {seen.status.name}: {seen.reason}"))
    radius = crowded(2.8, sum(map(len, points.values())) // 2)
    drawn = [marks(SHAPES[status], found, radius, f"s{status.value}") for status, found in points.items()]
    return "".join(drawn) + "".join(said)


def _similarities(moments: Sequence[Moment], config: Config) -> tuple[float, float]:
    found = [candidate.similarity for _, _, seen in moments for candidate in seen.candidates[:1]]
    lowest = min([*found, config.candidates.min_similarity, 0.8])
    return math.floor(lowest * 10.0 - 0.2) / 10.0, 1.0


def _most_inliers(moments: Sequence[Moment], config: Config) -> float:
    found = [candidate.inliers for _, _, seen in moments for candidate in seen.candidates[:1]]
    return max([*found, config.geometry.min_inliers * 1.5]) * 1.05


def _statuses(facts: MapFacts) -> str:
    counts = Counter(seen.status for drive in facts.drives for seen in drive.observations)
    rows = [
        tag("li", swatch(SHAPES[status], f"s{status.value}"), " ", tag("b", status.name), f" {counts[status]}: ",
            text(_MEANING[status]))
        for status in Status
    ]  # fmt: skip
    return tag("ul", *rows, _class="legend statuses")
