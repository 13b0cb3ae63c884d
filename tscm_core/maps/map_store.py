"""The live map: one SQLite file to which every keyframe is committed as it comes.

Loading another map is one transaction inside the live file, not an exchange of files: SQLite makes it all or
nothing even if the process is killed in the middle, the lock never changes hands, and no write-ahead log of
the old file can ever meet the new one. Until it is committed, everybody reads what was there before.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from tscm_core.errors import MapFileError
from tscm_core.maps.blob_reader import BlobReader
from tscm_core.maps.found_rows import naming_repair
from tscm_core.maps.map_check import Header, connect_verified
from tscm_core.maps.map_copy import create_empty, save_copy
from tscm_core.maps.map_files import FileLock, connect, has_content, map_errors, real_path, require_file
from tscm_core.maps.map_format import SESSIONS, session_row
from tscm_core.maps.map_reader import MapReader, Session, read_keyframes, read_loops, read_sessions
from tscm_core.maps.map_rows import Counts, KeyframeRows, counted
from tscm_core.maps.map_values import MOST_ID
from tscm_core.maps.replacement import Replacement
from tscm_core.maps.writer import Writer
from tscm_core.recognition.records import Keyframe, Loop


class MapStore:
    """The map that is being driven on. Any thread may use it; no other process may write to it.

    Make one with :meth:`create` or :meth:`open`; it is a context manager. Every method raises
    ``MapFileError`` when the file cannot be used, and then has changed nothing.

    Attributes:
        path: the file, with symbolic links followed.
        count: how many keyframes the map has.
        next_id: the id for the next keyframe: one more than the highest so far, 1 in an empty map.
    """

    def __init__(self, path: Path, lock: FileLock, db: sqlite3.Connection, header: Header) -> None:
        self.path = path
        self.model_id = header.model_id
        self.dim = header.dim
        self._lock = lock
        self._db = db
        self._blobs = BlobReader(path)
        self._writer = Writer(path, db, self.dim, self._take)
        self._rows = KeyframeRows(db, path, self.dim)
        self._take(counted(db))

    def _take(self, counts: Counts) -> None:
        self.count, self.next_id, self._sessions = counts.keyframes, counts.next_id, dict(counts.sessions)
        self._rows.forget()

    @classmethod
    def create(cls, path: Path | str, model_id: str, dim: int) -> MapStore:
        """Begin an empty map at ``path``, in a folder that is made if need be.

        Raises:
            MapFileError: there is a file already, or none can be made.
            MapInUseError: another process is writing a map there.
        """
        path = real_path(path)
        with map_errors(path, "cannot be created"), contextlib.ExitStack() as undo:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            undo.callback(lock.release)
            if path.is_dir() or has_content(path):
                raise MapFileError(path, "exists already: open it, or choose another name")
            create_empty(path, model_id, dim)
            store = cls(path, lock, *connect_verified(path, model_id, dim))
            undo.pop_all()
            return store

    @classmethod
    def open(cls, path: Path | str, model_id: str, dim: int) -> MapStore:
        """Go on with the map at ``path`` after verifying all of it. What a killed process committed is there.

        Raises:
            MapFileError: the file is missing, damaged, too new or no map.
            MapInUseError: another process is writing to it.
            ModelMismatchError: another model made its descriptors.
        """
        path = real_path(path)
        require_file(path, os.R_OK | os.W_OK)
        with naming_repair(path, "cannot be opened"), contextlib.ExitStack() as undo:
            lock = FileLock(path)
            undo.callback(lock.release)
            store = cls(path, lock, *connect_verified(path, model_id, dim))
            undo.pop_all()
            return store

    def __enter__(self) -> MapStore:
        """The store itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the map."""
        self.close()

    def close(self) -> None:
        """Close the file and let others have it; a second call does nothing."""
        with self._writer.closing() as was_open:
            if was_open:
                try:
                    with map_errors(self.path, "cannot be closed"):
                        self._blobs.close()  # first: who closes last moves the log into the map
                        self._db.close()
                finally:
                    self._lock.release()

    @property
    def newest_session(self) -> str:
        """Name of the session that was begun last; empty in a map without sessions."""
        return Counts(self.count, self.next_id, self._sessions).newest_session

    @property
    def session_names(self) -> frozenset[str]:
        """Names of all sessions."""
        return frozenset(self._sessions)

    def begin_session(self, name: str, started_ns: int) -> int:
        """Begin a drive called ``name``, which must be new to the map; gives its number."""
        with self._writer.changing(f"session {name!r} cannot be stored"):
            if name in self._sessions:
                raise MapFileError(self.path, f"has a session {name!r} already: choose another name")
            number = max(self._sessions.values(), default=0) + 1
            self._db.execute(SESSIONS.insert, session_row(number, name, started_ns))
            self._sessions[name] = number
            return number

    def add(self, keyframe: Keyframe, loops: Sequence[Loop] = (), drop: Sequence[int] = ()) -> None:
        """Commit one keyframe of a session that was begun and the loops that it closed, and give up others; or nothing.

        Args:
            keyframe: its id must be higher than that of any keyframe that was ever in this map.
            loops: the loops that it closed.
            drop: ids of keyframes to delete; their room in the file is used again.

        Raises:
            MapFileError: it cannot be stored, its session was not begun, its id is not the highest so far, a loop of
                the map or of ``loops`` rests on a keyframe of ``drop`` or that is not in the map, or a map is being
                loaded: that is said at once, without waiting for it.
        """
        with self._writer.changing(f"keyframe {keyframe.id} cannot be stored"):
            number = self._sessions.get(keyframe.session)
            if number is None:
                raise MapFileError(self.path, f"has no session {keyframe.session!r}: begin it before adding to it")
            if keyframe.id < self.next_id:
                raise MapFileError(self.path, f"cannot take keyframe {keyframe.id} after {self.next_id - 1}")
            if keyframe.id > MOST_ID:
                raise MapFileError(self.path, f"is full: keyframe ids end at {MOST_ID}; begin another map")
            self._rows.store(keyframe, number, loops, drop)
            self.count += 1 - len(drop)
            self.next_id = keyframe.id + 1

    def sessions(self) -> tuple[Session, ...]:
        """The drives of the map, in order."""
        with self._snapshot() as db:
            return read_sessions(db)

    def keyframes(self) -> Iterator[Keyframe]:
        """All keyframes in the order of their ids, as they are at this moment whatever is added meanwhile."""
        with self._snapshot() as db:
            yield from read_keyframes(db, self.dim)

    def loops(self) -> Iterator[Loop]:
        """All loops in the order of their keyframes and ranks, as they are at this moment."""
        with self._snapshot() as db:
            yield from read_loops(db)

    def features(self, keyframe_id: int) -> bytes | None:
        """The local features of one keyframe as they are stored; ``None`` if it has none, or is not in the map.

        Waits for nobody who writes: while another map is being loaded, it is read from the one that was there before.
        """
        return self._blobs.features(keyframe_id)

    def thumbnail(self, keyframe_id: int) -> bytes | None:
        """The thumbnail of one keyframe as JPEG; ``None`` if it is not in the map. Waits for nobody who writes."""
        return self._blobs.thumbnail(keyframe_id)

    def without_features(self) -> int:
        """How many keyframes have no local features."""
        with self._snapshot() as db:
            return int(db.execute("SELECT count(*) FROM keyframes WHERE features IS NULL").fetchone()[0])

    def save_copy(self, target: Path | str) -> int:
        """Write a complete copy of the map as it is now to ``target``; gives its number of keyframes.

        Keyframes may be added meanwhile. A file that is already at ``target`` is replaced only once the copy
        is complete and on the disk; whatever goes wrong before leaves it as it was.

        Raises:
            MapFileError: the copy could not be written, or ``target`` is something else than a map at rest.
        """
        target = real_path(target)
        with map_errors(target, "cannot be saved"):
            self._writer.require_open()
            return save_copy(self.path, target)

    def replace_with(self, source: Path | str, session: str = "") -> int:
        """Make this map equal to the saved map ``source``, as :meth:`replacing` does; gives its number of keyframes.

        Until this returns, and for good if it raises or the process dies, the map is what it was.
        """
        with self.replacing(source, session) as replacement:
            return replacement.commit()

    def clear(self, session: str = "") -> None:
        """Forget all sessions, keyframes and loops, and begin ``session`` if it has a name; all of it or nothing."""
        with self.clearing(session) as replacement:
            replacement.commit()

    @contextlib.contextmanager
    def replacing(self, source: Path | str, session: str = "") -> Iterator[Replacement]:
        """Make ready what makes this map equal to the saved map ``source``: :meth:`Replacement.commit` makes it so.

        If ``session`` has a name, it begins in the same transaction; a number makes the name unique if need be.

        ``source`` is verified completely before anything is touched, and is never written to. Inside the context the
        map can be read and copied as it was before, by any thread; whoever wants to change it is refused at once, so
        that what is copied in here is all that will be given up. Leaving without a commit, for whatever reason, leaves
        the map as it was; so does the end of the process.

        Raises:
            MapFileError: ``source`` cannot be trusted, the disk is full, or another map is being loaded.
            ModelMismatchError: another model made the descriptors in ``source``.
        """
        self._writer.require_open()
        if real_path(source) == self.path:
            raise MapFileError(self.path, "is the running map itself: there is nothing to load")
        with (
            MapReader(source, self.model_id, self.dim) as reader,
            self._writer.replacing(
                "a map is being loaded", f"cannot take over {source}", reader, session
            ) as replacement,
        ):
            yield replacement

    @contextlib.contextmanager
    def clearing(self, session: str = "") -> Iterator[Replacement]:
        """Make ready an empty map in which ``session`` begins if it has a name; otherwise as :meth:`replacing`."""
        with self._writer.replacing("the map is being cleared", "cannot be cleared", None, session) as replacement:
            yield replacement

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, so that reading and writing do not wait for each other."""
        with map_errors(self.path, "cannot be read"):
            self._writer.require_open()
            with contextlib.closing(connect(self.path, "mode=ro")) as db:
                db.execute("BEGIN")
                yield db
