"""Nearest descriptors, with what is too recent left out inside the search."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.records import Descriptor


@dataclass(frozen=True, slots=True)
class Hit:
    """A remembered descriptor: its position in the order of adding, and its similarity to the query."""

    position: int
    similarity: float


class PlaceIndex:
    """Exact search by inner product over unit-length descriptors (faiss ``IndexFlatIP``).

    The recent keyframes of the running session are always the last ones added, so that leaving them out is a matter of
    one limit: the search sees positions below it and nothing else. Filtering the top-k afterwards would let the recent
    frames of a slow robot crowd out the real loops.
    """

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexFlatIP(dim)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, descriptors: NDArray[np.float32]) -> None:
        """Append descriptors ``float32 [N, dim]``; their positions go on from ``len(self)``."""
        self._index.add(np.ascontiguousarray(descriptors, np.float32))

    def search(self, descriptor: Descriptor, count: int, limit: int) -> list[Hit]:
        """The ``count`` most similar of the first ``limit`` descriptors, best first; fewer if there are fewer."""
        if min(count, limit) < 1:
            return []
        selection = faiss.SearchParameters(sel=faiss.IDSelectorRange(0, limit))  # type: ignore[call-arg]
        similarities, positions = self._index.search(descriptor[None], min(count, limit), params=selection)
        return [
            Hit(int(position), float(similarity))
            for position, similarity in zip(positions[0], similarities[0], strict=True)
            if position >= 0
        ]
