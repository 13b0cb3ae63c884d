"""A bit for every number of a descriptor: which of very many places may be the nearest ones.

The number of bits in which two descriptors differ tells the angle between them (M. Charikar, Similarity estimation
techniques from rounding algorithms, STOC 2002, section 3). It is rough, and good enough for a short list that is then
compared exactly.

Nothing is learnt from the map but the mean of its beginning, against which the signs are taken. The 256 best axes of
the first places of a map (PCA) hold 0.9 of the squared length of those descriptors, and 0.5 of that of the ones from
the next building; bits serve both alike, need no training, and so neither wait for it nor depend on when it ended.

They tell angles, not lengths: descriptors are of unit length.
"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.growing_rows import GrowingRows
from tscm_core.recognition.half_rows import Positions
from tscm_core.recognition.one_thread import one_thread
from tscm_core.recognition.records import Descriptor

Rows = NDArray[np.float32]
Codes = NDArray[np.uint8]

_FEWEST_BITS = 1024
"""Shorter descriptors get so many bits, from random directions: too few bits cannot tell places apart."""
_HEAD_BYTES = 128
"""As much of a code as the first look at a very large map reads."""
_FIRST_LOOK = 2048
"""How many places the first look leaves over for the second, at least."""
_PLACES = 1 << 40
"""More than any map has: bits and position make one number, of which the smallest are wanted."""


class SignCodes:
    """The codes of all places by position.

    Args:
        mean: ``float32 [dim]``, what the numbers of a descriptor are compared with.
        head_above: how many places are searched with whole codes; among more, a part of each code is looked at first.
    """

    def __init__(self, mean: Descriptor, head_above: int) -> None:
        rng = np.random.default_rng(0)
        self._mean = mean
        self._order = rng.permutation(len(mean))
        self._directions: Rows | None = None
        if len(mean) < _FEWEST_BITS:
            self._directions = rng.standard_normal((_FEWEST_BITS, len(mean)), dtype=np.float32)
        bits = max(len(mean), _FEWEST_BITS)
        self._width = -(-bits // 64) * 8
        self._head_above = head_above
        self._codes = GrowingRows(self._width, np.uint8)
        self._heads = GrowingRows(_HEAD_BYTES, np.uint8)
        self._dropped = GrowingRows(1, np.bool_)
        self._any_dropped = False

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, descriptors: Rows) -> None:
        """Append the codes of ``descriptors [N, dim]``; what is not a number counts as dropped."""
        codes = self._encode(descriptors)
        self._codes.append(codes)
        self._heads.append(codes[:, :_HEAD_BYTES])
        dropped = np.isnan(descriptors[:, :1])
        self._dropped.append(dropped)
        self._any_dropped |= bool(dropped.any())

    def drop(self, position: int) -> None:
        """Leave the place at ``position`` out of all searches.

        Its code is turned into the opposite: far from all to which it was near, it is seldom in the way of others.
        """
        opposite = ~self._codes.take(np.array([position]))
        self._codes.put(position, opposite)
        self._heads.put(position, opposite[:, :_HEAD_BYTES])
        self._dropped.put(position, np.ones((1, 1), np.bool_))
        self._any_dropped = True

    def compact(self, keep: Positions) -> None:
        """Keep the codes at ``keep [N]``, ascending positions, and no others."""
        for rows in (self._codes, self._heads, self._dropped):
            rows.compact(keep)
        self._any_dropped = any(bool(dropped.any()) for _, dropped in self._dropped.parts(len(keep)))

    def nearest(self, descriptor: Descriptor, count: int, limit: int, begin: int = 0) -> Positions:
        """Positions from ``begin`` to before ``limit`` of the ``count`` places of which most bits agree, in no order.

        Of places with equally many the earlier ones are taken. Fewer if fewer are there that are not dropped.
        """
        code = self._encode(descriptor[None])
        if limit - begin <= self._head_above:
            return self._nearest(self._codes, code, count, limit, begin)
        wide = max(_FIRST_LOOK, 4 * count)
        first = self._nearest(self._heads, code[:, :_HEAD_BYTES], wide, limit, begin)
        return first[_fewest_bits(code, self._codes.take(first), count)[1]]

    def _nearest(self, codes: GrowingRows, code: Codes, count: int, limit: int, begin: int) -> Positions:
        """Positions of the ``count`` of ``codes`` nearest to ``code [1, width]`` and not dropped, ascending."""
        keys = []
        for start, part in codes.parts(limit, begin):
            if self._any_dropped:
                _, dropped = next(self._dropped.parts(start + len(part), start))
                bits, rows = _fewest_bits_of_others(code, part, count, dropped[:, 0])
            else:
                bits, rows = _fewest_bits(code, part, count)
            keys.append(bits.astype(np.int64) * _PLACES + start + rows)
        found = np.concatenate(keys)
        if count < len(found):
            found = np.partition(found, count - 1)[:count]
        return np.sort(found % _PLACES)

    def _encode(self, descriptors: Rows) -> Codes:
        centred = descriptors - self._mean
        if self._directions is None:
            centred = centred[:, self._order]  # so that the head is a fair sample of all numbers
        else:
            # Not a matrix product, which would bring threads of its own.
            centred = np.einsum("nd,bd->nb", centred, self._directions)
        codes = np.zeros((len(descriptors), self._width), np.uint8)
        packed = np.packbits(centred > 0.0, axis=1)
        codes[:, : packed.shape[1]] = packed
        return codes


def _fewest_bits_of_others(
    code: Codes, codes: Codes, count: int, dropped: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], Positions]:
    """As :func:`_fewest_bits`, without those codes that are ``dropped [N]``."""
    if not dropped.any():
        return _fewest_bits(code, codes, count)
    bits, rows = _fewest_bits(code, codes, 2 * count)
    there = np.flatnonzero(~dropped[rows])[:count]
    if len(there) == count or len(rows) == len(codes):
        return bits[there], rows[there]
    others = np.flatnonzero(~dropped)
    bits, rows = _fewest_bits(code, codes[others], count)
    return bits, others[rows]


def _fewest_bits(code: Codes, codes: Codes, count: int) -> tuple[NDArray[np.int32], Positions]:
    """Differing bits and rows of the ``count`` codes nearest to ``code [1, width]``; of equal ones the first."""
    # The variant that counts, "mc", keeps the first of equally near ones; the one with a heap keeps any.
    with one_thread():
        bits, rows = faiss.knn_hamming(code, codes, min(count, len(codes)), variant="mc")
    return np.asarray(bits[0], np.int32), np.asarray(rows[0], np.int64)
