"""Where a caller may point: paths that come over the network, held to one folder and to plain files.

What remains: SQLite opens a file by its name, so that somebody who may write in the folder itself can put a link there
between the look and the use. Who only calls a service cannot make links.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from tscm_core.errors import MapFileError

SIDE_FILES = ("-wal", "-shm", "-journal", ".lock")
"""What stands beside a map and is opened with it."""

_SPARSE_BYTES = 64 * 2**20
_SPARSE_SHARE = 16
"""A file larger than the first of which less than this share is on the disk is no map: pictures do not compress so."""
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def given_path(text: str, directory: str = "") -> Path:
    """The absolute path of a map that a caller named; ``~`` is the home of the user who runs this.

    Args:
        text: what the caller gave; a relative path is taken below ``directory``.
        directory: the folder that no path may leave; empty: any path may be given.

    Raises:
        MapFileError: the path is blank, leaves the folder, goes through a link or ``..``, names a folder, pipe or
            device, or what lies beside a map and would be taken for a part of it.
    """
    if not text.strip():
        raise MapFileError(repr(text), "names no file: give a path, or nothing at all")
    given = _expanded(text, text)
    if given.name.endswith(SIDE_FILES):
        raise MapFileError(text, f"has a name of what lies beside a map ({', '.join(SIDE_FILES)}): choose another name")
    if not directory:
        path = given.absolute()
        refuse_trap(path)
        return path
    folder = _expanded(directory, text).absolute()
    base, parts = Path(os.path.realpath(folder)), _below(given, folder, text)
    with contextlib.suppress(FileNotFoundError):  # what is not there leads nowhere
        _refuse_links(base, parts, text, folder)
    path = base.joinpath(*parts)
    refuse_trap(path)
    return path


def refuse_trap(path: Path) -> None:
    """Refuse a map that would hang its reader or fill the disk: nothing is opened.

    Raises:
        MapFileError: it, or what stands beside it, is a pipe, a device or a folder, or it is almost all hole.
    """
    with contextlib.suppress(OSError, ValueError):  # missing or out of reach: who opens it says so
        _refuse_shape(path, path.stat())
    real = _real(path)
    for name in (real.name + suffix for suffix in SIDE_FILES):
        beside = real.parent / name
        with contextlib.suppress(OSError, ValueError):
            if not stat.S_ISREG(beside.lstat().st_mode):
                raise MapFileError(path, f"has something beside it that is no regular file, {name}: remove it")


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise MapFileError(path, f"cannot be used: {error}") from error


def _refuse_shape(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise MapFileError(path, "is a folder: give the path of a map file")
    if not stat.S_ISREG(status.st_mode):
        raise MapFileError(path, "is not a regular file: give the path of a map file")
    there = status.st_blocks * 512
    if status.st_size > _SPARSE_BYTES and 0 < there < status.st_size // _SPARSE_SHARE:
        raise MapFileError(
            path, f"claims {status.st_size} bytes, of which {there} are on the disk: it is no map; use another copy"
        )


def _expanded(text: str, named: str) -> Path:
    try:
        if "\0" in text:
            raise ValueError
        os.fsencode(text)
        return Path(text).expanduser()
    except RuntimeError:
        raise MapFileError(named, "names the home of a user who is not here: give a path without ~") from None
    except ValueError:
        raise MapFileError(repr(named), "is no path: it has characters that no file name can have") from None


def _below(given: Path, folder: Path, text: str) -> tuple[str, ...]:
    """The parts of the path below the folder, by its letters alone."""
    if ".." in given.parts:
        raise MapFileError(text, f"goes up by '..', and maps stay in {folder} (map_directory): write the path without")
    if given.is_absolute():
        for base in (folder, Path(os.path.realpath(folder))):
            if given.is_relative_to(base):
                given = given.relative_to(base)
                break
        else:
            raise MapFileError(text, f"is outside {folder}, where maps stay (map_directory): give a path below it")
    if not given.parts:
        raise MapFileError(text, f"is the folder of the maps itself ({folder}): give the path of a file in it")
    return given.parts


def _refuse_links(base: Path, parts: tuple[str, ...], text: str, folder: Path) -> None:
    """Go down part by part, each from the open folder above it, so that no name is looked up twice."""
    here = -1
    try:
        here = os.open(base, _LOOK | os.O_DIRECTORY)
        for part in parts:
            below = os.open(part, _LOOK, dir_fd=here)
            os.close(here)
            here = below
            if stat.S_ISLNK(os.fstat(here).st_mode):
                raise MapFileError(
                    text, f"goes through {part!r}, a link, and none is followed in {folder} (map_directory)"
                )
    except NotADirectoryError:
        raise MapFileError(text, "goes through a file as if it were a folder: check the path") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MapFileError(text, f"cannot be used: {error.strerror}") from error
    finally:
        if here >= 0:
            os.close(here)
