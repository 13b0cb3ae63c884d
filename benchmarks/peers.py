"""What peers do, on the same images: the same keyframes, the same recency rule, the same ground truth, in one run.

Every method answers each keyframe with at most one remembered keyframe and a score; the curve is over the score. The
bag of words and the plain methods take the most similar of all keyframes that are old enough. Times are medians over
the keyframes: what a keyframe costs from the image to the answer, on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Optional

import bag_of_words
import typer
from bag_of_words import ORB, SIFT, Vocabulary, load_or_train
from comparison import Comparison, Peer, inner, whole
from kept import Kept, KeptDescriber
from tables import named, one_core, print_rows, write_json
from variants import ShotDrive, all_of, timed

from tscm_core.commands.support import Params, Settings, errors, read_settings
from tscm_core.config import Config
from tscm_core.datasets.drive_source import DriveSource, open_drive
from tscm_core.datasets.odometry_drift import OdometryDrive
from tscm_core.errors import ConfigError
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.judgement import decisions
from tscm_core.evaluation.precision_recall import Decision
from tscm_core.evaluation.replay_result import ReplayResult
from tscm_core.recognition.poses import angle_rad, distance_m

BAGS = {"bag of ORB words": ORB, "bag of SIFT words": SIFT}
HEADS = {
    "method": "method",
    "recall_at_100_precision": "R@100%P",
    "recall_at_99_precision": "R@99%P",
    "auc": "AUC",
    "f1": "F1",
    "answers": "answers",
    "wrong_ever": "wrong",
    "ms": "ms",
}

app = typer.Typer(add_completion=False)


@app.command()
def main(
    radii: Annotated[
        list[float],
        typer.Option("--radius", metavar="METRES", min=0.0, help="A match is right within this; may be repeated."),
    ],
    vocabulary: Annotated[Path, typer.Option(metavar="FOLDER", help="Images to train the words on.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    drives: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
        typer.Option("--drive", help="NAME=PATH[,PATH2...]: several are sessions on one map."),
    ] = None,
    joined: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--joined", help="NAME=FOLDER,FOLDER2...: the images one after another, as one drive."),
    ] = None,
    max_yaw: Annotated[float, typer.Option(metavar="DEGREES", min=0.0, max=180.0)] = 180.0,
    drift: Annotated[float, typer.Option(metavar="PERCENT", min=0.0, help="How badly our odometry drifts.")] = 2.0,
    bags: Annotated[str, typer.Option(help="Kinds of words, by commas.")] = f"{ORB},{SIFT}",
    words: Annotated[int, typer.Option(min=2, help="Size of the vocabulary.")] = 2000,
    cache: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder outside the repository, where descriptors are kept for the next run."),
    ] = None,
    params: Params = None,
    settings: Settings = None,
) -> None:
    """Compare with what peers do."""
    with one_core():
        config = read_settings(params, settings)
        ours, peers, kept = _methods(config, cache, _bags(vocabulary, bags.split(","), words, cache))
        results = []
        for name, paths, as_one in _asked(drives or [], joined or []):
            errors.print(f"{name}")
            with ExitStack() as stack:
                sources = [stack.enter_context(source) for source in _sources(paths, drift, as_one=as_one)]
                comparison = Comparison(sources, ours, peers, config, tuple(BAGS))
            results += [_judged(name, comparison, Truth(radius, max_yaw)) for radius in radii]
            for one in kept:
                one.save()
            write_json(out, {"settings": {key: value for key, value, _ in config.settings()}, "drives": results})


def _judged(name: str, comparison: Comparison, truth: Truth) -> dict[str, Any]:
    rows, result = comparison.rows(truth), comparison.result(truth)
    revisits = result.score.revisits if result.score else 0
    print_rows(f"{name}, {truth.radius_m:g} m: {len(result.judged)} keyframes, {revisits} revisits", rows, HEADS)
    about = {"drive": name, "radius_m": truth.radius_m, "max_yaw_deg": truth.max_yaw_deg}
    return {**about, "methods": rows, "ours_as_configured": _configured(result)}


def _bags(folder: Path, kinds: Sequence[str], words: int, cache: Path | None) -> dict[str, Vocabulary]:
    unknown = [kind for kind in kinds if kind not in BAGS.values()]
    if unknown:
        raise ConfigError(f"--bags: no words are called {unknown[0]!r}; there are {', '.join(BAGS.values())}")
    return {name: load_or_train(folder, kind, words, cache) for name, kind in BAGS.items() if kind in kinds}


def _methods(
    config: Config, cache: Path | None, vocabularies: Mapping[str, Vocabulary]
) -> tuple[KeptDescriber, list[Peer], list[Kept]]:
    """Our describer, the peers, and all that is to be saved."""
    from tscm_core.deploy.load import load_describer

    ours = KeptDescriber(load_describer(config.model), cache)
    frozen = KeptDescriber(load_describer(replace(config.model, weights="imagenet")), cache)
    peers, kept = [], [ours.kept, frozen.kept]
    for name, known in vocabularies.items():
        kept.append(Kept(known.describe, cache / f"bags-{known.name}.npz" if cache else None))
        peers.append(Peer(name, kept[-1].of, bag_of_words.scores))
    peers += [Peer("frozen trunk, top-1", whole(frozen), inner), Peer("our descriptor, top-1", whole(ours), inner)]
    return ours, peers, kept


def _asked(drives: Sequence[str], joined: Sequence[str]) -> Iterator[tuple[str, list[Path], bool]]:
    for texts, as_one in ((drives, False), (joined, True)):
        for name, paths in map(named, texts):
            yield name, [Path(path) for path in paths.split(",")], as_one


def _sources(paths: Sequence[Path], drift: float, *, as_one: bool) -> list[DriveSource]:
    if as_one:
        shots = timed([shot for path in paths for shot in all_of(path)])
        return [OdometryDrive(ShotDrive(paths[0], shots), drift)]
    return [OdometryDrive(open_drive(path), drift, seed=number) for number, path in enumerate(paths)]


def _configured(result: ReplayResult) -> dict[str, Any]:
    """What our detector does at the settings in use, and every wrong answer that it has at any threshold."""
    figures = result.to_json()
    kept = {key: figures[key] for key in ("revisits", "accepted", "correct", "wrong", "recall", "statuses")}
    taken = decisions(result.judged)
    return {**kept, "wrong_ever": [_about(one, result) for one in taken if one.right is False]}


def _about(wrong: Decision, result: ReplayResult) -> dict[str, Any]:
    match = wrong.match or 0
    frame, other = result.judged[wrong.position], result.judged[match].keyframe
    candidate = frame.observation.candidates[frame.verdict.matches.index(match)]
    here, there = (result.true_poses.of(keyframe) for keyframe in (frame.keyframe, other))
    return {
        "stamp_ns": frame.keyframe.stamp_ns,
        "match_stamp_ns": other.stamp_ns,
        "similarity": round(candidate.similarity, 3),
        "inliers": candidate.inliers,
        "support": candidate.temporal_support,
        "metres": round(distance_m(here, there), 1) if here and there else None,
        "degrees": round(math.degrees(angle_rad(here, there))) if here and there else None,
    }


if __name__ == "__main__":
    app()
