"""Positions in the names of images: ``@utm_east@utm_north@...@.jpg``, as the collected VPR data sets have them.

Our minimal form is ``@utm_east@utm_north@.jpg``, optionally with anything between further ``@``. The common form has
fourteen fields: utm east, utm north, zone number, zone letter, latitude, longitude, panorama id, tile number, heading,
pitch, roll, height, timestamp, note; only the first two must be filled. Headings there are degrees clockwise from
north; ours are counter-clockwise from east.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import PlaceSet
from tscm_core.datasets.positions import IMAGE_SUFFIXES, Position
from tscm_core.errors import DatasetError

COMMON_FIELDS, HEADING = 14, 8


def parse_utm_name(name: str) -> Position:
    """The position in the name of an image: metres east and north, yaw in degrees counter-clockwise from east.

    Raises:
        DatasetError: the name has not this form.
    """
    parts = name.rpartition(".")[0].split("@")
    fields = parts[1:]
    try:
        if parts[0] or len(fields) < 2:
            raise ValueError("it must be @utm_east@utm_north@...@.jpg")
        east, north = float(fields[0]), float(fields[1])
        heading = fields[HEADING] if len(fields) >= COMMON_FIELDS else ""
        yaw = (90.0 - float(heading)) % 360 if heading else None
    except ValueError as error:
        raise DatasetError(f"image name {name} holds no UTM position: {error}") from error
    if not all(map(math.isfinite, (east, north, yaw or 0.0))):
        raise DatasetError(f"image name {name} holds no UTM position: its numbers must be finite")
    return Position(name, east, north, yaw)


@dataclass(frozen=True, slots=True)
class UtmNamesSource:
    """A folder, with or without subfolders, of images whose names hold their UTM positions; metres and degrees.

    All such folders share one coordinate frame per ``area``, which is a city and a UTM zone; give it a name where the
    sets of several cities are joined. With folders ``database`` and ``queries`` inside, these are what they are called;
    else ``role`` says what the images are for.
    """

    folder: Path
    positive_radius: float = 25.0
    negative_radius: float = 25.0
    max_yaw_deg: float = 180.0
    area: str = "utm"
    role: Literal["both", "query", "database"] = "both"

    def open(self) -> PlaceSet:
        """Read the places.

        Raises:
            DatasetError: there is no such folder, no image in it, or a name holds no position.
        """
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder} is not a folder")
        images = sorted(path for path in self.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise DatasetError(f"{self.folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        places = [parse_utm_name(path.name) for path in images]
        if self.max_yaw_deg < 180 and all(place.yaw_deg is None for place in places):
            raise DatasetError(f"the names in {self.folder} hold no headings, but max_yaw_deg is {self.max_yaw_deg:g}")
        roles = [self._role(path) for path in images]
        return make_places(
            self.folder.name,
            images,
            [(place.x, place.y) for place in places],
            limits=Limits(self.positive_radius, self.negative_radius, self.max_yaw_deg),
            yaw_deg=[np.nan if place.yaw_deg is None else place.yaw_deg for place in places],
            frames=self.area,
            is_query=[role != "database" for role in roles],
            is_database=[role != "query" for role in roles],
        )

    def _role(self, path: Path) -> str:
        if not ((self.folder / "database").is_dir() and (self.folder / "queries").is_dir()):
            return self.role
        top = path.relative_to(self.folder).parts[0]
        return {"database": "database", "queries": "query"}.get(top, self.role)
