"""Exact similarities to descriptors in half precision, which are never widened in memory."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.one_thread import one_thread
from tscm_core.recognition.records import Descriptor

Similarities = NDArray[np.float32]
Positions = NDArray[np.int64]


class HalfRows:
    """Some thousand descriptors ``float16 [N, dim]`` and the inner products with them.

    Widening to float32 costs NumPy ten times as long as the products themselves; faiss does both in one go. A row has
    the same product in whatever company it is compared. All is done by the calling thread alone.
    """

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)

    def append(self, rows: NDArray[np.float16]) -> None:
        """Add ``rows [N, dim]``."""
        with one_thread():
            self._index.add(rows.astype(np.float32))

    def replace(self, rows: NDArray[np.float16]) -> None:
        """Hold ``rows [N, dim]``, C-contiguous, and no others."""
        # As faiss stores them itself. Its own function for this, add_sa_codes, came to Python after faiss 1.8.
        faiss.copy_array_to_vector(rows.view(np.uint8).ravel(), self._index.codes)
        self._index.ntotal = len(rows)

    def drop(self, position: int) -> None:
        """Make the row at ``position``, if there is one, not a number: it is never found again."""
        if position < self._index.ntotal:
            size = self._index.code_size
            codes = faiss.rev_swig_ptr(self._index.codes.data(), self._index.ntotal * size)  # not a copy
            codes[position * size : (position + 1) * size].view(np.float16)[:] = np.nan

    def best(self, query: Descriptor, count: int, limit: int, begin: int = 0) -> tuple[Positions, Similarities]:
        """The ``count`` most similar rows from ``begin`` to before ``limit``, best first, equal ones in their order.

        What is not a number is not found. ``count`` is at least 1, and ``begin`` less than ``limit`` and ``len(self)``.
        """
        limit = min(limit, self._index.ntotal)
        count = min(count, limit - begin)
        positions, similarities = self._search(query, min(count + 1, limit - begin), limit, begin)
        if count < len(positions) and similarities[count - 1] == similarities[count]:
            # faiss keeps any of those that are equally similar: here they are the first.
            positions, similarities = self._search(query, limit - begin, limit, begin)
        order = np.lexsort((positions, -similarities))[:count]
        return positions[order], similarities[order]

    def _search(self, query: Descriptor, count: int, limit: int, begin: int) -> tuple[Positions, Similarities]:
        selection = faiss.SearchParameters(sel=faiss.IDSelectorRange(begin, limit))  # type: ignore[call-arg]
        with one_thread():
            similarities, positions = self._index.search(query[None], count, params=selection)
        found = positions[0] >= 0
        return positions[0, found], similarities[0, found]
