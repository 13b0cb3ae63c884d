"""Descriptors by a compiled network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tscm_core.deploy.backend import Runner
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb


class NamedDescriber(Describer, Protocol):
    """A describer that can say what runs it, to people."""

    @property
    def backend(self) -> str:
        """``onnxruntime 1.32.0 on cpu, fp32, 1 thread``."""


class CompiledDescriber:
    """Images of any size to descriptors. Keeps the ``Describer`` protocol; one call after the other, from any thread.

    Args:
        runner: the compiled network.
        dim: length of a descriptor.
        model_id: name of the model whose descriptors these are.
        input_size: (width, height) that images are resized to.
        backend: what runs the network, for people.
    """

    def __init__(self, runner: Runner, dim: int, model_id: str, input_size: tuple[int, int], backend: str) -> None:
        self._runner, self._one_call = runner, threading.Lock()
        self.dim = dim
        self.model_id = model_id
        self.input_size = input_size
        self.backend = backend

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Images of any size, RGB ``uint8 [H, W, 3]``, to unit-length descriptors ``float32 [B, dim]``.

        Raises:
            ImageError: one of them is not such an image.
        """
        descriptors = np.empty((len(images), self.dim), np.float32)
        for start in range(0, len(images), self._runner.max_batch):
            part = slice(start, start + self._runner.max_batch)
            batch = np.stack([resize(image, self.input_size) for image in images[part]])
            with self._one_call:  # two at once would take the cores that were left to SLAM
                descriptors[part] = _unit_rows(self._runner(batch))
        return descriptors


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half precision leaves a descriptor of nearly unit length; here it gets the rest."""
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
