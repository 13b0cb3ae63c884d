"""Tables on standard output, and errors as one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from tscm_core.commands.support import errors, output
from tscm_core.errors import TscmError


def print_rows(title: str, rows: Sequence[Mapping[str, Any]], heads: Mapping[str, str]) -> None:
    """One line for each row; ``heads`` are the heads of the columns by key."""
    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads.values():
        table.add_column(head, justify="right" if table.columns else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in heads))
    output.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        TscmError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise TscmError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def one_core() -> Iterator[None]:
    """OpenCV on one thread, as the network is by default; an error of the program ends it with its sentence."""
    cv2.setNumThreads(1)
    try:
        yield
    except TscmError as error:
        errors.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(1) from error


def named(text: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``.

    Raises:
        TscmError: it is none.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise TscmError(f"a drive is given as NAME=PATH, not {text!r}")
    return name, value
