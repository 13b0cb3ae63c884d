"""A student that learns from a frozen teacher, https://arxiv.org/abs/2404.01587, section III-C."""

from __future__ import annotations

import torch
from torch import Tensor

from tscm_core.models.network import Network
from tscm_core.training.batches import TupleBatch
from tscm_core.training.distillation_loss import DistillationLoss, TupleDescriptors
from tscm_core.training.images import normalise
from tscm_core.training.settings import TrainSettings
from tscm_core.training.task import DescriptorTask


class DistillationTask(DescriptorTask):
    """Frozen teacher outside, trainable student inside, a dictionary of named losses out.

    The teacher is no submodule: neither optimiser nor checkpoint know it. What else is learnt, the projection to the
    teacher's width, belongs to the loss and is dropped with it.

    Args:
        student: learns.
        teacher: taught already.
        settings: of the run.

    Raises:
        ConfigError: the weights or the margin of the loss are unfit.
    """

    def __init__(self, student: Network, teacher: Network, settings: TrainSettings) -> None:
        super().__init__(student, settings)
        loss = settings.loss
        self.loss = DistillationLoss(
            loss.weights,
            loss.margin,
            loss.form,
            student_dim=student.dim,
            teacher_dim=teacher.dim,
            euclidean=loss.euclidean,
        )
        self._outside = (teacher.eval().requires_grad_(False),)

    @property
    def teacher(self) -> Network:
        """In eval mode, without gradients; on the CPU until the training starts."""
        return self._outside[0]

    def setup(self, stage: str) -> None:
        """The teacher goes where the student is."""
        self.teacher.to(self.device)

    def losses(self, batch: TupleBatch, descriptors: TupleDescriptors) -> dict[str, Tensor]:
        """All parts of the loss that have a weight, and their weighted sum, ``total``."""
        parts: dict[str, Tensor] = self.loss(descriptors, self._taught(batch))
        return parts

    def _taught(self, batch: TupleBatch) -> TupleDescriptors:
        if batch.teacher.dtype != torch.uint8:
            return batch.arrange(batch.teacher)
        with torch.no_grad():
            return batch.arrange(self.teacher(normalise(batch.teacher, self.teacher)).float())
