"""The losses put together: what one training step of the student pays, part by part.

``L = w_hard L_hard + w_soft L_soft + w_cross L_cm`` (TSCM, https://arxiv.org/abs/2404.01587; all weights 1 there),
and the rivals of the ablation beside it. Each part: ``losses.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tscm_core.errors import ConfigError
from tscm_core.training import losses
from tscm_core.training.projection import Projection, check_widths

FORMS = ("paper", "released")


class TupleDescriptors(NamedTuple):
    """Descriptors of a batch of tuples, by one network: unit length, ``D`` its width."""

    anchor: Tensor
    """``[B, D]``"""
    positive: Tensor
    """``[B, D]``"""
    negatives: Tensor
    """``[B, N, D]``"""
    valid: Tensor | None = None
    """bool ``[B, N]``: which negatives there are; the others are padding and never read. None: all."""

    def images(self) -> Tensor:
        """Each image once: anchors, positives, valid negatives, ``[M, D]``."""
        negatives = self.negatives.flatten(0, 1) if self.valid is None else self.negatives[self.valid]
        return torch.cat([self.anchor, self.positive, negatives])

    def mapped(self, function: Callable[[Tensor], Tensor]) -> TupleDescriptors:
        """The function of all descriptors; what is valid stays."""
        return TupleDescriptors(function(self.anchor), function(self.positive), function(self.negatives), self.valid)


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts; 0 leaves it out and it is not computed.

    Raises:
        ConfigError: a weight is negative or not a finite number, or all are 0.
    """

    hard: float = 1.0
    """Triplet loss of the student on its own."""
    soft: float = 1.0
    """Student to teacher on the same image."""
    cross: float = 1.0
    """Cross-metric: student's anchor to teacher's positive and the other way round."""
    feature: float = 0.0
    """Rival: regression of the teacher's descriptor through a learnt linear map."""
    relation_distance: float = 0.0
    """Rival: relational distillation of distances."""
    relation_angle: float = 0.0
    """Rival: relational distillation of angles."""

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not (number and math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"loss weight {field.name} must be a finite number of 0 or more, not {weight!r}")
        if not any(astuple(self)):
            raise ConfigError(
                "all loss weights are 0: nothing would be learnt; give at least one of them a value above 0"
            )


