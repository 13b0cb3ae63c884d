"""Two images side by side with the lines between the points that were matched: evidence that a person can judge."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.records import Rgb

Points = NDArray[np.floating]
"""Pixels (x, y) ``[K, 2]`` of the image that they belong to."""

MOST_INLIER_LINES, MOST_OUTLIER_LINES = 80, 24
_GAP = 6
_INLIER, _HALO, _OUTLIER = (255, 225, 40), (20, 20, 20), (225, 120, 220)
_INLIER_OPACITY, _HALO_OPACITY, _OUTLIER_OPACITY = 0.9, 0.5, 0.3
_PAPER, _INK = 255, (30, 30, 30)
_FONT, _FONT_SCALE, _LINE_HEIGHT, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 20, 8
_SHIFT = 4  # OpenCV takes coordinates in sixteenths of a pixel


def draw_matches(
    query: Rgb,
    match: Rgb,
    query_points: Points,
    match_points: Points,
    inliers: NDArray[np.bool_],
    caption: str = "",
) -> Rgb:
    """The query on the left and the match, scaled to its height, on the right, with lines between matched points.

    Inliers are bright lines with a dark edge, to be seen on dark and on light images. Outliers are few and faint. Of
    many matches an even selection is drawn (80 inliers, 24 outliers), for more would hide the images. The same
    arguments give the same pixels.

    Args:
        query: image of any size.
        match: image of any size.
        query_points: pixels (x, y) of ``query``, ``[K, 2]``; matches with a point that is not finite are left out.
        match_points: pixels (x, y) of ``match``, ``[K, 2]``.
        inliers: which of the matches agree with one motion of the camera, ``[K]``.
        caption: written on a strip below, in as many lines as it needs; without it there is no strip.

    Returns:
        RGB ``uint8 [H + strip, W + gap + W', 3]``.
    """
    scale = query.shape[0] / match.shape[0]
    shown = _to_height(match, query.shape[0])
    picture = np.concatenate([query, np.full((query.shape[0], _GAP, 3), _PAPER, np.uint8), shown], axis=1)
    factors, offset = np.array([shown.shape[1] / match.shape[1], scale]), np.array([query.shape[1] + _GAP, 0.0])
    moved = np.reshape(match_points, (-1, 2)) * factors + offset
    lines = np.concatenate([np.reshape(query_points, (-1, 2)), moved], axis=1)  # [K, 4]
    usable = np.isfinite(lines).all(axis=1)
    trusted = np.reshape(inliers, -1).astype(bool)
    _draw_outliers(picture, _even(lines[usable & ~trusted], MOST_OUTLIER_LINES))
    _draw_inliers(picture, _even(lines[usable & trusted], MOST_INLIER_LINES))
    return np.concatenate([picture, _strip(caption, picture.shape[1])])


def _to_height(image: Rgb, height: int) -> Rgb:
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _even(lines: Points, most: int) -> Points:
    """At most so many of them, spread evenly from top to bottom of the query."""
    if len(lines) <= most:
        return lines
    ordered = lines[np.lexsort(lines.T)]
    ordered = ordered[np.argsort(ordered[:, 1], kind="stable")]
    return np.asarray(ordered[np.linspace(0, len(ordered) - 1, most).round().astype(int)])


def _draw_outliers(picture: Rgb, lines: Points) -> None:
    layer = picture.copy()
    for start, end in _ends(picture, lines):
        cv2.line(layer, start, end, _OUTLIER, 1, cv2.LINE_AA, _SHIFT)
    _blend(layer, picture, _OUTLIER_OPACITY)


def _draw_inliers(picture: Rgb, lines: Points) -> None:
    """All the dark edges first, so that none of them cuts a bright line."""
    ends = _ends(picture, lines)
    for colour, width, radius, opacity in ((_HALO, 3, 3, _HALO_OPACITY), (_INLIER, 1, 2, _INLIER_OPACITY)):
        layer = picture.copy()
        for start, end in ends:
            cv2.line(layer, start, end, colour, width, cv2.LINE_AA, _SHIFT)
        for point in (point for line in ends for point in line):
            cv2.circle(layer, point, radius << _SHIFT, colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        _blend(layer, picture, opacity)


def _ends(picture: Rgb, lines: Points) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ends in OpenCV's fixed point; kept within the picture, for far numbers overflow there."""
    limits = (picture.shape[1], picture.shape[0]) * 2
    fixed = (np.clip(lines, 0.0, limits) * (1 << _SHIFT)).round().astype(int).tolist()
    return [((a, b), (c, d)) for a, b, c, d in fixed]


def _blend(layer: Rgb, picture: Rgb, opacity: float) -> None:
    cv2.addWeighted(layer, opacity, picture, 1.0 - opacity, 0.0, dst=picture)


def _strip(caption: str, width: int) -> Rgb:
    text = caption.encode("ascii", "replace").decode()  # OpenCV draws nothing else
    letter = cv2.getTextSize("n" * 20, _FONT, _FONT_SCALE, 1)[0][0] / 20
    lines = textwrap.wrap(text, max(1, int((width - 2 * _MARGIN) / letter)))
    if not lines:
        return np.zeros((0, width, 3), np.uint8)
    strip = np.full((_LINE_HEIGHT * len(lines) + _MARGIN, width, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(strip, line, (_MARGIN, _LINE_HEIGHT * number - 4), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
    return strip
