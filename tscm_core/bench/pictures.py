"""The pictures that are described and verified: made-up ones, or those that the user gives."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from tscm_core.bench import scenes
from tscm_core.datasets.drive_source import open_drive
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.records import Frame

FEWEST = 4
_MADE_UP_STEP = 3


@dataclass(frozen=True, slots=True)
class Views:
    """A frame, one of the same place from nearby, and two of other places."""

    query: Frame
    places: tuple[Frame, Frame, Frame]


def frames(images: Path | None, count: int) -> list[Frame]:
    """Up to ``count`` frames spread over the drive at ``images``, or over a made-up one.

    Raises:
        DatasetError: there are too few.
        TscmError: the drive cannot be read.
    """
    if images is None:
        return list(islice(scenes.drive(_MADE_UP_STEP * count), None, None, _MADE_UP_STEP))
    found = _spread(images, count)
    if len(found) < FEWEST:
        raise DatasetError(f"{images} has {len(found)} usable images: give at least {FEWEST}")
    return found


def views(images: Path | None, count: int) -> list[Views]:
    """Up to ``count`` of them from the drive at ``images``, in which the image before shows the same place.

    Raises:
        DatasetError: there are too few images.
        TscmError: the drive cannot be read.
    """
    if images is None:
        return [_made_up(number) for number in range(count)]
    pairs = _pairs(images, count)
    if len(pairs) < FEWEST:
        raise DatasetError(f"{images} has {len(pairs)} pairs of usable images: give more images")
    half = len(pairs) // 2
    others = [before for before, _ in pairs]
    return [
        Views(query, (before, others[(n + half) % len(pairs)], others[(n + half + 1) % len(pairs)]))
        for n, (before, query) in enumerate(pairs)
    ]


def _made_up(number: int) -> Views:
    scene, random = scenes.place(number), np.random.default_rng(number)
    x = float(random.uniform(2.0, 8.0))
    seen = (
        scenes.view(scene, x),
        scenes.view(scene, x + 0.25, 0.15, 0.04),
        scenes.view(scene, x + 8.0),
        scenes.view(scene, x + 10.0),
    )
    query, *places = (
        Frame(scenes.FIRST_NS + position, image, intrinsics=scenes.CAMERA) for position, image in enumerate(seen)
    )
    return Views(query, (places[0], places[1], places[2]))


def _pairs(images: Path, count: int) -> list[tuple[Frame, Frame]]:
    """Images that follow each other, spread over the drive."""
    with open_drive(images) as source:
        step = max(2, source.image_count // count)
        taken = [frame for n, frame in enumerate(source.frames(_leave_out)) if n % step < 2]
    return list(zip(taken[::2], taken[1::2], strict=False))[:count]


def _leave_out(stamp_ns: int, error: ImageError) -> None:
    """An image that cannot be used."""


def _spread(images: Path, count: int) -> list[Frame]:
    with open_drive(images) as source:
        step = max(1, source.image_count // count)
        return list(islice(source.frames(_leave_out), 0, step * count, step))
