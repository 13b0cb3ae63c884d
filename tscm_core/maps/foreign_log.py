"""Whether the write-ahead log beside a map belongs to it: SQLite would apply that of any other map without a word.

It happens when somebody copies a map to the name of one whose process was killed. Each new map has a random number of
its own on its first page, where SQLite counts changes of the tables, and each saved copy another one; maps of older
versions lack it. But a map only ever gets new keyframes and gives up old ones, or is replaced with all its sessions,
and no id comes twice: a keyframe that stands in the file with and without the log must be the same exactly if its
session is.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_files import beside, connect
from tscm_core.maps.write_ahead_log import Log

_KEYFRAMES = "SELECT id, crc, session FROM keyframes ORDER BY id"

_NUMBER_AT = 40

FOREIGN = "has the log of another map beside it"

Brief = tuple[int, int, int]


def refuse_foreign_log(db: sqlite3.Connection, path: Path, log: Log) -> None:
    """Compare the map with its log, as ``db`` shows it, with the map at ``path`` alone.

    Raises:
        MapFileError: the log is that of another map.
    """
    if not log.pages:
        return
    with contextlib.closing(connect(path, "mode=ro&immutable=1")) as alone:
        # a process that died while it moved the log into the map left rows that are neither old nor new
        if _other_number(path, log) or (not log.checkpointing and _is_foreign(db, alone)):
            raise MapFileError(path, f"{FOREIGN}: move {path.name}-wal and {path.name}-shm elsewhere")


def _other_number(path: Path, log: Log) -> bool:
    if 1 not in log.pages:
        return False
    numbers = set()
    for file, offset in ((path, 0), (beside(path, "-wal"), log.pages[1])):
        with file.open("rb") as raw:
            raw.seek(offset + _NUMBER_AT)
            numbers.add(raw.read(4))
    return len(numbers) > 1


def _is_foreign(with_log: sqlite3.Connection, alone: sqlite3.Connection) -> bool:
    try:
        now, before = _sessions(with_log), _sessions(alone)
        for (_, crc, session), (_, old_crc, old_session) in _common(_briefs(with_log), _briefs(alone)):
            same_session = now.get(session) == before.get(old_session) and session == old_session
            if (crc == old_crc) != same_session:
                return True
    except (sqlite3.Error, ValueError, TypeError):  # a checkpoint was under way: the map alone means nothing
        return False
    return False


def _sessions(db: sqlite3.Connection) -> dict[int, int]:
    return dict(db.execute("SELECT number, crc FROM sessions"))


def _briefs(db: sqlite3.Connection) -> Iterator[Brief]:
    yield from db.execute(_KEYFRAMES)


def _common(ones: Iterator[Brief], others: Iterator[Brief]) -> Iterator[tuple[Brief, Brief]]:
    """Pairs of one id; both come in the order of their ids."""
    one, other = next(ones, None), next(others, None)
    while one is not None and other is not None:
        if one[0] == other[0]:
            yield one, other
        ahead = one[0] - other[0]
        one = next(ones, None) if ahead <= 0 else one
        other = next(others, None) if ahead >= 0 else other
