"""One page: memory, handles and threads, latency, and the map, over the images of a soak."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from soak_series import KINDS, Record, Sample
from soak_verdict import Limits, memory_trend

from tscm_core.errors import TscmError

_BLUE, _ORANGE, _GREEN, _VIOLET, _GREY = "#2b7bba", "#e08214", "#5aae61", "#9970ab", "#8c8c8c"
_COLOURS = dict(zip(KINDS, (_GREEN, _BLUE), strict=True))
_NONE = (math.nan, math.nan)
Line = tuple[str, str, Callable[[Sample], float]]


def draw(record: Record, limits: Limits, path: Path) -> None:
    """Write the PNG.

    Raises:
        TscmError: it cannot be written.
    """
    picture = Figure(figsize=(9.0, 12.5), layout="constrained")
    memory, counts, latency, places, files = picture.subplots(5, 1, sharex=True, height_ratios=(3, 2, 3, 2, 2))
    samples = record.samples
    _memory(memory, samples)
    _lines(
        counts,
        samples,
        [("handles", _BLUE, lambda item: item.handles), ("threads", _ORANGE, lambda item: item.threads)],
    )
    counts.set_ylabel("count")
    _latency(latency, samples)
    _lines(places, samples, [("keyframes in the map", _BLUE, lambda item: item.map_size)])
    if limits.max_keyframes:
        places.axhline(limits.max_keyframes, color=_GREY, linewidth=0.8, linestyle="--", label="map.max_keyframes")
    places.set_ylabel("keyframes")
    _lines(
        files,
        samples,
        [("live map", _BLUE, lambda item: item.live_mib), ("its log", _ORANGE, lambda item: item.log_mib)],
    )
    files.set_ylabel("MiB on disk")
    files.set_xlabel("images")
    for axes in (memory, counts, latency, places, files):
        _finish(axes, record)
    picture.suptitle(f"{samples[-1].frame} images in {samples[-1].seconds / 60:.0f} minutes; dotted: lifecycle cycles")
    try:
        picture.savefig(path, dpi=110)
    except OSError as error:
        raise TscmError(f"picture {path} cannot be written: {error.strerror}") from error


def _memory(axes: Axes, samples: Sequence[Sample]) -> None:
    _lines(
        axes,
        samples,
        [
            ("resident", _GREY, lambda item: item.held.resident),
            ("proportional", _VIOLET, lambda item: item.held.proportional),
            ("anonymous", _BLUE, lambda item: item.held.anonymous),
            ("shared (DDS)", _GREEN, lambda item: item.held.shared),
        ],
    )
    grown = memory_trend(samples)
    if grown is not None:
        axes.set_title(
            f"beside the map: {grown.slope:+.2f} ± {grown.error:.2f} MiB for 10,000 images in the second half",
            fontsize=9,
        )
    axes.set_ylabel("MiB of memory")


def _latency(axes: Axes, samples: Sequence[Sample]) -> None:
    for kind, colour in _COLOURS.items():
        for index, (name, style) in enumerate((("p50", "-"), ("p99", ":"))):
            values = [item.latencies_ms.get(kind, _NONE)[index] for item in samples]
            axes.plot(
                [item.frame for item in samples], values, style, color=colour, linewidth=1, label=f"{kind}, {name}"
            )
    axes.set_yscale("log")
    axes.set_ylabel("ms in the node")


def _lines(axes: Axes, samples: Sequence[Sample], lines: Sequence[Line]) -> None:
    frames = [item.frame for item in samples]
    for label, colour, of in lines:
        axes.plot(frames, [of(item) for item in samples], color=colour, linewidth=1, label=label)


def _finish(axes: Axes, record: Record) -> None:
    for number in record.marks.get("cycle", ()):
        axes.axvline(number, color=_GREY, linewidth=0.5, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_yscale() == "linear":
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, frameon=False, ncols=3, loc="best")
