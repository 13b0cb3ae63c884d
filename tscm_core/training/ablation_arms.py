"""What an ablation compares, and the settings of it: arms that differ in nothing but their loss."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tscm_core.errors import ConfigError
from tscm_core.training.distillation_loss import LossWeights
from tscm_core.training.settings import TrainSettings
from tscm_core.training.settings_file import settings_from

BASE = "hard"
"""The arm that learns nothing from the teacher: all others are measured against it."""
SYMBOLS = {
    "hard": "L_hard", "soft": "L_soft", "cross": "L_cm", "feature": "L_feature",
    "relation_distance": "L_distance", "relation_angle": "L_angle",
}  # fmt: skip
RELEASED_SYMBOLS = {"hard": "L_hard'", "cross": "L_released"}
_SELECT = ("last", "best")
_KEYS = ("arms", "seeds", "select", "evaluate")


@dataclass(frozen=True, slots=True)
class Arm:
    """One loss among those that are compared; ``form`` as ``DistillationLoss`` takes it."""

    name: str
    weights: LossWeights
    form: str = "paper"

    @property
    def terms(self) -> dict[str, float]:
        """Weights above 0, by the name of their part."""
        return {name: weight for name, weight in dataclasses.asdict(self.weights).items() if weight}

    @property
    def loss(self) -> str:
        """The loss as a sum: ``L_hard + 0.5 L_soft``."""
        symbols = RELEASED_SYMBOLS if self.form == "released" else SYMBOLS
        shown = {name: "" if weight == 1 else f"{weight:g} " for name, weight in self.terms.items()}
        return " + ".join(f"{factor}{symbols[name]}" for name, factor in shown.items())

    def reweighted(self, changes: Mapping[str, Any]) -> Arm:
        """The same arm with other weights.

        Raises:
            ConfigError: a term is not of this arm, or its weight is not a number above 0.
        """
        for name, weight in changes.items():
            if name not in self.terms:
                raise ConfigError(
                    f"ablation.arms.{self.name}: it has no term {name}, only {', '.join(self.terms)}: an arm is what "
                    f"its name says"
                )
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not weight > 0:
                raise ConfigError(f"ablation.arms.{self.name}.{name} must be a number above 0, not {weight!r}")
        return dataclasses.replace(self, weights=dataclasses.replace(self.weights, **changes))


def _arm(name: str, form: str = "paper", **weights: float) -> Arm:
    return Arm(name, LossWeights(**({"hard": 1.0, "soft": 0.0, "cross": 0.0} | weights)), form)


ARMS = {
    arm.name: arm
    for arm in (
        _arm(BASE),
        _arm("hard+soft", soft=1.0),
        _arm("hard+cross", cross=1.0),
        _arm("all", soft=1.0, cross=1.0),
        _arm("released", "released", cross=1.0),
        _arm("feature", feature=1.0),
        _arm("relational", relation_distance=1.0, relation_angle=2.0),  # 1 : 2 as Park et al., section 4.1
    )
}
"""Every arm there is, with its own weights."""


@dataclass(frozen=True, slots=True)
class AblationSettings:
    """What is compared, on what, and the training that all arms share.

    Attributes:
        training: settings of a student's training; its loss, seed and length in epochs are replaced.
        arms: in the order of the table.
        seeds: each arm is trained once with each.
        select: which network of a run is judged: that of the ``last`` step, or the ``best`` on ``data.val``.
        evaluate: sources of images that recall is measured on.
        text: the file that all this was read from.
    """

    training: TrainSettings
    arms: tuple[Arm, ...] = tuple(ARMS.values())
    seeds: tuple[int, ...] = (0, 1, 2)
    select: str = "last"
    evaluate: tuple[Mapping[str, Any], ...] = ()
    text: str = ""

    def chosen(self, arms: Sequence[str] | None, seeds: Sequence[int] | None) -> AblationSettings:
        """The same with other seeds, or with some of the arms only.

        Raises:
            ConfigError: an arm is unknown, or a seed is no whole number of 0 or more.
        """
        ours = {arm.name: arm for arm in self.arms}
        asked = self.arms if arms is None else tuple(ours.get(name, ARMS[name]) for name in _known(arms, "arms"))
        return dataclasses.replace(self, arms=asked, seeds=self.seeds if seeds is None else _seeds(seeds, "seeds"))

    def of_run(self, arm: Arm, seed: int) -> TrainSettings:
        """Settings of one run: equal for all arms but for the weights and the form of the loss.

        All take ``trainer.max_steps`` steps, however many tuples their epochs have; none is stopped early.
        """
        shared = self.training
        length = shared.trainer.max_steps
        return dataclasses.replace(
            shared,
            loss=dataclasses.replace(shared.loss, weights=arm.weights, form=arm.form),
            trainer=dataclasses.replace(shared.trainer, seed=seed, max_epochs=min(length, 1_000_000), patience=0),
            data=shared.data if self.select == "best" else dataclasses.replace(shared.data, val=()),
        )

    def of_start(self, seed: int) -> TrainSettings:
        """Settings of a run that leaves the network as it starts: one step at a learning rate of 0, without teacher."""
        run = self.of_run(ARMS[BASE], seed)
        return dataclasses.replace(
            run,
            teacher=dataclasses.replace(run.teacher, file=""),
            mining=dataclasses.replace(run.mining, by="student", keep_easy=True, skip_easy=False),
            optim=dataclasses.replace(run.optim, lr=0.0, accumulate=1),
            trainer=dataclasses.replace(run.trainer, max_steps=1, max_epochs=1),
            freeze=dataclasses.replace(run.freeze, batch_norm=True),
            data=dataclasses.replace(run.data, val=()),
        )

    def to_dict(self) -> dict[str, Any]:
        """The training's settings and the section ``ablation``, as JSON values."""
        section = {
            "arms": {arm.name: arm.terms for arm in self.arms},
            "seeds": list(self.seeds),
            "select": self.select,
            "evaluate": [dict(source) for source in self.evaluate],
        }
        return self.training.to_dict() | {"ablation": section}


