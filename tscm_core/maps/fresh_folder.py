"""A folder that is complete or not there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from tscm_core.errors import DatasetError
from tscm_core.maps.map_files import try_lock

_UNFINISHED = ".tscm-exporting-"


@contextlib.contextmanager
def fresh_folder(out: Path, overwrite: bool, names: Collection[str]) -> Iterator[Path]:
    """A folder to fill; it takes its place at ``out`` when the block ends without an error, or is removed.

    Args:
        out: where there is nothing, or an empty folder; or, with ``overwrite``, an older folder of the same kind.
        overwrite: whether such a folder gives way.
        names: what a folder of this kind holds; one that holds anything else is left alone.

    Raises:
        DatasetError: something else is at ``out``, or it cannot be written.
    """
    _refuse(out, overwrite, names)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(out.parent)
        folder = out.parent / f"{_UNFINISHED}{secrets.token_hex(8)}"
        folder.mkdir()
        try:
            with _locked(folder):
                yield folder
                os.sync()  # of thousands of files, each by itself would take minutes
                _put(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise DatasetError(
            f"{out} cannot be written: {error.strerror or error}; free some space or choose another folder"
        ) from error


def _refuse(out: Path, overwrite: bool, names: Collection[str]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DatasetError(f"{out} is a file: give the name of a folder to make")
    found = {path.name for path in out.iterdir()}
    if found and not overwrite:
        raise DatasetError(f"{out} exists already: choose another name, or --overwrite")
    if not found <= set(names):
        others = ", ".join(sorted(found - set(names))[:3])
        raise DatasetError(f"{out} holds other things than an export ({others}): it is left alone, choose another name")


def _put(folder: Path, out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        folder.rename(out)  # an empty folder gives way to one with the same name
        return
    aside = out.with_name(f".{out.name}.replaced-{secrets.token_hex(4)}")
    out.rename(aside)
    try:
        folder.rename(out)
    except BaseException:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Held while the folder is filled, so that nobody takes it for a leftover; the kernel drops it if we are killed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unfinished(parent: Path) -> None:
    """What killed processes left behind."""
    for path in parent.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if try_lock(descriptor, fcntl.LOCK_EX):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
