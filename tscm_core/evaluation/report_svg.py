"""Small pieces of SVG and HTML from which the report's plots are made. Whatever comes from data is escaped here.

Colours are names of classes: the stylesheet gives them their values in the dark and in the light scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Range = tuple[float, float]
_WITHOUT_END = {"img", "meta"}
_MARKS = {
    "dot": "M{x} {y}m-{r} 0a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0",
    "cross": "M{l} {t}L{e} {b}M{l} {b}L{e} {t}",
    "ring": "M{x} {t}L{e} {y}L{x} {b}L{l} {y}Z",
    "bar": "M{x} {t}V{b}",
    "minus": "M{l} {y}H{e}",
    "up": "M{x} {t}L{e} {b}H{l}Z",
    "down": "M{x} {b}L{l} {t}H{e}Z",
    "square": "M{l} {t}H{e}V{b}H{l}Z",
}
"""Shapes of marks; the second channel beside the colour. ``ring`` is a diamond, drawn hollow by its class."""


def text(value: object) -> str:
    """``value`` for use between tags and in attributes."""
    return html.escape(str(value), quote=True)


def number(value: float) -> str:
    """A coordinate: to a hundredth, as short as it goes."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else "0"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure for people; «none» where there is none."""
    return "none" if value is None else f"{value:.{digits}f}"


def tag(name: str, /, *content: str, **attributes: object) -> str:
    """An element; in names of attributes ``_`` stands for a hyphen, and one in front is left out.

    ``content`` is markup and stands as it is; attributes are escaped, and left out where they are ``None``.
    """
    written = "".join(
        f' {key.lstrip("_").replace("_", "-")}="{number(value) if isinstance(value, float) else text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    ending = "" if name in _WITHOUT_END else f"{''.join(content)}</{name}>"
    return f"<{name}{written}>{ending}"


def label(x: float, y: float, words: object, anchor: str = "start", _class: str = "tick") -> str:
    """A word in a plot, at the base line ``y``."""
    return tag("text", text(words), x=float(x), y=float(y), text_anchor=anchor, _class=_class)


def mark(shape: str, x: float, y: float, radius: float) -> str:
    """Path data of one mark."""
    places = {"x": x, "y": y, "r": radius, "d": 2 * radius}
    places |= {"l": x - radius, "e": x + radius, "t": y - radius, "b": y + radius}
    return _MARKS[shape].format(**{name: number(value) for name, value in places.items()})


def crowded(radius: float, count: int) -> float:
    """The radius of marks where there are ``count`` of them: many are smaller, down to half."""
    return radius * min(1.0, max(0.5, math.sqrt(150 / max(1, count))))


def marks(shape: str, points: Iterable[tuple[float, float]], radius: float, _class: str) -> str:
    """Many marks of one kind as one path."""
    data = "".join(mark(shape, x, y, radius) for x, y in points)
    return tag("path", d=data, _class=f"mark {_class}") if data else ""


def line(points: Sequence[tuple[float, float]], _class: str) -> str:
    """A line through ``points``."""
    if not points:
        return ""
    return tag("path", d="M" + "L".join(f"{number(x)} {number(y)}" for x, y in points), _class=_class)


def hint(x: float, y: float, words: str) -> str:
    """An unseen place that says ``words`` under the pointer, and under a finger with the page's script."""
    return tag("circle", tag("title", text(words)), cx=float(x), cy=float(y), r=7, _class="hint")


def plot(width: float, height: float, words: str, *content: str, wide: bool = False) -> str:
    """A plot that scales with the page; a wide one is scrolled within its own box where the page is narrow."""
    drawing = tag(
        "svg", *content, viewBox=f"0 0 {number(width)} {number(height)}", role="img", aria_label=words, _class="plot"
    )
    return tag("div", drawing, _class="scroll wide" if wide else "scroll")


def legend(items: Iterable[tuple[str, str, str]]) -> str:
    """Explains marks in words; items are (shape, class, words)."""
    return tag(
        "ul", *(tag("li", swatch(shape, kind), " ", text(words)) for shape, kind, words in items), _class="legend"
    )


def swatch(shape: str, kind: str) -> str:
    """One mark, or a piece of a ``line``, to stand in a line of words."""
    if shape == "line":
        piece = tag("path", d="M0 7H34", _class=kind)
        return tag("svg", piece, viewBox="0 0 34 14", _class="swatch long", aria_hidden="true")
    drawing = tag("path", d=mark(shape, 7, 7, 4), _class=f"mark {kind}")
    return tag("svg", drawing, viewBox="0 0 14 14", _class="swatch", aria_hidden="true")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers within the range, about ``count`` of them."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 9) for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle of a plot with a scale along each side; ``down`` lets y grow downwards."""

    left: float
    top: float
    width: float
    height: float
    xs: Range
    ys: Range
    down: bool = False

    def x(self, value: float) -> float:
        """Where ``value`` stands from left to right."""
        return self.left + self.width * _share(value, self.xs)

    def y(self, value: float) -> float:
        """Where ``value`` stands from top to bottom."""
        share = _share(value, self.ys)
        return self.top + self.height * (share if self.down else 1.0 - share)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where the point stands."""
        return self.x(x), self.y(y)

    def axes(self, x_words: str, y_words: str, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
        """Grid, numbers and what is measured along each side; no numbers where there are no ticks."""
        bottom, right = self.top + self.height, self.left + self.width
        upright = "".join(f"M{number(self.x(value))} {number(self.top)}V{number(bottom)}" for value in x_ticks)
        level = "".join(f"M{number(self.left)} {number(self.y(value))}H{number(right)}" for value in y_ticks)
        parts = [
            tag("path", d=upright + level, _class="grid") if upright or level else "",
            line([(self.left, self.top), (self.left, bottom), (right, bottom)], "axis"),
            *(label(self.x(value), bottom + 16, f"{value:g}", "middle") for value in x_ticks),
            *(label(self.left - 6, self.y(value) + 4, f"{value:g}", "end") for value in y_ticks),
        ]
        if x_words:
            parts.append(label(self.left + self.width / 2, bottom + 35, x_words, "middle", "axis-name"))
        if y_words:
            parts.append(label(self.left, self.top - 9, y_words, "start", "axis-name"))
        return "".join(parts)


def _share(value: float, scale: Range) -> float:
    low, high = scale
    return (value - low) / (high - low) if high > low else 0.5
