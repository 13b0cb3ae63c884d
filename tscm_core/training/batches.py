"""The batches of one epoch. Each follows from (seed, epoch, number) alone, so that any of them can be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from tscm_core.errors import TscmError
from tscm_core.recognition.image import resize
from tscm_core.recognition.records import Rgb
from tscm_core.training.distillation_loss import TupleDescriptors
from tscm_core.training.feature_cache import FeatureCache
from tscm_core.training.images import Images, Size

Rows = NDArray[np.int32]
Vary = Callable[[Rgb, np.random.Generator], Rgb]

_ORDER, _IMAGE = range(2)
"""What a random number is drawn for: no two draws share a seed."""


class TupleBatch(NamedTuple):
    """B tuples with M images in all, K to a tuple; their images in the order of ``rows``, padding left out."""

    inputs: tuple[Tensor, ...]
    """``uint8 [M, H, W, 3]``, RGB; or the features of a frozen trunk, ``float16 [M, ...]`` for each level."""
    teacher: Tensor
    """The teacher's descriptors ``[M, D]``, or images for it ``uint8 [M, H, W, 3]``; or nothing, ``[0]``."""
    rows: Tensor
    """``int32 [B, K]``: query, positive, negatives, by number; -1 is padding."""

    def arrange(self, descriptors: Tensor) -> TupleDescriptors:
        """``[M, D]`` to where each image stands in its tuple."""
        there = self.rows >= 0  # [B, K]
        places = descriptors.new_zeros((*there.shape, descriptors.shape[1]))
        places[there] = descriptors
        return TupleDescriptors(places[:, 0], places[:, 1], places[:, 2:], there[:, 2:])


@dataclass(frozen=True)
class ImageInputs:
    """Augmented images for the student; and, where it sees the same ones, for a teacher at a size of its own."""

    images: Images
    vary: Vary
    student_size: Size
    teacher_size: Size | None = None

    def __call__(
        self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Images by number, each varied by its own generator."""
        varied = [self.vary(self.images[i], rng) for i, rng in zip(numbers, rngs, strict=True)]
        teacher = _stack(varied, self.teacher_size) if self.teacher_size else torch.empty(0)
        return (_stack(varied, self.student_size),), teacher


def _stack(images: Sequence[Rgb], size: Size) -> Tensor:
    return torch.from_numpy(np.stack([resize(image, size) for image in images]))


@dataclass(frozen=True)
class FeatureInputs:
    """Features of the frozen trunk, each of a variant drawn from those that are kept."""

    features: FeatureCache

    def __call__(
        self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Features of images by number."""
        variants = [int(rng.integers(self.features.variants)) for rng in rngs]
        return self.features.take(numbers, variants), torch.empty(0)


class EpochBatches(Dataset[TupleBatch]):
    """The batches of one process in one epoch, by number.

    Args:
        tuples: ``[T, K]``, all that were mined for this epoch; -1 is padding.
        size: tuples in a batch.
        seed: seed of the run, and number of the epoch.
        inputs: makes what the network takes.
        teacher: descriptors of all images by the teacher, ``[N, D]``; ``None``: ``inputs`` brings what it needs.
        rank: number of this process, and how many there are. Each gets as many tuples as the others: some come twice.
    """

    def __init__(
        self, tuples: Rows, size: int, seed: tuple[int, int], inputs: ImageInputs | FeatureInputs,
        teacher: NDArray[np.float32] | None = None, rank: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        order = np.random.default_rng([*seed, _ORDER]).permutation(len(tuples))
        order = np.resize(order, -(-len(order) // rank[1]) * rank[1])
        self._mine, self._tuples, self._size = order[rank[0] :: rank[1]], tuples, size
        self._seed, self._inputs, self._teacher = seed, inputs, teacher

    def __len__(self) -> int:
        return (len(self._mine) + self._size - 1) // self._size

    def __getitem__(self, number: int) -> TupleBatch:
        chosen = self._mine[number * self._size : (number + 1) * self._size]
        rows = self._tuples[chosen]
        drawn = [
            (int(rows[b, k]), np.random.default_rng([*self._seed, _IMAGE, int(chosen[b]), k]))
            for b, k in np.argwhere(rows >= 0)
        ]
        images = [image for image, _ in drawn]
        inputs, teacher = self._inputs(images, [rng for _, rng in drawn])
        if self._teacher is not None:
            teacher = torch.from_numpy(self._teacher[images])
        return TupleBatch(inputs, teacher, torch.from_numpy(rows))


class _Rest(Sampler[int]):
    """All numbers from ``first`` on; its length is that of the whole, which is how Lightning counts."""

    def __init__(self, count: int, first: int) -> None:
        self._count, self._first = count, first

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._first, self._count))

    def __len__(self) -> int:
        return self._count


class BatchLoader(DataLoader[TupleBatch]):
    """Loads the batches of an epoch, the first ``skip`` of which an interrupted run has seen already.

    Its two methods tell Lightning that it may go on within an epoch; the data module keeps what is needed for that.
    """

    def __init__(self, batches: EpochBatches, skip: int = 0, workers: int = 0, pin: bool = False) -> None:
        super().__init__(
            batches, batch_size=None, sampler=_Rest(len(batches), skip), num_workers=workers, pin_memory=pin,
            multiprocessing_context="fork" if workers else None,
        )  # fmt: skip

    def state_dict(self) -> dict[str, int]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to load."""


def as_here(error: TscmError) -> TscmError:
    """An error of a process that loads batches, without the traceback that torch writes into its sentence."""
    if "Original Traceback" not in str(error):
        return error
    return type(error)(str(error).rstrip().rpartition(f"{type(error).__name__}: ")[2])
