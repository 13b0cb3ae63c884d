"""Opening the live map of a run without ever losing the map of another one."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tscm_core.errors import MapFileError
from tscm_core.maps.foreign_log import refuse_foreign_log
from tscm_core.maps.map_files import (
    SIDE_FILES,
    FileLock,
    beside,
    connect,
    has_content,
    lock_holder,
    map_errors,
    real_path,
    snapshot,
)
from tscm_core.maps.map_reader import MapInfo, Session, inspect
from tscm_core.maps.map_store import MapStore
from tscm_core.maps.write_ahead_log import read_log

LIVE_SUFFIX = ".live"
PREVIOUS_SUFFIX = ".previous-"
_SMALL = 1 << 20
_LEAST_PRIORITY = 19


def open_live_file(map_path: Path, resume: bool, model_id: str, dim: int) -> tuple[MapStore, tuple[str, ...]]:
    """The live map beside ``map_path``, open for writing, and what a person should know about it.

    Raises:
        MapFileError: the live map or the map at ``map_path`` cannot be used.
        MapInUseError: another process has the live map.
        ModelMismatchError: the map was made by another model.
    """
    live, notes = beside(map_path, LIVE_SUFFIX), []
    notes += _keep_what_the_log_lost(live) if resume and live.exists() else []  # first: it may be empty for that reason
    if live.exists() and (not resume or (_is_quick_to_read(live) and _is_empty(live))):
        aside = set_aside(live)
        notes += [f"the live map of the last run is kept as {aside}"] if aside else []
    store = MapStore.open(live, model_id, dim) if live.exists() else MapStore.create(live, model_id, dim)
    try:
        notes += _take_up(store, map_path) if resume and map_path.exists() else []
    except BaseException:
        store.close()
        with contextlib.suppress(OSError):
            if _is_empty(live):
                live.unlink()
        raise
    return store, tuple(notes)


def _keep_what_the_log_lost(live: Path) -> list[str]:
    """A robot must start after a power cut too: it goes on with what can be read, and the damaged files are kept."""
    with map_errors(live, "cannot be read"):
        if lock_holder(live) is not None:
            return []
        log = read_log(live)
        with snapshot(live, to_be_opened=True) as db:
            refuse_foreign_log(db, live, log)
    if not log.damage:
        return []
    damage = log.damage
    kept = unused_name(live)
    suffixes = [suffix for suffix in (*SIDE_FILES, "") if beside(live, suffix).exists()]
    with map_errors(live, f"is damaged ({damage}), and cannot be kept"), contextlib.ExitStack() as stack:
        for suffix in suffixes:
            stack.enter_context(dropped_on_failure(beside(kept, suffix)))
        for suffix in suffixes:
            shutil.copy2(beside(live, suffix), beside(kept, suffix))
    return [f"the live map is damaged ({damage}): it goes on with the rest; the damaged one is kept as {kept}"]


def _take_up(store: MapStore, map_path: Path) -> list[str]:
    if not store.count:
        return [f"began with {store.replace_with(map_path)} keyframes from {map_path}"]
    other = _inspect(map_path)
    if other is not None and _was_in(other.sessions, store.sessions()):
        return []
    return [f"map {map_path} holds drives that the live map lacks: it is not used unless load_map is called"]


def set_aside(live: Path) -> Path | None:
    """Rename a live map to an unused name beside it, and give that; an empty one is removed, which gives ``None``.

    Raises:
        MapInUseError: another process has it.
        MapFileError: it cannot be renamed.
    """
    with map_errors(live, "cannot be set aside"):
        lock = FileLock(live)
        try:
            _empty_log(live)
            aside = None if _is_empty(live) else unused_name(live)
            for suffix in (suffix for suffix in (*SIDE_FILES, "") if beside(live, suffix).exists()):
                if aside is None:
                    beside(live, suffix).unlink()
                else:
                    beside(live, suffix).rename(beside(aside, suffix))
            return aside
        finally:
            lock.release()


def keep_unless_earlier(target: Path, store: MapStore) -> Path | None:
    """Give the file at ``target`` a second name unless it is an earlier state of the map in ``store``; gives that name.

    A map that has given keyframes up since then is a later state too.

    Raises:
        MapFileError: it cannot be given one.
    """
    target = real_path(target)  # a link to a link would be replaced along with what it names
    if not target.is_file():
        return None
    info = _inspect(target)
    if info is not None and _was_in(info.sessions, store.sessions()):
        return None
    kept = unused_name(target)
    with map_errors(target, "cannot be kept, and is not replaced"):
        try:
            os.link(target, kept)
        except OSError:  # a file system without links
            shutil.copy2(target, kept)
    return kept


def keep_unless_in(source: Path, store: MapStore, map_path: Path) -> Path | None:
    """Save the map in ``store`` beside ``map_path`` unless the map at ``source`` holds all of it; gives the copy.

    Raises:
        MapFileError: ``source`` is no map, so that nothing needs to be saved from it, or the copy cannot be saved.
    """
    sessions = inspect(source).sessions  # first: a mistyped path must not cost a copy of the whole map
    if not store.count or (_may_be_in(store.sessions(), sessions) and _is_in(store.path, real_path(source))):
        return None
    kept = unused_name(map_path)
    store.save_copy(kept)
    return kept


class Keeping:
    """:func:`keep_unless_in` in a thread of its own, while in this one ``source`` is made ready to be loaded.

    A context manager: what was kept is removed when the context fails, unless ``needed`` was set before.
    """

    def __init__(self, source: Path, store: MapStore, map_path: Path) -> None:
        self.needed = False
        self._thread = ThreadPoolExecutor(1, "tscm-keep", initializer=_give_way)
        self._copy = self._thread.submit(keep_unless_in, source, store, map_path)

    def __enter__(self) -> Keeping:
        """The copy itself."""
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Wait for the thread, and remove what nobody needs."""
        with contextlib.suppress(MapFileError, OSError):
            if kind is not None and not self.needed and (kept := self.path()) is not None:
                kept.unlink(missing_ok=True)
        self._thread.shutdown()

    def path(self) -> Path | None:
        """Wait for the copy; raises what :func:`keep_unless_in` raises."""
        return self._copy.result()


