"""The learnt map between widths: what it is, when it is there, and that it starts as a turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tscm_core.errors import ConfigError
from tscm_core.training.projection import Projection


def plain_projection(weight, student):
    projected = [sum(weight[row][column] * x for column, x in enumerate(student)) for row in range(len(weight))]
    length = sum(value * value for value in projected) ** 0.5
    return [value / length for value in projected]


@pytest.mark.parametrize(("student_dim", "teacher_dim"), [(3, 5), (6, 2)])
def test_it_is_a_linear_map_and_unit_length(student_dim, teacher_dim):
    projection = Projection(student_dim, teacher_dim).double()
    student = np.random.default_rng(0).normal(size=(4, student_dim))
    (weight,) = projection.parameters()
    expected = [plain_projection(weight.detach().numpy(), row) for row in student]
    assert projection(torch.from_numpy(student)).detach().numpy() == pytest.approx(np.array(expected), rel=1e-10)


def test_equal_widths_need_no_parameters():
    projection = Projection(4, 4)
    descriptors = torch.nn.functional.normalize(torch.randn(3, 4), dim=-1)
    assert list(projection.parameters()) == []
    assert torch.allclose(projection(descriptors), descriptors)
    assert torch.allclose(projection(7 * descriptors), descriptors)


def test_always_learns_a_map_of_equal_widths_too():
    assert [tuple(weight.shape) for weight in Projection(4, 4, always=True).parameters()] == [(4, 4)]


def test_a_widening_map_starts_as_a_turn():
    descriptors = torch.nn.functional.normalize(torch.randn(6, 4), dim=-1)
    projected = Projection(4, 9)(descriptors)
    assert torch.allclose(projected @ projected.T, descriptors @ descriptors.T, atol=1e-5)


def test_any_leading_dimensions_stay():
    assert Projection(3, 2)(torch.randn(4, 5, 3)).shape == (4, 5, 2)


def test_gradients_are_right():
    projection = Projection(3, 2).double()
    assert torch.autograd.gradcheck(projection, torch.randn(4, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dims", [(0, 4), (4, -1), (True, 4), (4, 2.0)])
def test_widths_are_positive_whole_numbers(dims):
    with pytest.raises(ConfigError, match="descriptor width must be a whole number above 0"):
        Projection(*dims)
