"""``tscm train teacher`` and ``tscm train student``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from tscm_core.commands.support import Json, errors, output, print_json, print_table

if TYPE_CHECKING:
    from tscm_core.training.run import Watcher

train_app = typer.Typer(help="Train networks.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="Settings of the training, like config/student.yaml.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder, from its last checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew where a run is.")]
Changes = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting, e.g. optim.lr=1e-4; may be repeated."),
]


@train_app.command("teacher")
def train_teacher_command(
    config: Config,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("teacher_run"),
    resume: Resume = False,
    overwrite: Overwrite = False,
    changes: Changes = None,
    json_output: Json = False,
) -> None:
    """Train a teacher: a network that learns alone, by the triplet loss.

    Example: `tscm train teacher --config config/teacher.yaml --out teacher_run`
    """
    _train("teacher", config, out, resume, overwrite, changes or [], json_output)


@train_app.command("student")
def train_student_command(
    config: Config,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("student_run"),
    resume: Resume = False,
    overwrite: Overwrite = False,
    changes: Changes = None,
    json_output: Json = False,
) -> None:
    """Train a student, with the teacher that `teacher.file` names, or without one.

    Example: `tscm train student --config config/student.yaml --set teacher.file=teacher_run/best.safetensors`
    """
    _train("student", config, out, resume, overwrite, changes or [], json_output)


def _train(
    kind: str, config: Path, out: Path, resume: bool, overwrite: bool, changes: list[str], json_output: bool
) -> None:
    from tscm_core.training.run import InterruptedRunError, process_rank, train
    from tscm_core.training.settings_file import load_settings

    if resume and overwrite:
        raise typer.BadParameter("take one of --resume and --overwrite", param_hint="--resume")
    settings = load_settings(config, changes)
    with watching() as watcher:
        try:
            result = train(kind, settings, out, resume=resume, overwrite=overwrite, watcher=watcher)
        except InterruptedRunError as error:
            errors.print(f"[yellow]interrupted:[/] {escape(str(error))}")
            raise typer.Exit(130) from error
    if process_rank():  # one of several processes of one run: the first one answers
        return
    if json_output:
        print_json(result)
        return
    best: dict[str, Any] = result.pop("best")
    print_table(f"Best {kind}", [*best.items(), *result.items()])
    output.print(f"every figure: {escape(str(out / 'metrics.jsonl'))}, tensorboard --logdir {escape(str(out))}")


@contextmanager
def watching() -> Iterator[Watcher]:
    """Lines and, on a terminal, bars on standard error."""
    from lightning.pytorch.callbacks import RichProgressBar
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from tscm_core.training.run import Watcher

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown: dict[str, Any] = {}
    bars = Progress(*columns, console=errors, transient=True, disable=not sys.stderr.isatty())

    def progress(title: str, done: int, total: int) -> None:
        """One bar at a time, and none beside Lightning's."""
        if title not in shown:
            shown[title] = bars.add_task(title, total=total)
            bars.start()
        bars.update(shown[title], completed=done, total=total)
        if done >= total:
            bars.remove_task(shown.pop(title))
            bars.stop()

    bar = RichProgressBar(leave=False, console_kwargs={"stderr": True}) if sys.stderr.isatty() else None
    try:
        yield Watcher(progress, lambda line: errors.print(escape(line)), bar)
    finally:
        bars.stop()
