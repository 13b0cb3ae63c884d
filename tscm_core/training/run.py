"""A training run from settings to a network file: ``train`` reads as its table of contents."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from tscm_core.datasets.place_building import join_places
from tscm_core.datasets.place_sources import open_places
from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError, TscmError
from tscm_core.memory import keep_memory
from tscm_core.models.network import Network
from tscm_core.network_header import read_header
from tscm_core.training.batches import as_here
from tscm_core.training.data_module import PlacesModule
from tscm_core.training.distillation_task import DistillationTask
from tscm_core.training.ending import Patience, StopAfter
from tscm_core.training.images import Images, Progress, Size
from tscm_core.training.keeper import Keeper
from tscm_core.training.metrics_rows import MetricsRows
from tscm_core.training.recall_check import RecallCheck, ValidationPlaces
from tscm_core.training.run_folder import RunFolder, check_checkpoint
from tscm_core.training.settings import TrainSettings
from tscm_core.training.starting_point import load_teacher, starting_network
from tscm_core.training.task import DescriptorTask
from tscm_core.training.teacher_task import TeacherTask
from tscm_core.training.visual_words import place_visual_words

KINDS = ("teacher", "student")


@dataclass(frozen=True)
class Watcher:
    """Who watches a run; by default nobody.

    Attributes:
        progress: told how far a preparation is: title, done, total.
        say: takes a line for the user.
        bar: an object that Lightning draws its progress with, if any.
    """

    progress: Progress = lambda title, done, total: None
    say: Callable[[str], None] = lambda line: None
    bar: Any = None


class InterruptedRunError(TscmError):
    """The user ended a run."""


def train(
    kind: str, settings: TrainSettings, out: Path, *, resume: bool = False, overwrite: bool = False,
    watcher: Watcher | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a network; everything about it goes into the folder ``out``.

    Args:
        kind: ``teacher``, which learns alone, or ``student``, which may have a teacher.
        settings: of the run.
        out: folder for ``config.yaml``, ``last.ckpt``, ``best.safetensors``, ``metrics.jsonl``, ``result.json``,
            ``tensorboard``.
        resume: go on with the run that is there, from its last checkpoint; begin it if there is none.
        overwrite: begin anew where a run is.
        watcher: who is told how it goes.

    Returns:
        ``best`` (recall, epochs and steps of the network that was kept), ``epochs``, ``steps``, ``images_per_s``,
        ``network`` (its file) and ``model_id``.

    Raises:
        ConfigError: settings are unfit or are not those of the run that is there.
        DatasetError: images are missing, or their places give no tuples.
        ModelFileError: weights are missing or do not fit.
        InterruptedRunError: the user ended the run.
        TscmError: ``out`` cannot be written.
    """
    cv2.setNumThreads(1)  # images are decoded side by side anyway, and OpenCV's threads do not survive a fork
    watcher, folder = watcher or Watcher(), RunFolder(out)
    keep_memory()
    places, validation = _open_places(settings)
    network, teacher = starting_network(settings), _teacher_of(kind, settings)
    size = _size_of(network, settings.data.input_size)
    sources = [ValidationPlaces(part, settings, size) for part in validation]
    if process_rank() == 0:  # the other processes of a distributed run come later
        folder.prepare(settings, resume=resume, overwrite=overwrite)
    if resume and (result := folder.read_result()):
        watcher.say(f"the run in {out} is over")
        return result
    if not (settings.init.weights or settings.init.whiten or (resume and folder.last.exists())):
        images = Images(places.images, size)
        place_visual_words(network, images, settings.init.cluster_images, settings.trainer.seed, watcher.progress)
    task = DistillationTask(network, teacher, settings) if teacher else TeacherTask(network, settings)
    data = PlacesModule(places, settings, size, _size_of(teacher, settings.data.teacher_input_size), watcher.progress)
    recall = RecallCheck(sources, watcher.progress) if sources else None
    keeper = Keeper(kind, folder, settings, recall)
    rows = MetricsRows(folder, settings.trainer.log_every, recall, watcher.say)
    trainer = _trainer(settings, folder, [recall, rows, *_ending(settings, recall), keeper, watcher.bar])
    _fit(trainer, task, data, folder, resume)
    result = _result(folder, keeper, trainer, rows)
    if trainer.is_global_zero:
        folder.write_result(result)
    return result


def process_rank() -> int:
    """Number of this process in a distributed run: the first one writes and answers."""
    return int(getattr(rank_zero_only, "rank", 0))


def _open_places(settings: TrainSettings) -> tuple[PlaceSet, list[PlaceSet]]:
    """What to learn from and what to measure on, with all images in their places."""
    if not settings.data.train:
        raise ConfigError("data.train names no source of training images")
    parts = [open_places(source) for source in settings.data.train]
    validation = [open_places(source) for source in settings.data.val]
    for part in [*parts, *validation]:
        part.check_images()
    return join_places(parts) if len(parts) > 1 else parts[0], validation


