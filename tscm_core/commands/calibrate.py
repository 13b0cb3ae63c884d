"""``tscm calibrate``: the thresholds that reach a precision in drives of one's own, and whether the drives prove it."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tscm_core.commands.support import (
    Json,
    Params,
    PoseTopic,
    Rate,
    Settings,
    errors,
    open_describer,
    output,
    print_json,
    print_table,
    progress,
    read_settings,
)
from tscm_core.errors import ConfigError, TscmError

if TYPE_CHECKING:
    from tscm_core.config import Config
    from tscm_core.datasets.bag_topics import BagTopics
    from tscm_core.evaluation.calibration import Calibration, Goal
    from tscm_core.evaluation.calibration_evidence import Evidence
    from tscm_core.evaluation.calibration_grid import Labels
    from tscm_core.evaluation.calibration_tape import Tape
    from tscm_core.evaluation.ground_truth import Truth
    from tscm_core.recognition.descriptor import Describer

POSES, SELF = "poses", "self-labelling"
_BLIND = (
    "self-labelling cannot see two places so alike that geometry takes one for the other over several keyframes: it "
    "calls them the same place"
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Drives by map, and where the thresholds go."""

    maps: tuple[tuple[Path, ...], ...]
    out: Path | None
    anyway: bool
    self_label: bool
    json_output: bool
    topics: BagTopics
    rate: float

    @property
    def names(self) -> list[str]:
        """The drives, those that share a map joined with a comma."""
        return [",".join(map(str, drives)) for drives in self.maps]


