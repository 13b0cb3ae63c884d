"""Every loss against plain loops over numbers, written from the equations; gradients against differences."""

from __future__ import annotations

import math
import sys
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.errors import MissingDependencyError
from tscm_core.training import losses

pytest.importorskip("pytorch_metric_learning")
BATCH, COUNT, DIM, MARGIN = 4, 3, 5, 0.3


def drawn(seed, *shape):
    """Unit vectors, float64."""
    values = np.random.default_rng(seed).normal(size=shape)
    return torch.from_numpy(values / np.linalg.norm(values, axis=-1, keepdims=True))


def tuples(seed, batch=BATCH, count=COUNT, dim=DIM):
    return drawn(seed, batch, dim), drawn(seed + 1, batch, dim), drawn(seed + 2, batch, count, dim)


VALID = torch.tensor([[True, False, True], [False, False, False], [True, True, True], [False, True, False]])


# ---- the equations, with plain numbers ----
def squared(x, y):
    return sum((float(u) - float(v)) ** 2 for u, v in zip(x, y, strict=True))


def root(x, y):
    return math.sqrt(squared(x, y))


def average(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers) if numbers else 0.0


def huber(x, y):
    difference = abs(x - y)
    return 0.5 * difference**2 if difference <= 1 else difference - 0.5


def plain_triplet(a, p, n, valid, margin, d=squared):
    return average(
        max(0.0, d(a[b], p[b]) - d(a[b], n[b][j]) + margin)
        for b in range(len(a))
        for j in range(len(n[b]))
        if valid[b][j]
    )


def plain_cross_metric(sa, sp, ta, tp, d=squared):
    return average(d(sa[b], tp[b]) + d(sp[b], ta[b]) for b in range(len(sa)))


def plain_released(sa, sp, sn, ta, tp, tn, valid, margin):
    terms = []
    for b in range(len(sa)):
        for j in range(len(sn[b])):
            if valid[b][j]:
                cross = squared(sa[b], tp[b]) + squared(sp[b], ta[b])
                same = squared(sa[b], ta[b]) + squared(sp[b], tp[b]) + squared(sn[b][j], tn[b][j])
                terms.append(0.5 * max(0.0, margin + cross + same) ** 2)
    return average(terms)


def plain_relational_distance(s, t):
    pairs = list(combinations(range(len(s)), 2))
    mean_s, mean_t = (average(root(x[i], x[j]) for i, j in pairs) for x in (s, t))
    return average(huber(root(t[i], t[j]) / mean_t, root(s[i], s[j]) / mean_s) for i, j in pairs)


def plain_cosine(x, i, j, k):
    product = sum((float(u) - float(v)) * (float(w) - float(v)) for u, v, w in zip(x[i], x[j], x[k], strict=True))
    return product / (root(x[i], x[j]) * root(x[k], x[j]))


def plain_relational_angle(s, t):
    return average(
        huber(plain_cosine(t, i, j, k), plain_cosine(s, i, j, k)) for i, j, k in permutations(range(len(s)), 3)
    )


def plain_feature(s, t, weight):
    terms = []
    for x, y in zip(s, t, strict=True):
        projected = [sum(float(w) * float(u) for w, u in zip(row, x, strict=True)) for row in weight]
        of_student, of_teacher = (math.sqrt(sum(float(u) ** 2 for u in v)) for v in (projected, y))
        terms.append(squared([u / of_student for u in projected], [float(u) / of_teacher for u in y]))
    return average(terms)


# ---- values ----
@pytest.mark.parametrize("margin", [0.01, 0.3, 2.5])
@pytest.mark.parametrize(("euclidean", "distance"), [(False, squared), (True, root)])
def test_triplet_equals_a_plain_loop(margin, euclidean, distance):
    a, p, n = tuples(0)
    for valid in (VALID, torch.ones_like(VALID)):
        value = losses.triplet(a, p, n, valid, margin, euclidean=euclidean)
        assert value.item() == pytest.approx(plain_triplet(a, p, n, valid, margin, distance), rel=1e-9)
        assert value.ndim == 0
    assert float(losses.triplet(a, p, n, None, margin)) == pytest.approx(
        plain_triplet(a, p, n, torch.ones_like(VALID), margin), rel=1e-9
    )


