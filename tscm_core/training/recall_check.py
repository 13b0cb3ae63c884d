"""Recall on the validation places, before the first epoch and after each: it decides which network is kept."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import lightning
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import DatasetError
from tscm_core.evaluation.recall import recall_at
from tscm_core.evaluation.trial import trial_of_places
from tscm_core.training.feature_cache import FeatureCache, describe_features, describe_images
from tscm_core.training.images import Images, Progress, Size
from tscm_core.training.settings import TrainSettings
from tscm_core.training.task import DescriptorTask, task_of

KS = (1, 5, 10)
MONITORED = "recall@1"


class ValidationPlaces:
    """One set of places and the trial that they are: which queries, which database, what is right.

    Raises:
        DatasetError: no query has a right image that it may return, or headings count and are not known.
    """

    def __init__(self, places: PlaceSet, settings: TrainSettings, size: Size) -> None:
        self.name, self._places, self._settings = places.name, places, settings
        self._trial = trial_of_places(places)
        rows = zip(self._trial.positives, self._trial.excluded, strict=True)
        if not any(len(np.setdiff1d(right, out)) for right, out in rows):
            raise DatasetError(
                f"data.val: none of the {len(places.queries)} queries of {places.name} has a right image: no recall"
            )
        frozen = settings.freeze.variants > 0
        self._images = Images(places.images, size, 0 if frozen else settings.data.cache_mb)
        self._features: FeatureCache | None = None

    def check(self, task: DescriptorTask, epoch: int, progress: Progress) -> dict[str, float]:
        """``recall@k`` of the network as it is now, in eval mode; 0..1."""
        descriptors = self._describe(task, epoch, progress)
        result = recall_at(
            descriptors[self._places.database],
            descriptors[self._places.queries],
            self._trial.positives,
            KS,
            self._trial.excluded,
        )
        return {f"recall@{k}": result.recall[k] for k in KS}

    def _describe(self, task: DescriptorTask, epoch: int, progress: Progress) -> NDArray[np.float32]:
        with task.describing() as network:
            if not (self._settings.freeze.variants and task.trunk_is_frozen(epoch)):
                self._features = None
                self._images.fill(progress)
                return describe_images(network, self._images, task.device, progress, f"Describing {self.name}")
            if self._features is None:
                self._features = FeatureCache.compute(
                    network, self._images, lambda image, _: image, 0, device=task.device,
                    cache_mb=self._settings.data.cache_mb, folder=None, progress=progress,
                )  # fmt: skip
            return describe_features(network, self._features, task.device)


class RecallCheck(lightning.Callback):
    """Measures and logs recall: of each source by its name, numbered where several share it, and the mean over all.

    Args:
        sources: what to measure on.
        progress: told how far it is.
    """

    def __init__(self, sources: Sequence[ValidationPlaces], progress: Progress) -> None:
        self._sources, self._progress = dict(zip(_names(sources), sources, strict=True)), progress
        self.latest: dict[str, float] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The network before its first step: what training must beat."""
        if trainer.global_step == 0:
            self.latest = self._measure(task_of(pl_module), 0)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The network after an epoch."""
        self.latest = self._measure(task_of(pl_module), trainer.current_epoch)
        pl_module.log_dict(self.latest)

    def _measure(self, task: DescriptorTask, epoch: int) -> dict[str, float]:
        found = {name: source.check(task, epoch, self._progress) for name, source in self._sources.items()}
        mean = {
            key: statistics.fmean(figures[key] for figures in found.values()) for key in (f"recall@{k}" for k in KS)
        }
        of_each = {f"{name}/{key}": value for name, figures in found.items() for key, value in figures.items()}
        return mean | (of_each if len(found) > 1 else {})


def _names(sources: Sequence[ValidationPlaces]) -> list[str]:
    """Their names, ``lap2``, ``lap2 (2)`` where folders of several drives are called the same."""
    names: list[str] = []
    for source in sources:
        tries = (f"{source.name} ({number})" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([source.name], tries) if name not in names))
    return names
