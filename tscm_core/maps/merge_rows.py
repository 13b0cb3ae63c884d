"""The rows of several maps, copied into one: sessions get names and numbers of their own, keyframes other ids."""

from __future__ import annotations

import sqlite3
import zlib
from collections import Counter
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
from tscm_core.recognition.records import Keyframe, Loop

_SESSION = KEYFRAMES.columns.split(", ").index("session")


@dataclass(frozen=True, slots=True)
class MergedSession:
    """One drive of the merged map: which map it is from, its name there and here, its keyframes, their ids here.

    ``first_id`` and ``last_id`` are 0 where it has no keyframes.
    """

    source: Path
    was: str
    name: str
    keyframes: int
    first_id: int
    last_id: int


class RowMerger:
    """Copies maps into an empty map file, one after the other.

    The first map keeps its ids; those of each other one are all larger by one number.

    Attributes:
        sessions: what was copied.
        carried: loops that were copied.
        last_ids: the last id of each map that has keyframes.
        notes: what a person should know, one sentence each.
    """

    def __init__(self, db: sqlite3.Connection, infos: Sequence[MapInfo], step: Callable[[], None]) -> None:
        self.sessions: list[MergedSession] = []
        self.carried = 0
        self.last_ids: list[int] = []
        self.notes: list[str] = []
        self._db = db
        self._step = step
        self._drives = _Drives(infos)

    def copy(self, info: MapInfo) -> None:
        """Copy one map after verifying all of it.

        Raises:
            MapFileError: it cannot be trusted, or holds a drive that was copied already.
        """
        holder = lock_holder(info.path)
        with MapReader(info.path, info.model_id, info.dim) as reader:
            if holder is not None:
                self.notes.append(
                    f"map {info.path} is being driven on by process {holder}: the {reader.count} keyframes that it "
                    f"had when it was opened are taken, and none that came later"
                )
            begun = len(self.sessions)
            numbers, started_ns = self._begin_sessions(reader)
            offset = self._copy_keyframes(reader, numbers, started_ns)
            self._copy_loops(reader, offset)
        for session in self.sessions[begun:]:
            if session.name != session.was:
                self.notes.append(
                    f"session {session.was} of map {info.path} is called {session.name} here: the name was taken"
                )

    def _begin_sessions(self, reader: MapReader) -> tuple[dict[int, int], dict[int, int]]:
        """By number there: the number of each session here, and when it began."""
        numbers, starts = dict[int, int](), dict[int, int]()
        for _, number, was, started_ns in _rows(reader, SESSIONS):
            name = unused_session(was, {session.name for session in self.sessions})
            self.sessions.append(MergedSession(reader.path, was, name, 0, 0, 0))
            numbers[number], starts[number] = len(self.sessions), started_ns
            self._db.execute(SESSIONS.insert, session_row(len(self.sessions), name, started_ns))
        return numbers, starts

    def _copy_keyframes(self, reader: MapReader, numbers: dict[int, int], starts: dict[int, int]) -> int:
        """Copy the keyframes of a map; gives by how much larger their ids are."""
        offset: int | None = None
        names = {number: self.sessions[here - 1].name for number, here in numbers.items()}
        for row in _rows(reader, KEYFRAMES):
            keyframe = row_keyframe(row, names, reader.header.dim)
            if offset is None:
                offset = self.last_ids[-1] + 1 - keyframe.id if self.last_ids else 0
                self.last_ids.append(0)
            number = row[_SESSION]
            self._drives.refuse_known(reader.path, starts[number], keyframe)
            moved = replace(keyframe, id=keyframe.id + offset)
            if moved.id >= MOST_ID:
                raise MapFileError(reader.path, f"would get ids beyond {MOST_ID - 1} after those of the maps before it")
            self._count(numbers[number] - 1, moved.id)
            self._db.execute(KEYFRAMES.insert, keyframe_row(moved, numbers[number], reader.header.dim))
            self._step()
        return offset or 0

    def _count(self, at: int, id_: int) -> None:
        session = self.sessions[at]
        first = session.first_id if session.keyframes else id_
        self.sessions[at] = replace(session, keyframes=session.keyframes + 1, first_id=first, last_id=id_)
        self.last_ids[-1] = id_

    def _copy_loops(self, reader: MapReader, offset: int) -> None:
        for loop in reader.loops():
            match = replace(loop.candidate, keyframe_id=loop.candidate.keyframe_id + offset)
            self._db.execute(LOOPS.insert, loop_row(Loop(loop.keyframe_id + offset, match)))
            self.carried += 1


def _rows(reader: MapReader, table: Table) -> Iterator[Row]:
    """Rows with their checksums compared; what goes wrong is about the map that is read, not the one that is written.

    An error of who writes is not raised in here, and so not taken for one of reading.
    """
    with map_errors(reader.path, "cannot be read"):
        yield from reader.rows(table)


class _Drives:
    """Tells when one drive is in two maps, as when one is an earlier state of the other.

    Its places would be there twice, and each would be a loop with itself. A session may have got another name in a
    merged map, so that the moment when it began tells; the keyframes of sessions that began together are compared.
    """

    def __init__(self, infos: Sequence[MapInfo]) -> None:
        starts = Counter(start for info in infos for start in {session.started_ns for session in info.sessions})
        self._shared = {start for start, count in starts.items() if count > 1}
        self._known: dict[tuple[int, int, int], tuple[Path, str]] = {}

    def refuse_known(self, path: Path, started_ns: int, keyframe: Keyframe) -> None:
        """Remember a keyframe.

        Raises:
            MapFileError: it was in another map too.
        """
        if started_ns not in self._shared:
            return
        key = started_ns, keyframe.stamp_ns, zlib.crc32(keyframe.descriptor.tobytes())
        before, session = self._known.setdefault(key, (path, keyframe.session))
        if before != path:
            raise MapFileError(
                path,
                f"holds keyframes of a drive that is in {before} too, there called {session}: merge only maps without "
                f"a drive in common, of two states of one map the later",
            )
