"""Where places come from: a table of settings in, a place set out."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tscm_core.datasets.pittsburgh import PittsburghSource
from tscm_core.datasets.place_building import join_places, make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import PlaceSet
from tscm_core.datasets.positions import list_images, match_positions, read_positions
from tscm_core.datasets.utm_names import UtmNamesSource
from tscm_core.datasets.videos import FramesSource
from tscm_core.errors import ConfigError, DatasetError


class Source(Protocol):
    """A frozen dataclass whose fields are its settings."""

    def open(self) -> PlaceSet:
        """Read the places."""


@dataclass(frozen=True, slots=True)
class PositionsSource:
    """A folder of images with ``positions.csv``: metres and degrees.

    ``positions`` is the file where it is not ``folder/positions.csv``. Folders of the same ``area`` share their
    coordinates, as several drives through one world do; without it the folder is an area of its own. ``role`` says
    what the images are for.
    """

    folder: Path
    positions: Path | None = None
    positive_radius: float = 25.0
    negative_radius: float = 25.0
    max_yaw_deg: float = 180.0
    min_gap: float = 0.0
    area: str = ""
    role: typing.Literal["both", "query", "database"] = "both"

    def open(self) -> PlaceSet:
        """Read the places.

        Raises:
            DatasetError: the folder or the file cannot be read, an image has no position, or the limits are unfit.
        """
        table = self.positions or self.folder / "positions.csv"
        images = list_images(self.folder)
        places = match_positions(images, read_positions(table), table)
        if self.max_yaw_deg < 180 and all(place.yaw_deg is None for place in places):
            raise DatasetError(f"{table} has no yaw, but max_yaw_deg is {self.max_yaw_deg:g}: set it to 180")
        count = len(images)
        return make_places(
            self.folder.name,
            images,
            [(place.x, place.y) for place in places],
            limits=Limits(self.positive_radius, self.negative_radius, self.max_yaw_deg, self.min_gap),
            yaw_deg=[np.nan if place.yaw_deg is None else place.yaw_deg for place in places],
            frames=self.area or str(self.folder.resolve()),
            is_query=[self.role != "database"] * count,
            is_database=[self.role != "query"] * count,
        )


KINDS: dict[str, type[Source]] = {
    "positions": PositionsSource,
    "utm_names": UtmNamesSource,
    "frames": FramesSource,
    "pittsburgh": PittsburghSource,
}
"""Kinds of sources; the settings of each are the fields of its class."""


def open_places(source: Mapping[str, object], base: Path | None = None) -> PlaceSet:
    """Read the places that a table of settings asks for.

    Args:
        source: ``kind``, and the settings of that kind.
        base: folder that relative paths start from; ``None``: the working directory.

    Raises:
        ConfigError: the kind or a setting is unknown, a setting is missing or of the wrong type.
        DatasetError: the data cannot be read.
    """
    return source_of(source, base).open()


def open_all(sources: Sequence[Mapping[str, object]], base: Path | None = None) -> PlaceSet:
    """Read several sources and join them.

    Raises:
        ConfigError, DatasetError: as ``open_places``; frames of one name must have equal limits.
    """
    return join_places([open_places(source, base) for source in sources])


def source_of(source: Mapping[str, object], base: Path | None = None) -> Source:
    """The settings checked, with nothing read yet.

    Raises:
        ConfigError: see ``open_places``.
    """
    if not isinstance(source, Mapping):
        raise ConfigError(f"a source of places is a table of settings with a kind, not {source!r}")
    kind = source.get("kind")
    if str(kind) not in KINDS:
        raise ConfigError(f"unknown kind of places {kind!r}: {_hint(kind, KINDS)}the kinds are {', '.join(KINDS)}")
    made = KINDS[str(kind)]
    hints = typing.get_type_hints(made)
    given = {str(key): value for key, value in source.items() if key != "kind"}
    for key in given:
        if key not in hints:
            raise ConfigError(f"unknown setting {key} of places {kind}: {_hint(key, hints)}they are {', '.join(hints)}")
    required = [field.name for field in dataclasses.fields(made) if field.default is dataclasses.MISSING]  # type: ignore[arg-type]
    if absent := [key for key in required if key not in given]:
        raise ConfigError(f"places {kind} need the setting {absent[0]}")
    values = {key: _value(f"{kind}.{key}", value, hints[key], base) for key, value in given.items()}
    return made(**values)


def _hint(key: object, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(str(key), known, 1)
    return f"did you mean {near[0]}? " if near else ""


def _value(name: str, value: object, wanted: object, base: Path | None) -> object:
    """``value`` as the type that a field asks for."""
    if isinstance(wanted, types.UnionType):
        return None if value is None else _value(name, value, typing.get_args(wanted)[0], base)
    if typing.get_origin(wanted) is typing.Literal:
        if value not in (choices := typing.get_args(wanted)):
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return value
    if typing.get_origin(wanted) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{name} must be a list of names, not {value!r}")
        return tuple(value)
    if wanted is Path and isinstance(value, str | Path) and str(value):
        return (base or Path()) / Path(value).expanduser()
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    if isinstance(wanted, type) and wanted is not float and type(value) is wanted:
        return value
    shown = {Path: "a path", float: "a number", str: "a word"}.get(wanted, str(wanted))  # type: ignore[call-overload]
    raise ConfigError(f"{name} must be {shown}, not {value!r}")
