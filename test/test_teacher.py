"""The teacher: its parts, its shapes at any size, and that its head is a function of its features alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from tscm_core.errors import ConfigError
from tscm_core.models import teacher as teacher_module
from tscm_core.models.build import build_network
from tscm_core.models.teacher import Teacher
from tscm_core.models.vit import VisionTransformer


@pytest.fixture(autouse=True)
def small_vit(monkeypatch):
    """A ViT of one narrow block: what is tested here is what stands around it."""
    monkeypatch.setattr(teacher_module, "VisionTransformer", lambda: VisionTransformer(width=24, depth=1, heads=2))


def small(**settings):
    torch.manual_seed(0)
    return build_network({"name": "teacher", "clusters": 2, **settings}).eval()


KINDS = [
    ({"trunk": "resnet50", "second": "vit"}, [(1024, 4, 3), (12, 24)]),
    ({"trunk": "resnet50", "second": "trunk"}, [(512, 8, 6), (1024, 4, 3)]),
    ({"trunk": "efficientnet_lite2", "second": "trunk"}, [(120, 4, 3), (1280, 2, 2)]),
    ({"trunk": "efficientnet_lite2", "second": "trunk", "gem": "levels"}, [(48, 8, 6), (120, 4, 3), (1280, 2, 2)]),
    (
        {"trunk": "efficientnet_lite2", "second": "vit", "gem": "levels"},
        [(48, 8, 6), (120, 4, 3), (1280, 2, 2), (12, 24)],
    ),
]


@pytest.mark.parametrize(("settings", "shapes"), KINDS)
def test_features_are_cached_and_the_head_needs_nothing_else(settings, shapes):
    network, images = small(**settings), torch.randn(2, 3, 64, 48)
    with torch.inference_mode():
        features = network.features(images)
        assert [tuple(feature.shape) for feature in features] == [(2, *shape) for shape in shapes]
        descriptors = network.head(*features)
        assert torch.equal(descriptors, network(images))
    assert descriptors.shape == (2, network.dim) == (2, 2048)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize(("settings", "shapes"), KINDS)
def test_trunk_and_head_parameters_part_the_network(settings, shapes):
    network = small(**settings)
    trunk, head = set(map(id, network.trunk_parameters())), set(map(id, network.head_parameters()))
    assert trunk.isdisjoint(head)
    assert trunk | head == set(map(id, network.parameters()))
    assert id(network.trunk.bn1.weight) in trunk
    assert {id(network.part_weights), id(network.pools[0].p), id(network.net_vlad.cluster_weights)} <= head
    if network.vit is not None:
        assert id(network.vit.cls_token) in trunk


def test_every_parameter_has_a_gradient():
    network = small(trunk="efficientnet_lite2", second="vit", gem="levels")
    target = functional.normalize(torch.randn(2, 2048), dim=1)
    (network(torch.randn(2, 3, 64, 48)) * target).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_the_four_parts_weigh_alike_until_training_says_otherwise():
    network = small(second="trunk", trunk="efficientnet_lite2")
    bounds = (0, 256, 768, 1024, 2048)
    with torch.inference_mode():
        found = network(torch.randn(1, 3, 64, 48))[0]
        assert [found[a:b].norm().item() for a, b in itertools.pairwise(bounds)] == pytest.approx([0.5] * 4)
        network.part_weights[3] = 0
        assert network(torch.randn(1, 3, 64, 48))[0, 1024:].abs().max() == 0


def test_the_vit_sees_images_normalised_its_own_way():
    """RGB values 0 to 255, less 127.5, divided by 127.5."""
    seen = []

    class Keep(nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(1, 4, 24)

    network = small(trunk="resnet50", second="vit")
    network.vit = Keep()
    rgb = torch.rand(1, 3, 32, 32) * 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
    network.features((rgb - mean) / std)
    assert torch.allclose(seen[0], rgb / 127.5 - 1, atol=1e-5)


def test_normalisation_is_that_of_the_trunks_published_weights():
    assert small(trunk="efficientnet_lite2", second="trunk").mean == (127.0,) * 3
    assert small(trunk="resnet50", second="trunk").std == pytest.approx((0.229 * 255, 0.224 * 255, 0.225 * 255))


@pytest.mark.parametrize(
    "wrong", [{"trunk": "vgg16"}, {"second": "resnet"}, {"gem": 3}, {"clusters": 0}, {"input_size": [3]}, {"dim": 9}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Teacher.from_spec({"name": "teacher", **wrong})


def test_the_spec_says_everything():
    network = small(trunk="efficientnet_lite2", second="trunk", gem="levels", input_size=[260, 200])
    assert network.input_size == (260, 200)
    assert network.spec == {
        "name": "teacher", "trunk": "efficientnet_lite2", "second": "trunk", "gem": "levels", "clusters": 2,
        "input_size": [260, 200],
    }  # fmt: skip