def calibrate_command(
    drives: Annotated[
        list[str],
        typer.Argument(
            metavar="DRIVE...",
            help="Bags, folders of images or KITTI sequences. Each begins with an empty map; joined with commas, as in "
            "monday,tuesday, they share one, and their poses must be in one frame.",
        ),
    ],
    precision: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the accepted loops, how many must be right.")
    ] = 0.99,
    confidence: Annotated[float, typer.Option(metavar="SHARE", help="How sure that must be.")] = 0.95,
    radius: Annotated[float, typer.Option(metavar="METRES", help="A match is right within this distance.")] = 25.0,
    max_yaw: Annotated[float, typer.Option(metavar="DEGREES", help="... and this heading.")] = 180.0,
    self_label: Annotated[bool, typer.Option(help="Do not use the poses to tell places apart.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Settings file to write.")] = None,
    anyway: Annotated[bool, typer.Option(help="Write it even if the drives do not prove it.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
    params: Params = None,
    settings: Settings = None,
    image_topic: Annotated[str, typer.Option(help="Needed when a bag has several cameras.")] = "",
    pose_topic: PoseTopic = "",
    depth_topic: Annotated[str, typer.Option(help="Needed when a bag has several depth images.")] = "",
    camera_info_topic: Annotated[str, typer.Option(help="Needed when a bag has several of that camera.")] = "",
    rate: Rate = 2.0,
    json_output: Json = False,
) -> None:
    """Find min_similarity, min_inliers and min_support with the most recall at the asked precision.

    A precision is proven if its lower bound (Clopper-Pearson, one-sided) over independent episodes reaches it:
    keyframes less than ten apart are one episode. Where the drives cannot prove it, nothing is written and the exit
    code is 1. Without poses, the drives label themselves by geometry.

    Example: `tscm calibrate monday_bag tuesday_bag --precision 0.99 --radius 5 --out params.yaml`
    """
    _check_usage(precision, confidence, radius, max_yaw, anyway and out is None)

    from tscm_core.datasets.bag_topics import BagTopics
    from tscm_core.evaluation.calibration import Goal
    from tscm_core.evaluation.calibration_file import check_target
    from tscm_core.evaluation.ground_truth import Truth

    config = read_settings(params, settings)
    if not (config.geometry.enabled and config.temporal.enabled):
        raise ConfigError(
            "calibrate chooses thresholds of geometry and temporal: geometry.enabled and temporal.enabled must be true"
        )
    if out is not None:
        check_target(out, overwrite)
    topics = BagTopics(image=image_topic, pose=pose_topic, depth=depth_topic, camera_info=camera_info_topic)
    asked = _Asked(tuple(map(_one_map, drives)), out, anyway, self_label, json_output, topics, rate)
    _calibrate(asked, config, Goal(precision, confidence), Truth(radius, max_yaw))


def _check_usage(precision: float, confidence: float, radius: float, max_yaw: float, anyway_alone: bool) -> None:
    for name, value in (("--precision", precision), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise typer.BadParameter(
                f"{name} must be more than 0 and less than 1, not {value:g}: no number of drives proves 1"
            )
    if not 0 < radius < math.inf:
        raise typer.BadParameter(f"--radius must be more than 0 metres, not {radius:g}")
    if not 0 <= max_yaw <= 180:
        raise typer.BadParameter(f"--max-yaw must be from 0 to 180 degrees, not {max_yaw:g}")
    if anyway_alone:
        raise typer.BadParameter("--anyway belongs to --out")


def _one_map(drives: str) -> tuple[Path, ...]:
    """The drives that share a map; a path with a comma that exists is one drive."""
    if Path(drives).exists():
        return (Path(drives),)
    return tuple(Path(drive) for drive in drives.split(",") if drive)


def _calibrate(asked: _Asked, config: Config, goal: Goal, truth: Truth) -> None:
    from tscm_core.evaluation.calibration import calibrate
    from tscm_core.evaluation.calibration_file import params_text, write_params
    from tscm_core.evaluation.calibration_grid import exact, gather, settings

    describer = open_describer(config.model)
    tapes = [_record(drives, asked, describer, config, truth) for drives in asked.maps]
    source, labels = _labels(tapes, asked.self_label)
    with progress("Trying thresholds") as show:
        evidence = gather(tapes, labels, settings(config), show)
    found = calibrate(evidence, goal, len(tapes), lambda figures: exact(tapes, labels, figures))
    if asked.json_output:
        print_json(_json(found, evidence, source, asked))
    else:
        _print(found, evidence, source)
    if asked.out is not None and (asked.anyway or not found.refusal):
        newest_ns = max(keyframe.stamp_ns for tape in tapes for keyframe in tape.keyframes)
        text = params_text(found, config, asked.names, newest_ns, describer.model_id, source)
        write_params(asked.out, text)
        if not asked.json_output:
            output.print(f"settings: {escape(str(asked.out))}")
    if found.refusal and not asked.anyway:
        raise TscmError(found.refusal)
    if found.refusal:
        errors.print(f"[yellow]not proven:[/] {escape(found.refusal)}")


def _record(drives: tuple[Path, ...], asked: _Asked, describer: Describer, config: Config, truth: Truth) -> Tape:
    from tscm_core.datasets.drive_source import open_drive
    from tscm_core.evaluation.calibration_tape import record

    with contextlib.ExitStack() as stack:
        max_gap_s = config.input.odometry_max_gap_s
        opened = [open_drive(drive, asked.topics, max_gap_s, asked.rate) for drive in drives]
        sources = [stack.enter_context(drive) for drive in opened]
        with progress(f"Looking at {', '.join(drive.name for drive in drives)}") as show:
            return record(sources, describer, config, truth, show)


def _labels(tapes: list[Tape], self_label: bool) -> tuple[str, list[Labels]]:
    from tscm_core.evaluation.calibration_grid import PoseLabels
    from tscm_core.evaluation.calibration_labels import SelfLabels

    if self_label or not any(tape.has_poses for tape in tapes):
        return SELF, [SelfLabels(tape) for tape in tapes]
    return POSES, [PoseLabels() for _ in tapes]


def _json(found: Calibration, evidence: Evidence, source: str, asked: _Asked) -> dict[str, Any]:
    from tscm_core.evaluation.calibration_grid import changes

    confidence, held_out = found.goal.confidence, found.held_out
    return {
        "drives": asked.names,
        "precision": found.goal.precision,
        "confidence": confidence,
        "proven": not found.refusal,
        "refusal": found.refusal or None,
        "labels": source,
        "keyframes_without_label": evidence.unknown,
        "thresholds": changes(found.best.setting, found.best.min_similarity),
        "figures": found.best.to_json(confidence),
        "around": [figures.to_json(confidence) for figures in found.around],
        "held_out": None
        if held_out is None
        else {"right": held_out.right, "wrong": held_out.wrong, "precision": held_out.precision},
    }


def _print(found: Calibration, evidence: Evidence, source: str) -> None:
    best, confidence, held_out = found.best, found.goal.confidence, found.held_out
    _print_around(found)
    sure = f"with {100 * confidence:g} % confidence"
    rows: list[tuple[str, object]] = [
        ("goal", f"precision of at least {found.goal.precision:g} {sure}"),
        ("places told apart by", source),
        ("revisits found", f"{best.found} of {best.revisits}"),
        ("temporal.certain_inliers with them", best.setting.certain_inliers),
        ("accepted", f"{best.right} right, {best.wrong} wrong, in {best.episodes} episodes"),
        (f"precision, at least, {sure}", f"{best.bound(confidence):.3f}"),
        ("never seen places taken for known", f"{best.false_alarms} of {best.strangers} keyframes"),
        (f"... share, at most, {sure}", f"{best.false_alarm_bound(confidence):.3f}"),
    ]
    if held_out is not None:
        rows.append(("each map with thresholds of the others", f"{held_out.right} right, {held_out.wrong} wrong"))
    if evidence.unknown or best.unlabelled:
        rows.append(("without a label", f"{evidence.unknown} keyframes, {best.unlabelled} accepted places"))
    print_table("Calibration" if not found.refusal else "Calibration: NOT PROVEN", rows)
    if source == SELF:
        output.print(_BLIND)


def _print_around(found: Calibration) -> None:
    mark = "best, not proven" if found.refusal else "chosen"
    names = ("similarity", "inliers", "support", "recall", "precision", "at least", "right", "wrong", "episodes")
    table = Table(title=f"Thresholds around the best (*: {mark})", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("", *names):
        table.add_column(name, justify="right")
    for figures in found.around:
        setting, chosen = figures.setting, figures == found.best
        precision = "-" if figures.precision is None else f"{figures.precision:.3f}"
        shares = (f"{figures.recall:.3f}", precision, f"{figures.bound(found.goal.confidence):.3f}")
        thresholds = (f"{figures.min_similarity:.3f}", str(setting.min_inliers), str(setting.min_support))
        counts = (str(figures.right), str(figures.wrong), str(figures.episodes))
        table.add_row("*" if chosen else "", *thresholds, *shares, *counts, style="bold" if chosen else "")
    output.print(table)
