"""``tscm replay``: drives through the loop detector, without ROS, judged by the poses that they carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape

from tscm_core.commands.replay_tables import print_result
from tscm_core.commands.support import (
    Json,
    Params,
    PoseTopic,
    Rate,
    Settings,
    errors,
    open_describer,
    print_json,
    progress,
    read_settings,
)

if TYPE_CHECKING:
    from tscm_core.config import Config
    from tscm_core.datasets.drive_source import DriveSource
    from tscm_core.evaluation.ground_truth import Truth
    from tscm_core.evaluation.replay import ReplayResult
    from tscm_core.recognition.loop_detector import LoopDetector


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to do with the drives."""

    truth: Truth
    config: Config
    one_map: bool
    ablate: bool


_Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Bags, folders of images, KITTI odometry sequences; one or several."),
]
_Radius = Annotated[float, typer.Option(metavar="METRES", min=0.0, help="A match is right within this distance.")]
_MaxYaw = Annotated[float, typer.Option(metavar="DEGREES", min=0.0, max=180.0, help="... and this heading.")]
_OneMap = Annotated[
    bool,
    typer.Option(
        "--one-map",
        help="Each drive goes on with the map of those before it, and their poses share one origin; "
        "without this each begins with an empty map.",
    ),
]
_TruthTopic = Annotated[
    str,
    typer.Option(
        metavar="TOPIC",
        help="In bags: judge by these poses, and let the detector have the others; of the same types as --pose-topic.",
    ),
]
_Drift = Annotated[
    Optional[float],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
    typer.Option(
        metavar="PERCENT",
        min=0.0,
        max=100.0,
        help="Give the detector odometry that drifts: steps PERCENT % too long or short, heading off by PERCENT x 0.01 "
        "deg/m, each wandering as much again. 1: good visual-inertial, 2: visual, 5: poor wheels.",
    ),
]
_NoOdometry = Annotated[bool, typer.Option("--no-odometry", help="Give the detector no poses.")]


def replay_command(
    paths: _Paths,
    out: Annotated[Path, typer.Option(help="Folder for report.html, result.json and observations.jsonl.")],
    radius: _Radius = 25.0,
    max_yaw: _MaxYaw = 180.0,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also with the stages switched off and on, one by one.")
    ] = False,
    one_map: _OneMap = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Do not write report.html.")] = False,
    params: Params = None,
    settings: Settings = None,
    image_topic: Annotated[str, typer.Option(help="Needed when a bag has several cameras.")] = "",
    pose_topic: PoseTopic = "",
    truth_topic: _TruthTopic = "",
    drift: _Drift = None,
    no_odometry: _NoOdometry = False,
    depth_topic: Annotated[str, typer.Option(help="Needed when a bag has several depth images.")] = "",
    camera_info_topic: Annotated[str, typer.Option(help="Needed when a bag has several of that camera.")] = "",
    rate: Rate = 2.0,
    json_output: Json = False,
) -> None:
    """Send drives through the loop detector, without ROS, and judge what it finds by the poses that they carry.

    The detector has the same poses for odometry, which helps it more than real odometry would: --truth-topic, --drift
    and --no-odometry give it others.

    Writes report.html to look at, result.json with all figures and observations.jsonl with every frame.

    Example: `tscm replay drive_bag --out replay_output --radius 5 --ablate`
    """
    from tscm_core.datasets.bag_topics import BagTopics
    from tscm_core.datasets.drive_source import open_drive
    from tscm_core.evaluation.ground_truth import Truth
    from tscm_core.evaluation.results import make_folder

    if bool(truth_topic) + (drift is not None) + no_odometry > 1:
        raise typer.BadParameter("--truth-topic, --drift and --no-odometry exclude each other: give one of them")
    if drift is not None and math.isnan(drift):
        raise typer.BadParameter("--drift must be a number of per cent")
    config = read_settings(params, settings)
    topics = BagTopics(image_topic, "", camera_info_topic, pose_topic, depth_topic, truth_topic)
    opened = [open_drive(path, topics, config.input.odometry_max_gap_s, rate) for path in paths]
    drives = [_with_odometry(drive, number, drift, no_odometry) for number, drive in enumerate(opened)]
    with ExitStack() as stack:
        sources = [stack.enter_context(drive) for drive in drives]
        make_folder(out)
        detector, result = _run(sources, _Asked(Truth(radius, max_yaw), config, one_map, ablate))
        _write(result, detector, sources, out, report=not no_report)
    for refusal in result.refusals[:5]:
        errors.print(f"[yellow]image at {refusal.stamp_ns / 1e9:.3f} s refused:[/] {escape(refusal.reason)}")
    if json_output:
        print_json(result.to_json())
    else:
        print_result(result.to_json(), out, report=not no_report)


def _with_odometry(drive: DriveSource, number: int, drift: float | None, no_odometry: bool) -> DriveSource:
    from tscm_core.datasets.odometry_drift import OdometryDrive

    return drive if drift is None and not no_odometry else OdometryDrive(drive, drift, seed=number)


def _run(sources: list[DriveSource], asked: _Asked) -> tuple[LoopDetector, ReplayResult]:
    from tscm_core.evaluation.ablation import Ablation
    from tscm_core.evaluation.remembering import RememberingDescriber, RememberingMatcher
    from tscm_core.evaluation.replay import replay_all
    from tscm_core.recognition.geometry import OrbMatcher
    from tscm_core.recognition.loop_detector import LoopDetector

    config, truth = asked.config, asked.truth
    describer = open_describer(config.model)
    if asked.ablate:
        remembering = RememberingDescriber(describer), RememberingMatcher(OrbMatcher())
        with _bars() as bar_of:
            return Ablation(sources, *remembering, config, truth, asked.one_map).run(bar_of)
    detector = LoopDetector(describer, config)
    with progress("Replaying") as show:
        return detector, replay_all(sources, detector, truth, asked.one_map, show)


@contextmanager
def _bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """One progress bar after another; each ends when the next is asked for."""
    with ExitStack() as stack:

        def bar_of(title: str) -> Callable[[int, int], None]:
            stack.pop_all().close()
            return stack.enter_context(progress(f"Replaying: {escape(title)}"))

        yield bar_of


def _write(
    result: ReplayResult, detector: LoopDetector, sources: list[DriveSource], out: Path, *, report: bool
) -> None:
    """All files, or none; a report of before, where none is wanted now, does not stay beside other figures."""
    from tscm_core.evaluation.report import report_page
    from tscm_core.evaluation.results import REPORT, staged, write_into

    with staged(out, obsolete=() if report else (REPORT,)) as aside:
        write_into(result, aside)
        if report:
            (aside / REPORT).write_text(report_page(result, detector, sources), encoding="utf-8")
