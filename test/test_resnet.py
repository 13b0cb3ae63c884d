"""The ResNet-50 trunk against the same arithmetic written out, and torchvision's names."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tscm_core.models.resnet import Bottleneck, ResNet50, from_torchvision_names


def plain_resnet50(x, state):
    """torchvision's resnet50 up to layer3, from nothing but its state dict."""

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        mean, var, scale, shift = (
            state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = functional.max_pool2d(norm(conv(x, "conv1", 2), "bn1").clamp(min=0), 3, 2, 1)
    for stage, blocks in ((1, 3), (2, 4), (3, 6)):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            hidden = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").clamp(min=0)
            hidden = norm(conv(hidden, f"{name}.conv2", stride), f"{name}.bn2").clamp(min=0)
            hidden = norm(conv(hidden, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = (hidden + x).clamp(min=0)
    return x


def shaken(network):
    """Eval mode, with batch statistics that are not the neutral ones."""
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
    return network.eval()


def test_features_are_those_of_the_formula():
    torch.manual_seed(0)
    network = shaken(ResNet50()).double()
    images = torch.randn(2, 3, 64, 48, dtype=torch.float64)
    with torch.inference_mode():
        found, expected = network(images), plain_resnet50(images, network.state_dict())
    assert found.shape == (2, 1024, 4, 3)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_levels_end_with_the_features():
    network = shaken(ResNet50())
    with torch.inference_mode():
        middle, last = network.levels(torch.zeros(1, 3, 33, 65))
        assert torch.equal(last, network(torch.zeros(1, 3, 33, 65)))
    assert middle.shape == (1, 512, 5, 9)
    assert last.shape == (1, 1024, 3, 5)
    assert network.level_channels == (512, 1024)


def test_size_is_torchvisions_without_last_stage_and_classifier():
    """torchvision: 25,557,032 parameters, of which layer4 has 14,964,736 and fc 2,049,000."""
    with torch.device("meta"):
        assert sum(weight.numel() for weight in ResNet50().parameters()) == 25_557_032 - 14_964_736 - 2_049_000


def test_the_last_stage_and_the_classifier_are_left_out():
    names = ["conv1.weight", "layer3.5.bn3.bias", "layer4.0.conv1.weight", "fc.weight", "fc.bias"]
    assert list(from_torchvision_names(dict.fromkeys(names, torch.zeros(1)))) == names[:2]


@pytest.mark.parametrize(("inputs", "stride", "has"), [(64, 1, True), (256, 1, False), (256, 2, True)])
def test_the_shortcut_is_projected_where_shapes_change(inputs, stride, has):
    assert (Bottleneck(inputs, 64, stride).downsample is not None) == has
