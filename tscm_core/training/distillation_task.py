"""A student that learns from a frozen teacher, https://arxiv.org/abs/2404.01587, section III-C."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
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

    turn: Tensor | None
    """Rotation from the teacher's axes to the student's, ``[D, D]``; none where a projection is learnt."""

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
        equal = settings.teacher.align and student.dim == teacher.dim
        self.register_buffer("turn", torch.eye(student.dim) if equal else None)
        self._outside = (teacher.eval().requires_grad_(False),)

    @property
    def teacher(self) -> Network:
        """In eval mode, without gradients; on the CPU until the training starts."""
        return self._outside[0]

    @property
    def may_align(self) -> bool:
        """If asked for, and the widths are equal: otherwise the learnt projection does it."""
        return self.turn is not None

    @torch.no_grad()
    def align(self, student: NDArray[np.float32], teacher: NDArray[np.float32]) -> None:
        """Turn the teacher's axes towards the student's, by the rotation that brings their descriptors nearest.

        Descriptors that were trained apart have nothing in common but their distances, which no rotation changes.
        Without it the student would first have to learn axes that mean nothing. Schönemann, "A generalized solution of
        the orthogonal Procrustes problem", Psychometrika 1966.

        Args:
            student: descriptors of N images, ``[N, D]``.
            teacher: of the same images, ``[N, D]``.
        """
        if self.turn is None:
            return
        left, _, right = torch.linalg.svd(torch.from_numpy(teacher.T @ student))
        self.turn.copy_(left @ right)

    def setup(self, stage: str) -> None:
        """The teacher goes where the student is."""
        self.teacher.to(self.device)

    def losses(self, batch: TupleBatch, descriptors: TupleDescriptors) -> dict[str, Tensor]:
        """All parts of the loss that have a weight, and their weighted sum, ``total``."""
        parts: dict[str, Tensor] = self.loss(descriptors, self._taught(batch))
        return parts

    def _taught(self, batch: TupleBatch) -> TupleDescriptors:
        taught = batch.teacher
        with torch.no_grad():
            if taught.dtype == torch.uint8:
                taught = self.teacher(normalise(taught, self.teacher)).float()
            return batch.arrange(taught if self.turn is None else taught @ self.turn)
