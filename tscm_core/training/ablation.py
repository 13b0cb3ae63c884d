"""The ablation: is the cross-metric term worth more than plain distillation?

That it is, is what TSCM claims, https://arxiv.org/abs/2404.01587, section IV. One student for each arm and seed: same
images, same start, same optimiser, same number of steps; the loss is all that differs. ``run_ablation`` reads as its
table of contents.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tscm_core.checkpoints import load_network
from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError, TscmError
from tscm_core.evaluation.recall import recall_at
from tscm_core.network_header import read_header
from tscm_core.training.ablation_arms import AblationSettings, Arm
from tscm_core.training.ablation_page import to_markdown
from tscm_core.training.ablation_sets import EvaluationSet, open_sets
from tscm_core.training.ablation_table import START, TEACHER, Report, Row
from tscm_core.training.feature_cache import describe_images
from tscm_core.training.images import Images, Progress, Size
from tscm_core.training.run import Watcher, train
from tscm_core.training.run_folder import RunFolder
from tscm_core.training.settings import TrainSettings

KS = (1, 5, 10)
_FIGURES = "figures.json"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one network achieves: ``recall`` by set and k, 0..1."""

    model_id: str
    recall: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True, slots=True)
class _Run:
    """A finished run: what it took and what its network achieves."""

    result: Mapping[str, Any]
    measured: Measured


def run_ablation(
    ablation: AblationSettings, out: Path, *, command: str, resume: bool = False, watcher: Watcher | None = None
) -> Report:
    """Train and measure every arm with every seed, the start before training and the teacher.

    Args:
        ablation: what to compare.
        out: folder for ``ARM/seedN`` (each a training run), ``start``, ``teacher``, ``features``, ``ablation.json``
            and ``ablation.md``.
        command: how it was asked for, to be shown in the report.
        resume: go on with the ablation that is there; runs that are over are not repeated.
        watcher: who is told how it goes.

    Raises:
        ConfigError: settings are unfit, an ablation is there and ``resume`` is not given, or it has other settings.
        DatasetError: images are missing or give no tuples.
        ModelFileError: weights are missing or do not fit.
        InterruptedRunError: the user ended it.
        TscmError: ``out`` cannot be written.
    """
    watcher = dataclasses.replace(watcher or Watcher(), bar=None)  # one run's bar is no help among twenty
    ablation = _with_cache(ablation, out)
    learnt, sets = open_sets(ablation)
    training = ablation.training
    _check_folder(out, resume, Path(training.teacher.file))
    teacher = _measure(Path(training.teacher.file), out / TEACHER, training.data.teacher_input_size, training, sets,
                       watcher.progress)  # fmt: skip
    starts: list[_Run] = []
    runs: dict[str, list[_Run]] = {arm.name: [] for arm in ablation.arms}
    for seed in ablation.seeds:  # all arms of a seed, then the next: what is there early is comparable
        starts.append(_run(ablation.of_start(seed), out, START, seed, sets, watcher))
        for arm in ablation.arms:
            runs[arm.name].append(_run(ablation.of_run(arm, seed), out, arm.name, seed, sets, watcher))
    rows = [_start_row(starts), *(_row(arm, runs[arm.name]) for arm in ablation.arms), _teacher_row(teacher)]
    facts = [part.facts for part in sets]
    report = Report(command, ablation.text, ablation.seeds, ablation.select, _conditions(ablation, learnt), facts, rows)
    _write(out / "ablation.json", json.dumps(to_json(report, ablation), indent=2) + "\n")
    _write(out / "ablation.md", to_markdown(report))
    return report


def to_json(report: Report, ablation: AblationSettings) -> dict[str, Any]:
    """Every figure and every setting, as JSON values."""
    return {
        "command": report.command,
        "seeds": list(report.seeds),
        "select": report.select,
        "sets": [dataclasses.asdict(facts) for facts in report.sets],
        "rows": [row.to_json(report.base) for row in report.rows],
        "settings": ablation.to_dict(),
    }


def _with_cache(ablation: AblationSettings, out: Path) -> AblationSettings:
    """Features of a frozen trunk are computed once for all runs, whether or not the settings say where."""
    freeze = ablation.training.freeze
    if not freeze.variants or freeze.cache_folder:
        return ablation
    freeze = dataclasses.replace(freeze, cache_folder=str(out / "features"))
    return dataclasses.replace(ablation, training=dataclasses.replace(ablation.training, freeze=freeze))


def _check_folder(out: Path, resume: bool, teacher: Path) -> None:
    """Refuse to write over an ablation, or to go on with one whose runs had another teacher under the same name."""
    if not resume and ((out / "ablation.json").exists() or any(out.glob("*/seed*/config.yaml"))):
        raise ConfigError(f"{out} holds an ablation: --resume goes on with it, another --out begins anew")
    theirs, ours = (_read(out / TEACHER / _FIGURES) or {}).get("model_id"), read_header(teacher).model_id
    if theirs not in {None, ours}:
        raise ConfigError(
            f"the ablation in {out} has the teacher {theirs}, but {teacher} now holds {ours}: begin anew elsewhere"
        )


