"""Maps at rest: reading a map file without ever writing to it or beside it."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tscm_core.errors import DamagedMapError, MapFileError
from tscm_core.maps.foreign_log import refuse_foreign_log
from tscm_core.maps.found_rows import naming_repair
from tscm_core.maps.map_check import find_damage, read_header, row_problem, verify
from tscm_core.maps.map_files import beside, has_content, lock_holder, map_errors, real_path, require_file, snapshot
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, POSE_COLUMNS, Row, Table, row_keyframe, row_loop
from tscm_core.maps.map_paths import refuse_trap
from tscm_core.maps.write_ahead_log import read_log
from tscm_core.recognition.records import Keyframe, Loop

_MAX_PROBLEMS = 1000
_SELECT_LOOPS = (
    f"SELECT {', '.join('l.' + name for name in LOOPS.columns.split(', '))}, k.session, k.stamp_ns, "
    f"{', '.join('k.' + name for name in POSE_COLUMNS.split(', '))} "
    "FROM loops l JOIN keyframes k ON k.id = l.match_id ORDER BY l.keyframe_id, l.rank"
)


@dataclass(frozen=True, slots=True)
class Session:
    """One drive of the map: its name, when it began, how many keyframes it has, and their highest id or 0."""

    name: str
    started_ns: int
    keyframes: int
    last_id: int


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What ``tscm map info`` tells about a map file.

    ``ids_gone`` counts the ids up to the highest one that no keyframe has: it was given up, or never stored.
    """

    path: Path
    format: int
    model_id: str
    dim: int
    created: str
    writer: str
    keyframes: int
    keyframes_with_pose: int
    ids_gone: int
    loops: int
    sessions: tuple[Session, ...]
    bytes: int


