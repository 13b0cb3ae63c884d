"""Two processes that talk in lines of JSON, undisturbed by what libraries print."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tscm_core.errors import TscmError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What would decide in the place of the setting ``model.threads``."""


_GRACE_S, _LOOK_S = 10.0, 0.01


class ProcessError(TscmError):
    """A process of the bench ended early, or did not answer."""


class Channel:
    """The side of the child. What it and its libraries print goes to standard error from now on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next message; ``None`` when the parent has gone."""
        line = sys.stdin.readline()
        return dict(json.loads(line)) if line else None


class Apart:
    """The side of the parent: ``python -m MODULE`` in a process group of its own, which ends with the block."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._name = module
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        kept = {name: value for name, value in os.environ.items() if name not in _THREADS}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=kept | dict(environment or {}),
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Apart:
        """The process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and all that it started."""
        self.end()
        self._log.close()

    def end(self) -> None:
        """End it and all that it started, gently if it answers in time; a second call does nothing."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            self._wait(_GRACE_S)
            self._signal(signal.SIGKILL)  # not yet waited for: its number cannot be another group's
            self.process.wait()

    def _wait(self, seconds: float) -> None:
        """Until it has ended, but not longer; it stays a zombie."""
        deadline = time.monotonic() + seconds
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while time.monotonic() < deadline and os.waitid(os.P_PID, self.process.pid, flags) is None:
            time.sleep(_LOOK_S)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one message.

        Raises:
            ProcessError: the process has ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next message.

        Raises:
            ProcessError: the process has ended, or is silent for ``timeout_s`` seconds.
        """
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise ProcessError(f"{self._name} said nothing for {timeout_s:.0f} s and was ended") from None
        if line is None:
            raise self._ended()
        return dict(json.loads(line))

    def ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send, and receive."""
        self.send(message)
        return self.receive(timeout_s)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _ended(self) -> ProcessError:
        self._wait(_GRACE_S)
        self.end()
        code = self.process.returncode
        self._log.seek(0)
        return ProcessError(f"{self._name} ended with exit code {code}: {_last_words(self._log.read())}")


def _last_words(log: bytes) -> str:
    """The last line that says something."""
    lines: Sequence[str] = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
