"""Second visits to places of a map: what a robot sees there, and descriptors of it without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tscm_core.bench import scenes
from tscm_core.bench.places import Rows
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Frame, Rgb

DIM, MODEL = 2048, "scale-made-up"
STEP_M, STEP_NS = scenes.STEP_M, 100_000_000
PICTURES = 32


@dataclass(frozen=True, slots=True)
class Visits:
    """A describer without a network: it gives descriptors of second visits, float32 [V, DIM], from a list.

    Which one stands in the first pixel of the image. ``numbers`` int64 [V] are the places that are visited.
    """

    rows: Rows
    numbers: NDArray[np.int64]
    dim: int = DIM
    model_id: str = MODEL
    input_size: tuple[int, int] = (scenes.WIDTH, scenes.HEIGHT)

    @classmethod
    def of(cls, folder: Path) -> Visits:
        """Those that lie in ``folder``."""
        return cls(np.load(folder / "visits.npy"), np.load(folder / "numbers.npy"))

    def describe(self, images: Sequence[Rgb]) -> Rows:
        """Float32 [B, DIM] of unit length."""
        return self.rows[[int(image[0, 0] @ (1, 256, 65536)) for image in images]]

    def frame(self, visit: int, number: int, picture: Rgb) -> Frame:
        """Image ``number`` of a drive, on which the place of ``visit`` is seen."""
        image = picture.copy()
        image[0, 0] = visit % 256, visit // 256 % 256, visit // 65536
        stamp = scenes.FIRST_NS + 10**18 + number * STEP_NS
        return Frame(stamp, image, pose_from_yaw(STEP_M * number, 0.0, 0.0), "camera", scenes.CAMERA)


def pictures(again: bool = False) -> list[Rgb]:
    """Pictures of places that look like no other; ``again`` as a second visit sees them, from a little aside."""
    aside = (0.1, 0.05, 0.02) if again else (0.0, 0.0, 0.0)
    return [scenes.view(scenes.place(seed), 10.0 + aside[0], *aside[1:]) for seed in range(PICTURES)]