class MapReader:
    """A verified map file, open for reading; a context manager. It stays the same while it is open."""

    def __init__(self, path: Path | str, model_id: str | None = None, dim: int | None = None) -> None:
        """Open the map at ``path`` and verify all of it. None agrees with every model.

        Raises:
            MapFileError: the file is missing, damaged, too new or no map.
            ModelMismatchError: another model than ``model_id`` made its descriptors.
        """
        self.path = real_path(path)
        self._stack = contextlib.ExitStack()
        with naming_repair(self.path, "cannot be read"), contextlib.ExitStack() as stack:
            self._db = _enter(stack, self.path)
            self.header = verify(self._db, self.path, model_id, dim)
            if damage := _log_damage(self._db, self.path):
                raise DamagedMapError(self.path, f"is damaged ({damage})")
            self._stack = stack.pop_all()

    def __enter__(self) -> MapReader:
        """The reader itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._stack.close()

    @property
    def count(self) -> int:
        """How many keyframes the map has."""
        with map_errors(self.path, "cannot be read"):
            return _scalar(self._db, "SELECT count(*) FROM keyframes")

    def sessions(self) -> tuple[Session, ...]:
        """The drives of the map, in order."""
        with map_errors(self.path, "cannot be read"):
            return read_sessions(self._db)

    def keyframes(self) -> Iterator[Keyframe]:
        """All keyframes in the order of their ids."""
        with map_errors(self.path, "cannot be read"):
            yield from read_keyframes(self._db, self.header.dim)

    def loops(self) -> Iterator[Loop]:
        """All loops in the order of their keyframes and ranks."""
        with map_errors(self.path, "cannot be read"):
            yield from read_loops(self._db)

    def rows(self, table: Table) -> Iterator[Row]:
        """The rows of ``table`` as they stand in the file, each with its checksum compared once more."""
        for row in self._db.execute(table.select):
            problem = row_problem(table, row, self.header.dim)
            if problem:
                raise MapFileError(self.path, f"changed while it was read ({problem}): try again")
            yield row


def read_sessions(db: sqlite3.Connection) -> tuple[Session, ...]:
    """The sessions of an open map, in order."""
    # once, however many sessions
    counts = "SELECT session, count(*) AS keyframes, max(id) AS last_id FROM keyframes GROUP BY session"
    rows = db.execute(
        f"SELECT name, started_ns, ifnull(keyframes, 0), ifnull(last_id, 0) FROM sessions LEFT JOIN ({counts}) "
        "ON session = number ORDER BY number"
    )
    return tuple(Session(*row) for row in rows)


def session_names(db: sqlite3.Connection) -> dict[int, str]:
    """The names of the sessions by number."""
    return dict(db.execute("SELECT number, name FROM sessions"))


def read_keyframes(db: sqlite3.Connection, dim: int) -> Iterator[Keyframe]:
    """The keyframes of an open and verified map in the order of their ids."""
    sessions = session_names(db)
    for row in db.execute(KEYFRAMES.select):
        yield row_keyframe(row, sessions, dim)


def read_loops(db: sqlite3.Connection) -> Iterator[Loop]:
    """The loops of an open and verified map in the order of their keyframes and ranks."""
    sessions = session_names(db)
    for row in db.execute(_SELECT_LOOPS):
        yield row_loop(row, sessions)


def read_checksums(path: Path) -> dict[tuple[str, int], dict[int, int]]:
    """The checksums of the keyframes by their ids, for each session that has any by its name and start; not verified.

    Raises:
        MapFileError: they cannot be read.
    """
    found: dict[tuple[str, int], dict[int, int]] = {}
    rows = "SELECT name, started_ns, id, keyframes.crc FROM keyframes JOIN sessions ON session = number"
    with naming_repair(path, "cannot be read"), contextlib.ExitStack() as stack:
        for name, started_ns, id_, crc in _enter(stack, path).execute(rows):
            found.setdefault((name, started_ns), {})[id_] = crc
    return found


def inspect(path: Path | str) -> MapInfo:
    """What is in a map file. Only its structure is verified, so that this is quick; see :func:`check`.

    Raises:
        MapFileError: the file is missing, too new or no map, or is found damaged on the way.
    """
    path = real_path(path)
    with naming_repair(path, "cannot be read"), contextlib.ExitStack() as stack:
        db = _enter(stack, path)
        header = read_header(db, path)
        return MapInfo(
            path=path,
            format=header.format,
            model_id=header.model_id,
            dim=header.dim,
            created=header.created,
            writer=header.writer,
            keyframes=_scalar(db, "SELECT count(*) FROM keyframes"),
            keyframes_with_pose=_scalar(db, "SELECT count(px) FROM keyframes"),
            ids_gone=_scalar(db, "SELECT ifnull(max(id), 0) - count(*) FROM keyframes"),
            loops=_scalar(db, "SELECT count(*) FROM loops"),
            sessions=read_sessions(db),
            bytes=_file_bytes(path),
        )


def check(path: Path | str) -> list[str]:
    """Everything wrong with a map file, one sentence each, a thousand at most; empty if it can be trusted."""
    path = real_path(path)
    problems: list[str] = []
    try:
        with naming_repair(path, "cannot be read"), contextlib.ExitStack() as stack:
            db = _enter(stack, path)
            damage = find_damage(db, read_header(db, path))
            problems.extend(itertools.islice(damage, _MAX_PROBLEMS))
            problems += [log] if (log := _log_damage(db, path)) else []
    except MapFileError as error:
        problems.append(
            error.damage
            if isinstance(error, DamagedMapError) and error.repairable
            else str(error).removeprefix(f"map {path}: ")
        )
    return problems


def _enter(stack: contextlib.ExitStack, path: Path) -> sqlite3.Connection:
    require_file(path)
    refuse_trap(path)
    return stack.enter_context(snapshot(path))


def _log_damage(db: sqlite3.Connection, path: Path) -> str:
    """What SQLite left out of a log that nobody is writing to; empty when it is nothing.

    Raises:
        MapFileError: the log is that of another map.
    """
    if lock_holder(path) is not None:
        return ""
    log = read_log(path)
    refuse_foreign_log(db, path, log)
    return log.damage


def _file_bytes(path: Path) -> int:
    log = beside(path, "-wal")
    return path.stat().st_size + (log.stat().st_size if has_content(log) else 0)


def _scalar(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])
