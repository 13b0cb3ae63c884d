"""What is done to the rows of a live map inside a transaction that somebody else begins and ends."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_files import transaction
from tscm_core.maps.map_format import (
    KEYFRAMES,
    LOOPS,
    SESSIONS,
    keyframe_row,
    loop_row,
    session_row,
    unused_session,
)
from tscm_core.maps.map_reader import session_names
from tscm_core.recognition.records import Keyframe, Loop


@dataclass(frozen=True, slots=True)
class Counts:
    """How many keyframes there are, the id for the next one, and the numbers of the sessions by name."""

    keyframes: int
    next_id: int
    sessions: dict[str, int]

    @property
    def newest_session(self) -> str:
        """Name of the session that was begun last; empty if there is none."""
        return max(self.sessions, key=lambda name: self.sessions[name], default="")


def counted(db: sqlite3.Connection) -> Counts:
    """The counts of an open map."""
    counts = "SELECT count(*), ifnull(max(id), 0) + 1 FROM keyframes"
    keyframes, next_id = db.execute(counts).fetchone()
    return Counts(keyframes, next_id, {name: number for number, name in session_names(db).items()})


def insert_session(db: sqlite3.Connection, name: str) -> None:
    """Begin a session now, under a name that is made unique by a number; nothing if ``name`` is empty."""
    if not name:
        return
    taken = session_names(db)
    unique = unused_session(name, taken.values())
    db.execute(SESSIONS.insert, session_row(max(taken, default=0) + 1, unique, time.time_ns()))


def refer_freely(db: sqlite3.Connection) -> None:
    """Before a transaction that deletes keyframes: let rows refer to some that are gone, until :func:`refer_strictly`.

    SQLite would read all loops for each deleted keyframe, since they are not sorted by the keyframe that they match.
    Who deletes makes sure that at the end no row refers to one that is gone.
    """
    db.execute("PRAGMA foreign_keys = OFF")


def refer_strictly(db: sqlite3.Connection) -> None:
    """After that transaction."""
    db.execute("PRAGMA foreign_keys = ON")


@contextlib.contextmanager
def _rewriting(db: sqlite3.Connection) -> Iterator[None]:
    refer_freely(db)
    try:
        with transaction(db):
            yield
    finally:
        refer_strictly(db)


class KeyframeRows:
    """Stores keyframes with their loops, and gives up others."""

    def __init__(self, db: sqlite3.Connection, path: Path, dim: int) -> None:
        self._db, self._path, self._dim = db, path, dim
        self._named: set[int] | None = None

    def forget(self) -> None:
        """Other loops are in the map than those that were stored here."""
        self._named = None

    def store(self, keyframe: Keyframe, session: int, loops: Sequence[Loop], drop: Sequence[int]) -> None:
        """Store a keyframe of session number ``session`` with its loops and delete those of ``drop``, or nothing.

        Raises:
            MapFileError: a loop rests on one of ``drop``, or one of them is not in the map.
        """
        ends = set(itertools.chain.from_iterable((loop.keyframe_id, loop.candidate.keyframe_id) for loop in loops))
        with _rewriting(self._db) if drop else transaction(self._db):
            if drop:  # first, so that their pages are used again at once
                self._delete(drop, ends)
            self._db.execute(KEYFRAMES.insert, keyframe_row(keyframe, session, self._dim))
            self._db.executemany(LOOPS.insert, map(loop_row, loops))
            for id_ in ends if drop else ():
                if self._db.execute("SELECT 1 FROM keyframes WHERE id = ?", (int(id_),)).fetchone() is None:
                    raise MapFileError(self._path, f"cannot take a loop that names keyframe {id_}, which it lacks")
        if self._named is not None:
            self._named |= ends

    def _delete(self, drop: Sequence[int], ends: set[int]) -> None:
        if self._named is None:
            both = self._db.execute("SELECT keyframe_id FROM loops UNION SELECT match_id FROM loops")
            self._named = {id_ for (id_,) in both}
        for id_ in drop:
            if id_ in self._named or id_ in ends:
                raise MapFileError(self._path, f"cannot give up keyframe {id_}: a loop rests on it")
            if self._db.execute("DELETE FROM keyframes WHERE id = ?", (int(id_),)).rowcount != 1:
                raise MapFileError(self._path, f"cannot give up keyframe {id_}: it is not in the map")
