"""One picture of a drive: the way seen from above with its loops, and pairs of images taken for the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tscm_core.errors import TscmError
from tscm_core.recognition.records import Pose, Rgb

_RIGHT, _WRONG = "#1a9850", "#d73027"
_DRIVES = ("#4575b4", "#f08a24", "#7b3294", "#555555")
_PAIRS = 3


@dataclass(frozen=True, slots=True)
class Drive:
    """The keyframes of one session: its label and the positions of its poses in ``Scene.poses``."""

    label: str
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that were taken for the same place."""

    query: Rgb
    match: Rgb
    caption: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What to draw. Loops are pairs of positions in ``poses``: (query, match)."""

    title: str
    poses: tuple[Pose, ...]
    drives: tuple[Drive, ...]
    right: tuple[tuple[int, int], ...]
    wrong: tuple[tuple[int, int], ...]
    pairs: tuple[Pair, ...]


def draw(scene: Scene, path: Path) -> None:
    """Write the picture as PNG.

    Raises:
        TscmError: the file cannot be written.
    """
    figure = Figure(figsize=(12.0, 12.5), layout="constrained")
    grid = figure.add_gridspec(2, _PAIRS, height_ratios=(2.1, 1.55))
    _draw_map(figure.add_subplot(grid[0, :]), scene)
    figure.legend(loc="outside upper center", ncols=4, fontsize=11, frameon=False)
    for column, pair in enumerate(scene.pairs[:_PAIRS]):
        _draw_pair(figure.add_subplot(grid[1, column]), pair)
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise TscmError(f"picture {path} cannot be written: {error.strerror}") from error


def _draw_map(axes: Axes, scene: Scene) -> None:
    places = np.array([pose.position[:2] for pose in scene.poses])  # [N, 2]
    for number, drive in enumerate(scene.drives):
        way = places[list(drive.positions)]
        axes.plot(
            *way.T,
            "-o",
            color=_DRIVES[number % len(_DRIVES)],
            markersize=2.5,
            linewidth=1.0,
            label=drive.label,
        )
    _draw_loops(axes, places, scene.right, _RIGHT, f"right loops: {len(scene.right)}", width=0.9)
    _draw_loops(axes, places, scene.wrong, _WRONG, f"wrong loops: {len(scene.wrong)}", width=2.0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(title=scene.title, xlabel="x [m]", ylabel="y [m]")
    axes.grid(alpha=0.25)


def _draw_loops(
    axes: Axes, places: np.ndarray, loops: Sequence[tuple[int, int]], colour: str, label: str, width: float
) -> None:
    edges = [places[list(pair)] for pair in loops]
    axes.add_collection(LineCollection(edges, colors=colour, linewidths=width, zorder=5))
    if edges:
        x, y = np.array([edge[0] for edge in edges]).T
        axes.scatter(x, y, s=22, facecolors="none", edgecolors=colour, zorder=6)
    axes.plot([], [], color=colour, linewidth=2.0, label=label)


def _draw_pair(axes: Axes, pair: Pair) -> None:
    width = pair.query.shape[1]
    match = pair.match if pair.match.shape[1] == width else _to_width(pair.match, width)
    bar = np.full((6, width, 3), 255, np.uint8)
    axes.imshow(np.concatenate([pair.query, bar, match]))
    axes.set_title(pair.caption, fontsize=9)
    axes.axis("off")


def _to_width(image: Rgb, width: int) -> Rgb:
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
