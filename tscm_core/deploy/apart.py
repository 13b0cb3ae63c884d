"""Compiling in a process of its own.

A compiler takes hundreds of megabytes and does not give them back, and it may crash or be killed for want of memory. A
node that only runs what was compiled should neither keep the one nor suffer the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tscm_core.deploy.backend import Report, Stop, Target
from tscm_core.deploy.engine_file import EngineInfo, EngineKey, StaleEngine, read_engine, write_engine
from tscm_core.deploy.weights import Weights
from tscm_core.errors import DeployError, ModelFileError, StoppedError, TscmError

_COMMAND = ("-m", "tscm_core.deploy.apart")
_SAY, _ERROR, _OF_WEIGHTS = "say", "error", "of_weights"
_PREFIX, _LOOK_S = "tscm_compile_", 0.1
_DIE_WITH_PARENT = 1
"""Number of a setting in Linux's ``prctl``."""


def compile_apart(
    key: EngineKey,
    weights: Weights,
    target: Target,
    calibration: Sequence[Path],
    report: Report,
    stop: Stop = lambda: False,
) -> tuple[EngineInfo, bytes]:
    """``building.compile_engine`` in a process of its own, which ends when this one does, and leaves nothing behind.

    Args:
        key: of the engine; names the backend.
        weights: what is compiled.
        target: for what.
        calibration: images from which int8 learns the range of each number.
        report: takes what is going on.
        stop: asked several times a second, whether to give up.

    Raises:
        StoppedError: ``stop`` said so.
        DeployError: it cannot be compiled, or the process ended before it was.
        ModelFileError: the weights cannot be loaded, by any backend.
    """
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}_") as folder:
        out = Path(folder) / "made.engine"
        order = {
            "parent": os.getpid(),
            "out": str(out),
            "key": dataclasses.asdict(key),
            "weights": dataclasses.asdict(weights),
            "target": dataclasses.asdict(target),
            "calibration": [str(path) for path in calibration],
        }
        _run(json.dumps(order), Path(folder), report, stop)
        try:
            return read_engine(out, key)
        except StaleEngine as stale:
            raise DeployError(f"the compiler ended without an engine: {stale}") from stale


def _sweep() -> None:
    """Remove the folders of processes that were killed while they waited for their compiler."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*_*"):
        number = path.name[len(_PREFIX) :].partition("_")[0]
        if number.isdecimal() and not Path("/proc", number).exists():
            shutil.rmtree(path, ignore_errors=True)


def _run(order: str, folder: Path, report: Report, stop: Stop) -> None:
    problem, of_weights = "", False
    with (folder / "stderr.txt").open("w+", encoding="utf-8", errors="replace") as said:
        with _started(said, folder) as child, _ended_by(stop, child):
            for message in _conversation(child, order):
                if _SAY in message:
                    report(str(message[_SAY]))
                problem, of_weights = str(message.get(_ERROR, problem)), of_weights or _OF_WEIGHTS in message
            code = child.wait()
        said.seek(0)
        last = next((line.strip() for line in reversed(said.readlines()) if line.strip()), f"exit code {code}")
    if problem:
        raise (ModelFileError if of_weights else DeployError)(problem)
    if code < 0:
        hint = " (not enough memory?)" if -code == signal.SIGKILL else ""
        raise DeployError(f"the compiler was ended by {signal.Signals(-code).name}{hint}")
    if code:
        raise DeployError(f"the compiler failed: {last}")


@contextlib.contextmanager
def _started(stderr: IO[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The other process; what it leaves half-done lies in ``folder``, and it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, *_COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
        start_new_session=True,  # Ctrl-C is for this process, which decides what becomes of the other
    ) as child:
        try:
            yield child
        except BaseException:
            _kill(child)
            raise


def _kill(child: subprocess.Popen[str]) -> None:
    """It, and the compilers that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


@contextlib.contextmanager
def _ended_by(stop: Stop, child: subprocess.Popen[str]) -> Iterator[None]:
    """Kill ``child`` as soon as ``stop`` says so.

    Raises:
        StoppedError: it said so.
    """
    done, stopped = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            if stop():
                stopped.set()
                _kill(child)
                return

    watcher = threading.Thread(target=watch, name="compiler watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        if stopped.is_set():
            raise StoppedError("stopped while the network was being compiled")


def _conversation(process: subprocess.Popen[str], order: str) -> Iterator[dict[str, Any]]:
    """Tell a process what to do; then what it says, until it says no more."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it ended at once: its exit code tells more
        process.stdin.write(order)
        process.stdin.close()
    for line in process.stdout:
        try:
            message = json.loads(line)
        except ValueError:  # a library that prints
            continue
        if isinstance(message, dict):
            yield message


def main() -> None:
    """The other process: an order on standard input, sentences on standard output, the engine in the named file."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    order = json.load(sys.stdin)
    if os.getppid() != order["parent"]:  # it was gone before this could be tied to it
        sys.exit(1)
    try:
        _compile(order)
    except TscmError as error:
        _tell(_ERROR, str(error), **({_OF_WEIGHTS: "yes"} if isinstance(error, ModelFileError) else {}))
        sys.exit(1)
    except ImportError as error:
        _tell(_ERROR, f"package {error.name} is not installed (pip install {error.name})")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways; another backend may still work
        _tell(_ERROR, f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}")
        sys.exit(1)


def _compile(order: dict[str, Any]) -> None:
    from tscm_core.deploy.building import compile_engine
    from tscm_core.deploy.load import find_backend

    key, weights, target = _fields(order["key"]), _fields(order["weights"]), _fields(order["target"])
    backend = find_backend(key["backend"])
    images = [Path(path) for path in order["calibration"]]
    info, payload = compile_engine(
        backend, EngineKey(**key), Weights(**weights), Target(**target), images, lambda text: _tell(_SAY, text)
    )
    write_engine(Path(order["out"]), info, payload)


def _fields(told: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples, and no field of ours is a list."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}


def _tell(what: str, sentence: str, **more: str) -> None:
    stdout = sys.__stdout__  # while a compiler is kept quiet, sys.stdout is another
    assert stdout is not None
    stdout.write(json.dumps({what: sentence, **more}) + "\n")
    stdout.flush()


if __name__ == "__main__":
    main()
