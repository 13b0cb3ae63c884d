"""The losses of distillation, as functions of descriptors.

L_hard, L_soft and L_cm: Shen, Liu, Lu and Chen, "TSCM: A Teacher-Student Model for Vision Place Recognition Using
Cross-Metric Knowledge Distillation", ICRA 2024, https://arxiv.org/abs/2404.01587: ``L = L_hard + L_soft + L_cm``. Two
rivals: regression of features (Romero et al., ICLR 2015, https://arxiv.org/abs/1412.6550) and relational distillation
(Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068).

``S`` is the student, ``T`` the teacher; ``a``, ``p``, ``n`` are anchor, positive and negative of a tuple. Descriptors
are floating point, unit length where the networks made them so; nothing here makes them so but
``feature_distillation``. Sums of the paper are means here, so that a weight means the same at every batch size. No
gradient flows into the teacher. A loss over nothing (no valid negative, too few images) is 0 with a gradient of 0.
Shapes are the caller's: ``DistillationLoss`` checks them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from tscm_core.errors import MissingDependencyError

SHORTEST_SIDE = 1e-3
"""Images closer together than this span no angle: its direction would be rounding error (an image twice in a batch)."""


def triplet(
    anchor: Tensor, positive: Tensor, negatives: Tensor, valid: Tensor | None, margin: float, *, euclidean: bool = False
) -> Tensor:
    """L_hard: ``mean over (b, j) with valid[b, j] of max(0, |a_b - p_b|² - |a_b - n_bj|² + margin)``.

    The mean is over all valid triplets of the batch, also those that cost nothing: a tuple counts by its negatives.

    Args:
        anchor: ``[B, D]``.
        positive: ``[B, D]``.
        negatives: ``[B, N, D]``; what stands where ``valid`` is false is never read.
        valid: bool ``[B, N]``; None: all.
        margin: in the unit of the distance.
        euclidean: distances are not squared, as in the released code.

    Returns:
        A scalar.

    Raises:
        MissingDependencyError: pytorch-metric-learning is not installed.
    """
    rows, columns = _triplets(negatives, valid)
    tuples = len(anchor)
    # Only the valid negatives go in: a padding of NaN would spoil the gradients of all others.
    images = torch.cat([anchor, positive, negatives[rows, columns]])  # [2 B + T, D]
    indices = rows, tuples + rows, 2 * tuples + torch.arange(len(rows), device=rows.device)
    return cast(Tensor, _triplet_margin_loss(margin, 1 if euclidean else 2)(images, indices_tuple=indices))


def soft(student: Tensor, teacher: Tensor) -> Tensor:
    """L_soft: ``mean over i of |S(x_i) - T(x_i)|²``, student and teacher on the same images, both ``[M, D]``."""
    return _mean(_distance(student, teacher.detach()))


def cross_metric(
    student_a: Tensor, student_p: Tensor, teacher_a: Tensor, teacher_p: Tensor, *, euclidean: bool = False
) -> Tensor:
    """L_cm: ``mean over b of d(S(a_b), T(p_b)) + d(S(p_b), T(a_b))``; the paper sums over b. All ``[B, D]``.

    ``d`` is the squared euclidean distance, or the euclidean one. It is 0 where ``S(a) = T(p)`` and ``S(p) = T(a)``.
    """
    anchor_to_positive = _distance(student_a, teacher_p.detach(), euclidean)
    positive_to_anchor = _distance(student_p, teacher_a.detach(), euclidean)
    return _mean(anchor_to_positive + positive_to_anchor)


def released_cross_metric(
    student_a: Tensor,
    student_p: Tensor,
    student_n: Tensor,
    teacher_a: Tensor,
    teacher_p: Tensor,
    teacher_n: Tensor,
    valid: Tensor | None,
    margin: float,
) -> Tensor:
    """The authors' code: ``mean over triplets (b, j) with valid[b, j] of ½ max(0, margin + D_bj)²``.

    ``D_bj = |Sa_b - Tp_b|² + |Sp_b - Ta_b|² + |Sa_b - Ta_b|² + |Sp_b - Tp_b|² + |Sn_bj - Tn_bj|²``: soft and
    cross-metric term in one. As D is never negative, the margin is an offset and the maximum never bites.

    Args:
        student_a: ``[B, D]``, as the positives and the teacher's.
        student_p: ``[B, D]``.
        student_n: ``[B, N, D]``, as the teacher's.
        teacher_a: ``[B, D]``.
        teacher_p: ``[B, D]``.
        teacher_n: ``[B, N, D]``.
        valid: bool ``[B, N]``; None: all. A tuple without a valid negative contributes nothing.
        margin: in squared distance.

    Returns:
        A scalar.
    """
    teacher_a, teacher_p = teacher_a.detach(), teacher_p.detach()
    cross = _distance(student_a, teacher_p) + _distance(student_p, teacher_a)  # [B]
    same = _distance(student_a, teacher_a) + _distance(student_p, teacher_p)  # [B]
    rows, columns = _triplets(student_n, valid)
    negative = _distance(student_n[rows, columns], teacher_n.detach()[rows, columns])  # [T]
    return _mean(0.5 * (margin + (cross + same)[rows] + negative).clamp(min=0).square())


def feature_distillation(student: Tensor, teacher: Tensor, projection: Callable[[Tensor], Tensor]) -> Tensor:
    """Rival: ``mean over i of | P(S_i) / |P(S_i)| - T_i / |T_i| |²``, ``P`` learnt (Romero et al.).

    Args:
        student: features or descriptors ``[M, C]`` of the images.
        teacher: those of the same images, ``[M, C']``.
        projection: ``[M, C]`` to ``[M, C']``.
    """
    projected = functional.normalize(projection(student), dim=-1)
    return _mean(_distance(projected, functional.normalize(teacher.detach(), dim=-1)))


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Rival, RKD-D (Park et al., section 3.2.1): ``mean over pairs i < j of huber(d_ij(T) / µ(T), d_ij(S) / µ(S))``.

    ``d_ij`` is the euclidean distance of two images, ``µ`` its mean over the pairs; huber has δ = 1.

    Args:
        student: ``[M, C]``; with fewer than two images the loss is 0.
        teacher: ``[M, C']``; the widths may differ.

    Raises:
        MissingDependencyError: pytorch-metric-learning is not installed.
    """
    return _mean(_huber(_relative_distances(student), _relative_distances(teacher.detach())))


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Rival, RKD-A (Park et al., section 3.2.2): ``mean over different i, j, k of huber(cos_ijk(T), cos_ijk(S))``.

    ``cos_ijk`` is the cosine of the angle at image j between images i and k; huber has δ = 1. Left out are angles
    with a side shorter than ``SHORTEST_SIDE`` in either network, and mirror images (k, j, i), which change no mean.

    Args:
        student: ``[M, C]``; with fewer than three images the loss is 0.
        teacher: ``[M, C']``; the widths may differ.
    """
    of_student, student_spans = _angle_cosines(student)
    of_teacher, teacher_spans = _angle_cosines(teacher.detach())
    count = len(student)
    once = torch.ones(count, count, dtype=torch.bool, device=student.device).triu(diagonal=1)  # i < k
    counted = once & student_spans & teacher_spans
    return _mean(_huber(of_student[counted], of_teacher[counted]))


def _triplets(negatives: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row and column of each valid negative, both ``[T]``."""
    if valid is None:
        valid = torch.ones(negatives.shape[:2], dtype=torch.bool, device=negatives.device)
    rows, columns = valid.nonzero(as_tuple=True)
    return rows, columns


def _distance(x: Tensor, y: Tensor, euclidean: bool = False) -> Tensor:
    """``[M, D]`` twice to ``[M]``, row by row: squared euclidean, or euclidean (with gradient 0 where x = y)."""
    difference = x - y
    return torch.linalg.vector_norm(difference, dim=-1) if euclidean else difference.square().sum(dim=-1)


def _mean(terms: Tensor) -> Tensor:
    """The mean; 0, still part of the gradient graph, of nothing."""
    return terms.sum() / max(terms.numel(), 1)


def _huber(student: Tensor, teacher: Tensor) -> Tensor:
    return functional.huber_loss(student, teacher, reduction="none", delta=1.0)


def _relative_distances(x: Tensor) -> Tensor:
    """``[M, C]`` to the distances of all pairs i < j over their mean, ``[M (M - 1) / 2]``."""
    first, second = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    distances = cast(Tensor, _lp_distance(1)(x))[first, second]
    return distances / _mean(distances).clamp(min=torch.finfo(x.dtype).tiny)


def _angle_cosines(x: Tensor) -> tuple[Tensor, Tensor]:
    """``[M, C]`` to cosines ``[M (j), M (i), M (k)]`` of the angle at j, and which of them have both sides."""
    x = x - x.mean(dim=0).detach()  # distances stay, the products below lose fewer digits
    products = x @ x.T
    own = products.diagonal()
    # (x_i - x_j)·(x_k - x_j), without a tensor [M, M, C]
    inner = products - products[:, :, None] - products[:, None, :] + own[:, None, None]
    squares = own[:, None] + own - 2 * products  # [M (j), M (i)]
    spans = squares.detach() > SHORTEST_SIDE**2
    sides = squares.clamp(min=SHORTEST_SIDE**2).sqrt()
    return inner / (sides[:, :, None] * sides[:, None, :]), spans[:, :, None] & spans[:, None, :]


def _metric_learning() -> Any:
    try:
        from pytorch_metric_learning import distances, losses, reducers
    except ImportError as error:
        raise MissingDependencyError("pytorch-metric-learning", "training needs it; install it with pip") from error
    return distances, losses, reducers


@cache
def _lp_distance(power: int) -> Any:
    """Euclidean distance of all pairs, to the given power, of descriptors as they are."""
    distances, _, _ = _metric_learning()
    return distances.LpDistance(normalize_embeddings=False, p=2, power=power)


@cache
def _triplet_margin_loss(margin: float, power: int) -> Any:
    """The library's default would mean over violated triplets only: a loss that jumps as soon as one is satisfied."""
    _, losses, reducers = _metric_learning()
    return losses.TripletMarginLoss(margin, distance=_lp_distance(power), reducer=reducers.MeanReducer())
