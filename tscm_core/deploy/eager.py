"""The backend that runs everywhere PyTorch runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.checkpoints import load_student, model_id
from tscm_core.config import ModelConfig
from tscm_core.deploy.threads import limit_threads
from tscm_core.models.student import Student
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb

INPUT_SIZE = (320, 240)
_WARM_UP = 3
"""The first runs of a network take ten times as long as the others: better now than on the first image."""


class EagerDescriber:
    """A student in eager PyTorch on the CPU. Keeps the ``Describer`` protocol."""

    def __init__(self, network: Student, input_size: tuple[int, int] = INPUT_SIZE) -> None:
        self._network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean).view(1, 3, 1, 1)
        self._std = torch.tensor(network.std).view(1, 3, 1, 1)
        self.dim = network.dim
        self.input_size = input_size
        self.model_id = model_id(network, f"{input_size[0]}x{input_size[1]}")

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length descriptors ``float32 [B, dim]``.

        Raises:
            ImageError: one of them is not such an image.
        """
        if not images:
            return np.empty((0, self.dim), np.float32)
        batch = np.stack([resize(image, self.input_size) for image in images])
        with torch.inference_mode():
            pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float()  # [B, 3, H, W], channels last in memory
            return np.ascontiguousarray(self._network((pixels - self._mean) / self._std).numpy())


def load_describer(config: ModelConfig) -> EagerDescriber:
    """The describer that ``config`` asks for; also limits the threads of this process to ``config.threads``.

    Raises:
        ModelFileError: the weights cannot be loaded.
        MissingDependencyError: the package with the default weights is not installed.
    """
    limit_threads(config.threads)
    describer = EagerDescriber(load_student(config.weights))
    for _ in range(_WARM_UP):
        describer.describe([np.zeros((*INPUT_SIZE[::-1], 3), np.uint8)])
    return describer
