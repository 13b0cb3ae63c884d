"""What every command needs: settings, progress, and answers for people or for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tscm_core.config import Config, ModelConfig, load_config, parse_pair

if TYPE_CHECKING:
    from tscm_core.deploy.describer import NamedDescriber

errors = Console(stderr=True, soft_wrap=True, highlight=False)
output = Console(soft_wrap=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else there.")]
Params = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
    typer.Option(help="Settings, as a ROS parameter file like config/place_recognition.yaml."),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="One setting, e.g. candidates.min_similarity=0.8; may be repeated.",
    ),
]

PoseTopic = Annotated[
    str,
    typer.Option(
        "--pose-topic",
        "--odometry-topic",
        help="Odometry, PoseStamped or NavSatFix; or tf, or tf:FRAME. Needed when a bag has several.",
    ),
]
Rate = Annotated[
    float, typer.Option(metavar="HZ", min=0.001, max=1000.0, help="Images a second in a folder of images.")
]


def read_settings(params: Path | None, settings: list[str] | None) -> Config:
    """The default settings, changed by a file and then by NAME=VALUE pairs.

    Raises:
        ConfigError: a setting is unknown, malformed or out of range.
    """
    config = load_config(params) if params else Config()
    return config.replace(dict(parse_pair(pair) for pair in settings or ()))


def open_describer(config: ModelConfig) -> NamedDescriber:
    """What makes descriptors; which backend it is, and that it is being compiled, goes to standard error.

    Raises:
        TscmError: it cannot be had, see ``deploy.load.load_describer``.
    """
    from tscm_core.deploy.load import load_describer

    return load_describer(config, lambda sentence: errors.print(f"[dim]{escape(sentence)}[/]"))


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; the block calls it with (done, total)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=2))


def print_table(title: str, rows: Iterable[tuple[str, object]]) -> None:
    """Two columns on standard output: name and value."""
    table = Table(title=escape(title), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for key, value in rows:
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(key, escape(shown))
    output.print(table)
