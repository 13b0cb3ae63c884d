"""Rows of numbers that only ever become more, without moving those that are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_FIRST_BLOCK = 2048


class GrowingRows:
    """An array ``[N, width]`` in blocks that double in size and are never copied.

    One array would be copied as a whole when it is full, and a map of a million places would hold the node up for
    seconds. The memory of a new block is only reserved; the system hands it out page by page as rows are written.
    """

    def __init__(self, width: int, dtype: DTypeLike) -> None:
        self._width = width
        self._dtype = np.dtype(dtype)
        self._blocks: list[NDArray[Any]] = []
        self._starts: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Add ``rows [N, width]``, rounded to the type that is kept."""
        while len(rows):
            if not self._blocks or self._count == self._starts[-1] + len(self._blocks[-1]):
                self._starts.append(self._count)
                self._blocks.append(np.empty((self._count or _FIRST_BLOCK, self._width), self._dtype))
            begin = self._count - self._starts[-1]
            block = self._blocks[-1][begin : begin + len(rows)]
            block[:] = rows[: len(block)]
            self._count += len(block)
            rows = rows[len(block) :]

    def parts(self, limit: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """The first ``limit`` rows, as the blocks in which they lie: position of the first one, and rows."""
        limit = min(limit, self._count)
        for start, block in zip(self._starts, self._blocks, strict=True):
            if start < limit:
                yield start, block[: limit - start]

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of the rows at ``positions [N]``, each below ``len(self)``, as ``[N, width]``."""
        taken = np.empty((len(positions), self._width), self._dtype)
        where = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(where):
            chosen = where == number
            taken[chosen] = self._blocks[number][positions[chosen] - self._starts[number]]
        return taken
