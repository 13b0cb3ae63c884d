"""One target in a process of its own: fuzzed by atheris, or its kept inputs run once to count the lines they reach.

An input that raises what it must not, allocates too much or touches what is outside its folder is written down, and the
fuzz goes on; a crash or a hang ends the process, and libFuzzer keeps the input.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import cv2

MOST_ADDRESSES = 6 << 30
HANG_S = 20
_WATCHED = (
    "open", "sqlite3.connect", "os.system", "subprocess.Popen", "os.exec", "socket.connect", "ctypes.dlopen",
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "shutil.rmtree",
)  # fmt: skip
_TWO_NAMES = ("os.rename", "os.link", "os.symlink")
_ROOT = Path(__file__).resolve().parent.parent


class Judge:
    """Runs inputs and writes down each finding once: by what was raised, and where."""

    def __init__(self, target: Any, folder: Path, findings: Path) -> None:
        self._target, self._folder, self._findings = target, str(folder), findings
        self._known: set[tuple[str, str]] = set()
        self._recovered = f"{tempfile.gettempdir()}/tscm-recovered-"
        self._watching = False
        self._outside: list[str] = []
        self.refused = self.taken = 0
        sys.addaudithook(self._audit)

    def __call__(self, data: bytes) -> None:
        """One input."""
        from tscm_core.errors import TscmError

        before = _status()
        self._watching = True
        try:
            self._target.run(data)
            self.taken += 1
        except (TscmError, *self._target.allowed):
            self.refused += 1
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            self._note(data, f"{type(error).__name__}: {error}"[:300], _place(error))
        finally:
            self._watching = False
        grown = (_status()["VmPeak"] - before["VmSize"]) >> 10
        if _status()["VmPeak"] > before["VmPeak"] and grown > self._target.most_mb:
            self._note(data, f"allocated {grown} MiB", "")
        if self._outside:
            self._note(data, f"touched {self._outside.pop()}", "")
            self._outside.clear()

    def _note(self, data: bytes, what: str, where: str) -> None:
        self._watching = False
        key = (what.split(":", maxsplit=1)[0].split(" ", maxsplit=1)[0], where)
        if key in self._known:
            return
        self._known.add(key)
        path = self._findings.with_name(f"{self._findings.stem}-{len(self._known)}.bin")
        path.write_bytes(data)
        with self._findings.open("a") as file:
            file.write(json.dumps({"what": what, "where": where, "input": path.name}) + "\n")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event not in _WATCHED:
            return
        for argument in arguments[: 2 if event in _TWO_NAMES else 1]:
            name = str(argument).removeprefix("file://")
            inside = name.startswith((self._folder, self._recovered)) or name == ":memory:"
            below = ".." not in name and not name.startswith("/")  # of the work folder, or of one that is open
            source = event == "open" and (name.endswith((".py", ".pyc")) or name.isdecimal())
            if not (inside or source or below):
                self._outside.append(f"{event} {name}"[:200])


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    ours = [item for item in traceback.extract_tb(error.__traceback__) if item.filename.startswith(str(_ROOT))]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def _status() -> dict[str, int]:
    """Of this process, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: int(line.split()[1]) for line in lines for name in ("VmPeak", "VmSize") if line.startswith(name)}


def lines_reached(judge: Callable[[bytes], None], folder: Path) -> set[tuple[str, int]]:
    """The lines of the package that the inputs in a folder reach."""
    reached: set[tuple[str, int]] = set()
    package = str(_ROOT / "tscm_")

    def tracer(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(package):
            return None
        if event == "line":
            reached.add((name, frame.f_lineno))
        return tracer

    sys.settrace(tracer)
    for path in sorted(folder.iterdir()):
        judge(path.read_bytes())
    sys.settrace(None)
    return reached


def main(name: str, folder: str, *options: str) -> None:
    """``options`` are libFuzzer's; none: count lines."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    home = Path(folder)
    shutil.rmtree(home / "work", ignore_errors=True)
    (home / "work").mkdir(parents=True)
    if options:
        with atheris.instrument_imports(include=["tscm_core", "tscm_ros"]):
            import fuzz_targets
    else:
        import fuzz_targets
    cv2.setNumThreads(1)  # a thread reserves 128 MiB, which would look like an allocation
    target = fuzz_targets.TARGETS[name](home / "work")
    judge = Judge(target, home / "work", home / ("findings.jsonl" if options else "again.jsonl"))
    os.chdir(home / "work")
    if not options:
        seeds = lines_reached(judge, home / "seeds")
        kept = seeds | lines_reached(judge, home / "corpus")
        print(json.dumps({"seeds": len(seeds), "kept": len(kept)}))  # noqa: T201
        return
    for place in ("corpus", "seeds"):
        (home / place).mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (home / "seeds" / f"{number}").write_bytes(seed)
    arguments = [sys.argv[0], *options, str(home / "corpus"), str(home / "seeds")]
    if target.mutate is None:
        atheris.Setup(arguments, judge)
    else:
        atheris.Setup(arguments, judge, custom_mutator=mutator(target.mutate))
    atheris.Fuzz()


def mutator(known: Callable[[bytes, int], bytes]) -> Callable[..., bytes]:
    """Two of three mutants are made with knowledge of the format, the third by bits and bytes."""
    import atheris

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        made = known(data, seed) if seed % 3 else atheris.Mutate(data, most)
        return made[:most]

    return mutate


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
