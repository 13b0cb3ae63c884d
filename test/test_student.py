"""The student: unit length, one batch at a time or many, exactly as big as it says."""

from __future__ import annotations

import pytest
import torch

from tscm_core.models.student import Student


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(0)
    return Student().eval().requires_grad_(False)


def test_size_is_that_of_the_trunk_and_one_power(student):
    assert sum(parameter.numel() for parameter in Student().parameters()) == 3_371_009
    assert (student.dim, student.architecture) == (1280, "efficientnet_lite0-gem")


@pytest.mark.parametrize("size", [(240, 320), (96, 64), (33, 47), (32, 32)])
def test_descriptors_have_unit_length_at_any_size(student, size):
    descriptors = student(torch.randn(3, 3, *size))
    assert descriptors.shape == (3, 1280)
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_it_is_trunk_then_pool_then_length(student):
    images = torch.randn(2, 3, 64, 64)
    pooled = student.trunk(images).clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    assert torch.allclose(student(images), pooled / pooled.norm(dim=1, keepdim=True), atol=1e-6)


def test_every_weight_is_reached_by_a_gradient():
    network = Student().train()
    (network(torch.randn(4, 3, 64, 64)) * torch.randn(4, 1280)).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