def test_triplets_that_cost_nothing_count_in_the_mean():
    a = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    negatives = torch.tensor([[[3.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)  # 9 and 1 away, the positive 0.25
    assert float(losses.triplet(a, a + torch.tensor([0.5, 0.0]), negatives, None, 1.0)) == pytest.approx(0.25 / 2)


def test_triplet_of_a_whole_batch_keeps_its_digits_in_float32():
    """From 26 rows on the library's distances are a matrix product; margins must survive it."""
    a, p, n = drawn(0, 8, 256), drawn(1, 8, 256), drawn(2, 8, 10, 256)
    p = torch.nn.functional.normalize(a + 0.05 * p, dim=-1)
    n = torch.nn.functional.normalize(a[:, None] + 0.1 * n, dim=-1)
    exact = plain_triplet(a, p, n, torch.ones(8, 10), 0.1)
    assert float(losses.triplet(a.float(), p.float(), n.float(), None, 0.1)) == pytest.approx(exact, abs=1e-6)


def test_soft_equals_a_plain_loop():
    s, t = drawn(0, 6, DIM), drawn(1, 6, DIM)
    assert float(losses.soft(s, t)) == pytest.approx(average(map(squared, s, t)), rel=1e-12)


@pytest.mark.parametrize(("euclidean", "distance"), [(False, squared), (True, root)])
def test_cross_metric_equals_a_plain_loop(euclidean, distance):
    (sa, sp, _), (ta, tp, _) = tuples(0), tuples(10)
    value = losses.cross_metric(sa, sp, ta, tp, euclidean=euclidean)
    assert value.item() == pytest.approx(plain_cross_metric(sa, sp, ta, tp, distance), rel=1e-12)


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_released_form_equals_a_plain_loop(margin):
    ours, theirs = tuples(0), tuples(10)
    for valid in (VALID, torch.ones_like(VALID)):
        value = losses.released_cross_metric(*ours, *theirs, valid, margin)
        assert value.item() == pytest.approx(plain_released(*ours, *theirs, valid, margin), rel=1e-12)


def test_feature_distillation_equals_a_plain_loop():
    s, t = 3 * drawn(0, 6, DIM), 2 * drawn(1, 6, DIM + 2)
    weight = drawn(2, DIM + 2, DIM)
    value = losses.feature_distillation(s, t, lambda x: x @ weight.T)
    assert value.item() == pytest.approx(plain_feature(s, t, weight), rel=1e-10)


@pytest.mark.parametrize("count", [2, 5])
def test_relational_distance_equals_a_plain_loop(count):
    s, t = drawn(0, count, DIM), drawn(1, count, DIM + 2)
    assert float(losses.relational_distance(s, t)) == pytest.approx(plain_relational_distance(s, t), rel=1e-9)


def test_relational_distance_is_linear_far_out():
    s = torch.tensor([[0.0], [1.0], [1.1], [1.2]], dtype=torch.float64)
    t = torch.tensor([[0.0], [0.1], [0.2], [9.0]], dtype=torch.float64)
    assert float(losses.relational_distance(s, t)) == pytest.approx(plain_relational_distance(s, t), rel=1e-9)


@pytest.mark.parametrize("count", [3, 6])
def test_relational_angle_equals_a_plain_loop(count):
    s, t = drawn(0, count, DIM), drawn(1, count, DIM + 2)
    assert float(losses.relational_angle(s, t)) == pytest.approx(plain_relational_angle(s, t), rel=1e-9)


# ---- gradients ----
def cases():
    (sa, sp, sn), (ta, tp, tn) = tuples(0), tuples(10)
    images, theirs, weight = drawn(20, 5, DIM), drawn(21, 5, DIM + 2), drawn(22, DIM + 2, DIM)
    return {
        "triplet": (lambda *s: losses.triplet(*s, VALID, MARGIN), (sa, sp, sn), ()),
        "triplet_euclidean": (lambda *s: losses.triplet(*s, VALID, MARGIN, euclidean=True), (sa, sp, sn), ()),
        "soft": (losses.soft, (sa,), (ta,)),
        "cross_metric": (losses.cross_metric, (sa, sp), (ta, tp)),
        "cross_metric_euclidean": (lambda *x: losses.cross_metric(*x, euclidean=True), (sa, sp), (ta, tp)),
        "released": (lambda *x: losses.released_cross_metric(*x, VALID, MARGIN), (sa, sp, sn), (ta, tp, tn)),
        "feature": (lambda s, t: losses.feature_distillation(s, t, lambda x: x @ weight.T), (images,), (theirs,)),
        "relational_distance": (losses.relational_distance, (images,), (theirs,)),
        "relational_angle": (losses.relational_angle, (images,), (theirs,)),
    }


@pytest.mark.parametrize("name", cases())
def test_gradients_are_right_and_none_reach_the_teacher(name):
    loss, student, teacher = cases()[name]
    student = [tensor.clone().requires_grad_() for tensor in student]
    assert torch.autograd.gradcheck(lambda *s: loss(*s, *teacher), student)
    teacher = [tensor.clone().requires_grad_() for tensor in teacher]
    loss(*student, *teacher).backward()
    assert all(tensor.grad.abs().max() > 0 for tensor in student)
    assert all(tensor.grad is None for tensor in teacher)


@pytest.mark.parametrize("name", cases())
def test_descriptors_that_coincide_have_finite_gradients(name):
    loss, student, teacher = cases()[name]
    ours = [torch.ones_like(tensor, requires_grad=True) for tensor in student]
    value = loss(*ours, *(torch.ones_like(tensor) for tensor in teacher))
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(tensor.grad).all() for tensor in ours)


def test_an_image_twice_in_a_batch_is_no_trouble_in_float32():
    s, t = drawn(0, 7, 64).float().requires_grad_(), drawn(1, 7, 64).float()
    twice = torch.cat([s, s[:2] + 1e-6])
    value = losses.relational_angle(twice, torch.cat([t, t[:2]]))
    value.backward()
    assert s.grad.norm() < 1
    assert 0 < value.item() < 0.5


@pytest.mark.parametrize("twice", ["student", "teacher"])
def test_angles_with_a_side_of_no_length_are_left_out(twice):
    s, t = drawn(0, 5, DIM), drawn(1, 5, DIM)
    same = s if twice == "student" else t
    same[3] = same[1] + 1e-5
    corners = [ijk for ijk in permutations(range(5), 3) if set(ijk[:2]) != {1, 3} and set(ijk[1:]) != {1, 3}]
    expected = average(huber(plain_cosine(t, *corner), plain_cosine(s, *corner)) for corner in corners)
    assert float(losses.relational_angle(s, t)) == pytest.approx(expected, rel=1e-9)


def test_angles_keep_their_digits_far_from_the_origin():
    s, t = drawn(0, 6, DIM), drawn(1, 6, DIM)
    value = losses.relational_angle((s + 100).float(), t.float())
    assert value.item() == pytest.approx(plain_relational_angle(s, t), rel=1e-4)


# ---- what must not matter, and what must ----
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(0, 4), st.integers(0, 3))
def test_padding_changes_nothing(seed, batch, count, padding):
    ours, theirs = tuples(seed, batch, count), tuples(seed + 10, batch, count)
    rubbish = torch.full((batch, padding, DIM), math.nan, dtype=torch.float64)
    padded_ours, padded_theirs = ((*x[:2], torch.cat([rubbish, x[2]], dim=1)) for x in (ours, theirs))
    anchor = padded_ours[0].clone().requires_grad_()
    valid = (torch.arange(count + padding) >= padding).expand(batch, -1)
    value = losses.triplet(anchor, *padded_ours[1:], valid, MARGIN)
    assert value.item() == pytest.approx(float(losses.triplet(*ours, None, MARGIN)), abs=1e-9)
    released = losses.released_cross_metric(anchor, *padded_ours[1:], *padded_theirs, valid, MARGIN)
    assert released.item() == pytest.approx(float(losses.released_cross_metric(*ours, *theirs, None, MARGIN)))
    (value + released).backward()
    assert torch.isfinite(anchor.grad).all()


@pytest.mark.parametrize("name", cases())
def test_the_order_of_the_batch_does_not_matter(name):
    if name in {"triplet", "triplet_euclidean", "released"}:
        (a, p, n), theirs, order = tuples(0), tuples(10), torch.tensor([2, 0, 3, 1])
        turned, others = (a[order], p[order], n[order]), tuple(x[order] for x in theirs)
        if name == "released":
            value = losses.released_cross_metric(*turned, *others, VALID[order], MARGIN)
            same = losses.released_cross_metric(a, p, n, *theirs, VALID, MARGIN)
        else:
            value, same = losses.triplet(*turned, VALID[order], MARGIN), losses.triplet(a, p, n, VALID, MARGIN)
    else:
        loss, student, teacher = cases()[name]
        order = torch.arange(len(student[0])).roll(2)
        value, same = loss(*(x[order] for x in (*student, *teacher))), loss(*student, *teacher)
    assert value.item() == pytest.approx(float(same), rel=1e-9)


def test_without_a_valid_negative_there_is_nothing_to_pay_and_a_graph():
    ours, theirs = tuples(0), tuples(10)
    anchor = ours[0].clone().requires_grad_()
    none = torch.zeros_like(VALID)
    for value in (
        losses.triplet(anchor, *ours[1:], none, MARGIN),
        losses.released_cross_metric(anchor, *ours[1:], *theirs, none, MARGIN),
        losses.relational_distance(anchor[:1], theirs[0][:1]),
        losses.relational_angle(anchor[:2], theirs[0][:2]),
    ):
        assert value.item() == 0
        anchor.grad = None
        value.backward()
        assert torch.count_nonzero(anchor.grad) == 0


def test_a_student_like_its_teacher_pays_nothing_for_likeness():
    a, p, n = tuples(0)
    assert float(losses.soft(a, a)) == 0
    assert float(losses.feature_distillation(a, a, lambda x: x)) == pytest.approx(0, abs=1e-15)
    assert float(losses.relational_distance(a, a)) == 0
    assert float(losses.relational_angle(a, a)) == 0
    assert float(losses.cross_metric(p, a, a, p)) == 0
    assert float(losses.cross_metric(a, p, a, p)) > 0.1
    assert float(losses.released_cross_metric(a, a, n, a, a, n, None, MARGIN)) == pytest.approx(0.5 * MARGIN**2)


@pytest.mark.parametrize("loss", [losses.relational_distance, losses.relational_angle])
def test_relations_survive_scale_shift_and_turn(loss):
    s, t = drawn(0, 6, DIM), drawn(1, 6, DIM)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(2).normal(size=(DIM, DIM)))[0])
    assert float(loss(3 * (s @ turn) + 0.7, t)) == pytest.approx(float(loss(s, t)), rel=1e-9)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    losses._triplet_margin_loss.cache_clear()
    losses._lp_distance.cache_clear()
    with pytest.raises(MissingDependencyError, match="pytorch-metric-learning is not installed"):
        losses.triplet(*tuples(0), None, MARGIN)
