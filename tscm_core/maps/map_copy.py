"""Making map files, never half of one: empty, or a complete copy of one that is being driven on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import sqlite3
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from tscm_core import __version__
from tscm_core.errors import MapFileError, MapInUseError
from tscm_core.maps.map_files import (
    SIDE_FILES,
    beside,
    connect,
    has_content,
    lock_holder,
    transaction,
    try_lock,
)
from tscm_core.maps.map_format import APPLICATION_ID, FORMAT, SCHEMA, digest

Result = TypeVar("Result")

_UNFINISHED = re.compile(r"\.tscm-saving-\d+-[0-9a-f]{16}")
_WRITER = f"tscm {__version__}"


def create_empty(path: Path, model_id: str, dim: int) -> None:
    """Make a map without keyframes at ``path``, where there is nothing or an empty file."""
    for suffix in SIDE_FILES:  # of a map that was deleted by hand: they would be taken for ours
        beside(path, suffix).unlink(missing_ok=True)
    write_beside(path, lambda unfinished: write_empty(unfinished, model_id, dim))


def save_copy(live: Path, target: Path) -> int:
    """Write a complete copy of the map ``live`` to ``target``, or nothing; gives its number of keyframes.

    Raises:
        MapFileError: ``target`` is the running map, a folder, or has a log that would spoil the copy.
        MapInUseError: another process is writing to ``target``.
    """
    refuse_target(live, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside(target, "-shm").unlink(missing_ok=True)  # of a killed writer: it would count pages that the copy lacks
    return write_beside(target, lambda unfinished: _write_copy(live, unfinished))


def write_beside(target: Path, write: Callable[[Path], Result]) -> Result:
    """Let ``write`` fill an empty file in the folder of ``target``, sync it and rename it, all or nothing.

    What killed processes left unfinished in the folder is removed first.
    """
    _remove_unfinished(target.parent)
    unfinished, descriptor = _begin_unfinished(target.parent)
    try:
        result = write(unfinished)
        os.fsync(descriptor)
        unfinished.replace(target)
    except BaseException:
        _remove(unfinished)
        raise
    finally:
        os.close(descriptor)
    # the new file is complete and in place, and not every file system can sync a folder
    with contextlib.suppress(OSError):
        _sync_folder(target.parent)
    return result


def write_empty(path: Path, model_id: str, dim: int) -> None:
    """Make a map without keyframes of the empty file ``path``."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    meta = {
        "format": FORMAT,
        "model_id": model_id,
        "dim": dim,
        "created": created,
        "writer": _WRITER,
        "digest": "",
    }
    with contextlib.closing(connect(path, "mode=rw")) as db, transaction(db):
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")
        for statement in SCHEMA:
            db.execute(statement)
        # SQLite counts changes of the tables here, of which there are none: so it tells logs of one map from another's
        db.execute(f"PRAGMA schema_version = {secrets.randbelow(2**30) + 1}")
        db.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", [(key, str(meta[key])) for key in meta])


def _write_copy(live: Path, copy: Path) -> int:
    # a connection of its own, so that the writer of the live map is not kept waiting
    with contextlib.closing(connect(live, "mode=ro")) as db:
        db.execute("VACUUM INTO ?", (str(copy),))
    with contextlib.closing(connect(copy, "mode=rw")) as db:
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("PRAGMA synchronous = OFF")  # the whole file is synced afterwards
        seal(db)
        return int(db.execute("SELECT count(*) FROM keyframes").fetchone()[0])


def seal(db: sqlite3.Connection) -> None:
    """Write down who wrote the map, and the digest over all of it: the last change to a map that is to be at rest."""
    db.execute("UPDATE meta SET value = ? WHERE key = 'writer'", (_WRITER,))
    db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (digest(db),))


def refuse_target(live: Path, target: Path) -> None:
    """Refuse what a copy of ``live`` must not replace.

    Raises:
        MapFileError: ``target`` is the running map, a folder, or has a log that would spoil the copy.
        MapInUseError: another process is writing to ``target``.
    """
    own = {live, *(beside(live, suffix) for suffix in (*SIDE_FILES, ".lock"))}
    if target in own or (target.exists() and target.samefile(live)):
        raise MapFileError(target, "is the running map itself, which has every keyframe already: save to another file")
    if target.exists() and not target.is_file():
        raise MapFileError(target, "is a folder or a device: give the path of a file to save to")
    holder = lock_holder(target)
    if holder is not None:
        raise MapInUseError(target, f"is in use by process {holder}: save to another file")
    if any(has_content(beside(target, suffix)) for suffix in ("-wal", "-journal")):
        raise MapFileError(target, "was not closed by its last writer: save to another file, or open it once before")


def _begin_unfinished(folder: Path) -> tuple[Path, int]:
    """A new empty file, locked while its descriptor is open, so that nobody takes it for a leftover."""
    while True:
        path = folder / f".tscm-saving-{os.getpid()}-{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        if try_lock(descriptor, fcntl.LOCK_EX) and os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(".tscm-saving-*"):
        if not _UNFINISHED.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            # a pipe under this name must not hang us, nor a link lead elsewhere
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if try_lock(descriptor, fcntl.LOCK_EX):
                    _remove(path)
            finally:
                os.close(descriptor)


def _remove(path: Path) -> None:
    for suffix in (*SIDE_FILES, ""):
        beside(path, suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
