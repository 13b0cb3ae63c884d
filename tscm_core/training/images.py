"""The images of a set, decoded and of one size: from memory as far as it may be used, else from their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscm_core.evaluation.describe import read_rgb
from tscm_core.models.network import Network
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb

Size = tuple[int, int]
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

_READERS = 4


class Images:
    """N image files as RGB ``uint8 [H, W, 3]`` of one size.

    Args:
        paths: N files.
        size: (width, height).
        cache_mb: as many of them as fit in this are decoded once, by ``fill``, and then kept.
    """

    def __init__(self, paths: Sequence[Path], size: Size, cache_mb: int = 0) -> None:
        self.paths, self.size = tuple(paths), size
        self._kept = min(len(self.paths), cache_mb * 1_000_000 // (size[0] * size[1] * 3))
        self._pixels: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def fill(self, progress: Progress) -> None:
        """Decode what is to be kept, once. Before worker processes are forked, so that all share the memory.

        Raises:
            DatasetError: an image cannot be read.
        """
        if self._pixels is not None or not self._kept:
            return
        pixels = np.empty((self._kept, self.size[1], self.size[0], 3), np.uint8)
        with ThreadPoolExecutor(_READERS) as pool:
            for i, image in enumerate(pool.map(self._decode, range(self._kept))):
                pixels[i] = image
                progress("Decoding images", i + 1, self._kept)
        self._pixels = pixels

    def __getitem__(self, i: int) -> Rgb:
        """Image ``i``; not to be written to.

        Raises:
            DatasetError: the file cannot be read.
        """
        return self._pixels[i] if self._pixels is not None and i < self._kept else self._decode(i)

    def batches(self, rows: Sequence[int], size: int) -> Iterator[Tensor]:
        """Images ``rows`` in their order, ``size`` at a time: ``uint8 [B, H, W, 3]``; read ahead by threads.

        Raises:
            DatasetError: a file cannot be read.
        """
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        with ThreadPoolExecutor(_READERS) as pool:
            ahead = [[pool.submit(self.__getitem__, i) for i in part] for part in parts[:2]]
            for k in range(len(parts)):
                yield torch.from_numpy(np.stack([future.result() for future in ahead[k]]))
                ahead[k] = []
                if k + 2 < len(parts):
                    ahead.append([pool.submit(self.__getitem__, i) for i in parts[k + 2]])

    def _decode(self, i: int) -> Rgb:
        return resize(read_rgb(self.paths[i]), self.size)


def normalise(pixels: Tensor, network: Network) -> Tensor:
    """RGB ``uint8 [B, H, W, 3]`` to what ``network`` takes: ``float32 [B, 3, H, W]``, channels last in memory."""
    images = pixels.permute(0, 3, 1, 2).float()
    mean, std = (
        pixels.new_tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in (network.mean, network.std)
    )
    return (images - mean) / std
