"""What teacher and student have in common when they learn: a network, its optimiser, what is frozen, what is drawn."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tscm_core.errors import ConfigError
from tscm_core.models.network import Network
from tscm_core.training.batches import TupleBatch
from tscm_core.training.distillation_loss import TupleDescriptors
from tscm_core.training.images import normalise
from tscm_core.training.settings import OptimSettings, TrainSettings

_STEP = 2
"""With the seed of the run and the number of a step: the seed of what torch draws in it."""


class DescriptorTask(lightning.LightningModule):
    """A network that learns from tuples. Which loss it pays is said by its children.

    Nothing here depends on what was drawn before: each step sets its seed and learning rate by its number, so that an
    interrupted run goes on as if nothing had happened.
    """

    def __init__(self, network: Network, settings: TrainSettings) -> None:
        super().__init__()
        whole: Any = network.requires_grad_(True)
        self.network: Network = whole.to(memory_format=torch.channels_last)  # up to three times faster on CPUs
        self.settings = settings
        freeze = settings.freeze
        if freeze.trunk and not freeze.unfreeze_after:
            for weight in network.trunk_parameters():
                weight.requires_grad_(False)
        self._was_frozen = self.trunk_is_frozen(0)

    @property
    def teacher(self) -> Network | None:
        """Whom the network learns from."""
        return None

    @property
    def may_align(self) -> bool:
        """Whether ``align`` is to be called before the first step."""
        return False

    def align(self, student: NDArray[np.float32], teacher: NDArray[np.float32]) -> None:
        """Told how student and teacher describe all clean images, ``[N, D]`` each."""

    @abstractmethod
    def losses(self, batch: TupleBatch, descriptors: TupleDescriptors) -> dict[str, Tensor]:
        """Named parts of the loss and their sum, "total"."""

    def trunk_is_frozen(self, epoch: int) -> bool:
        """Whether only the head learns in ``epoch``."""
        freeze = self.settings.freeze
        return freeze.trunk and not 0 < freeze.unfreeze_after <= epoch

    def forward(self, batch: TupleBatch) -> TupleDescriptors:
        """Descriptors of a batch, float32, arranged in tuples."""
        if batch.inputs[0].dtype != torch.uint8:
            return batch.arrange(self.network.head(*(level.float() for level in batch.inputs)).float())
        pixels, chunk = batch.inputs[0], self.settings.trainer.chunk
        if not chunk or len(pixels) <= chunk:
            return batch.arrange(self._describe(pixels))
        parts = [checkpoint(self._describe, part, use_reentrant=False) for part in torch.split(pixels, chunk)]
        return batch.arrange(torch.cat(parts))

    def _describe(self, pixels: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.trunk_is_frozen(self.current_epoch)):
            features = self.network.features(normalise(pixels, self.network))
        descriptors: Tensor = self.network.head(*features).float()
        return descriptors

    def training_step(self, batch: TupleBatch, batch_idx: int) -> Tensor:
        """The loss of a batch; its parts are logged."""
        parts = self.losses(batch, self(batch))
        shown = {f"loss/{name}": part.detach() for name, part in parts.items()}
        self.log_dict(shown, batch_size=len(batch.rows), on_step=True)
        return parts["total"]

    def on_train_start(self) -> None:
        """Training mode, except for what is frozen."""
        self.train()

    def on_train_batch_start(self, batch: TupleBatch, batch_idx: int) -> None:
        """What this step needs follows from its number alone."""
        frozen = self.trunk_is_frozen(self.current_epoch)
        if frozen != self._was_frozen:
            self._was_frozen = frozen
            self.train()
        torch.manual_seed((self.settings.trainer.seed * 1_000_003 + self.trainer.fit_loop.total_batch_idx) * 7 + _STEP)
        batches = self.trainer.num_training_batches
        rate = self.settings.optim.lr * learning_rate(
            self.settings, self.global_step, self.current_epoch, batch_idx / batches
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate * group["factor"]

    def train(self, mode: bool = True) -> DescriptorTask:
        """As in torch, but statistics of batch normalisation and a frozen trunk stay in eval mode."""
        super().train(mode)
        if mode:
            for name, module in self.network.named_modules():
                of_trunk = name.split(".", 1)[0] in self.network.trunk_parts
                statistics = isinstance(module, nn.modules.batchnorm._BatchNorm) and self.settings.freeze.batch_norm
                if statistics or (of_trunk and self._was_frozen):
                    module.training = False
        return self

    @contextmanager
    def describing(self) -> Iterator[Network]:
        """The network in eval mode and in full precision, without gradients."""
        self.eval()
        try:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                yield self.network
        finally:
            self.train()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over two groups: head with everything else that is learnt, and trunk.

        Raises:
            ConfigError: there is nothing to learn.
        """
        optim = self.settings.optim
        trunk = [weight for weight in self.network.trunk_parameters() if weight.requires_grad]
        known = {id(weight) for weight in self.network.trunk_parameters()}
        head = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in known]
        groups = [{"params": head, "factor": 1.0}, {"params": trunk, "factor": optim.trunk_lr_factor}]
        groups = [group for group in groups if group["params"]]
        if not groups:
            raise ConfigError("there is nothing to learn: the trunk is frozen, and the head has no parameters")
        return _optimizer(optim, groups)


def task_of(module: lightning.LightningModule) -> DescriptorTask:
    """``module``, which is what Lightning hands to callbacks, as the task that it is."""
    if not isinstance(module, DescriptorTask):
        raise TypeError(f"a DescriptorTask is needed, not a {type(module).__name__}")
    return module


def learning_rate(settings: TrainSettings, step: int, epoch: int, part: float) -> float:
    """Factor of the learning rate at a step; ``part`` of the epoch, 0 to 1, is over."""
    optim, trainer = settings.optim, settings.trainer
    factor = min(1.0, (step + 1) / optim.warmup_steps) if optim.warmup_steps else 1.0
    if optim.schedule == "exponential":
        return factor * float(optim.decay**epoch)
    if optim.schedule == "cosine":
        done = step / trainer.max_steps if trainer.max_steps else (epoch + part) / trainer.max_epochs
        return factor * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return factor


def _optimizer(optim: OptimSettings, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if optim.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=optim.lr, weight_decay=optim.weight_decay)
