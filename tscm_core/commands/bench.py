"""``tscm bench``: what every stage costs on this machine, beside its budget."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tscm_core.commands.support import Json, Params, Settings, errors, output, print_json, read_settings
from tscm_core.errors import TscmError

if TYPE_CHECKING:
    from tscm_core.bench.records import Section

_FILE_WIDTH = 118
"""Of tables that go to a file or a pipe."""


def bench_command(
    only: Annotated[
        str, typer.Option(metavar="NAMES", help="Sections, with commas between them.", show_default="all but saving")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Compile every backend, search a million places, and saving; takes long.")
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DRIVE", help="Folder of images or bag to describe and verify in place of made-up images."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for bench.json and bench.png.")] = None,
    params: Params = None,
    settings: Settings = None,
    json_output: Json = False,
) -> None:
    """Measure describing, matching, the map, verification, the whole path, the node over DDS, and its start.

    Sections: describe, match, map, verify, path, dds, startup; and, if named or with --all, saving: what saving and
    loading 10,000 places do to the images meanwhile. Takes less than four minutes on two cores; the first run compiles
    what it needs. Close other programs: figures are medians and 95th percentiles, and say what they cannot.

    Example: `tscm bench --only describe,match --out bench/`
    """
    from tscm_core.bench.run import PARTS

    named = _names(only, tuple(PARTS))
    config = read_settings(params, settings)

    from tscm_core.bench.header import header
    from tscm_core.bench.records import bench_json
    from tscm_core.bench.request import Effort, Request
    from tscm_core.bench.request import everything as all_of_it
    from tscm_core.bench.run import run_all, usual
    from tscm_core.bench.table import header_lines, summary

    if out is not None:
        _make(out)
    facts = header()
    request = Request(config, all_of_it() if everything else Effort(), images)
    names = named or usual(request.effort)
    for line in header_lines(facts):
        (errors if json_output else output).print(escape(line))
    sections = []
    with _ended_by_signal():
        for section in run_all(names, bool(only), request, _say):
            sections.append(section)
            if not json_output:
                _print(section)
    result = bench_json(facts, sections)
    if out is not None:
        _write(out, result, sections)
    if json_output:
        print_json(result)
    else:
        output.print(escape(summary(sections)))
    _fail_if_one_did(sections)


def _names(only: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """The sections that are asked for by name."""
    names = tuple(name.strip() for name in only.split(",") if name.strip())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(
            f"there is no section {', '.join(unknown)}: the sections are {', '.join(known)}", param_hint="--only"
        )
    return names


def _fail_if_one_did(sections: list[Section]) -> None:
    from tscm_core.bench.records import FAILED

    failed = [section for section in sections if section.state == FAILED]
    for section in failed:
        errors.print(f"[bold red]error:[/] {escape(f'{section.name}: {section.reason}')}")
    if failed:
        raise typer.Exit(1)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TscmError(f"folder {folder} cannot be made: {error.strerror}") from error


def _print(section: Section) -> None:
    from tscm_core.bench.records import DONE
    from tscm_core.bench.table import remarks, section_table

    if section.state == DONE:
        tables = output if output.is_terminal else Console(width=_FILE_WIDTH, highlight=False)
        tables.print(section_table(section))
    for line in remarks(section):
        output.print(f"[dim]{escape(line)}[/]")
    output.print()


def _write(folder: Path, result: dict[str, object], sections: list[Section]) -> None:
    """``bench.json`` and, where matplotlib is installed, ``bench.png``."""
    path = folder / "bench.json"
    temporary = path.with_name(".bench.json.tmp")
    try:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise TscmError(f"{path} cannot be written: {error.strerror}") from error
    try:
        from tscm_core.bench.plot import draw
    except ImportError as error:
        _say(f"no bench.png: Python package {error.name} is not installed (pip install {error.name})")
        return
    if not draw(result["header"], sections, folder / "bench.png"):  # type: ignore[arg-type]
        _say("no bench.png: it shows describe, match and path, and none of them was measured")


def _say(text: str) -> None:
    errors.print(f"[dim]{escape(text)}[/]")


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """SIGTERM ends the sections as Ctrl-C does: nothing that was started is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
