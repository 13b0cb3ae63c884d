"""The trunk: its padding against TensorFlow's formula, its size, and what its published classifier says."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import pytest
import torch
from shared_data import shared
from torch import nn

from tscm_core.checkpoints import imagenet_weights
from tscm_core.models.mobile import EfficientNetLite0, InvertedResidual, SamePaddingConv2d, from_published_names
from tscm_core.models.student import Student

CLASSES = 1000


@functools.cache
def published():
    return torch.load(imagenet_weights(), map_location="cpu", weights_only=True)


@functools.cache
def classifier():
    """The whole published network: our trunk, then mean over positions, then the layer ``_fc`` of the package."""
    trunk, head = EfficientNetLite0().eval(), nn.Linear(1280, CLASSES)
    trunk.load_state_dict(from_published_names(published()), strict=True)
    head.load_state_dict({name: published()[f"_fc.{name}"] for name in ("weight", "bias")})
    return trunk, head


def classify(image):
    """Probabilities of the thousand ImageNet classes for RGB uint8 [H, W, 3], the middle of it at 224 pixels."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
    pixels = (torch.from_numpy(square).permute(2, 0, 1)[None].float() - Student.mean[0]) / Student.std[0]
    trunk, head = classifier()
    with torch.inference_mode():
        return head(trunk(pixels).mean(dim=(2, 3))).softmax(dim=1)[0]


# ---------------------------------------------------------------------------------------------- SAME padding


def plain_same_convolution(image, kernel, stride):
    """TensorFlow's SAME: out = ceil(in / stride), pad = max((out - 1) * stride + kernel - in, 0), less of it before."""
    size, k = image.shape, kernel.shape[0]
    out = [math.ceil(length / stride) for length in size]
    before = [max((o - 1) * stride + k - length, 0) // 2 for o, length in zip(out, size, strict=True)]
    result = np.zeros(out)
    for row in range(out[0]):
        for column in range(out[1]):
            for i in range(k):
                for j in range(k):
                    y, x = row * stride + i - before[0], column * stride + j - before[1]
                    if 0 <= y < size[0] and 0 <= x < size[1]:
                        result[row, column] += image[y, x] * kernel[i, j]
    return result


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 5), (6, 7), (7, 6), (2, 9)])
def test_same_padding_is_tensorflows(kernel, stride, size):
    rng = np.random.default_rng(kernel * 10 + stride)
    image, weight = rng.normal(size=size), rng.normal(size=(kernel, kernel))
    layer = SamePaddingConv2d(1, 1, kernel, stride, bias=False).double()
    layer.weight.data[0, 0] = torch.from_numpy(weight)
    ours = layer(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    assert ours == pytest.approx(plain_same_convolution(image, weight, stride), abs=1e-12)


def test_same_padding_keeps_groups_and_bias():
    layer = SamePaddingConv2d(4, 4, 3, 2, groups=4)
    images = torch.rand(2, 4, 8, 6)
    alone = SamePaddingConv2d(1, 1, 3, 2)
    for channel in range(4):
        alone.weight.data, alone.bias.data = layer.weight.data[channel][None], layer.bias.data[channel][None]
        single = alone(images[:, channel : channel + 1])
        assert torch.allclose(layer(images)[:, channel : channel + 1], single, atol=1e-6)


# ---------------------------------------------------------------------------------------------- architecture


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_size_is_the_published_one():
    """Google's table: EfficientNet-Lite0 has 4.7 M parameters; 4,652,008 with its classifier."""
    assert count(EfficientNetLite0()) == 3_371_008
    assert count(EfficientNetLite0()) + count(nn.Linear(1280, CLASSES)) == 4_652_008


@pytest.mark.parametrize("size", [(240, 320), (224, 224), (33, 65), (32, 32), (1, 1)])
def test_features_are_at_one_thirty_second_of_the_input(size):
    with torch.inference_mode():
        features = EfficientNetLite0().eval()(torch.zeros(2, 3, *size))
    assert features.shape == (2, 1280, math.ceil(size[0] / 32), math.ceil(size[1] / 32))


def test_blocks_skip_where_shapes_allow():
    assert [block.has_skip for block in EfficientNetLite0().blocks] == [
        *[False], *[False, True], *[False, True], *[False, True, True], *[False, True, True],
        *[False, True, True, True], *[False],
    ]  # fmt: skip
    block = InvertedResidual(8, 8, 3, 1, 6).eval()
    nn.init.zeros_(block.project_conv.weight)
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(block(x), x)


def test_activations_end_at_six():
    """What makes the network fit for integers."""
    trunk = EfficientNetLite0().eval()
    trunk.conv_head.weight.data *= 1e9
    with torch.inference_mode():
        features = trunk(torch.randn(1, 3, 64, 64))
    assert (features.min(), features.max()) == (0, 6)


def test_published_names_lose_their_underscores_and_the_classifier():
    zero = torch.zeros(1)
    state = {"_conv_stem.weight": zero, "_blocks.0._bn1.running_mean": zero, "_fc.weight": zero, "_fc.bias": zero}
    assert set(from_published_names(state)) == {"conv_stem.weight", "blocks.0.bn1.running_mean"}
    assert set(from_published_names(published())) == set(EfficientNetLite0().state_dict())


# ---------------------------------------------------------------------------------------------- what it sees


PRISON, DOME, MONASTERY, MOSQUE, STREETCAR = 743, 538, 663, 668, 829


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("path", "label", "least"),
    [
        ("corridor_two_laps/images/0000.jpg", PRISON, 0.75),  # a corridor of closed doors
        ("corridor_two_laps/images/0027.jpg", PRISON, 0.85),
        ("corridor_two_laps/images/0072.jpg", PRISON, 0.85),
        ("toy_landmarks/queries/q1.jpg", DOME, 0.25),
        ("toy_landmarks/queries/q3.jpg", MONASTERY, 0.4),
        ("toy_landmarks/database/db9.jpg", MOSQUE, 0.4),
        ("toy_landmarks/database/db15.jpg", STREETCAR, 0.3),
    ],
)
def test_the_published_classifier_knows_real_pictures(path, label, least):
    folder, name = path.split("/", 1)
    chances = classify(cv2.cvtColor(cv2.imread(str(shared(folder) / name)), cv2.COLOR_BGR2RGB))
    assert int(chances.argmax()) == label
    assert float(chances.max()) > least
