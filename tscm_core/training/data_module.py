"""What a training run feeds its network with: tuples mined anew as configured, and what was computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning
import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import DatasetError
from tscm_core.training.augment import Augmenter
from tscm_core.training.batches import BatchLoader, EpochBatches, FeatureInputs, ImageInputs, Rows
from tscm_core.training.feature_cache import FeatureCache, describe_features, describe_images
from tscm_core.training.images import Images, Progress, Size
from tscm_core.training.kept_descriptors import describe_once
from tscm_core.training.mining import TupleMiner
from tscm_core.training.settings import TrainSettings
from tscm_core.training.task import DescriptorTask, task_of

Floats = NDArray[np.float32]


class _Epoch(NamedTuple):
    """The epoch that goes on or begins next, and how many of its batches were learnt from."""

    number: int
    batches: int

    @classmethod
    def of(cls, trainer: lightning.Trainer) -> _Epoch:
        """By Lightning's own counts: at the end of an epoch it has counted that one already, but not its batches."""
        loop: Any = trainer.fit_loop
        epoch, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        return cls(epoch.processed, batches.ready if epoch.ready > epoch.processed else 0)


class PlacesModule(lightning.LightningDataModule):
    """Batches of tuples from a set of places.

    Its state is which tuples were mined and how many batches of the epoch were seen, so that a run that was killed goes
    on with the very next batch.

    Args:
        places: what to learn from.
        settings: of the run.
        size: (width, height) for the network.
        teacher_size: (width, height) for its teacher, where there is one.
        progress: told how far slow preparations are.
    """

    def __init__(
        self, places: PlaceSet, settings: TrainSettings, size: Size, teacher_size: Size, progress: Progress
    ) -> None:
        super().__init__()
        self.places, self.settings, self.progress = places, settings, progress
        self.size, self.teacher_size = size, teacher_size
        self._features: FeatureCache | None = None
        self._taught: Floats | None = None
        self._mined: list[Rows] = []
        self._mined_at = -1
        self._skip, self._skip_in = 0, -1
        self._vary = Augmenter(settings.augment)
        mining = settings.mining
        self._miner = TupleMiner(
            places, mining.negatives, mining.sample, mining.margin, settings.trainer.seed,
            positive=cast(Any, mining.positive), keep_easy=mining.keep_easy, skip_easy=mining.skip_easy,
        )  # fmt: skip
        both = settings.teacher.sees == "augmented"
        largest = max(size, teacher_size, key=lambda item: item[0] * item[1]) if both else size
        keeps_images = settings.freeze.variants == 0 or settings.freeze.unfreeze_after > 0
        self._images = Images(places.images, largest, settings.data.cache_mb if keeps_images else 0)

    def train_dataloader(self) -> BatchLoader:
        """The batches of the epoch that begins or goes on: called by Lightning before each."""
        runner = self._runner()
        epoch = _Epoch.of(runner).number
        task = task_of(runner.lightning_module)
        trainer = self.settings.trainer
        inputs = self._inputs(task, epoch)
        if task.may_align and self._runner().global_step == 0:
            task.align(self._by_student(task, epoch), self._by_teacher(task))
        batches = EpochBatches(
            self._tuples(task, epoch), trainer.batch, (trainer.seed, epoch), inputs, self._teacher_descriptors(task),
            (runner.global_rank, runner.world_size),
        )  # fmt: skip
        skip = self._skip if self._skip_in == epoch else 0
        workers = 0 if isinstance(inputs, FeatureInputs) else self.settings.data.workers
        return BatchLoader(batches, skip, workers, pin=runner.strategy.root_device.type == "cuda")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        epoch = _Epoch.of(self._runner())
        return {
            "mined": [torch.from_numpy(tuples) for tuples in self._mined],
            "mined_at": self._mined_at,
            "epoch": epoch.number,
            "batches": epoch.batches,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was taken."""
        self._mined, self._mined_at = [tuples.numpy() for tuples in state["mined"]], state["mined_at"]
        self._skip, self._skip_in = state["batches"], state["epoch"]

    def _runner(self) -> lightning.Trainer:
        if self.trainer is None:
            raise RuntimeError("batches are made by a run of Lightning's trainer only")
        return self.trainer

    def _inputs(self, task: DescriptorTask, epoch: int) -> ImageInputs | FeatureInputs:
        if self.settings.freeze.variants and task.trunk_is_frozen(epoch):
            return FeatureInputs(self._frozen_features(task))
        self._features = None
        self._images.fill(self.progress)
        augmented = task.teacher is not None and self.settings.teacher.sees == "augmented"
        return ImageInputs(self._images, self._vary, self.size, self.teacher_size if augmented else None)

    def _frozen_features(self, task: DescriptorTask) -> FeatureCache:
        if self._features is None:
            freeze = self.settings.freeze
            images = Images(self.places.images, self.size)
            with task.describing() as network:
                self._features = FeatureCache.compute(
                    network,
                    images,
                    self._vary,
                    freeze.variants,
                    device=task.device,
                    cache_mb=self.settings.data.cache_mb,
                    folder=Path(freeze.cache_folder).expanduser() if freeze.cache_folder else None,
                    progress=self.progress,
                )
            if self.settings.init.whiten and self._runner().global_step == 0:
                self._whiten(task, self._features)
        return self._features

    def _whiten(self, task: DescriptorTask, features: FeatureCache) -> None:
        """On the CPU, where the features are; each weight stays the same object, which the optimiser knows."""
        from tscm_core.training.whitening import whiten

        with task.describing() as network:
            whiten(network.cpu(), features, self.places, self.settings.trainer.seed, self.progress)
            network.to(task.device)

    def _teacher_descriptors(self, task: DescriptorTask) -> Floats | None:
        """Descriptors of all images by the teacher, if it sees them clean."""
        if task.teacher is None or self.settings.teacher.sees != "clean":
            return None
        return self._by_teacher(task)

    def _by_teacher(self, task: DescriptorTask) -> Floats:
        if self._taught is None:
            assert task.teacher is not None, "settings were checked"
            images = Images(self.places.images, self.teacher_size)
            kept = self.settings.freeze.cache_folder
            folder = Path(kept).expanduser() if kept else None
            self._taught = describe_once(
                task.teacher, images, task.device, folder, self.progress, "The teacher describes"
            )
        return self._taught

    def _by_student(self, task: DescriptorTask, epoch: int) -> Floats:
        with task.describing() as network:
            if self.settings.freeze.variants and task.trunk_is_frozen(epoch):
                return describe_features(network, self._frozen_features(task), task.device)
            images = self._images if self._images.size == self.size else Images(self.places.images, self.size)
            return describe_images(network, images, task.device, self.progress)

    def _tuples(self, task: DescriptorTask, epoch: int) -> Rows:
        """The tuples of an epoch, ``[T, 2 + n]``; those of all epochs until the next mining are drawn at once.

        Raises:
            DatasetError: no query has a positive, or no tuple is left that could teach anything.
        """
        mining = self.settings.mining
        refresh = mining.refresh if mining.by == "student" else 1  # the teacher's descriptors are there anyway
        start = epoch - epoch % refresh
        if self._mined_at != start or epoch - start >= len(self._mined):
            self._miner.refresh(self._by_teacher(task) if mining.by == "teacher" else self._by_student(task, epoch))
            most = self.settings.trainer.tuples or None
            last = max(epoch + 1, min(start + refresh, self.settings.trainer.max_epochs))  # asked even if all is over
            self._mined = [self._miner.tuples(k, most).rows.astype(np.int32) for k in range(start, last)]
            self._mined_at = start
        tuples = self._mined[epoch - start]
        if not len(tuples):
            raise DatasetError(
                f"{self.places.name}: no tuple has a negative near enough to teach anything in epoch {epoch}: "
                f"the network tells all places apart; raise mining.margin, or set mining.skip_easy to false"
            )
        return tuples