def load_ablation(path: Path) -> AblationSettings:
    """Settings from a YAML file: those of a student's training, and a section ``ablation``.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown or unfit setting.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, no such date
        raise ConfigError(f"settings file {path} is not YAML: {str(error).splitlines()[0]}") from error
    try:
        return dataclasses.replace(ablation_from(tree), text=text)
    except ConfigError as error:
        raise ConfigError(f"settings file {path}: {error}") from error


def ablation_from(tree: Any) -> AblationSettings:
    """Settings from a tree like that of a YAML file.

    Raises:
        ConfigError: a key is unknown, a value is unfit, or the settings are not those of a fair comparison.
    """
    section = tree.get("ablation") if isinstance(tree, Mapping) else None
    if not isinstance(section, Mapping):
        raise ConfigError("there is no section ablation: an ablation needs its sources of images in ablation.evaluate")
    for key in section:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f"did you mean ablation.{near[0]}? " if near else ""
            raise ConfigError(f"unknown setting ablation.{key}: {hint}there are {', '.join(_KEYS)}")
    select, sources = section.get("select", "last"), section.get("evaluate") or []
    if select not in _SELECT:
        raise ConfigError(f"ablation.select must be one of {', '.join(_SELECT)}, not {select!r}")
    if not isinstance(sources, list) or not sources or not all(isinstance(source, Mapping) for source in sources):
        raise ConfigError("ablation.evaluate must be a list of sources of images, each with a name and a kind")
    training = settings_from({key: value for key, value in tree.items() if key != "ablation"})
    found = AblationSettings(
        training,
        _arms(section.get("arms", list(ARMS))),
        _seeds(section.get("seeds", [0, 1, 2]), "ablation.seeds"),
        select,
        tuple(dict(source) for source in sources),
    )
    _check_fair(found)
    return found


def _arms(asked: Any) -> tuple[Arm, ...]:
    if not isinstance(asked, list | Mapping):
        raise ConfigError(f"ablation.arms must be a list of arms, or weights by arm, not {asked!r}")
    changes = asked if isinstance(asked, Mapping) else {str(name): {} for name in asked}
    for name, weights in changes.items():
        if not isinstance(weights, Mapping | None):
            raise ConfigError(f"ablation.arms.{name} must hold weights by term, not {weights!r}")
    return tuple(ARMS[name].reweighted(changes[name] or {}) for name in _known(changes, "ablation.arms"))


def _known(names: Iterable[Any], where: str) -> list[str]:
    listed = list(dict.fromkeys(map(str, names)))
    if unknown := [name for name in listed if name not in ARMS]:
        raise ConfigError(f"{where}: there is no arm {', '.join(unknown)}; the arms are {', '.join(ARMS)}")
    if not listed:
        raise ConfigError(f"{where} names no arm; the arms are {', '.join(ARMS)}")
    return listed


def _seeds(seeds: Any, where: str) -> tuple[int, ...]:
    fit = isinstance(seeds, Sequence) and len(seeds) > 0 and all(type(seed) is int for seed in seeds)
    if not fit or not all(0 <= seed < 2**31 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ConfigError(f"{where} must be different whole numbers from 0 to {2**31 - 1}, not {seeds!r}")
    return tuple(seeds)


def _check_fair(ablation: AblationSettings) -> None:
    training = ablation.training
    if not training.teacher.file:
        raise ConfigError("teacher.file names no teacher, but all arms but one learn from it")
    if not training.trainer.max_steps:
        raise ConfigError("trainer.max_steps must be given: by epochs, arms with fewer tuples would take fewer steps")
    if training.trainer.devices * training.trainer.num_nodes > 1:
        raise ConfigError("an ablation runs in one process: set trainer.devices and trainer.num_nodes to 1")
    if ablation.select == "best" and not training.data.val:
        raise ConfigError("ablation.select is best, but data.val names no source to tell the best by")
