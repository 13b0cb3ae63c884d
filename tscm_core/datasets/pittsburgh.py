"""Pittsburgh 30k and 250k by the MATLAB structs that NetVLAD came with (Torii, CVPR 2013; Arandjelovic, CVPR 2016).

``pitts30k_train.mat`` and the like hold ``dbStruct``, a 1 x 1 struct: ``whichSet``, ``dbImageFns`` and ``qImageFns``
(N x 1 cells of names), ``utmDb`` and ``utmQ`` (2 x N, metres), ``numImages``, ``numQueries``, ``posDistThr``,
``posDistSqThr``, ``nonTrivPosDistSqThr``. The radii in them are not used: they are settings. Training takes positives
within 10 m, and its negatives from beyond 25 m; the field tests at 25 m.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import Floats, PlaceSet
from tscm_core.errors import ConfigError, DatasetError

SPLITS = tuple(f"pitts{size}_{part}" for size in ("30k", "250k") for part in ("train", "val", "test"))
ORIGIN = (
    "the images and the folder datasets with the .mat files are given out on request by the authors of the data set: "
    "see the page of NetVLAD, https://www.di.ens.fr/willow/research/netvlad/"
)


@dataclass(frozen=True, slots=True, eq=False)
class PittsburghStruct:
    """What a ``dbStruct`` holds: names of images, and positions ``[N, 2]`` in metres."""

    which_set: str
    database: tuple[str, ...]
    database_utm: Floats
    queries: tuple[str, ...]
    queries_utm: Floats
    non_trivial_radius: float
    """Square root of ``nonTrivPosDistSqThr``, metres: 10 in the released files."""


@dataclass(frozen=True, slots=True)
class PittsburghSource:
    """The folder of Pittsburgh: images in it (000, 001, ...) and in ``queries_real``, ``.mat`` files in ``datasets``.

    ``split`` is ``pitts30k_train`` or the like; ``mat`` is the struct's file where it is elsewhere. Radii, metres, that
    are not given: positives within 10 for training, else 25; negatives beyond 25, or beyond a larger positive radius.
    """

    folder: Path
    split: str
    mat: Path | None = None
    positive_radius: float | None = None
    negative_radius: float | None = None

    def open(self) -> PlaceSet:
        """Read the places.

        Raises:
            ConfigError: there is no such split.
            DatasetError: the struct is missing or is not one; the sentence says where the data comes from. Or the radii
                contradict each other.
        """
        if self.split not in SPLITS:
            raise ConfigError(f"pittsburgh.split must be one of {', '.join(SPLITS)}, not {self.split!r}")
        struct = read_struct(self._mat())
        count, queries = len(struct.database), len(struct.queries)
        usual = 10.0 if self.split.endswith("_train") else 25.0
        radius = usual if self.positive_radius is None else self.positive_radius
        beyond = max(radius, 25.0) if self.negative_radius is None else self.negative_radius
        return make_places(
            self.split,
            [self.folder / name for name in struct.database]
            + [self.folder / "queries_real" / name for name in struct.queries],
            np.concatenate([struct.database_utm, struct.queries_utm]),
            limits=Limits(radius, beyond),
            frames="pittsburgh",
            is_query=np.arange(count + queries) >= count,
            is_database=np.arange(count + queries) < count,
        )

    def _mat(self) -> Path:
        named = f"{self.split}.mat"
        places = [self.mat] if self.mat else [self.folder / "datasets" / named, self.folder / named]
        for path in places:
            if path.is_file():
                return path
        raise DatasetError(f"{places[0]} does not exist: {ORIGIN}")


def read_struct(path: Path) -> PittsburghStruct:
    """Read a ``dbStruct``.

    Raises:
        DatasetError: the file cannot be read, is not of this kind, or its parts disagree.
    """
    try:
        content = loadmat(str(path))
        fields = content["dbStruct"][0, 0]
        struct = PittsburghStruct(
            str(fields["whichSet"].item()),
            _names(fields["dbImageFns"]),
            _utm(fields["utmDb"]),
            _names(fields["qImageFns"]),
            _utm(fields["utmQ"]),
            float(np.sqrt(fields["nonTrivPosDistSqThr"].item())),
        )
        counts = int(fields["numImages"].item()), int(fields["numQueries"].item())
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # scipy raises whatever a foreign or cut file makes it stumble over
        raise DatasetError(f"{path} is no Pittsburgh struct ({type(error).__name__}: {error}): {ORIGIN}") from error
    sizes = (len(struct.database), len(struct.queries))
    if counts != sizes or sizes != (len(struct.database_utm), len(struct.queries_utm)):
        raise DatasetError(
            f"{path} says {counts} images and queries, but names {sizes} and places others: it is damaged"
        )
    return struct


def _names(cells: Any) -> tuple[str, ...]:
    return tuple(str(cell.item()).strip() for cell in cells.ravel())


def _utm(values: Any) -> Floats:
    if values.ndim != 2 or values.shape[0] != 2:
        raise ValueError(f"UTM must be 2 x N, not {values.shape}")
    return np.ascontiguousarray(values.T, np.float64)  # [N, 2]
