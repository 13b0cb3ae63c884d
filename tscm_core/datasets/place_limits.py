"""When two images show the same place, and the columns that this is decided by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tscm_core.errors import DatasetError

COLUMNS: dict[str, type] = {
    "positions": np.float64,
    "yaw_deg": np.float64,
    "frame": np.int64,
    "area": np.int64,
    "is_query": np.bool_,
    "is_database": np.bool_,
}
"""What a place set holds per image beside the path, and of which type."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When two images of one coordinate frame show the same place; lengths in the unit of the positions.

    Same place: at least ``min_gap`` and at most ``positive_radius`` apart, headings at most ``max_yaw_deg`` apart. At
    180 degrees headings do not matter; below, an image without a heading has no positives. Another place: more than
    ``negative_radius`` apart, whatever the headings; infinity: nothing in the frame is surely another place.
    """

    positive_radius: float
    negative_radius: float
    max_yaw_deg: float = 180.0
    min_gap: float = 0.0

    def __post_init__(self) -> None:
        """Refuse limits that contradict each other."""
        if not 0 <= self.min_gap <= self.positive_radius < np.inf:
            raise DatasetError(
                f"the gap {self.min_gap:g} and the positive radius {self.positive_radius:g} must be 0 <= gap <= radius"
            )
        if not self.negative_radius >= self.positive_radius:
            raise DatasetError(
                f"the negative radius {self.negative_radius:g} must not be less than the positive radius "
                f"{self.positive_radius:g}: a pair would be the same place and another"
            )
        if not 0 <= self.max_yaw_deg <= 180:
            raise DatasetError(f"the largest difference of yaw must be from 0 to 180 degrees, not {self.max_yaw_deg:g}")


def column_of(name: str, column: str, values: ArrayLike, dtype: type) -> NDArray[Any]:
    """A column of a place set in its type, closed for writing.

    Raises:
        DatasetError: the values are of another kind.
    """
    try:
        array: NDArray[Any] = np.array(values).astype(dtype, casting="same_kind")
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{name}: {column} must be {np.dtype(dtype).name}: {error}") from error
    array.setflags(write=False)
    return array
