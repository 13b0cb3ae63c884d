"""What kills, failing disks and damaged bytes cost a map: nothing, or it is found here.

Each command prints a table, writes a JSON file, and exits with 1 if anything was lost or is not as it should be.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from failing_calls import run_with_failing_calls
from kills import kill_often
from mutant_judge import judge_all
from mutants import Base, Files, bases, mutants
from tables import one_core, print_rows, write_json
from write_faults import every_fault

from tscm_core.commands.support import errors

app = typer.Typer(add_completion=False, help="Kill, starve and damage a map, and count what is lost.")
Out = Annotated[Optional[Path], typer.Option(help="JSON file to write.")]  # noqa: UP045 - read at run time
Folder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Folder for the maps while it runs; the system's folder for temporary files if not given."),
]
_FINDINGS_SHOWN = 20


@app.command()
def kills(
    count: Annotated[int, typer.Option(min=1, help="How often the process is killed.")] = 500,
    tiny: Annotated[bool, typer.Option("--tiny", help="Keyframes of 64 numbers without features.")] = False,
    seed: int = 0,
    folder: Folder = None,
    out: Out = None,
) -> None:
    """SIGKILL a process that maps and saves, at random instants."""
    with one_core(), tempfile.TemporaryDirectory(dir=folder) as place:
        row = asdict(kill_often(Path(place), count, seed, tiny=tiny))
    heads = {name: name.replace("_", " ") for name in row if name != "findings"}
    _answer("kills", [row], heads, out)


@app.command("node")
def node_kills(
    count: Annotated[int, typer.Option(min=1, help="How often the node is killed.")] = 20,
    seed: int = 0,
    folder: Folder = None,
    out: Out = None,
) -> None:
    """SIGKILL the real node, which gets images and is asked to save over DDS, at random instants."""
    from node_kills import kill_node_often

    with one_core(), tempfile.TemporaryDirectory(dir=folder) as place:
        row = asdict(kill_node_often(Path(place), count, seed))
    row.pop("unfinished_saves")
    _answer("kills of the node", [row], {name: name.replace("_", " ") for name in row if name != "findings"}, out)


@app.command()
def faults(
    stride: Annotated[int, typer.Option(min=1, help="1: every call fails once; n: every n-th one.")] = 1,
    only: Annotated[str, typer.Option(help="Names of operations and of ways to fail, by commas; all if empty.")] = "",
    folder: Folder = None,
    out: Out = None,
) -> None:
    """Let each call fail that changes or reads a file, in every operation and in six ways."""
    with one_core(), tempfile.TemporaryDirectory(dir=folder) as place:
        arguments = [__file__, "faults-here", place, str(stride), only, *([str(out)] if out else [])]
        raise typer.Exit(run_with_failing_calls(arguments, Path(place)))


@app.command("faults-here", hidden=True)
def faults_here(
    folder: Path,
    stride: int,
    only: str,
    out: Annotated[Optional[Path], typer.Argument()] = None,  # noqa: UP045
) -> None:
    """What ``faults`` runs with failing calls."""
    tallies = [asdict(tally) for tally in every_fault(folder, stride, only)]
    heads = {"operation": "operation", "mode": "what fails", "faults": "faults", "refused": "refused", "lost": "lost"}
    _answer("write faults", tallies, heads, out)


@app.command("mutants")
def mutate(
    rows: Annotated[int, typer.Option(min=0, help="Random bytes that are flipped in the map, and in its log.")] = 1500,
    stride: Annotated[int, typer.Option(min=1, help="Every n-th mutant only.")] = 1,
    only: Annotated[str, typer.Option(help="Names of sound maps, by commas; all if empty.")] = "",
    folder: Folder = None,
    out: Out = None,
) -> None:
    """Cut and flip saved, killed and thinned maps at every structural place; open each, and repair what is refused."""
    results = []
    with one_core(), tempfile.TemporaryDirectory(dir=folder) as name:
        place = Path(name)
        sound, other = bases(place)
        for base in (base for base in sound if not only or base.name in only.split(",")):
            started = time.monotonic()
            tally = judge_all(base, partial(_every, base, other, rows, stride), place)
            made = {"file": base.name, "mutants": tally.opened.total()}
            results.append({**made, **_named(tally.opened), "findings": tally.findings})
            errors.print(f"{base.name}: {time.monotonic() - started:.0f} s")
    heads = {
        key: key for key in ("file", "mutants", "right", "refused", "noted", "wrong", "crash", "hang", "traceback")
    }
    _answer("mutants", results, heads, out)


def _every(base: Base, other: Files, rows: int, stride: int) -> Iterator[tuple[str, Files]]:
    return itertools.islice(mutants(base, other, rows), 0, None, stride)


def _named(counts: Counter[str]) -> dict[str, int]:
    """Mutants by what came of them; a wrong answer has several names."""
    kinds = ("right", "refused", "noted", "wrong", "crash", "hang", "traceback")
    return {kind: sum(number for name, number in counts.items() if name.startswith(kind)) for kind in kinds}


def _answer(title: str, rows: Sequence[dict[str, Any]], heads: dict[str, str], out: Path | None) -> None:
    print_rows(title, rows, heads)
    findings = [finding for row in rows for finding in row["findings"]]
    for finding in findings[:_FINDINGS_SHOWN]:
        errors.print(finding, markup=False)
    sums = {key: sum(row[key] for row in rows) for key in heads if isinstance(rows[0][key], int)}
    errors.print(", ".join(f"{key} {value}" for key, value in sums.items()) + f", findings {len(findings)}")
    if out:
        write_json(out, {"benchmark": title, "sums": sums, "findings": len(findings), "rows": list(rows)})
    if findings:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
