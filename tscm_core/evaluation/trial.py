"""A trial for recall: which images ask, which may answer, and which answers are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import PlaceSet
from tscm_core.datasets.positions import Position, list_images, match_positions, read_positions
from tscm_core.datasets.utm_names import parse_utm_name
from tscm_core.errors import DatasetError

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LocatedImages:
    """Images and, for each, where it was taken."""

    images: tuple[Path, ...]
    positions: tuple[Position, ...]


@dataclass(frozen=True, eq=False)
class Trial:
    """M database images, Q queries.

    Attributes:
        places: what is known about the images: its ``database`` and ``queries`` are those of the trial, in that order.
        database: M paths, as they are shown to people.
        queries: Q paths.
        positives: for each query, the rows of ``database`` that are right, ``int64 [P_i]``; may be none.
        excluded: for each query, the rows that it may not return: its own file, images nearer in a video than is fair,
            and images of which nobody knows whether they show the same place. None of them is among ``positives``.
        max_yaw_deg: by how much headings may differ; ``None``: they do not matter.
        unit: of the positions, for reports.
    """

    places: PlaceSet
    database: tuple[Path, ...]
    queries: tuple[Path, ...]
    positives: tuple[Rows, ...]
    excluded: tuple[Rows, ...]
    max_yaw_deg: float | None = None
    unit: str = "m"

    @property
    def radius(self) -> float:
        """Within which an answer is right, in ``unit``."""
        return self.places.positive_radius

    def distances(self, query: int, rows: Rows) -> NDArray[np.float64]:
        """From a query to some database images, ``float64 [len(rows)]``; NaN in different coordinate frames."""
        i, others = self.places.queries[query], self.places.database[rows]
        apart = np.linalg.norm(self.places.positions[others] - self.places.positions[i], axis=1)
        return np.where(self.places.frame[others] == self.places.frame[i], apart, np.nan)

    def turned_deg(self, query: int, rows: Rows) -> NDArray[np.float64]:
        """Difference of heading from a query to some database images, 0 to 180 degrees; NaN where unknown."""
        yaw = self.places.yaw_deg
        turned = yaw[self.places.database[rows]] - yaw[self.places.queries[query]]
        return np.asarray(np.abs((turned + 180) % 360 - 180))


def located_images(folder: Path, positions: Path | None = None) -> LocatedImages:
    """The images of a folder, or of ``images`` in it, with their positions.

    These stand in ``positions`` if it is given, else in ``positions.csv`` beside the images or beside their folder
    ``images``, else in the names of the images (``@utm_east@utm_north@...@.jpg``).

    Raises:
        DatasetError: there are no images, or some have no position; all of these are counted, the first few named.
    """
    images = list_images(folder)
    source = positions or _positions_beside(images[0].parent)
    if source is not None:
        return LocatedImages(tuple(images), tuple(match_positions(images, read_positions(source), source)))
    return LocatedImages(tuple(images), tuple(_positions_in_names(images, folder)))


def _positions_beside(folder: Path) -> Path | None:
    places = (folder, folder.resolve().parent) if folder.name == "images" else (folder,)
    return next((file for place in places if (file := place / "positions.csv").is_file()), None)


def _positions_in_names(images: Sequence[Path], folder: Path) -> list[Position]:
    found, missing = [], []
    for image in images:
        try:
            found.append(parse_utm_name(image.name))
        except DatasetError:
            missing.append(image.name)
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(images)} images have no position: {', '.join(missing[:5])}: give a "
            f"positions.csv with image,x,y[,yaw] beside them, or UTM in their names (@utm_east@utm_north@...@.jpg)"
        )
    return found


def located_by_one_file(database: Path, queries: Path, positions: Path | None) -> tuple[LocatedImages, LocatedImages]:
    """Database and queries, by positions of their own or both by one file.

    Raises:
        DatasetError: see ``located_images``; or one file is to tell the positions of two images of the same name.
    """
    known, asking = located_images(database, positions), located_images(queries, positions)
    by_name = {image.name: image.resolve() for image in known.images}
    twice = [image.name for image in asking.images if by_name.get(image.name, image.resolve()) != image.resolve()]
    if positions is not None and twice:
        raise DatasetError(
            f"{len(twice)} names stand for two images, one in {database} and one in {queries}: {', '.join(twice[:5])}: "
            f"{positions} cannot tell them apart, put a positions.csv into each folder"
        )
    return known, asking


def trial_of_folders(
    database: LocatedImages, queries: LocatedImages, radius_m: float, max_yaw_deg: float | None = None
) -> Trial:
    """Queries against a database; right is what is within the radius. No file is a match for itself.

    Raises:
        DatasetError: an image is missing, the limits are unfit, or headings count and an image has none.
    """
    images, count = (*database.images, *queries.images), len(database.images)
    positions = (*database.positions, *queries.positions)
    asks = np.arange(len(images)) >= count
    places = make_places(
        f"{database.images[0].parent} and {queries.images[0].parent}",
        [image.resolve() for image in images],  # one file is one image, by whatever way it is reached
        [(position.x, position.y) for position in positions],
        limits=Limits(radius_m, np.inf, 180.0 if max_yaw_deg is None else max_yaw_deg),
        yaw_deg=np.array([np.nan if position.yaw_deg is None else position.yaw_deg for position in positions]),
        is_query=asks,
        is_database=~asks,
    )
    places.check_images()
    trial = trial_of_places(places)
    return dataclasses.replace(trial, database=database.images, queries=queries.images, max_yaw_deg=max_yaw_deg)


def trial_of_places(places: PlaceSet, unit: str = "m") -> Trial:
    """The queries of a place set against its database.

    Raises:
        DatasetError: headings count, and an image has none.
    """
    _check_headings(places)
    row_of = np.full(len(places), -1, np.int64)
    row_of[places.database] = np.arange(len(places.database))
    queries = [int(i) for i in places.queries]
    return Trial(
        places,
        tuple(places.images[i] for i in places.database),
        tuple(places.images[i] for i in queries),
        tuple(row_of[places.positives(i)] for i in queries),
        tuple(row_of[_may_not_answer(places, i)] for i in queries),
        places.max_yaw_deg if places.max_yaw_deg < 180 else None,
        unit,
    )


def with_limits(places: PlaceSet, radius: float | None, max_yaw_deg: float | None) -> PlaceSet:
    """The same places with another positive radius or difference of heading; ``None`` leaves what is there."""

    def changed(limits: Limits) -> Limits:
        within = limits.positive_radius if radius is None else radius
        yaw = limits.max_yaw_deg if max_yaw_deg is None else max_yaw_deg
        return Limits(within, max(limits.negative_radius, within), yaw, limits.min_gap)

    by_frame = {frame: changed(limits) for frame, limits in places.frame_limits.items()}
    return dataclasses.replace(places, frame_limits=by_frame, **dataclasses.asdict(changed(places.limits)))


def _may_not_answer(places: PlaceSet, i: int) -> Rows:
    unknown = (places.area == places.area[i]) & (places.frame != places.frame[i]) & places.is_database
    return np.union1d(places.unsearchable(i), np.flatnonzero(unknown))


def _check_headings(places: PlaceSet) -> None:
    unknown = [
        i
        for i in np.flatnonzero(np.isnan(places.yaw_deg) & (places.is_query | places.is_database))
        if places.frame_limits.get(int(places.frame[i]), places.limits).max_yaw_deg < 180
    ]
    if unknown:
        named = ", ".join(places.images[i].name for i in unknown[:5])
        raise DatasetError(
            f"{len(unknown)} of {len(places)} images have no yaw, which a limit on it needs: {named}: add a column yaw "
            f"to their positions, or leave the limit out"
        )
