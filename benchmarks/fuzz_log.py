"""Mutations of a write-ahead log whose checksums are right again, so that SQLite and we believe it."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable


def log_mutator(good: bytes) -> Callable[[bytes, int], bytes]:
    """Bytes changed, and the running checksums of all frames made right (https://sqlite.org/walformat.html)."""
    size = struct.unpack_from(">I", good, 8)[0]
    order = ">" if good[3] & 1 else "<"

    def sums(part: bytes, start: tuple[int, int]) -> tuple[int, int]:
        words = struct.unpack(f"{order}{len(part) // 4}I", part)
        one, two = start
        for first, second in zip(words[::2], words[1::2], strict=True):
            one = (one + first + two) & 0xFFFFFFFF
            two = (two + second + one) & 0xFFFFFFFF
        return one, two

    def mutate(data: bytes, number: int) -> bytes:
        chance = random.Random(number)
        made = bytearray(data if len(data) > 32 else good)
        for _ in range(chance.randrange(1, 5)):
            frame = 32 + (24 + size) * chance.randrange(8)
            at = chance.choice((chance.randrange(32), frame + chance.randrange(24), chance.randrange(len(made))))
            made[min(at, len(made) - 1)] = chance.randrange(256)
        state = sums(made[:24], (0, 0))
        made[24:32] = struct.pack(">2I", *state)
        for at in range(32, len(made) - 24 - size + 1, 24 + size):
            state = sums(made[at : at + 8], state)
            state = sums(made[at + 24 : at + 24 + size], state)
            made[at + 16 : at + 24] = struct.pack(">2I", *state)
        return bytes(made[: chance.choice((len(made), chance.randrange(len(made))))])

    return mutate
