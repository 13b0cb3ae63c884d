"""What was found in the pages of a damaged map: rows that are whole, who made them, whether there are any."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tscm_core.errors import DamagedMapError, MapFileError
from tscm_core.maps.map_check import row_problem
from tscm_core.maps.map_files import lock_holder, map_errors
from tscm_core.maps.map_format import APPLICATION_ID, FORMAT, KEYFRAMES, LOOPS, META_KEYS, SESSIONS, Row, Table
from tscm_core.maps.map_pages import Few, FoundRow, MapPages, Values
from tscm_core.maps.map_paths import refuse_trap

_REALS = {KEYFRAMES: (*range(4, 11), 12), LOOPS: (4, 5, *range(9, 16)), SESSIONS: ()}
"""Columns that SQLite keeps as integers where the number is whole."""
_MAX_DIM = 65535
_META = Few(64, 1_000, 1 << 20)
"""Of a map, the rows of ``meta`` stand on the second page; who looks no further is soon done with what is no map."""
_KEYFRAME = Few(4_000, 4_000, 16 << 20)
"""How far to look for a keyframe that is whole: whoever made the file, the answer must not keep images waiting."""


@dataclass(frozen=True, slots=True)
class Meta:
    """What a damaged map says about itself."""

    model_id: str
    dim: int
    created: str


@contextlib.contextmanager
def naming_repair(path: Path, failed: str) -> Iterator[None]:
    """:func:`map_errors`; if the map turns out to be damaged, the error names the command that brings back a part."""
    try:
        with map_errors(path, failed):
            yield
    except DamagedMapError as error:
        if not can_be_repaired(path):
            raise
        raise DamagedMapError(path, error.damage, repairable=True) from error


def can_be_repaired(path: Path) -> bool:
    """Whether a repair would bring back a keyframe of the map, which this process must not have open.

    Only so much of a file is looked at that it takes a fraction of a second: of a map whose whole beginning is lost
    nothing is promised.
    """
    try:
        refuse_trap(path)
        if lock_holder(path) is not None:
            return False
        with MapPages(path) as pages:
            meta = None if newer_format(pages) else find_meta(pages, _META)
            return meta is not None and any(_is_whole_keyframe(found, meta.dim) for found in pages.rows(_KEYFRAME))
    except (OSError, ValueError, MemoryError, struct.error, MapFileError):
        return False


def _is_whole_keyframe(found: FoundRow, dim: int) -> bool:
    table, row = as_row(found)
    return table is KEYFRAMES and not is_broken(table, row, dim)


def newer_format(pages: MapPages) -> int:
    """The format of the map if this program is too old for it, else 0: a flipped byte mostly gives a larger number."""
    head = pages.page(1).ljust(100, b"\0")
    version, kind = struct.unpack_from(">I", head, 60)[0], struct.unpack_from(">I", head, 68)[0]
    return int(version) if kind == APPLICATION_ID and FORMAT < version < 1000 else 0


def find_meta(pages: MapPages, few: Few | None = None) -> Meta | None:
    """What the map says about itself, in ``few`` of its rows alone if that is given; ``None`` if it is too little."""
    meta: dict[str, str] = {}
    for found in pages.rows(few):
        if found.rowid is None and found.values and len(found.values) == 2 and found.values[0] in META_KEYS:
            meta.setdefault(str(found.values[0]), str(found.values[1]))
    dim = meta.get("dim", "")
    if not (meta.get("model_id") and dim.isdecimal() and len(dim) <= 5 and 1 <= int(dim) <= _MAX_DIM):
        return None
    return Meta(meta["model_id"], int(dim), meta.get("created", ""))


def as_row(found: FoundRow) -> tuple[Table | None, Row]:
    """A row as it stands in a page, brought into the order of its table."""
    values = found.values or ()
    if found.rowid is None:
        table, row = (LOOPS, (values[2], *values[:2], *values[3:])) if len(values) == _width(LOOPS) else (None, values)
    else:
        table = next((table for table in (KEYFRAMES, SESSIONS) if len(values) == _width(table)), None)
        row = (values[0], found.rowid, *values[2:]) if table else ()
    return table, _with_reals(table, row) if table else ()


def _with_reals(table: Table, row: Values) -> Row:
    reals = _REALS[table]
    return tuple(
        float(value) if place in reals and isinstance(value, int) else value for place, value in enumerate(row)
    )


def _width(table: Table) -> int:
    return table.columns.count(",") + 1


def is_broken(table: Table, row: Row, dim: int) -> bool:
    """Whether something is wrong with a row, be it that it cannot even be looked at."""
    try:
        return row_problem(table, row, dim) is not None
    except (ValueError, TypeError, OverflowError, struct.error):
        return True
