"""The baseline: unit length, one batch at a time or many, exactly as big as it says."""

from __future__ import annotations

import pytest
import torch

from tscm_core.errors import ConfigError
from tscm_core.models.baseline import Baseline
from tscm_core.models.build import build_network


@pytest.fixture(scope="module")
def baseline():
    torch.manual_seed(0)
    return Baseline().eval().requires_grad_(False)


def test_size_is_that_of_the_trunk_and_one_power(baseline):
    assert sum(parameter.numel() for parameter in baseline.parameters()) == 3_371_009
    assert (baseline.dim, baseline.input_size, baseline.architecture) == (1280, (320, 240), "efficientnet_lite0-gem")
    assert [parameter is baseline.pool.p for parameter in baseline.head_parameters()] == [True]


@pytest.mark.parametrize("size", [(240, 320), (96, 64), (33, 47), (32, 32)])
def test_descriptors_have_unit_length_at_any_size(baseline, size):
    descriptors = baseline(torch.randn(3, 3, *size))
    assert descriptors.shape == (3, 1280)
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_it_is_trunk_then_pool_then_length(baseline):
    images = torch.randn(2, 3, 64, 64)
    pooled = baseline.trunk(images).clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)
    assert torch.allclose(baseline(images), pooled / pooled.norm(dim=1, keepdim=True), atol=1e-6)


def test_every_weight_is_reached_by_a_gradient():
    network = Baseline().train()
    (network(torch.randn(4, 3, 64, 64)) * torch.randn(4, 1280)).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_it_is_built_by_name_and_has_nothing_to_set(baseline):
    with torch.device("meta"):
        for spec in ({"name": "baseline"}, baseline.spec):
            assert build_network(spec).state_dict().keys() == baseline.state_dict().keys()
        for wrong in ({"dim": 3}, {"input_size": [224, 224]}):
            with pytest.raises(ConfigError, match="baseline"):
                build_network({"name": "baseline", **wrong})
