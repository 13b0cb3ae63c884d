"""Nearest descriptors, with what is too recent left out inside the search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.growing_rows import GrowingRows
from tscm_core.recognition.half_rows import HalfRows, Positions, Similarities
from tscm_core.recognition.records import Descriptor
from tscm_core.recognition.sign_codes import SignCodes

_EXACT_NUMBERS = 2048 * 2048
"""Numbers that are compared one by one in a quarter of a millisecond."""
_FEWEST_EXACT = 2048
"""Places that are compared one by one however long their descriptors are."""
_HEAD_ABOVE = 131_072
"""Here whole codes take a millisecond, and half of each is read first from here on."""
_LEARN_FROM = 1024
"""Places of which the mean is taken; from 256, all of one building, short lists were worse, from more not better."""
_CATCH_UP = 32
"""Codes of earlier places that are made with each new one, once there is a mean."""
_SPARE, _MOST_SPARE = 160, 672
_AT_ONCE = 512
"""Places of the short list that are copied together to be compared: they stay in the cache of the processor."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A remembered descriptor: its position in the order of adding, and its similarity to the query."""

    position: int
    similarity: float


class PlaceIndex:
    """Search by inner product over descriptors, which are kept as float16: what they were rounded to anyway.

    Among the first few thousand places all are compared exactly. Among more, one bit for each number of a descriptor
    makes a short list of ``160 + 2 * count`` places, 672 more than ``count`` at most (:class:`SignCodes`), and those
    are compared exactly. All similarities are exact, in either case.

    The recent keyframes of the running session are always the last ones added, so that leaving them out is a matter of
    one limit: the search sees positions below it and nothing else. Filtering the top-k afterwards would let the recent
    frames of a slow robot crowd out the real loops.

    What is found is a function of the descriptors, of their order and of the search: there is no work in the
    background, and it does not matter in how many pieces they were added. Equally similar places come in the order of
    their positions. Not thread-safe.

    Args:
        dim: length of a descriptor.
        exact_up_to: how many places are compared exactly; ``None``: 2048, and more of shorter descriptors.
        head_above: above how many places a first look at part of the code goes before the short list.
    """

    def __init__(self, dim: int, exact_up_to: int | None = None, head_above: int = _HEAD_ABOVE) -> None:
        self._dim = dim
        self._exact_up_to = max(_FEWEST_EXACT, _EXACT_NUMBERS // max(dim, 64)) if exact_up_to is None else exact_up_to
        self._head_above = head_above
        self._rows = GrowingRows(dim, np.float16)
        self._first = HalfRows(dim)
        self._compared = HalfRows(dim)
        self._codes: SignCodes | None = None
        self._remaining = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, descriptors: NDArray[np.float32]) -> None:
        """Append descriptors ``float32 [N, dim]``; their positions go on from ``len(self)``."""
        rows = np.ascontiguousarray(descriptors, np.float16)
        self._first.append(rows[: max(0, self._exact_up_to - len(self))])
        self._rows.append(rows)
        self._remaining += len(rows)
        self._code(len(rows))

    def search(self, descriptor: Descriptor, count: int, limit: int, begin: int = 0) -> list[Hit]:
        """The ``count`` most similar ones at ``begin <= position < limit``, best first; fewer if there are fewer."""
        begin, limit = max(begin, 0), min(limit, len(self))
        if min(count, limit - begin) < 1:
            return []
        query = np.ascontiguousarray(descriptor, np.float32)
        if limit <= self._exact_up_to:
            found = self._first.best(query, count, limit, begin)
        else:
            found = self._best_of(query, self._near(query, _short_list(count), limit, begin), count)
        return [Hit(int(position), float(similarity)) for position, similarity in zip(*found, strict=True)]

    def drop(self, position: int) -> None:
        """Never find the descriptor at ``position`` again; the others keep their positions, and ``len(self)`` stays.

        Raises:
            IndexError: there is no such position.
        """
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of an index of {len(self)} descriptors cannot be dropped")
        if np.isnan(self._rows.take(np.array([position]))[0, 0]):
            return
        self._rows.put(position, np.full((1, self._dim), np.nan, np.float16))
        self._first.drop(position)
        if self._codes is not None and position < len(self._codes):
            self._codes.drop(position)
        self._remaining -= 1

    def compact(self, keep: Positions) -> None:
        """Keep the descriptors at ``keep``, ascending positions ``int64 [N]``: they get the positions ``0 .. N - 1``.

        All is then as if only they had been added, in this order, except that codes, once there are any, stay relative
        to the mean with which they were made.
        """
        self._rows.compact(keep)
        self._first.replace(self._rows.take(np.arange(min(len(keep), self._exact_up_to))))
        self._remaining = len(self._there(0, len(keep)))
        if self._codes is not None:
            self._codes.compact(keep[: np.searchsorted(keep, len(self._codes))])

    def similarity(self, a: Positions, b: Positions) -> Similarities:
        """Inner products of the descriptors at ``a [N]`` and ``b [N]``, as ``float32 [N]``; NaN where dropped."""
        products = np.empty(len(a), np.float32)
        for at in range(0, len(a), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            one, other = (self._rows.take(positions[part]).astype(np.float32) for positions in (a, b))
            np.einsum("nd,nd->n", one, other, out=products[part])
        return products

    def _near(self, query: Descriptor, count: int, limit: int, begin: int) -> Positions:
        """Positions to compare exactly, ascending: the ``count`` nearest by code, or all where codes are needless."""
        if limit - begin <= count:
            return np.arange(begin, limit)
        if self._codes is None:
            return self._there(begin, limit)
        return np.sort(self._codes.nearest(query, count, limit, begin))

    def _there(self, begin: int, limit: int) -> Positions:
        """The positions from ``begin`` to before ``limit`` that are not dropped."""
        parts = self._rows.parts(limit, begin)
        found = [start + np.flatnonzero(~np.isnan(part[:, 0])) for start, part in parts]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _code(self, added: int) -> None:
        """Make the codes of the rows ``added``; at first, some of those before them too, so that no add takes long."""
        learn_from = min(_LEARN_FROM, self._exact_up_to)
        if self._codes is None:
            if self._remaining < learn_from:
                return
            beginning = self._rows.take(self._there(0, len(self))[:learn_from])
            self._codes = SignCodes(beginning.mean(axis=0, dtype=np.float64).astype(np.float32), self._head_above)
        searched = len(self) > self._exact_up_to
        end = len(self) if searched else min(len(self), len(self._codes) + added + _CATCH_UP)
        self._codes.add(self._rows.take(np.arange(len(self._codes), end)).astype(np.float32))

    def _best_of(self, query: Descriptor, near: Positions, count: int) -> tuple[Positions, Similarities]:
        """The ``count`` most similar of the places ``near``, compared exactly."""
        found = [] if len(near) else [(near, np.empty(0, np.float32))]
        for at in range(0, len(near), _AT_ONCE):
            part = near[at : at + _AT_ONCE]
            self._compared.replace(self._rows.take(part))
            rows, similarities = self._compared.best(query, count, len(part))
            found.append((part[rows], similarities))
        positions = np.concatenate([positions for positions, _ in found])
        similarities = np.concatenate([similarities for _, similarities in found])
        order = np.lexsort((positions, -similarities))[:count]
        return positions[order], similarities[order]


def _short_list(count: int) -> int:
    """How many places are compared exactly for the sake of ``count``: twice as many and some; fewer of thousands."""
    return count + min(count + _SPARE, _MOST_SPARE)
