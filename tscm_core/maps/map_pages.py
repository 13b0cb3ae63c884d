"""Reading rows out of the pages of a damaged map without SQLite, which gives up where a page is broken.

Every page of the file is looked at by itself, with what the write-ahead log holds laid over it, and each row in it is
put together and given out; whether it is whole is for its checksum to say. Nothing that stands in the file is believed:
lengths and page numbers are compared with the file first. The format: https://sqlite.org/fileformat2.html
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tscm_core.maps.map_files import beside
from tscm_core.maps.write_ahead_log import read_log

_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of an integer by its code in the head of a row."""
_MAX_COLUMNS = 64
_MOST_READ = 16
"""How many times as much as there is may be read: rows of a sound map share no page, those of a forged one may."""
_FEW_TRUNKS = 64
"""Pages of the free list that lead to others: with 4 KiB each, so many lead to 256 MiB."""
_PAGE_SIZES = frozenset(512 << shift for shift in range(8))

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row as it stands in a page; ``rowid`` is ``None`` in tables that have none, ``values`` if it is unreadable."""

    rowid: int | None
    values: Values | None


@dataclass(frozen=True, slots=True)
class Few:
    """How far to look where nobody may wait: pages, rows, and bytes of rows that go on at other pages."""

    pages: int
    rows: int
    bytes: int


class MapPages:
    """The pages of a map file and of its log; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the file at ``path``.

        Raises:
            OSError: it cannot be read.
        """
        self._log = read_log(path)
        self._file = path.open("rb")
        self._log_file = beside(path, "-wal").open("rb") if self._log.pages else None
        size, head = os.fstat(self._file.fileno()).st_size, self._file.read(100)
        self.page_size = self._log.page_size or _page_size(head)
        self._in_file = -(-size // self.page_size)
        self._in_log = sorted(number for number in self._log.pages if number > self._in_file)
        self.count = self._in_file + len(self._in_log)
        """How many pages there are; the last one of the file may be cut, and a forged log may number its own anyhow."""
        self._bytes_left = 0
        self._whole = size // self.page_size
        head = self.page(1)
        self.stated = _number(head, 28) if head[24:28] == head[92:96] else 0
        """How many pages there should be, as the first one says; 0 if it does not."""
        self._leads_out = False

    def missing(self) -> int:
        """How many of the pages that there should be were cut off, the last one be it only in part.

        To be asked once all rows were read: the first page alone is not believed. In a file that was cut, some page
        that is left leads to one that is not.
        """
        in_log = sum(self._whole < number <= self.stated for number in self._log.pages)
        return max(0, self.stated - self._whole - in_log) if self._leads_out else 0

    def __enter__(self) -> MapPages:
        """The pages themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._file.close()
        if self._log_file is not None:
            self._log_file.close()

    def page(self, number: int) -> bytes:
        """Page ``number``, counted from 1; shorter than a page, or empty, where the file is cut."""
        offset = self._log.pages.get(number)
        if self._log_file is not None and offset is not None:
            self._log_file.seek(offset)
            return self._log_file.read(self.page_size)
        self._file.seek((number - 1) * self.page_size)
        return self._file.read(self.page_size)

    @property
    def log_damage(self) -> str:
        """What is wrong with the log, in a few words; empty if nothing is."""
        return self._log.damage

    def unused(self, few: Few | None = None) -> set[int]:
        """Pages of the free list: what stands there was deleted. As many as can be found."""
        found: set[int] = set()
        following = _number(self.page(1), 32)
        for _ in range(self.count if few is None else _FEW_TRUNKS):
            if not self._follow(following) or following in found:
                break
            found.add(following)
            trunk = self.page(following)
            held = min(_number(trunk, 4), self.page_size // 4 - 2)
            found.update(filter(self._follow, (_number(trunk, 8 + 4 * place) for place in range(held))))
            following = _number(trunk, 0)
        return found

    def _follow(self, number: int) -> bool:
        """Whether the page is there, whole or cut, to which another one leads: as none does to the first."""
        self._leads_out |= self._whole < number <= self.stated and number not in self._log.pages
        return 1 < number <= self._in_file or number in self._log.pages

    def rows(self, few: Few | None = None) -> Iterator[FoundRow]:
        """Every row of every table, in the order of the pages, be it whole or not; ``few`` of them if that is given."""
        rows = self._rows(few)
        return rows if few is None else itertools.islice(rows, few.rows)

    def _rows(self, few: Few | None) -> Iterator[FoundRow]:
        unused = self.unused(few)
        self._bytes_left = _MOST_READ * self.count * self.page_size
        if few is not None:
            self._bytes_left = min(self._bytes_left, few.bytes)
        numbers = itertools.chain(range(1, self._in_file + 1), self._in_log)
        for number in itertools.islice(numbers, None if few is None else few.pages):
            if number not in unused:
                yield from self._rows_of(self.page(number), 100 if number == 1 else 0)

    def _rows_of(self, page: bytes, start: int) -> Iterator[FoundRow]:
        kind = page[start] if len(page) > start + 8 else 0
        if kind not in {_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE}:
            return
        is_inner = kind in {_INTERIOR_INDEX, _INTERIOR_TABLE}
        pointers = start + (12 if is_inner else 8)
        self._follow(_number(page, start + 8) if is_inner else 0)
        cells = min(struct.unpack_from(">H", page, start + 3)[0], (self.page_size - pointers) // 2)
        for place in range(pointers, min(pointers + 2 * cells, len(page) - 1), 2):
            at = struct.unpack_from(">H", page, place)[0]
            self._follow(_number(page, at) if is_inner else 0)
            if kind != _INTERIOR_TABLE:
                yield self._row(page, at, kind)

    def _row(self, page: bytes, at: int, kind: int) -> FoundRow:
        try:
            found = self._cell(page, at, kind)
        except (IndexError, ValueError, struct.error):
            return FoundRow(None, None)
        if found.values and len(found.values) == 5 and isinstance(found.values[3], int):  # where a table begins
            self._follow(found.values[3])
        return found

    def _cell(self, page: bytes, at: int, kind: int) -> FoundRow:
        at += 4 if kind == _INTERIOR_INDEX else 0
        length, at = _varint(page, at)
        rowid = None
        if kind == _LEAF_TABLE:
            rowid, at = _varint(page, at)
            rowid -= 2**64 if rowid >= 2**63 else 0
        try:
            return FoundRow(rowid, _values(self._payload(page, at, length, table=kind == _LEAF_TABLE)))
        except (IndexError, ValueError, struct.error):
            return FoundRow(rowid, None)

    def _payload(self, page: bytes, at: int, length: int, *, table: bool) -> bytes:
        """The content of a row, gathered from its page and the pages on which it goes on."""
        if length > self.count * self.page_size:
            raise ValueError("it is longer than the file")
        local = _local_bytes(length, self.page_size, table=table)
        parts, missing = [page[at : at + local]], length - local
        following = _number(page, at + local) if missing else 0
        while missing:
            if not self._follow(following):
                raise ValueError("it goes on at a page that is not there")
            page = self.page(following)
            self._bytes_left -= len(page)
            if self._bytes_left < 0:
                raise ValueError("it goes on at pages of many other rows")
            parts.append(page[4 : 4 + missing])
            if len(parts[-1]) != min(missing, self.page_size - 4):
                raise ValueError("its last page is cut")
            missing, following = missing - len(parts[-1]), _number(page, 0)
        return b"".join(parts)


def _page_size(head: bytes) -> int:
    size = struct.unpack_from(">H", head, 16)[0] if len(head) >= 18 else 0
    return size if size in _PAGE_SIZES else 65536 if size == 1 else 4096


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")


def _local_bytes(length: int, usable: int, *, table: bool) -> int:
    """How much of a row of ``length`` bytes stands in its own page."""
    most = usable - 35 if table else (usable - 12) * 64 // 255 - 23
    if length <= most:
        return length
    least = (usable - 12) * 32 // 255 - 23
    rest = least + (length - least) % (usable - 4)
    return rest if rest <= most else least


def _varint(page: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | page[place] & 0x7F
        if page[place] < 0x80:
            return value, place + 1
    return value << 8 | page[at + 8], at + 9


def _values(payload: bytes) -> Values:
    """The columns of a row.

    Raises:
        ValueError: it is none.
    """
    head, at = _varint(payload, 0)
    codes: list[int] = []
    while at < head and len(codes) <= _MAX_COLUMNS:
        code, at = _varint(payload, at)
        codes.append(code)
    values: list[Any] = []
    at = head
    for code in codes:
        size = _size(code)
        raw = payload[at : at + size]
        if len(raw) != size:
            raise ValueError("it is cut")
        values.append(_value(code, raw))
        at += size
    return tuple(values)


def _size(code: int) -> int:
    if code >= 12:
        return (code - 12) // 2
    return 8 if code == 7 else _INTEGERS.get(code, 0)


def _value(code: int, raw: bytes) -> Any:
    if code in {0, 8, 9}:
        return {0: None, 8: 0, 9: 1}[code]
    if code in _INTEGERS:
        return int.from_bytes(raw, "big", signed=True)
    if code == 7:
        return struct.unpack(">d", raw)[0]
    if code < 12:
        raise ValueError(f"there is no kind {code} of value")
    return raw.decode() if code % 2 else raw
