"""The backend that runs everywhere PyTorch runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.checkpoints import model_id
from tscm_core.models.network import Network
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb


class EagerDescriber:
    """A network in eager PyTorch. Keeps the ``Describer`` protocol; one call after the other, from any thread.

    Args:
        network: what makes the descriptors.
        input_size: (width, height) that images are resized to; ``None``: the network's own.
        device: ``cpu`` or ``cuda``.
        half: float16 where PyTorch's autocast finds it safe; only on ``cuda``.
    """

    def __init__(
        self, network: Network, input_size: tuple[int, int] | None = None, device: str = "cpu", half: bool = False
    ) -> None:
        input_size = input_size or network.input_size
        self.dim = network.dim
        self.input_size = input_size
        self.model_id = model_id(network, f"{input_size[0]}x{input_size[1]}")
        self.backend = f"eager PyTorch {torch.__version__} on {device}, {'fp16' if half else 'fp32'}"
        self._device, self._half, self._one_call = device, half, threading.Lock()
        self._network = network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(network.std, device=device).view(1, 3, 1, 1)

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length descriptors ``float32 [B, dim]``.

        Raises:
            ImageError: one of them is not such an image.
        """
        if not images:
            return np.empty((0, self.dim), np.float32)
        batch = np.stack([resize(image, self.input_size) for image in images])
        with self._one_call, torch.inference_mode(), torch.autocast(self._device, torch.float16, enabled=self._half):
            pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2).float()  # channels last in memory
            rows = self._network((pixels - self._mean) / self._std).float()
        return np.ascontiguousarray((rows / rows.norm(dim=1, keepdim=True) if self._half else rows).cpu().numpy())
