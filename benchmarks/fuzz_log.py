"""Mutations of a write-ahead log whose checksums are right again, so that SQLite and we believe it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

HEADER, FRAME = 32, 24
"""Bytes before the first frame, and before the page of each."""

Sums = tuple[int, int]


def log_mutator(good: bytes) -> Callable[[bytes, int], bytes]:
    """Bytes changed, and the running checksums of all frames made right."""
    size = page_size(good)

    def mutate(data: bytes, number: int) -> bytes:
        chance = random.Random(number)
        made = bytearray(data if len(data) > HEADER else good)
        for _ in range(chance.randrange(1, 5)):
            frame = HEADER + (FRAME + size) * chance.randrange(16)
            at = chance.choice((chance.randrange(HEADER), frame + chance.randrange(FRAME), chance.randrange(len(made))))
            made[min(at, len(made) - 1)] = chance.randrange(256)
        sealed = with_right_sums(made, good)
        return sealed[: chance.choice((len(made), chance.randrange(len(made))))]

    return mutate


def page_size(log: bytes) -> int:
    """Bytes of a page in a sound log."""
    return int(struct.unpack_from(">I", log, 8)[0])


def with_right_sums(changed: bytes | bytearray, good: bytes) -> bytes:
    """A log that was changed, with the checksums that SQLite wants (https://sqlite.org/walformat.html).

    Pages and byte order are those of ``good``.
    """
    made, size, order = bytearray(changed), page_size(good), ">" if good[3] & 1 else "<"
    state = _sums(made[:24], (0, 0), order)
    made[24:HEADER] = struct.pack(">2I", *state)
    for at in range(HEADER, len(made) - FRAME - size + 1, FRAME + size):
        state = _sums(made[at : at + 8], state, order)
        state = _sums(made[at + FRAME : at + FRAME + size], state, order)
        made[at + 16 : at + FRAME] = struct.pack(">2I", *state)
    return bytes(made)


def _sums(part: bytes | bytearray, start: Sums, order: str) -> Sums:
    words = struct.unpack(f"{order}{len(part) // 4}I", part)
    one, two = start
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
