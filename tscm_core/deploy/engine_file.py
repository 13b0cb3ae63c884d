"""One compiled network in one file, which is loaded whole, ours and exactly what was asked for, or not at all.

The file: magic, length and SHA-256 of the header, header (JSON), payload. The header has the payload's SHA-256, so that
no byte of the file can change unseen. An engine can be machine code, so that whoever writes the file decides what its
reader runs: it must belong to the reader's user and be writable by nobody else. Nothing here imports PyTorch: an engine
that is there is read without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tscm_core.deploy.engine_info import SUFFIX, EngineInfo, EngineKey, StaleEngine, from_header, to_header
from tscm_core.deploy.engine_locks import part_file
from tscm_core.errors import DeployError

__all__ = [
    "SUFFIX",
    "EngineInfo",
    "EngineKey",
    "Entry",
    "StaleEngine",
    "inspect",
    "read_engine",
    "read_info",
    "write_engine",
]

MAGIC = b"tscm engine 1\n"
_PREFIX = struct.Struct(f"<{len(MAGIC)}s I 32s")  # magic, length and SHA-256 of the header
_MOST_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the cache."""

    path: Path
    size: int
    """Bytes."""
    info: EngineInfo | None
    """``None`` if the file cannot be trusted."""
    problem: str
    """Why not: a clause; empty if it can."""


def write_engine(path: Path, info: EngineInfo, payload: bytes) -> None:
    """Write an engine; until all of it is on the disk, whatever was under its name stays there.

    Raises:
        DeployError: it cannot be written: disk full, folder read-only.
    """
    header = to_header(info, payload)
    prefix = _PREFIX.pack(MAGIC, len(header), hashlib.sha256(header).digest())
    try:
        with part_file(path) as file:
            for part in (prefix, header, payload):
                file.write(part)
    except OSError as error:
        raise DeployError(
            f"engine {path} cannot be written: {error.strerror or error}; make room or give write permission there, "
            f"or set model.engine_cache to another folder"
        ) from error


def read_engine(path: Path, key: EngineKey | None = None) -> tuple[EngineInfo, bytes]:
    """An engine that is whole, ours, and for exactly ``key`` (``None``: for any), with its payload.

    Raises:
        StaleEngine: it is not.
    """
    with _opened(path) as file:
        info, size, digest = _read_header(file)
        if key is not None and info.key != key:
            raise StaleEngine(f"the one in the cache is another: {info.key.difference(key)}")
        payload = file.read(size)
    if hashlib.sha256(payload).digest() != digest:
        raise StaleEngine("the one in the cache is damaged")
    return info, payload


def read_info(path: Path) -> EngineInfo:
    """What an engine says of itself; its payload is not read.

    Raises:
        StaleEngine: it is cut off, damaged before the payload, not ours, or no engine.
    """
    with _opened(path) as file:
        return _read_header(file)[0]


def inspect(path: Path) -> Entry:
    """Read an engine whole, for whatever key, and say what is wrong instead of raising it."""
    size, info, problem = 0, None, ""
    try:
        size = path.lstat().st_size
        info = read_engine(path)[0]
    except StaleEngine as stale:
        problem = str(stale)
    except OSError as error:  # removed at this moment
        problem = str(error.strerror)
    return Entry(path, size, info, problem)


# ---------------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # a pipe under this name must not hang us, nor a link lead elsewhere
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            _check_owner(os.fstat(descriptor))
            yield file
    except FileNotFoundError:
        raise StaleEngine("there is none in the cache yet") from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it does not fit into memory"
        raise StaleEngine(f"the one in the cache cannot be read: {reason}") from error


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise StaleEngine("what is in the cache is not a regular file")
    problem = untrusted(status)
    if problem:
        raise StaleEngine(f"the one in the cache {problem}")


def untrusted(status: os.stat_result) -> str:
    """Who else could have put code there, as the end of a sentence; empty: nobody."""
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to {os.geteuid()} who runs this"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"is writable by other users (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _read_header(file: BinaryIO) -> tuple[EngineInfo, int, bytes]:
    """The engine, and size and SHA-256 of its payload, at whose first byte the file is left."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(_PREFIX.size)
    if prefix[: len(MAGIC)] != MAGIC[: len(prefix)]:
        raise StaleEngine("the one in the cache is not an engine of this version of tscm")
    if len(prefix) < _PREFIX.size:
        raise StaleEngine(f"the one in the cache is cut off after {size} bytes")
    _, length, digest = _PREFIX.unpack(prefix)
    header = file.read(min(length, _MOST_HEADER))
    if length > _MOST_HEADER or hashlib.sha256(header).digest() != digest:
        raise StaleEngine(f"the one in the cache is damaged or cut off: {size} bytes are there")
    info, payload_size, payload_digest = from_header(header)
    there = size - _PREFIX.size - length
    if there != payload_size:
        problem = "cut off" if there < payload_size else "damaged"
        raise StaleEngine(f"the one in the cache is {problem}: {there} bytes of {payload_size}")
    return info, payload_size, payload_digest
