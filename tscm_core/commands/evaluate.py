"""``tscm evaluate``: recall@k of a network on images with known places."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.markup import escape

from tscm_core.commands.support import (
    Json,
    Params,
    Settings,
    open_describer,
    output,
    print_json,
    print_table,
    progress,
    read_settings,
)
from tscm_core.errors import ConfigError, TscmError

if TYPE_CHECKING:
    from tscm_core.evaluation.recall import Evaluation
    from tscm_core.evaluation.trial import Trial

DATASETS = ("pitts30k", "pitts250k")
SPLITS = ("train", "val", "test")
_RADIUS_M = 25.0


_Positions = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="CSV with image,x,y[,yaw] for both folders; without it: positions.csv beside the images, "
        "or UTM in their names (@utm_east@utm_north@...@.jpg).",
    ),
]
_Source = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file with a source of places, or a list of such, as training takes them."),
]
_Radius = Annotated[
    float | None,
    typer.Option(
        metavar="METRES",
        help="An answer is right within this distance.",
        show_default=f"{_RADIUS_M:g}, or what --source says",
    ),
]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Where the images come from, and when an answer is right, as the options say it."""

    database: Path | None
    queries: Path | None
    positions: Path | None
    dataset: str | None
    split: str | None
    data: Path | None
    source: Path | None
    radius: float | None
    max_yaw: float | None


def evaluate_command(
    database: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of images that may be found.")] = None,
    queries: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of images to search with.")] = None,
    positions: _Positions = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"A known data set in place of folders: {', '.join(DATASETS)}.")
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="train, val or test.", show_default="test")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the data set lies.", show_default="the working folder")
    ] = None,
    source: _Source = None,
    radius: _Radius = None,
    max_yaw: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="... and headings at most this far apart.", show_default="any"),
    ] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Network; the same as model.weights.")] = None,
    wrong: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Picture sheet of the most confident wrong predictions.")
    ] = None,
    params: Params = None,
    settings: Settings = None,
    json_output: Json = False,
) -> None:
    """Measure recall@1, 5, 10, 20: how many queries find their place among their k most similar database images.

    Queries with no right image in the database are left out of recall and counted. No file is a match for itself.

    Example: `tscm evaluate --database monday/ --queries tuesday/ --radius 5 --wrong wrong.png`
    """
    asked = _Asked(database, queries, positions, dataset, split, data, source, radius, max_yaw)
    _check_usage(asked, wrong)

    from tscm_core.evaluation.recall import evaluate
    from tscm_core.evaluation.wrong_sheet import write_wrong_sheet

    config = read_settings(params, settings)
    if weights is not None:
        config = config.replace({"model.weights": str(weights)})
    if wrong is not None:
        _check_picture(wrong)
    trial = _trial(asked)
    describer = open_describer(config.model)
    with progress("Describing") as show:
        evaluation = evaluate(trial, describer, show)
    print_json(evaluation.to_json()) if json_output else _print(evaluation)  # before the sheet, which may fail
    if wrong is not None:
        count = write_wrong_sheet(evaluation, wrong)
        if not json_output:
            output.print(f"{count} wrong predictions: {escape(str(wrong))}")


def _check_usage(asked: _Asked, wrong: Path | None) -> None:
    folders = any(value is not None for value in (asked.database, asked.queries, asked.positions))
    named = any(value is not None for value in (asked.dataset, asked.split, asked.data))
    if folders + named + (asked.source is not None) != 1:
        raise _usage("give either --database and --queries, or --dataset, or --source")
    if folders and (asked.database is None or asked.queries is None):
        raise _usage("--database and --queries belong together")
    if named and asked.dataset not in DATASETS:
        raise _usage(f"--dataset must be one of {', '.join(DATASETS)}; for others there is --source FILE")
    if asked.split is not None and asked.split not in SPLITS:
        raise _usage(f"--split must be one of {', '.join(SPLITS)}, not {asked.split}")
    if asked.radius is not None and not 0 < asked.radius < math.inf:
        raise _usage(f"--radius must be more than 0 metres, not {asked.radius:g}")
    if asked.max_yaw is not None and not 0 <= asked.max_yaw <= 180:
        raise _usage(f"--max-yaw must be from 0 to 180 degrees, not {asked.max_yaw:g}")
    if wrong is not None and wrong.suffix.lower() != ".png":
        raise _usage(f"--wrong writes PNG: {wrong} must end in .png")


def _check_picture(wrong: Path) -> None:
    folder = wrong.absolute().parent
    if not folder.is_dir():
        raise TscmError(f"picture {wrong} cannot be written: there is no folder {wrong.parent}")
    if wrong.is_dir():
        raise TscmError(f"picture {wrong} cannot be written: it is a folder")
    if not os.access(folder, os.W_OK):
        raise TscmError(f"picture {wrong} cannot be written: folder {wrong.parent} is read-only for you")


def _usage(problem: str) -> typer.BadParameter:
    return typer.BadParameter(problem)


def _trial(asked: _Asked) -> Trial:
    """The trial that was asked for; all that can be wrong with the data but the pixels is found here."""
    from tscm_core.datasets.place_sources import open_all
    from tscm_core.evaluation.trial import located_by_one_file, trial_of_folders, trial_of_places, with_limits

    if asked.database is not None and asked.queries is not None:
        known, asking = located_by_one_file(asked.database, asked.queries, asked.positions)
        return trial_of_folders(known, asking, asked.radius or _RADIUS_M, asked.max_yaw)
    if asked.source is not None:
        sources, radius = _read_sources(asked.source), asked.radius
    else:
        folder, split = asked.data or Path(), f"{asked.dataset}_{asked.split or 'test'}"
        sources = [{"kind": "pittsburgh", "folder": str(folder), "split": split}]
        radius = asked.radius or _RADIUS_M
    places = with_limits(open_all(sources), radius, asked.max_yaw)
    places.check_images()
    trial = trial_of_places(places, "frames" if sources[0].get("kind") == "frames" else "m")
    return trial if asked.max_yaw is None else dataclasses.replace(trial, max_yaw_deg=asked.max_yaw)


def _read_sources(path: Path) -> list[dict[str, Any]]:
    try:
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"source {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"source {path} is not YAML: {str(error).splitlines()[0]}") from error
    sources = source if isinstance(source, list) else [source]
    if not sources or not all(isinstance(one, dict) for one in sources):
        raise ConfigError(f"source {path} must hold settings, as in kind: positions, or a list of such tables")
    return sources


def _print(evaluation: Evaluation) -> None:
    figures, unit = evaluation.to_json(), evaluation.trial.unit
    rows: list[tuple[str, object]] = [(f"recall@{k}", value) for k, value in figures["recall"].items()]
    rows += [
        ("radius", f"{figures['radius_m']:g} {unit}"),
        ("queries with a right image", f"{figures['queries_with_positive']} of {figures['queries']}"),
        ("database", figures["database"]),
        ("model", figures["model_id"]),
        ("dimensions", figures["dim"]),
        ("describe one image, median", f"{figures['describe_ms_p50']:.1f} ms"),
    ]
    if evaluation.trial.max_yaw_deg is not None:
        rows.insert(5, ("headings within", f"{evaluation.trial.max_yaw_deg:g} degrees"))
    print_table(f"Recall within {figures['radius_m']:g} {unit}", rows)