@contextlib.contextmanager
def dropped_on_failure(copy: Path | None) -> Iterator[None]:
    """Remove ``copy``, if there is one and it can be removed, when what it was made for fails."""
    try:
        yield
    except BaseException:
        if copy is not None:
            with contextlib.suppress(OSError):
                copy.unlink(missing_ok=True)
        raise


def unused_name(path: Path) -> Path:
    """A name beside ``path`` that tells the time, in UTC, and that nothing has."""
    stem = path.name + PREVIOUS_SUFFIX + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name, number = path.with_name(stem), 1
    while name.exists():
        number += 1
        name = path.with_name(f"{stem}-{number}")
    return name


def _was_in(sessions: Sequence[Session], later: Sequence[Session]) -> bool:
    """Whether all that ``sessions`` hold is, or once was, in ``later`` too.

    Ids of a session only ever ascend, so that a map that got as far as the last one had all before it, though it may
    have given some of them up.
    """
    last = {(session.name, session.started_ns): session.last_id for session in later}
    return all(session.last_id <= last.get((session.name, session.started_ns), 0) for session in sessions)


def _may_be_in(sessions: Sequence[Session], other: Sequence[Session]) -> bool:
    """Whether all that ``sessions`` hold may be in ``other`` now, by their numbers."""
    count = {(session.name, session.started_ns): session.keyframes for session in other}
    as_many = all(session.keyframes <= count.get((session.name, session.started_ns), 0) for session in sessions)
    return as_many and _was_in(sessions, other)


def _is_in(path: Path, other: Path) -> bool:
    """Whether ``other`` has all keyframes of ``path``: of one drive, each map may have given up other ones."""
    there = _stamps(other)
    return all(np.isin(stamps, there.get(key, ())).all() for key, stamps in _stamps(path).items())


def _stamps(path: Path) -> dict[tuple[str, int], array[int]]:
    """The stamps of the keyframes, by name and beginning of their sessions: in a session, no two have the same."""
    stamps: defaultdict[tuple[str, int], array[int]] = defaultdict(lambda: array("q"))
    with map_errors(path, "cannot be read"), snapshot(path) as db:
        rows = "SELECT name, started_ns, stamp_ns FROM keyframes JOIN sessions ON session = number"
        for name, started_ns, stamp_ns in db.execute(rows):
            stamps[name, started_ns].append(stamp_ns)
    return stamps


def _give_way() -> None:
    """Take what the processors have left: the thread that this one runs beside may hold what images wait for."""
    if sys.platform == "linux":  # where threads have priorities of their own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)


def _is_quick_to_read(live: Path) -> bool:
    """The map of a killed process has to be copied to be read, and a large one is rarely empty."""
    return live.stat().st_size < _SMALL or not has_content(beside(live, "-wal"))


def _is_empty(live: Path) -> bool:
    info = _inspect(live)
    return info is not None and not info.keyframes


def _inspect(path: Path) -> MapInfo | None:
    try:
        return inspect(path)
    except MapFileError:
        return None


def _empty_log(live: Path) -> None:
    """Move what the write-ahead log holds into the file, if the file is sound enough for that."""
    # ValueError: SQLite quotes the damage in its error, and Python cannot read that
    with contextlib.suppress(sqlite3.Error, ValueError), contextlib.closing(connect(live, "mode=rw")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
