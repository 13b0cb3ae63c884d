"""``tscm train ablation``: what each term of the loss is worth."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from tscm_core.commands.support import Json, errors, output, print_json, print_table

if TYPE_CHECKING:
    from tscm_core.training.ablation_table import Report


def train_ablation_command(
    config: Annotated[Path, typer.Option("--config", help="Settings, like config/ablation.yaml.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs, ablation.json and ablation.md.")] = Path(
        "ablation_run"
    ),
    seeds: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
        typer.Option(metavar="0,1,2", help="Each arm is trained once with each.", show_default="ablation.seeds"),
    ] = None,
    arms: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="NAME,NAME", help="Losses to compare.", show_default="ablation.arms"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the ablation in the folder.")] = False,
    json_output: Json = False,
) -> None:
    """Train the same student with each loss and several seeds, and compare recall: mean and spread.

    Arms: hard, hard+soft, hard+cross, all, released, feature, relational. Runs that are over are not repeated.

    Example: `tscm train ablation --config config/ablation.yaml --out ablation_run`
    """
    from tscm_core.commands.train import watching
    from tscm_core.training.ablation import run_ablation, to_json
    from tscm_core.training.ablation_arms import load_ablation
    from tscm_core.training.run import InterruptedRunError

    asked = load_ablation(config).chosen(_names(arms), _numbers(seeds))
    command = ["tscm", "train", "ablation", "--config", str(config), "--out", str(out)]
    command += [*(["--seeds", seeds] if seeds else []), *(["--arms", arms] if arms else [])]
    with watching() as watcher:
        try:
            report = run_ablation(asked, out, command=shlex.join(command), resume=resume, watcher=watcher)
        except InterruptedRunError as error:
            errors.print(f"[yellow]interrupted:[/] {escape(str(error))}")
            raise typer.Exit(130) from error
    if json_output:
        print_json(to_json(report, asked))
    else:
        _print(report, out)


def _names(arms: str | None) -> list[str] | None:
    return None if arms is None else [name.strip() for name in arms.split(",") if name.strip()]


def _numbers(seeds: str | None) -> list[int] | None:
    if seeds is None:
        return None
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"must be whole numbers like 0,1,2, not {seeds}", param_hint="--seeds") from error


def _print(report: Report, out: Path) -> None:
    from tscm_core.training.ablation_table import percent, spread

    for facts in report.sets:
        found = [(row.name, percent(spread(row.recall[facts.name][1]))) for row in report.rows]
        print_table(f"{facts.name}: recall@1 in percent, within {facts.radius:g} {facts.unit}", found)
    output.print(f"the whole report: {escape(str(out / 'ablation.md'))}")