def _teacher_of(kind: str, settings: TrainSettings) -> Network | None:
    """The teacher, if there is to be one, of settings that do not contradict each other."""
    if kind not in KINDS:
        raise ConfigError(f"what is trained must be one of {', '.join(KINDS)}, not {kind!r}")
    if kind == "teacher" and settings.teacher.file:
        raise ConfigError(
            "teacher.file names a teacher, but a teacher learns alone: train a student, or leave it empty"
        )
    if not settings.teacher.file and settings.mining.by == "teacher":
        raise ConfigError("mining.by is teacher, but teacher.file names none: set mining.by to student")
    if settings.trainer.chunk and not settings.freeze.batch_norm:
        raise ConfigError("trainer.chunk would change the statistics of batch normalisation: set freeze.batch_norm")
    if settings.init.whiten and settings.init.weights:
        raise ConfigError("init.whiten makes the head that init.weights brings: set one of them")
    if settings.init.whiten and not settings.freeze.variants:
        raise ConfigError("init.whiten needs features of a frozen trunk: set freeze.trunk and freeze.variants")
    if settings.freeze.variants and not settings.freeze.trunk:
        raise ConfigError("freeze.variants keeps features of a frozen trunk, but freeze.trunk is false")
    if settings.freeze.variants and settings.teacher.sees == "augmented":
        raise ConfigError("freeze.variants keeps no images for the teacher to see: set teacher.sees to clean")
    return load_teacher(settings)


def _size_of(network: Network | None, asked: Size) -> Size:
    if not all(asked):
        return network.input_size if network else (0, 0)
    return asked


def _ending(settings: TrainSettings, recall: RecallCheck | None) -> list[lightning.Callback]:
    ends: list[lightning.Callback] = []
    if settings.trainer.max_steps:
        ends.append(StopAfter(settings.trainer.max_steps))
    if settings.trainer.patience and recall:
        ends.append(Patience(settings.trainer.patience))
    return ends


def _trainer(settings: TrainSettings, folder: RunFolder, callbacks: Sequence[Any]) -> lightning.Trainer:
    _silence()
    asked, optim = settings.trainer, settings.optim
    several = asked.devices * asked.num_nodes > 1
    unused = settings.freeze.trunk and settings.freeze.unfreeze_after > 0
    try:
        return lightning.Trainer(
            accelerator=asked.accelerator,
            devices=asked.devices,
            num_nodes=asked.num_nodes,
            strategy=DDPStrategy(find_unused_parameters=unused) if several else "auto",
            precision=cast(Any, asked.precision),
            max_epochs=asked.max_epochs,
            accumulate_grad_batches=optim.accumulate,
            gradient_clip_val=optim.clip or None,
            log_every_n_steps=asked.log_every,
            # Ctrl-C may come just before the writing thread is told of a figure: the end then waits for its next flush
            logger=TensorBoardLogger(folder.path, name="tensorboard", version="", flush_secs=5),
            callbacks=[callback for callback in callbacks if callback is not None],
            default_root_dir=folder.path,
            use_distributed_sampler=False,
            reload_dataloaders_every_n_epochs=1,
            enable_model_summary=False,
            enable_progress_bar=callbacks[-1] is not None,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"training cannot run like this: {str(error).splitlines()[0]}") from error


def _fit(trainer: lightning.Trainer, task: DescriptorTask, data: PlacesModule, folder: RunFolder, resume: bool) -> None:
    checkpoint = folder.last if resume and folder.last.exists() else None
    if checkpoint:
        check_checkpoint(checkpoint)
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning makes one of the other
        kept = (
            f"{folder.last} is kept, --resume goes on from it" if folder.last.exists() else "no checkpoint was made yet"
        )
        raise InterruptedRunError(f"the training was interrupted at step {trainer.global_step}: {kept}") from error
    except TscmError as error:
        raise as_here(error) from error
    except MisconfigurationException as error:  # fewer epochs than the run has behind it
        raise ConfigError(f"training cannot go on like this: {str(error).splitlines()[0]}") from error


def _result(folder: RunFolder, keeper: Keeper, trainer: lightning.Trainer, rows: MetricsRows) -> dict[str, Any]:
    return {
        "best": keeper.best,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "images_per_s": rows.images_per_s,
        "network": str(folder.best),
        "model_id": read_header(folder.best).model_id,
    }


def _silence() -> None:
    """What Lightning says about its own insides is no news to whoever trains."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for about in ("num_workers", "smaller than the logging interval", "in eval mode", "does not have many workers",
                  "Checkpoint directory", "litlogger", "isolate_", "LeafSpec", "lr_scheduler.step"):  # fmt: skip
        warnings.filterwarnings("ignore", message=f".*{about}.*")
