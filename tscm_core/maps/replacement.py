"""What takes the place of a whole map: made ready in one long transaction, committed in an instant."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tscm_core.errors import MapFileError
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, SESSIONS, TABLES, Row, Table
from tscm_core.maps.map_reader import MapReader, read_keyframes, read_loops
from tscm_core.maps.map_rows import Counts, counted, insert_session
from tscm_core.recognition.records import Keyframe, Loop

Item = TypeVar("Item")
Use = Callable[[], contextlib.AbstractContextManager[sqlite3.Connection]]
"""Gives the writing connection of a map that is open, for a short while and to one thread at a time."""

_ROWS_AT_ONCE = 16
"""So many rows are moved while others wait for the connection."""


class Replacement:
    """What a map will hold, once it is committed. Until then, everybody else sees what it held before.

    Attributes:
        count: how many keyframes it will have.
        newest_session: name of the session that was begun last; empty if there is none.
        committed: whether :meth:`commit` was called and has worked.
    """

    def __init__(self, path: Path, dim: int, use: Use, committed: Callable[[Counts], None]) -> None:
        """Use ``MapStore.replacing`` or ``MapStore.clearing``."""
        self.committed = False
        self._path, self._dim, self._use, self._tell = path, dim, use, committed
        self._counts = Counts(0, 1, {})

    @property
    def count(self) -> int:
        """How many keyframes it will have."""
        return self._counts.keyframes

    @property
    def newest_session(self) -> str:
        """Name of the session that was begun last; empty if there is none."""
        return self._counts.newest_session

    @property
    def session_names(self) -> frozenset[str]:
        """Names of the sessions that it will have."""
        return frozenset(self._counts.sessions)

    def keyframes(self) -> Iterator[Keyframe]:
        """All keyframes that it will have, in the order of their ids.

        Raises:
            MapFileError: they cannot be read, the map was closed meanwhile, or this was committed or left.
        """
        return self._each(lambda db: read_keyframes(db, self._dim))

    def loops(self) -> Iterator[Loop]:
        """All loops that it will have, in the order of their keyframes and ranks; raises as :meth:`keyframes`."""
        return self._each(read_loops)

    def commit(self) -> int:
        """Make it the map; gives its number of keyframes. Takes no longer than storing one keyframe.

        Raises:
            MapFileError: the disk is full, or the map was closed meanwhile; the map is what it was before.
        """
        with self._using() as db:
            db.execute("COMMIT")
            self.committed = True
            self._tell(self._counts)
            return self.count

    def fill(self, source: MapReader | None, session: str) -> None:
        """Put the rows of ``source`` in the place of all that there are, and begin ``session`` if it has a name."""
        if source is not None:
            self._exchange(KEYFRAMES, source.rows(KEYFRAMES))
            self._exchange(LOOPS, source.rows(LOOPS))
        with self._using() as db:
            for table in (SESSIONS,) if source is not None else reversed(TABLES):
                db.execute(f"DELETE FROM {table.name}")
            if source is not None:
                db.executemany(SESSIONS.insert, source.rows(SESSIONS))
                db.execute("UPDATE meta SET value = ? WHERE key = 'created'", (source.header.created,))
            insert_session(db, session)
            self._counts = counted(db)

    def _exchange(self, table: Table, rows: Iterator[Row]) -> None:
        """New rows for old ones, in the order of both, so that each page is written once.

        Were all old rows deleted first, the list of free pages would be written to the log, and written over there as
        it is used up: at the commit SQLite would have to read all of the log again, to mend its checksums.
        """
        width = table.order.count(",") + 1
        key, marks = f"({table.order})", f"({', '.join('?' * width)})"
        last: Row = (0,) * width
        while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
            before, last = last, some[-1][1 : 1 + width]
            with self._using() as db:
                db.execute(f"DELETE FROM {table.name} WHERE {key} > {marks} AND {key} <= {marks}", (*before, *last))
                db.executemany(table.insert, some)
        with self._using() as db:
            db.execute(f"DELETE FROM {table.name} WHERE {key} > {marks}", last)

    def _each(self, read: Callable[[sqlite3.Connection], Iterator[Item]]) -> Iterator[Item]:
        with self._using() as db:
            items = read(db)
        while True:
            with self._using():
                some = list(itertools.islice(items, _ROWS_AT_ONCE))
            if not some:
                return
            yield from some

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._use() as db:
            if self.committed or not db.in_transaction:
                raise MapFileError(self._path, "has been replaced, or is no longer to be: begin again")
            yield db
