"""What every network shares: features then head, and two disjoint groups of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tscm_core.models.network import IMAGENET_MEAN, IMAGENET_STD, Network


class Toy(Network):
    """A trunk of two parts, one of which is absent, and a head that has a name that begins like a trunk's."""

    trunk_parts = ("trunk", "second")
    dim = 2

    def __init__(self):
        super().__init__()
        self.spec = {"name": "toy", "trunk": "dots", "depth": 3}
        self.trunk = nn.Linear(3, 2)
        self.second = None
        self.trunk_scale = nn.Parameter(torch.tensor(3.0))

    @classmethod
    def from_spec(cls, spec):
        return cls()

    def features(self, images):
        return self.trunk(images.mean(dim=(2, 3))), images.amax(dim=(2, 3))

    def head(self, *features):
        return features[0] * self.trunk_scale + features[1][:, :2]


def test_forward_is_head_of_features():
    network, images = Toy(), torch.rand(4, 3, 5, 6)
    assert torch.equal(network(images), network.head(*network.features(images)))


def test_parameters_belong_to_trunk_or_head_by_the_part_they_lie_in():
    network = Toy()
    assert list(network.trunk_parameters()) == list(network.trunk.parameters())
    assert list(network.head_parameters()) == [network.trunk_scale]


def test_the_architecture_is_name_and_trunk():
    network = Toy()
    assert network.architecture == "toy-dots"
    network.spec = {"name": "toy"}
    assert network.architecture == "toy"


def test_imagenet_values_are_in_rgb_steps():
    """torchvision's, which are for 0 to 1."""
    assert pytest.approx((123.675, 116.28, 103.53)) == IMAGENET_MEAN
    assert pytest.approx((58.395, 57.12, 57.375)) == IMAGENET_STD


def test_a_network_must_say_what_its_features_and_head_are():
    with pytest.raises(TypeError, match="abstract"):
        Network()
