"""The one connection that writes to a live map: one thread at a time, and nobody while another map takes its place."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_files import connect, map_errors
from tscm_core.maps.map_reader import MapReader
from tscm_core.maps.map_rows import Counts, refer_freely, refer_strictly
from tscm_core.maps.replacement import Replacement

_CACHE_KIB, _USUAL_CACHE_KIB = 8192, 2000
_LOG_PAGES = 1000
"""The log is moved into the map when it has so many pages: SQLite's own number."""


class Writer:
    """Gives the writing connection to whoever may have it. Every method may be called by any thread."""

    def __init__(self, path: Path, db: sqlite3.Connection, dim: int, take: Callable[[Counts], None]) -> None:
        """Take over the connection ``db``; ``take`` is told what the map holds whenever another has taken its place."""
        self._path, self._db, self._dim, self._told = path, db, dim, take
        self._writing = threading.Lock()
        self._open = True
        self._busy = ""
        """Why nobody may write just now; empty if everybody may."""

    @contextlib.contextmanager
    def closing(self) -> Iterator[bool]:
        """Nobody uses the connection any more, and inside the context it is closed; gives whether it was open."""
        with self._writing:
            was, self._open = self._open, False
            yield was

    def require_open(self) -> None:
        """Raises ``MapFileError`` if the map is closed."""
        if not self._open:
            raise MapFileError(self._path, "is closed: open it again")

    @contextlib.contextmanager
    def changing(self, failed: str) -> Iterator[sqlite3.Connection]:
        """The connection, for one short change.

        Raises:
            MapFileError: the map is closed, another one is about to take its place, or the change fails.
        """
        self._refuse_while_busy(failed)  # at once: what makes another map ready may take the lock for long
        with self._using(failed) as db:
            self._refuse_while_busy(failed)
            yield db

    @contextlib.contextmanager
    def replacing(self, why: str, failed: str, source: MapReader | None, session: str) -> Iterator[Replacement]:
        """What makes the map equal to ``source``, or empty, and begins ``session``; ``why`` is told to who is refused.

        Raises:
            MapFileError: the map is closed, another one is about to take its place, or the disk is full.
        """
        with self.changing(failed):
            self._busy = why
        replacement = Replacement(self._path, self._dim, lambda: self._using(failed), self._take)
        try:
            with map_errors(self._path, failed):
                with self._using(failed) as db:
                    _begin(db)
                replacement.fill(source, session)
                if source is not None:
                    source.close()
            yield replacement
        finally:
            self._end(replacement.committed)

    @contextlib.contextmanager
    def _using(self, failed: str) -> Iterator[sqlite3.Connection]:
        with self._writing, map_errors(self._path, failed):
            self.require_open()
            yield self._db

    def _refuse_while_busy(self, failed: str) -> None:
        if why := self._busy:
            raise MapFileError(self._path, f"{failed}: {why}; try again when that is done")

    def _take(self, counts: Counts) -> None:
        refer_strictly(self._db)
        self._told(counts)
        self._busy = ""

    def _end(self, committed: bool) -> None:
        if committed and self._open:
            _move_log(self._path)
        with self._writing:
            if not committed:
                self._busy = ""
            if self._open:
                _end(self._db, committed)


def _begin(db: sqlite3.Connection) -> None:
    # at its end all of the log would be moved into the map, while a robot waits for its next keyframe
    db.execute("PRAGMA wal_autocheckpoint = 0")
    # the upper levels of a million keyframes: written to the log twice, they would have SQLite read all of it again
    db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    refer_freely(db)
    db.execute("BEGIN IMMEDIATE")


def _end(db: sqlite3.Connection, committed: bool) -> None:
    if not committed:
        with contextlib.suppress(sqlite3.Error):  # it did not begin, or SQLite has rolled back already: a full disk
            db.execute("ROLLBACK")
        refer_strictly(db)
    db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    db.execute(f"PRAGMA cache_size = -{_USUAL_CACHE_KIB}")


def _move_log(path: Path) -> None:
    """Move the log into the map over a connection of its own, so that keyframes are stored meanwhile.

    Then cut it: left as long as it is, whoever stores the next keyframe would have to, which takes a tenth of a second.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(connect(path, "mode=rw")) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
