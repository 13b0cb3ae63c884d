"""Map files: who may write, how they are opened, and what is said when that fails."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tscm_core.errors import DamagedMapError, MapFileError, MapInUseError, TscmError

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database while it is open."""

_DAMAGE = ("malformed", "unsupported file format", "Could not decode")
"""In what SQLite, or Python's side of it, says of a damaged file."""

_PATIENCE_S = 0.25  # a reader that looks whether a map is in use holds the lock for an instant


@contextlib.contextmanager
def map_errors(path: Path, failed: str) -> Iterator[None]:
    """Turn whatever goes wrong into a :class:`MapFileError` about ``path`` that says «``failed``: why»."""
    try:
        yield
    except TscmError:
        raise
    except (sqlite3.Error, OSError, ValueError, OverflowError, MemoryError) as error:
        raise _map_error(path, failed, error) from error


def _map_error(path: Path, failed: str, error: Exception) -> MapFileError:
    if isinstance(error, UnicodeDecodeError):  # SQLite quotes the damage in its error, and Python cannot read that
        return DamagedMapError(path, f"{failed}: it is damaged (text in it cannot be read)")
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, sqlite3.Error) and "not a database" in text:
        no_map = f"{failed}: it is not a tscm map, nor any SQLite file"
        return DamagedMapError(path, f"{failed}: its first bytes are damaged", no_map)
    if isinstance(error, sqlite3.Error) and any(word in text for word in _DAMAGE):
        return DamagedMapError(path, f"{failed}: it is damaged ({text})")
    if "disk is full" in text or "disk I/O error" in text:
        text += "; free some space or choose another folder"
    return MapFileError(path, f"{failed}: {(isinstance(error, OSError) and error.strerror) or text}")


def real_path(path: Path | str) -> Path:
    """``path`` with symbolic links followed: locks and side files belong to the file, not to its names."""
    with map_errors(Path(path), "cannot be used"):
        return Path(os.path.realpath(path))


def beside(path: Path, suffix: str) -> Path:
    """The neighbour of ``path`` whose name has ``suffix`` appended."""
    return path.with_name(path.name + suffix)


def require_file(path: Path, access: int = os.R_OK) -> int:
    """Size of the regular file ``path`` in bytes.

    Raises:
        MapFileError: there is no such file, it is a folder or a device, empty, or permission is missing.
    """
    with map_errors(path, "cannot be read"):
        if not path.exists():
            raise MapFileError(path, "does not exist: check the path")
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise MapFileError(path, "is a folder: give the path of a map file")
    if not stat.S_ISREG(status.st_mode):
        raise MapFileError(path, "is not a regular file: give the path of a map file")
    if not os.access(path, access):
        raise MapFileError(path, "cannot be read or written: permission denied")
    if status.st_size == 0:
        raise MapFileError(path, "is empty: it is no tscm map; delete it or use another copy")
    return status.st_size


def has_content(path: Path) -> bool:
    """Whether ``path`` exists and is not empty."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


class FileLock:
    """The right to write one map. The kernel takes it back however the process that has it ends.

    The lock file stays behind: who removed it could pull it from under a process that is about to lock it.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock of the map at ``path``.

        Raises:
            MapInUseError: it is held, by another process or by this one.
        """
        self._descriptor = os.open(beside(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        deadline = time.monotonic() + _PATIENCE_S
        while not try_lock(self._descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                holder = _holder(self._descriptor)
                self.release()
                raise MapInUseError(path, f"is in use by process {holder}: stop that process or use another map file")
            time.sleep(0.01)
        with contextlib.suppress(OSError):  # a full disk: who holds the lock is then told as «unknown»
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_holder(path: Path) -> str | None:
    """The process that is writing the map at ``path`` now, or None."""
    try:
        # a pipe under this name must not hang us, nor a link lead elsewhere
        descriptor = os.open(beside(path, ".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(descriptor, fcntl.LOCK_SH) else _holder(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int) -> bool:
    """Lock an open file, ``LOCK_EX`` or ``LOCK_SH``, unless that would mean to wait: whether it worked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"


def connect(path: Path, options: str) -> sqlite3.Connection:
    """A connection that trusts nothing in the file; ``options`` are SQLite's URI parameters: ``mode=ro``.

    The file itself is never opened in any other way while SQLite has it open in this process: closing it
    again would drop SQLite's own POSIX locks.
    """
    uri = f"{path.absolute().as_uri()}?{options}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        db.execute(f"PRAGMA {pragma}")
    return db


@contextlib.contextmanager
def snapshot(path: Path, *, to_be_opened: bool = False) -> Iterator[sqlite3.Connection]:
    """One unchanging view of the map at ``path``, which is neither written to nor gets any file beside it.

    ``to_be_opened``: this process will open the map for writing next, and has read all that the index of its log tells,
    which is made anew. Without that, the map of a killed process is copied as a whole to be read.
    """
    with contextlib.ExitStack() as stack:
        if lock_holder(path) is not None or to_be_opened:
            options = "mode=ro"  # a running map: its process takes care of the files beside it
        elif has_content(beside(path, "-wal")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tscm-recovered-")))
            path, options = _copy_with_log(path, folder), "mode=rw"
        else:
            options = "mode=ro&immutable=1"
        db = stack.enter_context(contextlib.closing(connect(path, options)))
        db.execute("PRAGMA query_only = ON")
        db.execute("BEGIN")
        yield db


def _copy_with_log(path: Path, folder: Path) -> Path:
    """The writer of this map was killed: SQLite recovers it from its log, in a copy."""
    for suffix in ("", "-wal"):
        shutil.copyfile(beside(path, suffix), folder / f"map{suffix}")
    return folder / "map"


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # after a full disk SQLite has rolled back already
            db.execute("ROLLBACK")
        raise
