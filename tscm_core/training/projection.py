"""A learnt linear map from the student's descriptor space to the teacher's, for training only.

The regressor of Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, https://arxiv.org/abs/1412.6550,
section 2.2, on descriptors: ``W_r S(x)`` is compared with ``T(x)``. It belongs to the loss, not to the student:
nothing of it is deployed.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from tscm_core.errors import ConfigError


def check_widths(student_dim: int, teacher_dim: int) -> None:
    """Refuses what is not the width of a descriptor.

    Raises:
        ConfigError: a width is not a positive whole number.
    """
    for name, dim in (("student", student_dim), ("teacher", teacher_dim)):
        if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
            raise ConfigError(f"the {name}'s descriptor width must be a whole number above 0, not {dim!r}")


class Projection(nn.Module):
    """Student descriptors in the teacher's width, unit length: a linear map without bias, learnt with the student.

    Where both widths are equal there is nothing to learn: the identity (and unit length), without parameters.
    ``always`` makes a learnt map there too, as the rival «feature distillation» has it.

    Raises:
        ConfigError: a width is not a positive whole number.
    """

    def __init__(self, student_dim: int, teacher_dim: int, *, always: bool = False) -> None:
        super().__init__()
        check_widths(student_dim, teacher_dim)
        self.student_dim = student_dim
        self.teacher_dim = teacher_dim
        learnt = always or student_dim != teacher_dim
        self.linear: nn.Module = nn.Linear(student_dim, teacher_dim, bias=False) if learnt else nn.Identity()
        if isinstance(self.linear, nn.Linear):
            # Angles between descriptors survive an orthogonal map: the student starts as it is, only turned.
            nn.init.orthogonal_(self.linear.weight)

    def forward(self, student: Tensor) -> Tensor:
        """``[..., student_dim]`` to ``[..., teacher_dim]``, unit length along the last dimension."""
        return functional.normalize(cast(Tensor, self.linear(student)), dim=-1)
