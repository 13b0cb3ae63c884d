"""The rows of several maps, copied into one: sessions get names and numbers of their own, keyframes other ids."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.map_files import lock_holder, map_errors
from tscm_core.maps.map_format import (
    KEYFRAMES,
    LOOPS,
    SESSIONS,
    Row,
    Table,
    keyframe_row,
    loop_row,
    row_keyframe,
    session_row,
    unused_session,
)
from tscm_core.maps.map_reader import MapInfo, MapReader
from tscm_core.maps.map_values import MOST_ID
from tscm_core.maps.shared_drives import Drive, SharedDrives
from tscm_core.recognition.records import Keyframe, Loop

_SESSION = KEYFRAMES.columns.split(", ").index("session")


@dataclass(frozen=True, slots=True)
class MergedSession:
    """One drive of the merged map: which map it is from, its name there and here, its keyframes, their ids here.

    ``source`` is the first map that has it. ``first_id`` and ``last_id`` are 0 where it has no keyframes.
    """

    source: Path
    was: str
    name: str
    keyframes: int
    first_id: int
    last_id: int


class RowMerger:
    """Copies maps into an empty map file, one after the other.

    The first map keeps its ids; those of each other one are all larger by one number. Of a drive that a map before has
    too, only the keyframes are copied that are not there: where its other keyframes have their ids, they keep theirs.

    Attributes:
        sessions: what was copied.
        names: of the sessions.
        carried: loops that were copied.
        last_ids: the last id of each map of which keyframes were copied behind those of the maps before.
        notes: what a person should know, one sentence each.
    """

    def __init__(self, db: sqlite3.Connection, infos: Sequence[MapInfo], step: Callable[[], None]) -> None:
        self.sessions: list[MergedSession] = []
        self.names: set[str] = set()
        self.carried = 0
        self.last_ids: list[int] = []
        self.notes: list[str] = []
        self._db = db
        self._step = step
        self._drives = SharedDrives(infos)

    def copy(self, info: MapInfo) -> None:
        """Copy one map after verifying all of it.

        Raises:
            MapFileError: it cannot be trusted, or holds a drive that was copied already, but not as it is there.
        """
        holder = lock_holder(info.path)
        with MapReader(info.path, info.model_id, info.dim) as reader:
            if holder is not None:
                self.notes.append(
                    f"map {info.path} is being driven on by process {holder}: the {reader.count} keyframes that it "
                    f"had when it was opened are taken, and none that came later"
                )
            _OneMap(self, reader, self._db, self._drives, self._step).copy()


class _OneMap:
    """Copies the rows of one map.

    By its numbers of sessions: ``numbers`` of the merged map, ``starts``, and ``drives`` that other maps may have too;
    ``again`` are those of them that were copied before. ``ids`` are ids in the merged map by those here.
    """

    def __init__(
        self,
        merger: RowMerger,
        reader: MapReader,
        db: sqlite3.Connection,
        drives: SharedDrives,
        step: Callable[[], None],
    ) -> None:
        self._to, self._reader, self._db, self._known, self._step = merger, reader, db, drives, step
        self._numbers, self._starts = dict[int, int](), dict[int, int]()
        self._drives, self._again = dict[int, Drive](), set[int]()
        self._ids = dict[int, int]()
        self._offset: int | None = None
        self._before = max(merger.last_ids, default=0)

    def copy(self) -> None:
        for _, number, was, started_ns in _rows(self._reader, SESSIONS):
            self._starts[number] = started_ns
            drive = self._known.drive_of(self._reader.path, was, started_ns)
            if drive is not None:
                self._drives[number] = drive
            if drive is not None and drive.number:
                self._numbers[number] = drive.number
                self._again.add(number)
            else:
                self._begin(number, was, started_ns)
        self._copy_keyframes()
        self._copy_loops()

    def _begin(self, number: int, was: str, started_ns: int) -> None:
        sessions = self._to.sessions
        name = unused_session(was, self._to.names)
        self._to.names.add(name)
        sessions.append(MergedSession(self._reader.path, was, name, 0, 0, 0))
        self._numbers[number] = len(sessions)
        self._db.execute(SESSIONS.insert, session_row(len(sessions), name, started_ns))
        if number in self._drives:
            self._drives[number].number = len(sessions)
        if name != was:
            self._to.notes.append(f"session {was} of map {self._reader.path} is called {name} here: the name was taken")

    def _copy_keyframes(self) -> None:
        names = {number: self._to.sessions[here - 1].name for number, here in self._numbers.items()}
        once, added = 0, 0
        for row in _rows(self._reader, KEYFRAMES):
            number, drive = row[_SESSION], self._drives.get(row[_SESSION])
            keyframe = row_keyframe(row, names, self._reader.header.dim)
            if drive is not None:
                drive.require_same(self._reader.path, keyframe.id, row[0])
            if drive is not None and keyframe.id in drive.ids:
                self._ids[keyframe.id] = drive.ids[keyframe.id]
                once += 1
            else:
                self._known.refuse_known(self._reader.path, self._starts[number], keyframe)
                self._insert(keyframe, number, row[0])
                added += number in self._again
            self._step()
        if self._again:
            names_again = ", ".join(sorted({names[number] for number in self._again}))
            self._to.notes.append(
                f"map {self._reader.path} shares drives with a map before it ({names_again}): {once} keyframes of them "
                f"are taken once, {added} that only it has are added"
            )

    def _insert(self, keyframe: Keyframe, number: int, crc: int) -> None:
        drive = self._drives.get(number)
        id_ = self._id_for(keyframe.id, drive)
        here = self._numbers[number]
        self._db.execute(KEYFRAMES.insert, keyframe_row(replace(keyframe, id=id_), here, self._reader.header.dim))
        self._ids[keyframe.id] = id_
        if drive is not None:
            drive.take(self._reader.path, keyframe.id, crc, id_)
        session = self._to.sessions[here - 1]
        first = min(session.first_id, id_) if session.keyframes else id_
        self._to.sessions[here - 1] = replace(
            session, keyframes=session.keyframes + 1, first_id=first, last_id=max(session.last_id, id_)
        )

    def _id_for(self, id_: int, drive: Drive | None) -> int:
        here = drive.place_of(id_) if drive is not None else None
        if here is not None and self._is_free(here):
            return here
        if self._offset is None:
            first = drive.room_from(id_) if drive is not None else id_
            offset = self._before + 1 - first if self._before else 0
            self._offset = max(0, offset) if self._again else offset
            self._to.last_ids.append(0)
        moved = id_ + self._offset
        if moved >= MOST_ID:
            raise MapFileError(
                self._reader.path, f"would get ids beyond {MOST_ID - 1} after those of the maps before it"
            )
        self._to.last_ids[-1] = moved
        return moved

    def _is_free(self, id_: int) -> bool:
        taken = self._db.execute("SELECT 1 FROM keyframes WHERE id = ?", (id_,)).fetchone()
        return id_ <= self._before and taken is None

    def _copy_loops(self) -> None:
        for loop in self._reader.loops():
            id_, match_id = self._ids[loop.keyframe_id], self._ids[loop.candidate.keyframe_id]
            pair = "SELECT 1 FROM loops WHERE keyframe_id = ? AND match_id = ?"
            if self._again and self._db.execute(pair, (id_, match_id)).fetchone():
                continue
            self._db.execute(LOOPS.insert, loop_row(Loop(id_, replace(loop.candidate, keyframe_id=match_id))))
            self._to.carried += 1


def _rows(reader: MapReader, table: Table) -> Iterator[Row]:
    """Rows with their checksums compared; what goes wrong is about the map that is read, not the one that is written.

    An error of who writes is not raised in here, and so not taken for one of reading.
    """
    with map_errors(reader.path, "cannot be read"):
        yield from reader.rows(table)
