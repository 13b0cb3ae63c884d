"""Tuples of images as a torch data set, for training loops of one's own; ``batches.py`` is what ``tscm train`` uses."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb
from tscm_core.training.augment import Augmenter
from tscm_core.training.images import Images, Size
from tscm_core.training.mining import TupleIndices


class TupleDataset(Dataset[dict[str, Tensor]]):
    """Tuple ``k`` as a dict of tensors.

    ``anchor`` and ``positive`` are ``uint8 [3, H, W]``, ``negatives`` ``uint8 [n, 3, H, W]``, black where there is
    none, and ``valid`` is ``bool [n]``. With a teacher the same images also come as ``teacher_anchor``,
    ``teacher_positive`` and ``teacher_negatives``. Each depends on (seed, epoch, k) and its place in the tuple alone.

    Args:
        images: all images of the place set; decoded ones are kept as far as its ``cache_mb`` goes.
        tuples: numbers of images.
        size: (width, height) for the student; ``None``: that of ``images``, which should be the largest one needed.
        augmenter: ``None``: images stay as they are.
        teacher_sees: ``clean`` images, the ``same`` augmented ones as the student, or nothing: no teacher.
        teacher_size: likewise.
        seed: of the run, and number of the epoch.
    """

    def __init__(
        self, images: Images, tuples: TupleIndices, size: Size | None = None, augmenter: Augmenter | None = None, *,
        teacher_sees: Literal["clean", "same"] | None = None, teacher_size: Size | None = None,
        seed: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self._images, self._tuples, self._augmenter = images, tuples, augmenter
        self._size, self._teacher_size = size or images.size, teacher_size or images.size
        self._teacher_sees, self._seed = teacher_sees, seed

    def __len__(self) -> int:
        return len(self._tuples)

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        if not 0 <= k < len(self):  # what ends a plain loop over the data set
            raise IndexError(k)
        rows = self._tuples.rows[k]
        pairs = [self._pair(int(row), np.random.default_rng((*self._seed, k, slot))) for slot, row in enumerate(rows)]
        result = _parts("", [student for student, _ in pairs]) | {"valid": torch.from_numpy(rows[2:] >= 0)}
        if self._teacher_sees:
            result |= _parts("teacher_", [teacher for _, teacher in pairs])
        return result

    def _pair(self, row: int, rng: Generator) -> tuple[Rgb, Rgb]:
        """What the student and the teacher see of an image; -1 is a missing one."""
        if row < 0:
            student, teacher = (np.zeros((size[1], size[0], 3), np.uint8) for size in (self._size, self._teacher_size))
            return student, teacher
        clean = self._images[row]
        seen = self._augmenter(clean, rng) if self._augmenter else clean
        shown = seen if self._teacher_sees == "same" else clean
        return resize(seen, self._size), resize(shown, self._teacher_size)


def _parts(prefix: str, images: list[Rgb]) -> dict[str, Tensor]:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # [2 + n, 3, H, W]
    return {f"{prefix}anchor": stacked[0], f"{prefix}positive": stacked[1], f"{prefix}negatives": stacked[2:]}
