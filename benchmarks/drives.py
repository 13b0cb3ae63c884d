"""Does the detector find the same loops when the second lap is driven another way, and does it keep quiet at a stand?

Each drive is two laps. The variants of the second: driven in reverse (the camera faces the same way: the robot backs
up), at half the speed, with every third image of both laps lost, and with a stand of a minute at a place seen before.
Each is run with odometry that drifts, and without any; the true poses are used for judging alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from kept import KeptDescriber
from tables import named, one_core, print_rows, write_json
from variants import STAND, ShotDrive, Shots, all_of, laps, variants

from tscm_core.commands.support import Params, Settings, errors, progress, read_settings
from tscm_core.datasets.odometry_drift import OdometryDrive
from tscm_core.errors import DatasetError
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.judgement import JudgedFrame
from tscm_core.evaluation.remembering import RememberingMatcher
from tscm_core.evaluation.replay import replay
from tscm_core.evaluation.replay_result import ReplayResult
from tscm_core.recognition.geometry import OrbMatcher
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import distance_m
from tscm_core.recognition.records import Pose

HEADS = {
    "variant": "variant",
    "keyframes": "keyframes",
    "revisits": "revisits",
    "right": "right",
    "wrong": "wrong",
    "recall": "recall",
    "of_the_plain_loops": "of plain",
    "keyframes_standing": "keyframes*",
    "published_standing": "loops*",
}
"""Heads of the columns; * is while standing."""

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one variant.

    Attributes:
        result: of the replay.
        standing: how many keyframes were taken while the robot stood.
        published: candidates accepted while it stood.
    """

    result: ReplayResult
    standing: int
    published: int

    def poses(self, when: Callable[[JudgedFrame], bool]) -> list[Pose]:
        """Where its keyframes truly were for which that is so."""
        places = self.result.true_poses
        known = (places.of(frame.keyframe) for frame in self.result.judged if when(frame))
        return [pose for pose in known if pose is not None]


def drive(detector: LoopDetector, shots: Shots, truth: Truth, drift: float | None) -> Outcome:
    """Drive with an empty map, with odometry that drifts by ``drift`` % or with none, and judge by the true poses."""
    detector.restore((), (), "drive")
    with OdometryDrive(ShotDrive(Path("drive"), shots), drift) as source:
        result = replay(source, detector, truth)
    stood = {shot.stamp_ns for shot in shots if shot.noise is not None}
    standing = [seen for seen in result.observations if seen.stamp_ns in stood]
    keyframes = sum(seen.keyframe is not None for seen in standing)
    return Outcome(result, keyframes, sum(len(seen.accepted) for seen in standing))


def kept_share(plain: Outcome, variant: Outcome, radius_m: float) -> float | None:
    """Of the places where the plain drive closed loops rightly, the share at which the variant did too.

    Within the radius; only those that are revisits for the variant count, as it may pass some too early to search them.
    """

    def closed(frame: JudgedFrame) -> bool:
        return any(frame.accepted.right)

    there, here = variant.poses(lambda frame: bool(frame.verdict.revisit)), variant.poses(closed)
    asked = [place for place in plain.poses(closed) if _near(place, there, radius_m)]
    return sum(_near(place, here, radius_m) for place in asked) / len(asked) if asked else None


def _near(place: Pose, others: Sequence[Pose], radius_m: float) -> bool:
    return any(distance_m(place, other) <= radius_m for other in others)


def row(name: str, outcome: Outcome, plain: Outcome, radius_m: float) -> dict[str, Any]:
    """The figures of a variant."""
    score = outcome.result.score
    if score is None:
        raise DatasetError("no image has a position: a drive without ground truth cannot be judged")
    return {
        "variant": name,
        "keyframes": len(outcome.result.judged),
        "revisits": score.revisits,
        "right": score.correct,
        "wrong": score.wrong,
        "recall": score.recall,
        "of_the_plain_loops": kept_share(plain, outcome, radius_m),
        "keyframes_standing": outcome.standing if name == STAND else None,
        "published_standing": outcome.published if name == STAND else None,
    }


def rendered_finely(lap: Path, cache: Path) -> Shots:
    """Lap two of the rendered drive that ``lap`` belongs to, with half the way between images.

    Raises:
        DatasetError: ``lap`` is not part of a rendered drive.
        MissingDependencyError: vizdoom is not installed.
    """
    from tscm_core.datasets.world_drives import ABOUT, WorldDrive, render_world

    about = lap.parent / ABOUT
    if not about.is_file():
        raise DatasetError(f"{lap} is not part of a rendered drive: leave out --finely, or render it with tscm render")
    known: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
    known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    names = {item.name for item in dataclasses.fields(WorldDrive)} - {"depth"}
    plan = WorldDrive(**{name: value for name, value in known.items() if name in names})
    plan = dataclasses.replace(plan, spacing=plan.spacing / 2)
    out = cache / f"fine-{hashlib.blake2b(repr(plan).encode(), digest_size=8).hexdigest()}"
    if not out.exists():
        with progress(f"rendering {plan.world}") as show:
            render_world(plan, out, progress=show)
    return all_of(out / lap.name)


@app.command()
def main(
    drives: Annotated[list[str], typer.Option("--drive", help="NAME=LAP1,LAP2 or NAME=FOLDER@IMAGES_OF_LAP1.")],
    radius: Annotated[float, typer.Option(metavar="METRES", min=0.0, help="A match is right within this distance.")],
    max_yaw: Annotated[float, typer.Option(metavar="DEGREES", min=0.0, max=180.0)] = 180.0,
    drift: Annotated[float, typer.Option(metavar="PERCENT", min=0.0, help="How badly odometry drifts.")] = 2.0,
    cache: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
        typer.Option(help="Folder outside the repository, where descriptors are kept for the next run."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="JSON file to write.")] = None,  # noqa: UP045
    finely: Annotated[bool, typer.Option("--finely", help="Half speed is rendered anew; needs --cache.")] = False,
    params: Params = None,
    settings: Settings = None,
) -> None:
    """Drive the second lap in other ways, and count the loops."""
    from tscm_core.deploy.load import load_describer

    with one_core():
        config, truth, results = read_settings(params, settings), Truth(radius, max_yaw), []
        describer = KeptDescriber(load_describer(config.model), cache)
        for name, text in map(named, drives):
            first, second = laps(text)
            fine = rendered_finely(Path(text.partition(",")[2]), cache) if finely and cache else ()
            detector = LoopDetector(describer, config, matcher=RememberingMatcher(OrbMatcher()))
            ways = variants(first, second, truth, fine)
            for percent in (drift, None):
                rows = run(detector, ways, truth, percent)
                odometry = "none" if percent is None else f"drift {percent:g} %"
                print_rows(f"{name}, odometry: {odometry}", rows, HEADS)
                results.append({"drive": name, "odometry": odometry, "variants": rows})
            describer.kept.save()
        if out:
            write_json(out, {"settings": {key: value for key, value, _ in config.settings()}, "drives": results})


def run(detector: LoopDetector, ways: dict[str, Shots], truth: Truth, drift: float | None) -> list[dict[str, Any]]:
    """The figures of all variants; the first is what the others are compared to."""
    outcomes = {}
    for name, shots in ways.items():
        errors.print(f"{name}: {len(shots)} images")
        outcomes[name] = drive(detector, shots, truth, drift)
    plain = next(iter(outcomes.values()))
    return [row(name, outcome, plain, truth.radius_m) for name, outcome in outcomes.items()]


if __name__ == "__main__":
    app()