def _run(
    settings: TrainSettings, out: Path, name: str, seed: int, sets: Sequence[EvaluationSet], watcher: Watcher
) -> _Run:
    """Train, unless that was done already, and measure."""
    folder = RunFolder(out / name / f"seed{seed}")
    told = dataclasses.replace(watcher, say=lambda line: watcher.say(f"{name}, seed {seed}: {line}"))
    result = train("student", settings, folder.path, resume=True, watcher=told)
    measured = _measure(folder.best, folder.path, settings.data.input_size, settings, sets, watcher.progress)
    shown = ", ".join(f"{part} {by_k[1]:.3f}" for part, by_k in measured.recall.items())
    told.say(f"recall@1 {shown}")
    return _Run(result, measured)


def _measure(
    file: Path, folder: Path, asked: Size, settings: TrainSettings, sets: Sequence[EvaluationSet], progress: Progress
) -> Measured:
    """Recall of a network file on all sets; what was measured before is read from ``folder``."""
    model = read_header(file).model_id
    kept, key = folder / _FIGURES, {"model_id": model, "sets": {part.facts.name: part.fingerprint for part in sets}}
    if (known := _read(kept)) and {name: known.get(name) for name in key} == key:
        recall = {name: {int(k): value for k, value in by_k.items()} for name, by_k in known["recall"].items()}
        return Measured(model, recall)
    network = load_network(file)
    size = asked if all(asked) else network.input_size
    gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    network.to(device)
    recall = {}
    for part in sets:
        places, trial = part.places, part.trial
        title = f"Describing {part.facts.name}"
        found = describe_images(network, Images(places.images, size), device, progress, title)
        result = recall_at(found[places.database], found[places.queries], trial.positives, KS, trial.excluded)
        recall[part.facts.name] = result.recall
    _write(kept, json.dumps(key | {"recall": recall}) + "\n")
    return Measured(model, recall)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise TscmError(f"the ablation cannot be written to {path}: {error.strerror}") from error


def _row(arm: Arm, runs: Sequence[_Run]) -> Row:
    return Row(
        arm.name,
        _by_seed([run.measured for run in runs]),
        [run.measured.model_id for run in runs],
        arm,
        [int(run.result["steps"]) for run in runs],
        [float(run.result["images_per_s"]) for run in runs if run.result.get("images_per_s")],
    )


def _start_row(starts: Sequence[_Run]) -> Row:
    found = [run.measured for run in starts]
    return Row(START, _by_seed(found), [one.model_id for one in found], steps=[0] * len(found))


def _teacher_row(teacher: Measured) -> Row:
    return Row(TEACHER, _by_seed([teacher]), [teacher.model_id])


def _by_seed(found: Sequence[Measured]) -> dict[str, dict[int, list[float]]]:
    return {name: {k: [one.recall[name][k] for one in found] for k in KS} for name in found[0].recall}


def _conditions(ablation: AblationSettings, learnt: PlaceSet) -> dict[str, str]:
    """What all arms share, in words."""
    training = ablation.training
    mining, optim, trainer = training.mining, training.optim, training.trainer
    easy = "easy ones too" if mining.keep_easy else f"those within the margin {mining.margin:g}"
    return {
        "network": ", ".join(f"{name} {value}" for name, value in training.network.items()),
        "start": _start_words(training),
        "trunk": _trunk_words(training),
        "learnt from": f"{len(learnt)} images, {len(learnt.queries)} of them queries",
        "tuples": f"{trainer.batch} a batch, {mining.negatives} negatives at most ({easy}), mined by the {mining.by}",
        "optimiser": f"{optim.name}, rate {optim.lr:g} ({optim.schedule}), weight decay {optim.weight_decay:g}",
        "steps": f"{trainer.max_steps}, the same for every arm; none is stopped early",
        "margin `m`": f"{training.loss.margin:g}",
        "distance `d`": "euclidean" if training.loss.euclidean else "squared euclidean",
    }


def _start_words(training: TrainSettings) -> str:
    init = training.init
    if init.weights:
        return f"the network {Path(init.weights).name}"
    parts = [f"{part} from {Path(str(source)).name}" for part, source in init.init_from.items()]
    if init.whiten:
        return ", ".join([*parts, "head in closed form from features of the training images"])
    words = f"visual words from {init.cluster_images} training images, the rest" if init.cluster_images else "the rest"
    return ", ".join([*parts, f"{words} at random"])


def _trunk_words(training: TrainSettings) -> str:
    freeze = training.freeze
    if not freeze.trunk:
        return "moves"
    until = f"frozen for {freeze.unfreeze_after} epochs" if freeze.unfreeze_after else "frozen"
    return f"{until}; {freeze.variants} augmented variants of each image" if freeze.variants else until
