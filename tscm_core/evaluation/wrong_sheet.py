"""A picture sheet of wrong predictions: query, what was taken for its place, and the nearest right image."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tscm_core.errors import TscmError
from tscm_core.evaluation.describe import read_rgb
from tscm_core.evaluation.recall import Evaluation
from tscm_core.evaluation.trial import Trial
from tscm_core.recognition.records import Rgb

MOST_ROWS = 20
_CELL = (360, 270)
_MARGIN, _LABEL, _HEADER = 12, 50, 76
_INK, _GREY, _RIGHT, _WRONG = (30, 30, 30), (110, 110, 110), (26, 152, 80), (215, 48, 39)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True, slots=True)
class WrongPrediction:
    """A query whose most similar image is not right. Numbers are rows of the queries and of the database."""

    query: int
    predicted: int
    similarity: float
    distance: float
    """To the predicted image, in the unit of the positions; NaN where the two have no common coordinate frame."""
    turned_deg: float
    """Difference of heading to the predicted image, in degrees; NaN where unknown."""
    right: int
    right_distance: float
    right_rank: int | None
    """Rank of the first right image, from 1; ``None`` if it is not among the 20 best."""


def wrong_predictions(evaluation: Evaluation) -> list[WrongPrediction]:
    """All wrong ones among the queries that have a right image, the most similar first."""
    trial, result = evaluation.trial, evaluation.result
    wrong = []
    for query, (top, right) in enumerate(zip(result.top, trial.positives, strict=True)):
        if not len(right) or top[0] in right:
            continue
        distances = trial.distances(query, right)
        nearest = int(np.argmin(distances))
        ranks = np.flatnonzero(np.isin(top, right))
        wrong.append(
            WrongPrediction(
                query,
                int(top[0]),
                float(result.similarity[query, 0]),
                float(trial.distances(query, top[:1])[0]),
                float(trial.turned_deg(query, top[:1])[0]),
                int(right[nearest]),
                float(distances[nearest]),
                int(ranks[0]) + 1 if len(ranks) else None,
            )
        )
    return sorted(wrong, key=lambda one: (-one.similarity, one.query))


def write_wrong_sheet(evaluation: Evaluation, path: Path) -> int:
    """Write the most confident wrong predictions, at most 20, as PNG, whole or not at all.

    Args:
        evaluation: whose predictions.
        path: file to write.

    Returns:
        How many predictions were wrong, drawn or not.

    Raises:
        TscmError: the file cannot be written.
        DatasetError: an image cannot be read.
    """
    wrong = wrong_predictions(evaluation)
    trial, judged = evaluation.trial, evaluation.result.queries_with_positive
    title = f"{len(wrong)} of {judged} queries are wrong at rank 1; right is within {trial.radius:g} {trial.unit}"
    if len(wrong) > MOST_ROWS:
        title += f"; the {MOST_ROWS} most similar"
    rows = [_row(trial, one) for one in wrong[:MOST_ROWS]]
    _write(np.concatenate([_header(title), *rows]), path)
    return len(wrong)


def _row(trial: Trial, one: WrongPrediction) -> Rgb:
    rank = "not among the best 20" if one.right_rank is None else f"first right one at rank {one.right_rank}"
    seen = f"similarity {one.similarity:.3f}, {_apart(one.distance, trial.unit)}"
    if trial.max_yaw_deg is not None:
        seen += f", turned {one.turned_deg:.0f} deg"
    cells = (
        (trial.queries[one.query], rank, _GREY),
        (trial.database[one.predicted], seen, _WRONG),
        (trial.database[one.right], _apart(one.right_distance, trial.unit), _RIGHT),
    )
    return np.concatenate([_blank(_LABEL + _CELL[1] + _MARGIN, _MARGIN), *(_cell(*cell) for cell in cells)], axis=1)


def _apart(distance: float, unit: str) -> str:
    return "elsewhere" if math.isnan(distance) else f"{distance:.1f} {unit} away"


def _cell(path: Path, note: str, colour: tuple[int, int, int]) -> Rgb:
    """An image in its own proportions within its frame, above it the file name and a note."""
    width, height = _CELL
    cell = _blank(_LABEL + height + _MARGIN, width + _MARGIN)
    _text(cell, path.name, (0, 20), width, _INK)
    _text(cell, note, (0, 42), width, colour)
    image = read_rgb(path)
    scale = min((width - 6) / image.shape[1], (height - 6) / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, upper = (width - size[0]) // 2, _LABEL + (height - size[1]) // 2
    cell[upper - 3 : upper + size[1] + 3, left - 3 : left + size[0] + 3] = colour
    cell[upper : upper + size[1], left : left + size[0]] = small
    return cell


def _header(title: str) -> Rgb:
    header = _blank(_HEADER, _MARGIN + 3 * (_CELL[0] + _MARGIN))
    _text(header, title, (_MARGIN, 30), header.shape[1] - 2 * _MARGIN, _INK, 0.75)
    for column, name in enumerate(("query", "predicted", "nearest right image")):
        _text(header, name, (_MARGIN + column * (_CELL[0] + _MARGIN), 64), _CELL[0], _GREY, 0.65)
    return header


def _text(picture: Rgb, text: str, at: tuple[int, int], width: int, colour: Sequence[int], scale: float = 0.55) -> None:
    """Write one line; of what is too long the middle is left out, for names differ at their ends."""
    shown = text = text.encode("ascii", "replace").decode()  # OpenCV draws nothing else
    keep = len(text)
    while keep > 4 and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > width:
        keep -= 1
        shown = f"{text[: keep // 2]}...{text[len(text) - (keep - keep // 2) :]}"
    cv2.putText(picture, shown, at, _FONT, scale, tuple(colour), 1, cv2.LINE_AA)


def _blank(height: int, width: int) -> Rgb:
    return np.full((height, width, 3), 255, np.uint8)


def _write(sheet: Rgb, path: Path) -> None:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(encoded.tobytes())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise TscmError(f"picture {path} cannot be written: {error.strerror}") from error
