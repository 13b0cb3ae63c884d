"""Hostile input: a coverage-guided fuzz of everything that reads bytes from outside.

``atheris`` (https://github.com/google/atheris) is needed for this and for nothing else: ``pip install atheris``. Exit
status 1 if anything was found: an exception that is no TscmError, a crash, a hang, an allocation that the input does
not bear out, a file opened outside the folder of the target.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from fuzz_child import HANG_S
from tables import one_core, print_rows, write_json

from tscm_core.errors import TscmError

NAMES = (
    "map file",
    "map with its log",
    "merged maps",
    "exported map",
    "repaired map",
    "raw images",
    "compressed images",
    "local features",
    "engine file",
    "network header",
    "message path",
    "keyframe messages",
)
HEADS = {
    "target": "target",
    "executions": "executions",
    "seconds": "s",
    "kept": "inputs kept",
    "lines_seeds": "lines by seeds",
    "lines": "lines reached",
    "findings": "findings",
}
_CHILD = Path(__file__).with_name("fuzz_child.py")
_ENDS = {70: "hang", 71: "memory", 72: "leak", 76: "interrupted", 77: "crash"}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=1.0, help="For all targets together.")] = 70.0,
    target: Annotated[Optional[list[str]], typer.Option(help=f"One of {', '.join(NAMES)}; may be repeated.")] = None,  # noqa: UP045
    keep: Annotated[Optional[Path], typer.Option(help="Folder for inputs that are kept and found.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="JSON file to write.")] = None,  # noqa: UP045
) -> None:
    """Fuzz every reader and print what was done and found."""
    with one_core(), tempfile.TemporaryDirectory(prefix="tscm-fuzz-") as scratch:
        if importlib.util.find_spec("atheris") is None:
            raise TscmError("atheris is not installed: pip install atheris, which has wheels for Linux")
        names = target or list(NAMES)
        unknown = sorted(set(names) - set(NAMES))
        if unknown:
            raise TscmError(f"there is no target {unknown[0]!r}: the targets are {', '.join(NAMES)}")
        rows = [fuzz(name, seconds / len(names), keep or Path(scratch)) for name in names]
        print_rows("Fuzz of hostile input", [{**row, "findings": len(row["findings"])} for row in rows], HEADS)
        if out is not None:
            write_json(out, {"targets": rows})
        found = [f"{row['target']}: {item['what']} at {item['where']}" for row in rows for item in row["findings"]]
        if found:
            raise TscmError(f"{len(found)} findings: " + "; ".join(found))


def fuzz(name: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Fuzz one target; where it crashes or hangs, go on from what was kept."""
    home, started = (folder / name.replace(" ", "_")).resolve(), time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    executions, ends = 0, []
    while (left := seconds - (time.monotonic() - started)) > 1.0:
        code, log = _child(name, home, left)
        executions += int((re.findall(r"stat::number_of_executed_units: (\d+)", log) or [0])[-1])
        if code == 0:
            break
        if code not in _ENDS:
            raise TscmError(f"the fuzz of {name} ended with {code}: {log.strip().splitlines()[-1]}")
        ends.append({"what": _ENDS[code], "where": _stack(log), "input": ""})
    lines = json.loads(_run([name, str(home)]).stdout.splitlines()[-1])
    found = home / "findings.jsonl"
    findings = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
    return {
        "target": name,
        "executions": executions,
        "seconds": round(time.monotonic() - started),
        "kept": len(list((home / "corpus").iterdir())),
        "lines_seeds": lines["seeds"],
        "lines": lines["kept"],
        "findings": findings + ends,
    }


def _child(name: str, home: Path, seconds: float) -> tuple[int, str]:
    options = [
        f"-max_total_time={max(1, round(seconds))}", f"-timeout={HANG_S}", "-rss_limit_mb=4096", "-max_len=262144",
        "-len_control=0", "-print_final_stats=1", "-verbosity=1", f"-artifact_prefix={home}/",
    ]  # fmt: skip
    done = _run([name, str(home), *options])
    return done.returncode, done.stderr


def _run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF", "PYTHONHASHSEED": "0"}
    command = [sys.executable, str(_CHILD), *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)


def _stack(log: str) -> str:
    """The innermost line of ours in the trace that a crash or hang leaves."""
    lines = re.findall(r'File "[^"]*/(tscm_\w+/[^"]+)", line (\d+)', log)
    return ":".join(lines[-1]) if lines else ""


if __name__ == "__main__":
    app()
