"""A network that learns on its own: the teacher, or a student without one.

The paper's ``L_hard``, equation 5 of https://arxiv.org/abs/2404.01587.
"""

from __future__ import annotations

from torch import Tensor

from tscm_core.training import losses
from tscm_core.training.batches import TupleBatch
from tscm_core.training.distillation_loss import TupleDescriptors
from tscm_core.training.task import DescriptorTask


class TeacherTask(DescriptorTask):
    """The triplet loss alone."""

    def losses(self, batch: TupleBatch, descriptors: TupleDescriptors) -> dict[str, Tensor]:
        """``hard``, and ``total``, which is the same."""
        loss = self.settings.loss
        hard = losses.triplet(*descriptors, loss.margin, euclidean=loss.form == "released")
        return {"hard": hard, "total": hard}
