"""What makes descriptors, whatever runs underneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.records import Rgb


class Describer(Protocol):
    """Turns images into descriptors. Nobody asks which backend it is."""

    @property
    def dim(self) -> int:
        """Length of a descriptor."""

    @property
    def model_id(self) -> str:
        """Hash of weights, architecture and preprocessing; only descriptors of equal ``model_id`` are compared."""

    @property
    def input_size(self) -> tuple[int, int]:
        """(width, height) in pixels at which the network sees an image."""

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length ``float32 [B, dim]``, C-contiguous."""
