"""Place sets made of what is known, and joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tscm_core.datasets.place_limits import COLUMNS, Limits
from tscm_core.datasets.places import Integers, PlaceSet
from tscm_core.errors import DatasetError


def make_places(
    name: str,
    images: Sequence[Path | str],
    positions: ArrayLike,
    *,
    limits: Limits,
    yaw_deg: ArrayLike | None = None,
    frames: Sequence[str] | str | None = None,
    areas: Sequence[str] | str | None = None,
    is_query: ArrayLike | None = None,
    is_database: ArrayLike | None = None,
) -> PlaceSet:
    """A place set from what is known; the rest is as if nothing set the images apart.

    Args:
        name: of the set; also of its only frame where ``frames`` is not given.
        images: N paths.
        positions: ``[N, 2]``.
        limits: when two images show the same place.
        yaw_deg: ``[N]``, NaN where unknown; ``None``: all unknown.
        frames: name of the coordinate frame, one for all or one per image.
        areas: name of the area likewise; ``None``: each frame is an area.
        is_query: ``[N]``; ``None``: all are queries.
        is_database: ``[N]``; ``None``: all are database images.

    Raises:
        DatasetError: see ``PlaceSet``.
    """
    count = len(images)
    frame_names, frame = _numbered(frames if frames is not None else name, count)
    area_names, area = _numbered(areas if areas is not None else (frames if frames is not None else name), count)
    return PlaceSet(
        name=name,
        images=tuple(Path(image) for image in images),
        positions=np.asarray(positions, np.float64).reshape(-1, 2),
        yaw_deg=np.full(count, np.nan) if yaw_deg is None else np.asarray(yaw_deg, np.float64),
        frame=frame,
        area=area,
        is_query=np.ones(count, np.bool_) if is_query is None else np.asarray(is_query, np.bool_),
        is_database=np.ones(count, np.bool_) if is_database is None else np.asarray(is_database, np.bool_),
        frame_names=frame_names,
        area_names=area_names,
        **dataclasses.asdict(limits),
    )


def _numbered(names: Sequence[str] | str, count: int) -> tuple[tuple[str, ...], Integers]:
    listed = [names] * count if isinstance(names, str) else list(names)
    numbers: dict[str, int] = {}
    numbered = np.array([numbers.setdefault(name, len(numbers)) for name in listed], np.int64)
    return tuple(numbers), numbered


def join_places(sets: Sequence[PlaceSet], name: str = "") -> PlaceSet:
    """One set of several. Frames and areas of the same name are the same ones; all others are apart.

    Images of different areas are taken for different places, so sets that show the same ground must share its names.

    Raises:
        DatasetError: there is nothing to join, or a frame has different limits in two sets.
    """
    if not sets:
        raise DatasetError("there are no place sets to join")
    frames: dict[Hashable, int] = {}
    areas: dict[Hashable, int] = {}
    frame = [_renumber(k, places.frame, places.frame_names, frames) for k, places in enumerate(sets)]
    area = [_renumber(k, places.area, places.area_names, areas) for k, places in enumerate(sets)]
    limits: dict[int, Limits] = {}
    for places, numbers in zip(sets, frame, strict=True):
        for new, own in _limits_by_frame(places, numbers):
            if limits.setdefault(new, own) != own:
                raise DatasetError(f"{places.name}: its limits differ from those of another set in the same frame")
    first = sets[0].limits
    columns: dict[str, Any] = {c: np.concatenate([getattr(s, c) for s in sets]) for c in COLUMNS}
    columns.update(frame=np.concatenate(frame), area=np.concatenate(area))
    return PlaceSet(
        name=name or " + ".join(places.name for places in sets),
        images=tuple(image for places in sets for image in places.images),
        frame_names=tuple(map(_shown, frames)),
        area_names=tuple(map(_shown, areas)),
        frame_limits={number: own for number, own in limits.items() if own != first},
        **dataclasses.asdict(first),
        **columns,
    )


def _limits_by_frame(places: PlaceSet, numbers: Integers) -> Iterator[tuple[int, Limits]]:
    for new, old in np.unique(np.stack([numbers, places.frame]), axis=1).T:
        yield int(new), places.frame_limits.get(int(old), places.limits)


def _renumber(k: int, values: Integers, names: tuple[str, ...], seen: dict[Hashable, int]) -> Integers:
    """The numbers in the joined set: by name, or by set and number where there is no name."""
    olds, inverse = np.unique(values, return_inverse=True)
    keys: list[Hashable] = [names[old] if 0 <= old < len(names) else (k, int(old)) for old in olds]
    new = np.array([seen.setdefault(key, len(seen)) for key in keys], np.int64)
    return np.asarray(new[inverse], np.int64)


def _shown(key: Hashable) -> str:
    return key if isinstance(key, str) else "set {} number {}".format(*key)  # type: ignore[misc]