class DistillationLoss(nn.Module):
    """Named parts and their weighted sum, of a student's and a teacher's descriptors of the same tuples.

    ``hard`` and the relations are of the student's descriptors as they are deployed. ``soft`` and ``cross`` compare
    them with the teacher's through a ``Projection`` where the widths differ. ``feature`` has a learnt map of its own,
    always; without it, it would be ``soft``. ``soft``, ``feature`` and the relations are over all images of the
    tuples, valid negatives included.

    With ``form="released"``, ``hard`` has euclidean distances and ``cross`` is the authors' squared form, as in their
    code. That form holds the soft terms already, so ``soft`` is then no part of its own and its weight does not
    count.

    The learnt maps are parameters of this module: give them to the optimiser. They exist only where a part uses them.

    Args:
        weights: how much each part counts.
        margin: of the triplet loss, and of the released form.
        form: "paper" or "released".
        student_dim: width of the student's descriptors.
        teacher_dim: width of the teacher's descriptors.
        euclidean: the paper's L_cm with euclidean distances rather than squared ones.

    Raises:
        ConfigError: unknown form, margin not above 0, or a width that is not a positive whole number.
    """

    def __init__(
        self,
        weights: LossWeights,
        margin: float = 0.1,
        form: str = "paper",
        *,
        student_dim: int,
        teacher_dim: int,
        euclidean: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ConfigError(f"the form of the loss must be one of {', '.join(FORMS)}, not {form!r}")
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < math.inf:
            raise ConfigError(f"the margin must be a finite number above 0, not {margin!r}")
        self.weights = weights
        self.margin = float(margin)
        self.form = form
        self.euclidean = euclidean
        self.student_dim, self.teacher_dim = student_dim, teacher_dim
        compared = weights.cross > 0 or (weights.soft > 0 and form == "paper")
        check_widths(student_dim, teacher_dim)
        # A map that no part uses gets no gradient, which distributed training takes for an error.
        self.projection = Projection(student_dim, teacher_dim) if compared else None
        self.regressor = Projection(student_dim, teacher_dim, always=True) if weights.feature > 0 else None

    def forward(self, student: TupleDescriptors, teacher: TupleDescriptors) -> dict[str, Tensor]:
        """Each part with a weight above 0, unweighted, and "total", their weighted sum: scalars.

        Which negatives are valid is the student's to say. Under mixed precision it is all computed in float32:
        distances of near descriptors do not survive half precision.

        Raises:
            ValueError: shapes that do not agree.
        """
        self._check(student, teacher)
        with torch.autocast(student.anchor.device.type, enabled=False):
            ours, theirs = _prepared(student, student.valid), _prepared(teacher, student.valid)
            parts: dict[str, Tensor] = {}
            if self.weights.hard:
                parts["hard"] = losses.triplet(*ours, self.margin, euclidean=self.form == "released")
            parts |= self._compared(ours, theirs) | self._rivals(ours, theirs)
            total = sum((getattr(self.weights, name) * part for name, part in parts.items()), ours.anchor.new_zeros(()))
        return {**parts, "total": total}

    def _compared(self, student: TupleDescriptors, teacher: TupleDescriptors) -> dict[str, Tensor]:
        """Soft and cross-metric terms: descriptors of both networks in one space."""
        parts: dict[str, Tensor] = {}
        if self.projection is None:
            return parts
        student = student.mapped(self.projection)
        if self.form == "released":
            return {"cross": losses.released_cross_metric(*student[:3], *teacher[:3], student.valid, self.margin)}
        if self.weights.soft:
            parts["soft"] = losses.soft(student.images(), teacher.images())
        if self.weights.cross:
            parts["cross"] = losses.cross_metric(*student[:2], *teacher[:2], euclidean=self.euclidean)
        return parts

    def _rivals(self, student: TupleDescriptors, teacher: TupleDescriptors) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        if not (self.weights.feature or self.weights.relation_distance or self.weights.relation_angle):
            return parts
        ours, theirs = student.images(), teacher.images()
        if self.regressor is not None:
            parts["feature"] = losses.feature_distillation(ours, theirs, self.regressor)
        if self.weights.relation_distance:
            parts["relation_distance"] = losses.relational_distance(ours, theirs)
        if self.weights.relation_angle:
            parts["relation_angle"] = losses.relational_angle(ours, theirs)
        return parts

    def _check(self, student: TupleDescriptors, teacher: TupleDescriptors) -> None:
        if student.negatives.ndim != 3:
            raise ValueError(f"negatives must be [B, N, D], not of shape {tuple(student.negatives.shape)}")
        tuples, count, _ = student.negatives.shape
        for owner, descriptors, dim in (("student", student, self.student_dim), ("teacher", teacher, self.teacher_dim)):
            wanted = ((tuples, dim), (tuples, dim), (tuples, count, dim), (tuples, count))
            for name, tensor, shape in zip(descriptors._fields, descriptors, wanted, strict=True):
                if tensor is not None and tensor.shape != shape:
                    raise ValueError(f"{name} of the {owner} has shape {tuple(tensor.shape)}, but {shape} is needed")


def _prepared(descriptors: TupleDescriptors, valid: Tensor | None) -> TupleDescriptors:
    """At least float32, and padding replaced by zeros: a NaN in it would reach the gradients of the learnt maps."""
    full = descriptors.mapped(_full_precision)
    if valid is None:
        return full._replace(valid=None)
    return full._replace(negatives=full.negatives.masked_fill(~valid[..., None], 0), valid=valid)


def _full_precision(descriptors: Tensor) -> Tensor:
    return descriptors.float() if descriptors.dtype in {torch.float16, torch.bfloat16} else descriptors
