"""Images with places: which pairs show the same place, which surely do not, and which nobody knows about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from tscm_core.datasets.place_limits import COLUMNS, Limits, column_of
from tscm_core.errors import DatasetError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PlaceSet:
    """N images and what is known about their places.

    Attributes:
        name: for reports.
        images: N paths. Relations hold between images of different paths only: an image is no query for itself.
        positions: ``[N, 2]``, metres; of video frames (frame number, 0).
        yaw_deg: ``[N]``, degrees counter-clockwise; NaN where unknown.
        frame: ``[N]``, coordinate frame. Only images of one frame can be known to show the same place.
        area: ``[N]``. Images of different areas are surely different places. Same area and different frame: unknown.
        is_query, is_database: ``[N]``, both true where there is no split. Positives and negatives are database images.
        positive_radius, negative_radius, max_yaw_deg, min_gap: see ``Limits``.
        frame_names, area_names: by number; empty where they have none. ``join`` recognises frames and areas by them.
        frame_limits: by frame, where they differ from the set's own, as after a join.

    Raises:
        DatasetError: lengths disagree, a position is not finite, a frame lies in two areas, or the limits are unfit.
    """

    name: str
    images: tuple[Path, ...]
    positions: Floats
    yaw_deg: Floats
    frame: Integers
    area: Integers
    is_query: Mask
    is_database: Mask
    positive_radius: float
    negative_radius: float
    max_yaw_deg: float = 180.0
    min_gap: float = 0.0
    frame_names: tuple[str, ...] = ()
    area_names: tuple[str, ...] = ()
    frame_limits: Mapping[int, Limits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring the arrays to their types, close them for writing, and refuse what does not fit."""
        count = len(self.images)
        for column, dtype in COLUMNS.items():
            values = column_of(self.name, column, getattr(self, column), dtype)
            if values.shape != ((count, 2) if column == "positions" else (count,)):
                raise DatasetError(f"{self.name}: {count} images, but {column} has the shape {values.shape}")
            object.__setattr__(self, column, values)
        if not np.isfinite(self.positions).all():
            unfit = np.flatnonzero(~np.isfinite(self.positions).all(axis=1))
            raise DatasetError(
                f"{self.name}: {len(unfit)} positions are not finite, first that of {self.images[unfit[0]]}"
            )
        if np.isinf(self.yaw_deg).any():
            raise DatasetError(f"{self.name}: a yaw is infinite; NaN says that it is unknown")
        pairs = np.unique(np.stack([self.frame, self.area]), axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            raise DatasetError(f"{self.name}: a coordinate frame lies in two areas, but areas are different places")
        object.__setattr__(self, "images", tuple(Path(image) for image in self.images))
        object.__setattr__(self, "frame_limits", dict(self.frame_limits))
        _ = self.limits

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def limits(self) -> Limits:
        """The set's own limits."""
        return Limits(self.positive_radius, self.negative_radius, self.max_yaw_deg, self.min_gap)

    @cached_property
    def queries(self) -> Integers:
        """Numbers of the query images, ascending."""
        return np.flatnonzero(self.is_query)

    @cached_property
    def database(self) -> Integers:
        """Numbers of the database images, ascending."""
        return np.flatnonzero(self.is_database)

    def positives(self, i: int) -> Integers:
        """Numbers of the database images that show the place of image ``i``, ascending; never ``i`` itself."""
        return self._positives(i)

    def positives_within(self, i: int, radius: float) -> Integers:
        """As ``positives``, with another positive radius, in the unit of the positions."""
        return self._near(i, radius)

    def negatives_mask(self, i: int) -> Mask:
        """``[N]``: the database images that surely show another place than image ``i``."""
        same_frame = self.frame == self.frame[i]
        mask = (self.area != self.area[i]) | same_frame
        radius = self._limits_of(i).negative_radius
        if np.isfinite(radius):
            difference = self.positions - self.positions[i]
            mask[same_frame] = ((difference**2).sum(axis=1) > radius**2)[same_frame]
        else:
            mask[same_frame] = False
        return np.asarray(mask & self.is_database & (self._file != self._file[i]))

    def unsearchable(self, i: int) -> Integers:
        """Database images that a fair search for image ``i`` leaves out: its own file, and nearer than the gap."""
        own = np.flatnonzero((self._file == self._file[i]) & self.is_database)
        gap = self._limits_of(i).min_gap
        if not gap:
            return own
        members, squared = self._around(i, gap)
        return np.union1d(own, members[squared < gap**2])

    def check_images(self) -> None:
        """Look for every image file.

        Raises:
            DatasetError: some are missing; the sentence counts them and names the first five.
        """
        missing = [path for path in dict.fromkeys(self.images) if not path.is_file()]
        if missing:
            first = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise DatasetError(f"{self.name}: {len(missing)} of {len(set(self.images))} images are missing: {first}")

    @staticmethod
    def join(sets: Sequence[PlaceSet], name: str = "") -> PlaceSet:
        """One set of several: see ``place_building.join_places``."""
        from tscm_core.datasets.place_building import join_places

        return join_places(sets, name)

    def subset(self, mask: ArrayLike) -> PlaceSet:
        """The images where ``mask [N]`` is true, or those with the given numbers, in that order."""
        chosen = np.asarray(mask)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        columns: dict[str, Any] = {name: getattr(self, name)[chosen] for name in COLUMNS}
        return dataclasses.replace(self, images=tuple(self.images[k] for k in chosen), **columns)

    def _limits_of(self, i: int) -> Limits:
        return self.frame_limits.get(int(self.frame[i]), self.limits)

    def _positives(self, i: int) -> Integers:
        if i not in self._known:
            self._known[i] = self._near(i, self._limits_of(i).positive_radius)
            self._known[i].setflags(write=False)
        return self._known[i]

    def _near(self, i: int, radius: float) -> Integers:
        members, squared = self._around(i, radius)
        limits = self._limits_of(i)
        keep = (squared >= limits.min_gap**2) & (self._file[members] != self._file[i])
        if limits.max_yaw_deg < 180:  # a heading that is not known is not within the limit: NaN compares false
            turned = np.abs((self.yaw_deg[members] - self.yaw_deg[i] + 180) % 360 - 180)
            keep &= turned <= limits.max_yaw_deg + 1e-9
        return np.sort(members[keep])

    def _around(self, i: int, radius: float) -> tuple[Integers, Floats]:
        """Database images of the same frame within ``radius``, inclusive, and the squares of their distances."""
        if int(self.frame[i]) not in self._trees:
            return np.zeros(0, np.int64), np.zeros(0)
        numbers, tree = self._trees[int(self.frame[i])]
        near = tree.query_ball_point(self.positions[i], radius * (1 + 1e-9))  # the tree rounds in its own way
        members = numbers[np.asarray(near, np.int64)]
        squared = ((self.positions[members] - self.positions[i]) ** 2).sum(axis=1)
        within = squared <= radius**2
        return members[within], squared[within]

    @cached_property
    def _known(self) -> dict[int, Integers]:
        return {}

    @cached_property
    def _file(self) -> Integers:
        """``[N]``: equal for equal paths."""
        numbers: dict[Path, int] = {}
        return np.array([numbers.setdefault(path, len(numbers)) for path in self.images], np.int64)

    @cached_property
    def _trees(self) -> dict[int, tuple[Integers, Any]]:
        """By frame: the numbers of its database images, and a search tree over their positions."""
        order = self.database[np.argsort(self.frame[self.database], kind="stable")]
        frames, starts = np.unique(self.frame[order], return_index=True)
        parts = np.split(order, starts[1:])
        return {int(frame): (part, cKDTree(self.positions[part])) for frame, part in zip(frames, parts, strict=False)}
