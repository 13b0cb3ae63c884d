"""Bringing back from a damaged map what can be: every session, keyframe and loop whose own checksum is right."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tscm_core.errors import MapFileError, MapInUseError, repair_command
from tscm_core.maps.foreign_log import FOREIGN
from tscm_core.maps.found_rows import Meta, as_row, can_be_repaired, find_meta, is_broken, newer_format
from tscm_core.maps.map_copy import seal, write_beside, write_empty
from tscm_core.maps.map_files import beside, connect, lock_holder, map_errors, real_path, require_file, snapshot
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, SESSIONS, Table, session_row
from tscm_core.maps.map_pages import FoundRow, MapPages
from tscm_core.maps.map_paths import refuse_trap
from tscm_core.maps.map_reader import check

REPAIRED_SUFFIX = ".repaired"
_ROWS_OF_ONE_TRANSACTION = 500


@dataclass(frozen=True, slots=True)
class Repaired:
    """What came of a repair.

    ``path`` is the map that can be used: the new one, or the given one if that is whole, and then ``backup``, which
    is the damaged file, is ``None``. Lost are those that SQLite still counts, or, where it cannot count any more, those
    that are missing from the row of ids: some of them may have been given up before. If ``counted`` is false, more may
    be lost: SQLite could not count, or the log is damaged. If the file was cut, ``pages_missing`` of the ``pages`` that
    it should have are gone: what stood there cannot be counted.
    """

    path: Path
    backup: Path | None
    keyframes_kept: int
    keyframes_lost: int
    loops_kept: int
    loops_lost: int
    pages: int = 0
    pages_missing: int = 0
    counted: bool = True


def repair(path: Path, out: Path | None = None) -> Repaired:
    """Write what is whole in the damaged map at ``path`` to a new map at ``out``, by default ``<path>.repaired``.

    The damaged file is never written to. If it turns out to be whole, nothing is written at all. Keyframes whose
    session is lost get one that is called ``recovered``.

    Raises:
        MapFileError: nothing can be brought back, it is of a newer format, or ``out`` exists or cannot be written.
        MapInUseError: a process is writing to the map.
    """
    path = real_path(path)
    refuse_trap(path)
    require_file(path)
    with map_errors(path, "cannot be read"):
        holder = lock_holder(path)
    if holder is not None:
        raise MapInUseError(path, f"is in use by process {holder}: stop that process first")
    problems = check(path)
    foreign = next((problem for problem in problems if problem.startswith(FOREIGN)), None)
    if foreign:
        raise MapFileError(path, foreign)
    if not problems:
        return Repaired(path, None, *_counts(path))
    target = real_path(out or beside(path, REPAIRED_SUFFIX))
    if target.exists():
        raise MapFileError(target, "exists already: choose another name for the repaired map")
    with map_errors(path, "cannot be repaired"), MapPages(path) as pages:
        meta = _meta(pages, path)
        with map_errors(target, "cannot be written"):
            kept = write_beside(target, lambda unfinished: _Rescue(unfinished, meta, path).fill(pages))
        missing, log_damage = pages.missing(), pages.log_damage
    done = Repaired(target, path, kept.keyframes, 0, kept.loops, 0, pages.stated if missing else 0, missing)
    return _judged(done, path, kept, sees_all=not log_damage)


def repair_advice(path: Path, problems: Sequence[str]) -> str:
    """How to bring back a part of a map of which ``check`` says these problems, as a sentence; empty if none is known.

    Never waits, whatever the file is; empty as well where it would take a long look.
    """
    if any(problem.startswith(FOREIGN) for problem in problems) or not can_be_repaired(path):
        return ""
    there = beside(path, REPAIRED_SUFFIX)
    if there.exists():
        return f"{there}, where a repair would write what is whole in it, is there already: use that, or give --out"
    return repair_command(path)


@dataclass(frozen=True, slots=True)
class _Kept:
    keyframes: int
    highest: int
    loops: int
    loops_found: int


def _meta(pages: MapPages, path: Path) -> Meta:
    if newer := newer_format(pages):
        raise MapFileError(path, f"was written by a newer tscm (format {newer}): upgrade tscm and repair it then")
    meta = find_meta(pages)
    if meta is None:
        raise MapFileError(
            path, "cannot be repaired: which model made it stands nowhere in it, or it is no map; use another copy"
        )
    return meta


class _Rescue:
    """Fills a new map with the rows that are whole."""

    def __init__(self, unfinished: Path, meta: Meta, source: Path) -> None:
        self._path, self._meta, self._source = unfinished, meta, source
        self._loops_found = 0

    def fill(self, pages: MapPages) -> _Kept:
        """Streams all rows once; loops and keyframes stand in any order, so that what belongs together is seen last."""
        write_empty(self._path, self._meta.model_id, self._meta.dim)
        with contextlib.closing(connect(self._path, "mode=rw")) as db:
            db.execute("PRAGMA journal_mode = MEMORY")
            db.execute("PRAGMA synchronous = OFF")  # the whole file is synced afterwards
            db.execute("BEGIN")
            db.execute("UPDATE meta SET value = ? WHERE key = 'created'", (self._meta.created,))
            for number, found in enumerate(pages.rows()):
                self._keep(db, found)
                if number % _ROWS_OF_ONE_TRANSACTION == 0:
                    db.execute("COMMIT")
                    db.execute("BEGIN")
            self._join(db)
            seal(db)
            db.execute("COMMIT")
            count, highest = db.execute("SELECT count(*), ifnull(max(id), 0) FROM keyframes").fetchone()
            if not count:
                raise MapFileError(self._source, "cannot be repaired: no keyframe in it is whole; use another copy")
            loops = db.execute("SELECT count(*) FROM loops").fetchone()[0]
            return _Kept(count, highest, loops, self._loops_found)

    def _keep(self, db: sqlite3.Connection, found: FoundRow) -> None:
        table, row = as_row(found)
        if table is None or is_broken(table, row, self._meta.dim):
            return
        self._loops_found += table is LOOPS
        with contextlib.suppress(sqlite3.IntegrityError, OverflowError):
            db.execute(table.insert.replace("INSERT", "INSERT OR IGNORE", 1), row)

    def _join(self, db: sqlite3.Connection) -> None:
        """Every loop needs its two keyframes, and every keyframe a session."""
        there = "(SELECT id FROM keyframes)"
        db.execute(f"DELETE FROM loops WHERE keyframe_id NOT IN {there} OR match_id NOT IN {there}")
        names = {name for (name,) in db.execute("SELECT name FROM sessions")}
        without = "SELECT DISTINCT session FROM keyframes WHERE session NOT IN (SELECT number FROM sessions) ORDER BY 1"
        numbered = itertools.chain(["recovered"], (f"recovered-{number}" for number in itertools.count(2)))
        free = (name for name in numbered if name not in names)
        for (number,), name in zip(db.execute(without).fetchall(), free, strict=False):  # no end of names
            db.execute(SESSIONS.insert, session_row(number, name, 0))


def _counts(path: Path) -> tuple[int, int, int, int]:
    with map_errors(path, "cannot be read"), snapshot(path) as db:
        return _count(db, KEYFRAMES), 0, _count(db, LOOPS), 0


def _judged(done: Repaired, damaged: Path, kept: _Kept, *, sees_all: bool) -> Repaired:
    """With what is lost, by what SQLite still counts in the damaged map; of a damaged log it sees a part."""
    keyframes, loops = (_try(damaged, table) for table in (KEYFRAMES, LOOPS))
    keyframes_lost = (kept.highest if keyframes is None else keyframes) - kept.keyframes
    loops_lost = (kept.loops_found if loops is None else loops) - kept.loops
    counted = sees_all and keyframes is not None and loops is not None
    return replace(done, keyframes_lost=max(0, keyframes_lost), loops_lost=max(0, loops_lost), counted=counted)


def _try(path: Path, table: Table) -> int | None:
    """What SQLite counts in spite of the damage; ``None`` if it cannot."""
    # SQLite quotes the damage in its errors, and then Python cannot read them: ValueError
    with contextlib.suppress(sqlite3.Error, OSError, ValueError, MapFileError), snapshot(path) as db:
        return _count(db, table)
    return None


def _count(db: sqlite3.Connection, table: Table) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])
