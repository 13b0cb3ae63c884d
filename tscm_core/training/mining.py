"""Which tuples a network learns from: a query, its easiest positive, and the hardest of a sample of negatives.

As in the training of NetVLAD (Arandjelovic, CVPR 2016, section 4) and in the released code of TSCM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError, DatasetError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_ORDER, _TUPLE = range(2)
"""What a random number is drawn for: no two draws share a seed."""


@dataclass(frozen=True, slots=True, eq=False)
class TupleIndices:
    """T tuples by numbers of images in the place set, in the order in which they were drawn.

    Attributes:
        query: ``[T]``.
        positive: ``[T]``.
        negatives: ``[T, n]``, hardest first; -1 where there is none.
        valid: ``[T, n]``, where there is one.
        without_positive: queries that were looked at and left out because nothing shows their place.
        easy: queries that were looked at and left out because no negative comes near enough to teach anything.
    """

    query: Integers
    positive: Integers
    negatives: Integers
    valid: NDArray[np.bool_]
    without_positive: int = 0
    easy: int = 0

    def __len__(self) -> int:
        return len(self.query)

    @property
    def rows(self) -> Integers:
        """``[T, 2 + n]``: query, positive, negatives; -1 where there is none."""
        return np.column_stack([self.query, self.positive, self.negatives])


class TupleMiner:
    """Draws tuples from a place set by the descriptors that a network gives its images now.

    A negative is kept if ``d_negative < d_positive + sqrt(margin)``, with Euclidean distances. An image that may show
    the place of the query, or of which this is not known, is never a negative.

    Args:
        places: N images.
        negatives: most negatives in a tuple.
        sample: negatives drawn for each query, of which the hardest are taken.
        margin: of the triplet loss, a squared distance.
        seed: with the epoch it decides everything that is drawn.
        positive: which of the positives: ``best`` is the nearest by descriptor.
        keep_easy: fill up with the hardest negatives, near enough or not, as distillation learns from them too.
        skip_easy: leave out tuples without negatives.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self, places: PlaceSet, negatives: int = 10, sample: int = 1000, margin: float = 0.1, seed: int = 0, *,
        positive: Literal["best", "random"] = "best", keep_easy: bool = False, skip_easy: bool = True,
    ) -> None:  # fmt: skip
        if not (1 <= negatives <= sample and margin >= 0):
            raise ConfigError(
                f"mining takes 1 <= negatives <= sample and 0 <= margin, not {negatives}, {sample}, {margin:g}"
            )
        self.places, self.negatives, self.sample = places, negatives, sample
        self.margin, self.seed, self.positive = margin, seed, positive
        self.keep_easy, self.skip_easy = keep_easy, skip_easy
        self._descriptors: Floats | None = None

    def refresh(self, descriptors: Floats) -> None:
        """Take the descriptors of all images, unit length, ``float32 [N, D]``.

        Raises:
            ConfigError: they are not finite or not of unit length: the training has run away.
            ValueError: they are not ``[N, D]``.
        """
        if descriptors.ndim != 2 or len(descriptors) != len(self.places):
            raise ValueError(f"{len(self.places)} images need descriptors [N, D], not {descriptors.shape}")
        lengths = np.linalg.norm(descriptors, axis=1)
        if not (np.abs(lengths - 1) < 1e-2).all():
            raise ConfigError("the network gives descriptors that are not of unit length: lower the learning rate")
        self._descriptors = np.ascontiguousarray(descriptors, np.float32)

    def tuples(self, epoch: int, most: int | None = None) -> TupleIndices:
        """The tuples of an epoch, one per query, or the first ``most`` of them; the same on any number of threads.

        Raises:
            DatasetError: no query has a positive.
        """
        order = np.random.default_rng((self.seed, epoch, _ORDER)).permutation(self.places.queries)
        found: list[tuple[int, int, Integers]] = []
        without = easy = 0
        for query in map(int, order):
            if most is not None and len(found) >= most:
                break
            rng = np.random.default_rng((self.seed, epoch, _TUPLE, query))
            positives = self.places.positives(query)
            if not len(positives):
                without += 1
                continue
            positive, distance = self._positive(query, positives, rng)
            negatives = self._negatives(query, distance, rng)
            if len(negatives) or not self.skip_easy:
                found.append((query, positive, negatives))
            else:
                easy += 1
        if not found and not easy:
            raise DatasetError(
                f"{self.places.name}: none of {len(order)} queries has a positive: is the radius too small?"
            )
        return self._packed(found, without, easy)

    def _positive(self, query: int, positives: Integers, rng: np.random.Generator) -> tuple[int, float]:
        if self.positive == "random":
            positives = positives[[int(rng.integers(len(positives)))]]
        numbers, distances = self._nearest(query, positives, 1)
        return int(numbers[0]), float(distances[0])

    def _negatives(self, query: int, distance: float, rng: np.random.Generator) -> Integers:
        sure = np.flatnonzero(self.places.negatives_mask(query))
        if len(sure) > self.sample:
            sure = np.sort(rng.choice(sure, self.sample, replace=False, shuffle=False))
        numbers, distances = self._nearest(query, sure, self.negatives)
        return numbers if self.keep_easy else numbers[distances < distance + np.sqrt(self.margin)]

    def _nearest(self, query: int, others: Integers, count: int) -> tuple[Integers, NDArray[np.float64]]:
        """The nearest ``count`` of ``others`` by descriptor, nearest first, and their Euclidean distances."""
        if self._descriptors is None:
            raise ValueError("refresh must be called before tuples")
        if not len(others):
            return others, np.zeros(0)
        own, theirs = self._descriptors[query : query + 1], self._descriptors[others]
        # One query at a time: faiss then compares pair by pair, without BLAS, whose sums depend on the threads.
        squared, nearest = faiss.knn(own, theirs, min(count, len(others)), metric=faiss.METRIC_L2)
        numbers = others[nearest[0]]
        order = np.lexsort((numbers, squared[0]))
        return numbers[order], np.sqrt(np.maximum(squared[0][order].astype(np.float64), 0))

    def _packed(self, found: list[tuple[int, int, Integers]], without: int, easy: int) -> TupleIndices:
        negatives = np.full((len(found), self.negatives), -1, np.int64)
        for row, (_, _, numbers) in zip(negatives, found, strict=True):
            row[: len(numbers)] = numbers
        query = np.array([query for query, _, _ in found], np.int64)
        positive = np.array([positive for _, positive, _ in found], np.int64)
        return TupleIndices(query, positive, negatives, negatives >= 0, without, easy)
