"""Mutations that know what a map file is: cells, rows, schema and checksums, so that the fuzz gets past the checks."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tscm_core.maps.map_format import TABLES, Table, digest, row_crc

CANARY = "canary.db"
"""What SQL in a map would make if it ran."""

_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1,
    -(2**63), -(2**31), 0.0, -0.0, 0.5, 1.0, 1e-320, 1e-300, 1e-160, 1e12, 1e155, 1e200, 1e308, -1.7e308,
    float("inf"), float("-inf"), None,
)  # fmt: skip
_WORDS = ("", "a", "odom", "\0", "x\0y", "'; DROP TABLE meta; --", "../../x", "\u202e", "[red]", "é" * 300)
_STATEMENTS = (
    "CREATE TRIGGER t AFTER INSERT ON keyframes BEGIN INSERT INTO meta VALUES ('a', 'b'); END",
    "CREATE TRIGGER meta_t AFTER UPDATE ON meta BEGIN DELETE FROM keyframes; END",
    "CREATE VIEW v AS SELECT load_extension('{canary}')",
    "CREATE VIRTUAL TABLE v USING fts5(a)",
    "CREATE TABLE other (a)",
    "CREATE INDEX i ON keyframes (session)",
    "CREATE INDEX j ON keyframes (abs(id)) WHERE id > 0",
    "ALTER TABLE loops ADD COLUMN extra DEFAULT (randomblob(1000))",
    "ALTER TABLE keyframes RENAME COLUMN thumbnail TO picture",
    "DROP TABLE loops",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = -1",
    "PRAGMA application_id = 1",
    "PRAGMA journal_mode = WAL",
    "VACUUM",
    "ANALYZE",
    "DELETE FROM sessions",
    "DELETE FROM meta WHERE key = 'digest'",
    "INSERT INTO meta VALUES ('more', 'x')",
    "UPDATE meta SET value = '99999' WHERE key = 'dim'",
    "UPDATE meta SET value = '\uff11\uff12' WHERE key = 'dim'",
    "UPDATE meta SET value = x'ff' WHERE key = 'writer'",
    "UPDATE sqlite_master SET rootpage = (SELECT max(rootpage) FROM sqlite_master) WHERE name = 'meta'",
    "UPDATE sqlite_master SET rootpage = 99999999 WHERE name = 'keyframes'",
    "UPDATE sqlite_master SET type = 'view', sql = 'CREATE VIEW keyframes AS SELECT load_extension(''{canary}'')', "
    "rootpage = 0 WHERE name = 'keyframes'",
    "UPDATE sqlite_master SET sql = replace(sql, 'CHECK', 'CHECK (load_extension(''x'')) CHECK') WHERE name = 'loops'",
    "UPDATE sqlite_master SET sql = sql || ' STRICT' WHERE name = 'sessions'",
    "UPDATE sqlite_master SET sql = sql || char(10) || ' -- a' WHERE name = 'sessions'",
    "UPDATE sqlite_master SET sql = x'ff00' WHERE name = 'sessions'",
    "UPDATE sqlite_master SET name = 'sqlite_stat1' WHERE name = 'meta'",
    "INSERT INTO sqlite_master SELECT * FROM sqlite_master WHERE name = 'meta'",
)


class MapMutator:
    """Makes one map of another, in a folder of its own."""

    def __init__(self, folder: Path, seeds: list[bytes]) -> None:
        self._path, self._seeds = folder / "mutated.db", seeds
        self._canary = folder / CANARY

    def __call__(self, data: bytes, number: int) -> bytes:
        """A mutant of ``data``, or of a seed where that is no database any more; ``number`` decides which."""
        chance = random.Random(number)
        for source in (data, chance.choice(self._seeds)):
            self._path.write_bytes(source)
            with contextlib.suppress(sqlite3.Error, ValueError, OverflowError, LookupError, TypeError, struct.error):
                self._change(chance)
                return self._path.read_bytes()
        return data

    def _change(self, chance: random.Random) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as db:
            for pragma in ("writable_schema = ON", "ignore_check_constraints = ON", "synchronous = OFF"):
                db.execute(f"PRAGMA {pragma}")
            db.execute("PRAGMA journal_mode = OFF")
            step = chance.choices((_cell, _row, self._schema, _features, _geometry), (6, 2, 2, 4, 4))[0]
            step(db, chance)
            if chance.random() < 0.9:
                _seal(db)
            if chance.random() < 0.9:
                db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (digest(db),))

    def _schema(self, db: sqlite3.Connection, chance: random.Random) -> None:
        db.execute(chance.choice(_STATEMENTS).replace("{canary}", str(self._canary)))


def _cell(db: sqlite3.Connection, chance: random.Random) -> None:
    table, rows = _picked(db, chance)
    column = chance.choice(table.columns.split(", ")[1:])
    value: Any = chance.choice(_NUMBERS)
    old = db.execute(f"SELECT {column} FROM {table.name}").fetchone()[0]
    if isinstance(old, bytes):
        value = _bent(old, chance)
    elif isinstance(old, str) or chance.random() < 0.05:
        value = chance.choice(_WORDS)
    elif isinstance(old, float) and isinstance(value, int):
        value = float(value)
    where = dict(zip(table.order.split(", "), rows, strict=True))
    marks = " AND ".join(f"{name} = ?" for name in where)
    db.execute(f"UPDATE {table.name} SET {column} = ? WHERE {marks}", (value, *where.values()))


def _bent(old: bytes, chance: random.Random) -> bytes:
    """Flipped, cut, longer, or of half floats that are none."""
    data = bytearray(old or b"\0")
    ways: list[Callable[[], bytes]] = [
        lambda: bytes(data[: chance.randrange(len(data) + 1)]),
        lambda: bytes(data) + chance.randbytes(chance.randrange(64)),
        lambda: struct.pack("<e", float("nan")) * (len(data) // 2),
        lambda: b"",
    ]
    for _ in range(chance.randrange(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data) if chance.random() < 0.6 else chance.choice(ways)()


def _features(db: sqlite3.Connection, chance: random.Random) -> None:
    """The camera of the local features: seven numbers of which geometry makes rays."""
    rows = db.execute("SELECT id, features FROM keyframes WHERE features IS NOT NULL").fetchall()
    id_, blob = chance.choice(rows)
    data = bytearray(blob)
    at = 12 + 4 + 8 * chance.randrange(4) if chance.random() < 0.5 else chance.randrange(4, 60)
    value = chance.choice([item for item in _NUMBERS if item is not None])
    data[at : at + 8] = struct.pack("<d", float(value))
    db.execute("UPDATE keyframes SET features = ? WHERE id = ?", (bytes(data), id_))


def _geometry(db: sqlite3.Connection, chance: random.Random) -> None:
    """A number of a pose or of a loop, all of which may stand in a map that is whole if they are finite."""
    value = chance.choice([float(item) for item in _NUMBERS if item is not None])
    if chance.random() < 0.4:
        table, column = "keyframes", chance.choice(("px", "py", "pz", "qx", "qy", "qz", "qw", "travelled_m"))
    elif chance.random() < 0.6:
        table, column = "loops", chance.choice(("tx", "ty", "tz", "qx", "qy", "qz", "qw", "similarity", "ratio"))
    else:
        for id_, blob in db.execute("SELECT keyframe_id, covariance FROM loops WHERE covariance NOT NULL").fetchall():
            numbers = [*struct.unpack("<36d", blob)]
            for at in chance.sample(range(36), chance.choice((1, 2, 36))):
                numbers[at] = value * chance.choice((1.0, 1.0, -1.0))
            db.execute("UPDATE loops SET covariance = ? WHERE keyframe_id = ?", (struct.pack("<36d", *numbers), id_))
        return
    where = chance.choice(("", " WHERE rowid % 2" if table == "keyframes" else ""))
    db.execute(f"UPDATE {table} SET {column} = ? {where}", (value,))


def _row(db: sqlite3.Connection, chance: random.Random) -> None:
    table, key = _picked(db, chance)
    names = table.order.split(", ")
    where = " AND ".join(f"{name} = ?" for name in names)
    if chance.random() < 0.5:
        db.execute(f"DELETE FROM {table.name} WHERE {where}", key)
        return
    row = list(db.execute(f"SELECT {table.columns} FROM {table.name} WHERE {where}", key).fetchone())
    row[1] = chance.choice([item for item in _NUMBERS if isinstance(item, int)])
    db.execute(table.insert, row)


def _picked(db: sqlite3.Connection, chance: random.Random) -> tuple[Table, tuple[Any, ...]]:
    table = chance.choice(TABLES)
    keys = db.execute(f"SELECT {table.order} FROM {table.name} LIMIT 20").fetchall()
    return table, chance.choice(keys or [(0,) * len(table.order.split(", "))])


def _seal(db: sqlite3.Connection) -> None:
    """Give every row the checksum that it should have."""
    for table in TABLES:
        names = table.order.split(", ")
        at = [table.columns.split(", ").index(name) for name in names]
        where = " AND ".join(f"{name} = ?" for name in names)
        for row in db.execute(table.select).fetchall():
            key = [row[number] for number in at]
            db.execute(f"UPDATE {table.name} SET crc = ? WHERE {where}", (row_crc(row[1:]), *key))
