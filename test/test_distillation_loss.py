"""The parts put together: which are computed, what each counts, what goes through a learnt map, what is refused."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from tscm_core.errors import ConfigError
from tscm_core.training import losses
from tscm_core.training.distillation_loss import DistillationLoss, LossWeights, TupleDescriptors

pytest.importorskip("pytorch_metric_learning")
ALL = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
NAMES = [field.name for field in fields(LossWeights)]
VALID = torch.tensor([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])


def described(seed, dim=5, valid=VALID, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (4, dim), (4, dim), (4, 3, dim)
    drawn = (normalize(torch.randn(shape, generator=generator, dtype=dtype), dim=-1) for shape in shapes)
    return TupleDescriptors(*drawn, valid)


def only(name, weight=1.0):
    return LossWeights(**{**dict.fromkeys(NAMES, 0.0), name: weight})


def loss_of(weights=ALL, form="paper", student_dim=5, teacher_dim=5, **others):
    return DistillationLoss(weights, 0.3, form, student_dim=student_dim, teacher_dim=teacher_dim, **others).double()


def images(descriptors):
    """Anchors, positives and negatives that there are, one by one."""
    negatives = [descriptors.negatives[b, j] for b in range(4) for j in range(3) if descriptors.valid[b, j]]
    return torch.stack([*descriptors.anchor, *descriptors.positive, *negatives])


def test_the_papers_loss_is_the_default():
    s, t = described(0), described(1)
    parts = DistillationLoss(LossWeights(), student_dim=5, teacher_dim=5)(s, t)
    assert list(parts) == ["hard", "soft", "cross", "total"]
    hard = losses.triplet(*s[:3], VALID, 0.1)
    total = hard + losses.soft(images(s), images(t)) + losses.cross_metric(*s[:2], *t[:2])
    assert parts["total"].item() == pytest.approx(total.item(), rel=1e-9)


def test_each_part_is_its_loss():
    s, t = described(0), described(1, dim=7)
    loss = loss_of(teacher_dim=7)
    parts = loss(s, t)
    mapped = TupleDescriptors(*(loss.projection(x) for x in s[:3]), VALID)
    expected = {
        "hard": losses.triplet(*s[:3], VALID, 0.3),
        "soft": losses.soft(images(mapped), images(t)),
        "cross": losses.cross_metric(*mapped[:2], *t[:2]),
        "feature": losses.feature_distillation(images(s), images(t), loss.regressor),
        "relation_distance": losses.relational_distance(images(s), images(t)),
        "relation_angle": losses.relational_angle(images(s), images(t)),
    }
    assert set(parts) == {*expected, "total"}
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value.item(), rel=1e-9), name


def test_the_released_form_is_the_authors_and_has_no_soft_part():
    s, t = described(0), described(1)
    parts = loss_of(LossWeights(hard=2.0, soft=5.0, cross=3.0), "released")(s, t)
    hard = losses.triplet(*s[:3], VALID, 0.3, euclidean=True)
    cross = losses.released_cross_metric(*s[:3], *t[:3], VALID, 0.3)
    assert list(parts) == ["hard", "cross", "total"]
    assert parts["hard"].item() == pytest.approx(hard.item(), rel=1e-9)
    assert parts["cross"].item() == pytest.approx(cross.item(), rel=1e-9)
    assert parts["total"].item() == pytest.approx(2 * hard.item() + 3 * cross.item(), rel=1e-9)


def test_cross_metric_may_be_euclidean():
    s, t = described(0), described(1)
    value = loss_of(only("cross"), euclidean=True)(s, t)["cross"]
    assert value.item() == pytest.approx(float(losses.cross_metric(*s[:2], *t[:2], euclidean=True)), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_weight_0_is_not_computed(name):
    assert set(loss_of(only(name))(described(0), described(1))) == {name, "total"}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 10), min_size=6, max_size=6).filter(any))
def test_the_total_is_the_weighted_sum_of_unweighted_parts(weights):
    s, t = described(0), described(1)
    torch.manual_seed(0)
    reference = loss_of()
    loss = loss_of(LossWeights(*weights))
    loss.load_state_dict({key: value for key, value in reference.state_dict().items() if key in loss.state_dict()})
    whole, parts = reference(s, t), loss(s, t)
    assert all(torch.equal(parts[name], whole[name]) for name in parts if name != "total")
    expected = sum(weight * whole[name].item() for name, weight in zip(NAMES, weights, strict=True))
    assert parts["total"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_gradients_are_right_and_none_reach_the_teacher(form):
    loss = loss_of(form=form, teacher_dim=7)
    ours = [x.clone().requires_grad_() for x in described(0)[:3]]
    theirs = described(1, dim=7)
    assert torch.autograd.gradcheck(lambda *s: loss(TupleDescriptors(*s, VALID), theirs)["total"], ours)
    watched = TupleDescriptors(*(x.clone().requires_grad_() for x in theirs[:3]), VALID)
    loss(TupleDescriptors(*ours, VALID), watched)["total"].backward()
    assert all(x.grad is None for x in watched[:3])
    assert all(weight.grad.abs().max() > 0 for weight in loss.parameters())


@pytest.mark.parametrize("form", ["paper", "released"])
def test_padding_is_never_read(form):
    loss = loss_of(form=form, teacher_dim=7)
    s, t = described(0), described(1, dim=7)
    clean = loss(s, t)["total"]
    (clean_grad,) = torch.autograd.grad(clean, loss.projection.linear.weight)
    spoilt = (x._replace(negatives=x.negatives.masked_fill(~VALID[..., None], math.nan)) for x in (s, t))
    spoilt_s, spoilt_t = spoilt
    negatives = spoilt_s.negatives.requires_grad_()
    total = loss(spoilt_s._replace(negatives=negatives), spoilt_t)["total"]
    total.backward()
    assert total.item() == pytest.approx(clean.item(), rel=1e-12)
    assert torch.allclose(loss.projection.linear.weight.grad, clean_grad)
    assert torch.count_nonzero(negatives.grad[~VALID]) == 0
    assert torch.count_nonzero(negatives.grad[VALID]) > 0


def test_without_a_mask_all_negatives_are_valid():
    everyone = torch.ones_like(VALID)
    marked = loss_of(LossWeights())(described(0, valid=everyone), described(1, valid=everyone))
    unmarked = loss_of(LossWeights())(described(0, valid=None), described(1, valid=None))
    assert all(torch.equal(marked[name], unmarked[name]) for name in marked)


def test_learnt_maps_exist_only_where_a_part_uses_them():
    def parameters(weights, form="paper", teacher_dim=5):
        return [tuple(w.shape) for w in loss_of(weights, form, teacher_dim=teacher_dim).parameters()]

    assert parameters(LossWeights()) == []
    assert parameters(LossWeights(), teacher_dim=7) == [(7, 5)]
    assert parameters(only("hard"), teacher_dim=7) == []
    assert parameters(only("relation_angle"), teacher_dim=7) == []
    assert parameters(only("soft"), "released", 7) == []
    assert parameters(only("cross"), "released", 7) == [(7, 5)]
    assert parameters(only("feature")) == [(5, 5)]


def test_half_precision_and_autocast_are_computed_in_float32():
    s, t = described(0, dtype=torch.float32), described(1, dtype=torch.float32)
    loss = loss_of(LossWeights(1, 1, 1, 0, 1, 1)).float()
    halves = (x._replace(**{key: getattr(x, key).bfloat16() for key in x._fields[:3]}) for x in (s, t))
    ours, theirs = halves
    widened = [x._replace(**{key: getattr(x, key).float() for key in x._fields[:3]}) for x in (ours, theirs)]
    plain, of_halves = loss(*widened), loss(ours, theirs)
    assert torch.equal(plain["relation_angle"], losses.relational_angle(*(images(x) for x in widened)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss(ours, theirs)
    for name, value in plain.items():
        assert of_halves[name].dtype == torch.float32
        assert torch.equal(of_halves[name], value)
        assert torch.equal(under_autocast[name], value)


def test_a_student_that_learns_ends_where_its_teacher_is():
    teacher = described(1)
    free = [x.clone().requires_grad_() for x in described(0)[:3]]
    optimiser = torch.optim.Adam(free, lr=0.05)
    loss = loss_of(only("soft"))
    for _ in range(200):
        optimiser.zero_grad()
        student = TupleDescriptors(*(normalize(x, dim=-1) for x in free), VALID)
        parts = loss(student, teacher)
        parts["total"].backward()
        optimiser.step()
    assert parts["soft"].item() < 1e-4
    assert torch.allclose(student.anchor, teacher.anchor, atol=0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, "1", True, None])
def test_bad_weights_are_refused_by_name(name, weight):
    with pytest.raises(ConfigError, match=f"loss weight {name} must be a finite number"):
        LossWeights(**{name: weight})


def test_all_weights_0_are_refused():
    with pytest.raises(ConfigError, match="nothing would be learnt"):
        LossWeights(0, 0, 0)


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf, "0.1", True])
def test_bad_margins_are_refused(margin):
    with pytest.raises(ConfigError, match="margin must be a finite number above 0"):
        DistillationLoss(ALL, margin, student_dim=5, teacher_dim=5)


def test_other_forms_and_widths_are_refused():
    with pytest.raises(ConfigError, match="one of paper, released, not 'code'"):
        loss_of(form="code")
    with pytest.raises(ConfigError, match="teacher's descriptor width"):
        loss_of(only("hard"), teacher_dim=0)


@pytest.mark.parametrize(
    ("changed", "shape", "message"),
    [
        ("anchor", (4, 6), r"anchor of the student has shape \(4, 6\), but \(4, 5\) is needed"),
        ("positive", (3, 5), r"positive of the student has shape \(3, 5\)"),
        ("negatives", (4, 5), r"negatives must be \[B, N, D\]"),
        ("negatives", (4, 2, 5), r"valid of the student has shape \(4, 3\), but \(4, 2\)"),
    ],
)
def test_shapes_must_agree(changed, shape, message):
    with pytest.raises(ValueError, match=message):
        loss_of()(described(0)._replace(**{changed: torch.zeros(shape)}), described(1))


def test_the_teachers_shapes_must_agree_too():
    with pytest.raises(ValueError, match=r"anchor of the teacher has shape \(4, 5\), but \(4, 7\) is needed"):
        loss_of(teacher_dim=7)(described(0), described(1))
