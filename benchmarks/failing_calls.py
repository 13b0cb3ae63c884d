"""The n-th call that touches a folder fails: a small library before the C library, compiled when it is needed."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tscm_core.errors import TscmError

SOURCE = Path(__file__).with_name("failing_calls.c")
SPACE, FOLDER, SYNC, READ, RELEASE = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Mode:
    """One way in which a disk fails: which calls, with which error, once or from then on."""

    name: str
    kinds: int
    error: int = errno.EIO
    stays: bool = False
    kills: bool = False


MODES = (
    Mode("I/O error, once", SPACE | FOLDER | SYNC | RELEASE),
    Mode("I/O error from then on", SPACE | FOLDER | SYNC | RELEASE, stays=True),
    Mode("disk full from then on", SPACE, errno.ENOSPC, stays=True),
    Mode("folder read-only from then on", FOLDER, errno.EROFS, stays=True),
    Mode("read error, once", READ),
    Mode("killed there", SPACE | FOLDER | SYNC | RELEASE, kills=True),
)


def run_with_failing_calls(arguments: list[str], folder: Path) -> int:
    """Run a Python program in which calls can be made to fail; gives its exit status.

    Raises:
        TscmError: there is no C compiler, or it fails.
    """
    library = folder / "failing_calls.so"
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise TscmError(f"{SOURCE.name} cannot be compiled by {compiler} ({error}): install a C compiler") from error
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


class FailingCalls:
    """Arms the library that is loaded into this process."""

    def __init__(self, folder: Path) -> None:
        """For calls on files below ``folder``."""
        self._library, self._folder = ctypes.CDLL(None), str(folder).encode()
        self.fired = 0
        """How many calls were made to fail since the library was armed last."""

    @contextmanager
    def failing(self, mode: Mode, number: int) -> Iterator[None]:
        """Let call ``number`` fail in the way of ``mode``, counted from 1."""
        arm = self._library.failing_calls_arm
        arm(self._folder, ctypes.c_long(number), mode.kinds, mode.error, mode.stays, mode.kills)
        try:
            yield
        finally:
            self.fired = int(self._library.failing_calls_fired())
            arm(self._folder, ctypes.c_long(0), 0, 0, 0, 0)
