"""Half precision in the trunk alone."""

import pytest
import torch
from torch import nn
from training_toys import ToyNetwork

from tscm_core.deploy.half import half_trunk
from tscm_core.errors import DeployError


def test_the_trunk_is_half_the_head_is_not_and_the_network_itself_is_untouched():
    network = ToyNetwork().eval()
    halved = half_trunk(network)
    types = {name: value.dtype for name, value in halved.state_dict().items() if value.is_floating_point()}
    assert {name for name, dtype in types.items() if dtype == torch.float16} == {
        name for name in types if name.startswith("trunk.")
    }
    assert {value.dtype for value in network.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_its_descriptors_are_nearly_those_of_float32():
    generator = torch.Generator().manual_seed(0)
    network = ToyNetwork().eval()
    images = torch.randn(4, 3, 18, 24, generator=generator)
    with torch.no_grad():
        exact, found = network(images), half_trunk(network)(images)
    assert found.dtype == torch.float32
    assert 0 < (found - exact).abs().max() < 0.01
    assert (found * exact).sum(1).min() > 0.999


def test_a_trunk_that_gives_several_maps_gives_them_in_float32():
    class Levels(nn.Module):
        def forward(self, images):
            return images, images * 2

    network = ToyNetwork().eval()
    network.trunk = Levels()
    first, second = half_trunk(network).trunk(torch.ones(1, 3, 2, 2))
    assert (first.dtype, second.dtype) == (torch.float32, torch.float32)
    assert second.unique() == 2


def test_a_network_without_a_trunk_is_refused_with_what_to_do():
    network = ToyNetwork().eval()
    del network.trunk
    with pytest.raises(DeployError, match=r"network toy has no trunk .* use precision fp32"):
        half_trunk(network)
