"""Rows of numbers that become more without moving those that are there, and fewer without a second copy of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_FIRST_BLOCK = 2048
_MOVED_AT_ONCE = 512
"""Rows that are moved together: they stay in the cache of the processor between being read and written."""


class GrowingRows:
    """An array ``[N, width]`` in blocks that double in size and are never copied as a whole.

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

    def put(self, begin: int, rows: NDArray[Any]) -> None:
        """Write ``rows [N, width]`` over those that are there from position ``begin`` on."""
        for start, part in self.parts(begin + len(rows), begin):
            part[:] = rows[start - begin : start - begin + len(part)]

    def compact(self, keep: NDArray[np.int64]) -> None:
        """Keep the rows at ``keep [N]``, ascending positions, and no others.

        They move forward within the blocks. Blocks that are no longer needed are freed; the one that is last now keeps
        its memory for the rows to come.
        """
        stay = int(np.count_nonzero(keep == np.arange(len(keep))))  # ascending: all before the first one given up
        for at in range(stay, len(keep), _MOVED_AT_ONCE):
            self.put(at, self.take(keep[at : at + _MOVED_AT_ONCE]))
        self._count = len(keep)
        while self._starts and self._starts[-1] >= self._count:
            self._starts.pop()
            self._blocks.pop()

    def parts(self, limit: int, begin: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
        """The rows from ``begin`` to before ``limit``, block by block: position of the first one, and rows."""
        limit = min(limit, self._count)
        for start, block in zip(self._starts, self._blocks, strict=True):
            first = max(start, begin)
            if first < min(limit, start + len(block)):
                yield first, block[first - start : limit - start]

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of the rows at ``positions [N]``, each below ``len(self)``, as ``[N, width]``."""
        taken = np.empty((len(positions), self._width), self._dtype)
        where = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(where):
            chosen = where == number
            taken[chosen] = self._blocks[number][positions[chosen] - self._starts[number]]
        return taken
