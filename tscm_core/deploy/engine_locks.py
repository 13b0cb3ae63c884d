"""Locks that the kernel takes back however their process ends, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from tscm_core.errors import StoppedError

PART_SUFFIX = ".part"
"""Of files that are still being written."""
_LOOK_S, _QUIET_S, _AGAIN_S = 0.05, 1.0, 30.0

_held: set[int] = set()
"""Open files with a lock of this process."""


def _let_go() -> None:
    """A lock belongs to an open file, which a forked process has too: it must not keep what its parent gave back."""
    for descriptor in tuple(_held):
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def locked(
    path: Path, waiting: Callable[[str, float], None], stop: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Hold the lock file ``path`` for a block, waiting for it as long as it takes.

    The file stays behind: who removed it could pull it from under a process that is about to lock it.

    Args:
        path: lock file; made if need be.
        waiting: told after a second, and then every half minute, which process holds the lock, and for how many
            seconds it has been waited for.
        stop: asked while waiting, whether to give up.

    Raises:
        OSError: there can be no such file.
        StoppedError: ``stop`` said so.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _held.add(descriptor)
    try:
        _wait(descriptor, waiting, stop)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        _close(descriptor)


def _wait(descriptor: int, waiting: Callable[[str, float], None], stop: Callable[[], bool]) -> None:
    began = time.monotonic()
    say_at = _QUIET_S
    while not _try_lock(descriptor):
        if stop():
            raise StoppedError("stopped while another process compiled the network")
        waited = time.monotonic() - began
        if waited >= say_at:
            waiting(os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown", waited)
            say_at = waited + _AGAIN_S
        time.sleep(_LOOK_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _close(descriptor: int) -> None:
    if descriptor in _held:  # not so in a forked process, where the number may be another file's by now
        _held.remove(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def part_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which becomes ``path`` when the block ends, on the disk and whole; never when it fails.

    Until then it has a name of its own beside ``path``, and is locked, so that :func:`sweep` leaves it alone.

    Raises:
        OSError: it cannot be written; what was at ``path`` is still there.
    """
    descriptor, part = _new_part(path)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            yield file
        os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    finally:
        _close(descriptor)


def _new_part(path: Path) -> tuple[int, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(PART_SUFFIX, f".{path.stem}.", path.parent)
        _held.add(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        _close(descriptor)  # swept between the two calls


def sweep(folder: Path) -> None:
    """Remove the files that killed processes left half-written in ``folder``; those still being written stay."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        with contextlib.suppress(OSError):  # gone already, or not ours
            descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if _try_lock(descriptor):
                    part.unlink()
            finally:
                os.close(descriptor)
