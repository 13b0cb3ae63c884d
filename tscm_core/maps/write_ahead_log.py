"""What stands in the write-ahead log beside a map, and whether SQLite would silently leave some of it out.

After a crash SQLite reads the log up to the first page that does not match its checksum, and says nothing about what
comes behind: a bit that flips in the log would cost keyframes without a word. A killed process leaves only the end
unfinished, so that finished commits behind the first bad page mean damage. The format: https://sqlite.org/walformat.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from tscm_core.maps.map_files import beside

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGICS = {0x377F0682: "<u4", 0x377F0683: ">u4"}
"""First number of a log, and the byte order in which its checksums read it."""
_INDEX = struct.Struct("=3I2BH2I2I8s2I")
_INDEX_VERSION = 3007000

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Log:
    """The log as SQLite will read it: page number -> offset of its newest committed content in the file.

    ``damage`` says in a few words what SQLite would leave out; empty when it is nothing. ``checkpointing``: the process
    died while it moved the log into the map, which alone is neither old nor new then.
    """

    page_size: int
    pages: dict[int, int]
    damage: str
    checkpointing: bool = False


@dataclass(frozen=True, slots=True)
class _Index:
    """What the index beside a log says: pages that count, how many of them are in the map, or on the way, whose log."""

    count: int
    moved: int
    moving: int
    salts: bytes


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    page: int
    commit: bool
    whole: bool


def read_log(path: Path) -> Log:
    """The log of the map at ``path``; an empty one if there is none. Only for a map that no process is writing to.

    Closing files that SQLite has open in this process would drop its locks.

    Raises:
        OSError: it cannot be read.
    """
    promised = _promised(path)
    try:
        with beside(path, "-wal").open("rb") as file:
            return _read(file, promised)
    except FileNotFoundError:
        return Log(0, {}, _gone(promised))


def _read(file: BinaryIO, promised: _Index | None) -> Log:
    size = os.fstat(file.fileno()).st_size
    if not size:
        return Log(0, {}, _gone(promised))
    raw = file.read(_HEADER.size)
    header = _HEADER.unpack(raw) if len(raw) == _HEADER.size else None
    if header is None or not _header_is_whole(raw, header):
        return Log(0, {}, "its write-ahead log cannot be read: the first bytes of it are damaged")
    page_size = header[2]
    pages: dict[int, int] = {}
    pending: dict[int, int] = {}
    committed, torn = 0, 0
    for frame in _frames(file, raw, page_size):
        if not frame.whole:
            torn = torn or frame.number
            if frame.commit and frame.number > torn:
                return Log(page_size, pages, _left_out(torn))
            continue
        pending[frame.page] = _HEADER.size + (frame.number - 1) * (_FRAME.size + page_size) + _FRAME.size
        if frame.commit:
            pages.update(pending)
            pending, committed = {}, frame.number
    said = promised is not None and promised.salts == raw[16:24] and promised.count > committed
    checkpointing = promised is not None and promised.moving > promised.moved
    return Log(page_size, pages, _left_out(committed + 1) if said else "", checkpointing)


def _left_out(number: int) -> str:
    return f"its write-ahead log is damaged at page {number}: what was committed from there on is lost"


def _gone(promised: _Index | None) -> str:
    """What is said when there is no log, though the index beside it counts pages that are not yet in the map."""
    if promised is None or promised.count <= promised.moved:
        return ""
    return "its write-ahead log is missing or empty: what was committed last is lost"


def _header_is_whole(raw: bytes, header: tuple[int, ...]) -> bool:
    page_size = header[2]
    if header[0] not in _MAGICS or not 512 <= page_size <= 65536 or page_size & (page_size - 1):
        return False
    return _checksum(raw[:24], (0, 0), _MAGICS[header[0]]) == header[6:8]


def _frames(file: BinaryIO, header: bytes, page_size: int) -> Iterator[_Frame]:
    """The pages that were written since the log began anew; after the first bad one, none is whole."""
    order, salts = _MAGICS[_HEADER.unpack(header)[0]], header[16:24]
    sums: Sums = (_HEADER.unpack(header)[6], _HEADER.unpack(header)[7])
    number, whole = 0, True
    while len(raw := file.read(_FRAME.size + page_size)) == _FRAME.size + page_size:
        number += 1
        page, pages_after, _, _, *stored = _FRAME.unpack_from(raw)
        ours = raw[8:16] == salts and page > 0
        if whole:
            sums = _checksum(raw[:8] + raw[_FRAME.size :], sums, order) if ours else sums
            whole = ours and sums == tuple(stored)
        yield _Frame(number, page, ours and pages_after > 0, whole)


def _checksum(content: bytes, start: Sums, order: str) -> Sums:
    """SQLite's running sums modulo 2^32: for each pair of words, ``a += first + b`` and then ``b += second + a``."""
    words = np.frombuffer(content, dtype=order).astype(np.uint32)
    summands = np.append(np.array(start, dtype=np.uint32), words)
    a, b = ((row * summands).sum(dtype=np.uint32) for row in _weights(len(words) // 2))
    return int(a), int(b)


@lru_cache(maxsize=4)
def _weights(pairs: int) -> npt.NDArray[np.uint32]:
    """``uint32 [2, 2 + 2 * pairs]``: how often the two sums before, and each word, count in the two sums after."""
    p, q, r, s = 1, 0, 0, 1  # what the sums of now count in those at the end: a' = p a + q b, b' = r a + s b
    backwards: list[tuple[int, int]] = []
    for _ in range(pairs):
        backwards += [(q, s), (p + q, r + s)]  # the second word of a pair is in b alone, the first one in both
        p, q, r, s = ((p + q) % 2**32, (p + 2 * q) % 2**32, (r + s) % 2**32, (r + 2 * s) % 2**32)
    columns = [(p, r), (q, s), *reversed(backwards)]
    return np.array([[value % 2**32 for value in row] for row in zip(*columns, strict=True)], dtype=np.uint32)


def _promised(path: Path) -> _Index | None:
    """The index beside the log, ``None`` if it cannot be believed. What a killed process wrote into it is there."""
    try:
        with beside(path, "-shm").open("rb") as file:
            raw = file.read(132)
    except OSError:
        return None
    if len(raw) < 132 or raw[:48] != raw[48:96]:
        return None
    version, _, _, initialised, _, _, count, _, _, _, salts, *sums = _INDEX.unpack_from(raw)
    native = "<u4" if int.from_bytes(raw[:4], "little") == version else ">u4"
    if version != _INDEX_VERSION or not initialised or _checksum(raw[:40], (0, 0), native) != tuple(sums):
        return None
    moved, moving = (int(struct.unpack_from("=I", raw, at)[0]) for at in (96, 128))
    return _Index(count, moved, moving, salts)
