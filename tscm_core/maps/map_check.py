"""Whether a map file can be trusted: every check that stands between a file and the running map."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tscm_core.errors import DamagedMapError, MapFileError, ModelMismatchError
from tscm_core.maps.map_files import connect
from tscm_core.maps.map_format import (
    APPLICATION_ID,
    FORMAT,
    KEYFRAMES,
    META_KEYS,
    SCHEMA,
    TABLES,
    Row,
    Table,
    digest,
    row_crc,
)
from tscm_core.maps.map_values import value_problem
from tscm_core.recognition.precision import BYTES_PER_NUMBER, decode_descriptor, is_unit_length

_MAX_DIM = 65535
_MOST_LETTERS = 1000
_LOG_BYTES = 16 * 2**20
_WRITING = (
    "query_only = OFF",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "secure_delete = ON",  # a keyframe that was given up must not stand in a free page: a repair could take it for one
    f"journal_size_limit = {_LOG_BYTES}",
)


@dataclass(frozen=True, slots=True)
class Header:
    """What a map says about itself. ``digest`` is empty while the map is being driven on."""

    format: int
    model_id: str
    dim: int
    created: str
    writer: str
    digest: str


def read_header(db: sqlite3.Connection, path: Path) -> Header:
    """What the map says about itself, after making sure that it is one.

    Raises:
        MapFileError: it is another kind of database, of a newer format, or its tables are not those of a map.
    """
    if _pragma(db, "application_id") != APPLICATION_ID:
        no_map = "is not a tscm map, but another SQLite database"
        raise DamagedMapError(path, "is damaged (its first bytes do not say that it is a tscm map)", no_map)
    version = _pragma(db, "user_version")
    if version > FORMAT:
        newer = f"was written by a newer tscm (format {version}; this one reads up to {FORMAT}): upgrade tscm"
        raise DamagedMapError(path, f"is damaged (there is no format {version})", newer)
    if _objects(db) != _expected_objects():
        raise DamagedMapError(path, "does not have the tables of a tscm map, and only those")
    return _header(dict(db.execute("SELECT key, value FROM meta LIMIT 100")), version, path)


def require_model(header: Header, path: Path, model_id: str | None, dim: int | None) -> None:
    """Refuse descriptors of another model; None agrees with every one.

    Raises:
        ModelMismatchError: another model made them.
        MapFileError: they have another length.
    """
    if model_id is not None and header.model_id != model_id:
        raise ModelMismatchError(f"map {path}", header.model_id, model_id)
    if dim is not None and header.dim != dim:
        raise MapFileError(path, f"holds descriptors of {header.dim} numbers, but the running model makes {dim}")


def verify(db: sqlite3.Connection, path: Path, model_id: str | None = None, dim: int | None = None) -> Header:
    """Read everything once and give what the map says about itself.

    Raises:
        MapFileError: with the first thing that is wrong.
        ModelMismatchError: another model than ``model_id`` made its descriptors.
    """
    header = read_header(db, path)
    require_model(header, path, model_id, dim)
    for problem in find_damage(db, header):
        raise DamagedMapError(path, f"is damaged ({problem})")
    return header


def connect_verified(path: Path, model_id: str, dim: int) -> tuple[sqlite3.Connection, Header]:
    """A connection to write to the map at ``path``; whatever :func:`verify` refuses is not written to.

    The digest is emptied: from now on it would be wrong.
    """
    with contextlib.ExitStack() as undo:
        db = undo.enter_context(contextlib.closing(connect(path, "mode=rw")))
        db.execute("PRAGMA query_only = ON")
        header = verify(db, path, model_id, dim)
        for pragma in _WRITING:
            db.execute(f"PRAGMA {pragma}")
        db.execute("UPDATE meta SET value = '' WHERE key = 'digest' AND value != ''")
        undo.pop_all()
        return db, header


def find_damage(db: sqlite3.Connection, header: Header) -> Iterator[str]:
    """Everything wrong with the content, one sentence each."""
    for (lines,) in db.execute("PRAGMA integrity_check"):
        for line in lines.splitlines():
            if line != "ok" and not line.startswith("*** in database"):
                yield f"SQLite: {line}"
    oversized = list(_oversized_rows(db, header))
    yield from oversized
    if oversized:
        return
    for table in TABLES:
        yield from _damaged_rows(db, table, header.dim)
    for name, _, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield f"a row of {name} refers to one that is missing from {parent}"
    if header.digest and digest(db) != header.digest:
        yield "the digest does not match: rows were removed, added or changed since it was saved"


def row_problem(table: Table, row: Row, dim: int) -> str | None:
    """What is wrong with a row as :attr:`Table.select` gives it, or None."""
    if row[0] != row_crc(row[1:]):
        return f"{table.thing} {row[1]}: content does not match its checksum"
    forged = value_problem(table, row)
    if forged:
        return f"{table.thing} {row[1]}: {forged}"
    if table is KEYFRAMES and not is_unit_length(decode_descriptor(row[13], dim)):
        return f"{table.thing} {row[1]}: its descriptor is not of unit length"
    return None


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _objects(db: sqlite3.Connection) -> set[Row]:
    rows = db.execute("SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_master LIMIT 100")
    return {(kind, name, table, " ".join(str(sql).split())) for kind, name, table, sql in rows}


def _expected_objects() -> set[Row]:
    db = sqlite3.connect(":memory:")
    try:
        for statement in SCHEMA:
            db.execute(statement)
        return _objects(db)
    finally:
        db.close()


def _is_short(word: str) -> bool:
    """Whether it may stand in a sentence: errors and logs name the model."""
    return len(word) <= _MOST_LETTERS and word.isprintable()


def _header(meta: dict[str, str], version: int, path: Path) -> Header:
    if set(meta) != META_KEYS or not all(isinstance(value, str) and _is_short(value) for value in meta.values()):
        raise DamagedMapError(path, f"is damaged (meta should hold exactly {', '.join(sorted(META_KEYS))})")
    if meta["format"] != str(version) or version < 1:
        raise DamagedMapError(path, "is damaged (its format version stands in two places, and they differ)")
    if not (meta["dim"].isdecimal() and len(meta["dim"]) <= 5 and 1 <= int(meta["dim"]) <= _MAX_DIM):
        raise DamagedMapError(path, f"is damaged (descriptors of {meta['dim']!r} numbers)")
    return Header(version, meta["model_id"], int(meta["dim"]), meta["created"], meta["writer"], meta["digest"])


def _oversized_rows(db: sqlite3.Connection, header: Header) -> Iterator[str]:
    """Lengths are looked at before the content is read, so that a forged one cannot claim all memory."""
    wrong = (
        "SELECT id, length(descriptor) FROM keyframes WHERE length(descriptor) != ? "
        "OR length(descriptor) + length(thumbnail) + ifnull(length(features), 0) > ?"
    )
    file_bytes = _pragma(db, "page_count") * _pragma(db, "page_size")
    for id_, length in db.execute(wrong, (BYTES_PER_NUMBER * header.dim, file_bytes)):
        yield f"keyframe {id_}: {length} bytes for {header.dim} numbers, or more content than the file"


def _damaged_rows(db: sqlite3.Connection, table: Table, dim: int) -> Iterator[str]:
    for row in db.execute(table.select):
        problem = row_problem(table, row, dim)
        if problem:
            yield problem
