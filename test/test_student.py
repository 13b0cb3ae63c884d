"""Both students: each as the papers' formulas put it together, 2048 numbers of unit length at any image size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from tscm_core.errors import ConfigError
from tscm_core.models.build import build_network
from tscm_core.models.student import LiteStudent, PaperStudent, Student

LITES = {"efficientnet_lite0": (112, 576, 448), "efficientnet_lite2": (120, 544, 480)}
"""Channels of a token, numbers from pooled maps and numbers from the layout."""
SPECS = {
    "resnet50": {"name": "student", "trunk": "resnet50", "clusters": 64, "input_size": [224, 224]},
    "efficientnet_lite0": {"name": "student", "trunk": "efficientnet_lite0", "clusters": 16, "input_size": [320, 240]},
    "efficientnet_lite2": {"name": "student", "trunk": "efficientnet_lite2", "clusters": 16, "input_size": [320, 240]},
}


def built(trunk, **more):
    """Eval mode; every number that starts as one or nought is moved from there."""
    torch.manual_seed(0)
    network = Student.from_spec({"name": "student", "trunk": trunk, **more}).eval().requires_grad_(False)
    for name, weight in network.named_parameters():
        if name.endswith((".p", "part_weights", "cluster_biases", "gating_biases")):
            weight.add_(0.4 * torch.rand_like(weight))
    return network


@pytest.fixture(scope="module")
def paper():
    return built("resnet50")


@pytest.fixture(scope="module")
def lite():
    return built("efficientnet_lite0")


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def unit(vector):
    return vector / np.linalg.norm(vector)


# ---------------------------------------------------------------------------------------------- settings and sizes


@pytest.mark.parametrize("trunk", SPECS)
def test_it_is_built_from_its_settings_and_says_them(trunk):
    with torch.device("meta"):
        network = build_network({"name": "student", "trunk": trunk})
        again = build_network(network.spec)
        other = build_network({"name": "student", "trunk": trunk, "clusters": 24, "input_size": [96, 64]})
    assert isinstance(network, PaperStudent if trunk == "resnet50" else LiteStudent)
    assert network.spec == again.spec == SPECS[trunk]
    assert list(network.spec) == ["name", "trunk", "clusters", "input_size"]
    assert (network.dim, network.input_size) == (2048, tuple(SPECS[trunk]["input_size"]))
    assert network.architecture == f"student-{trunk}"
    assert (other.net_vlad.cluster_biases.numel(), other.input_size) == (24, (96, 64))


def test_the_light_trunk_is_the_default():
    with torch.device("meta"):
        assert build_network({"name": "student"}).spec == SPECS["efficientnet_lite0"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            {"trunk": "vgg16"},
            "trunk of network student must be one of resnet50, efficientnet_lite0, efficientnet_lite2",
        ),
        ({"trunk": ["resnet50"]}, "must be one of resnet50"),
        ({"clusters": 0}, "must be at least 1"),
        ({"clusters": 16.0}, "must be of type int"),
        ({"input_size": [320]}, "must be 2 numbers"),
        ({"input_size": [320, 15]}, r"input_size of network student must be from 16 to 8192, not \[320, 15\]"),
        ({"trunk": "resnet50", "input_size": [10**9, 224]}, "must be from 16 to 8192"),
        ({"dim": 1024}, "network student has no setting dim"),
    ],
)
def test_unfit_settings_are_one_sentence(setting, said):
    with pytest.raises(ConfigError, match=said):
        build_network({"name": "student", **setting})


@pytest.mark.parametrize(
    ("trunk", "trunk_size", "head_size"),
    [
        ("resnet50", 8_543_296, 590_592 + 98_368 + 12_582_912 + 65_792 + 263_168 + 1),
        ("efficientnet_lite0", 2_576_896 + 2, 3_600 + 1_836_032 + 1_051_200 + 201_152),
        ("efficientnet_lite2", 3_904_224 + 2, 3_856 + 1_967_104 + 1_071_136 + 230_880),
    ],
)
def test_sizes(trunk, trunk_size, head_size):
    with torch.device("meta"):
        network = build_network({"name": "student", "trunk": trunk})
    assert (count(network.trunk_parameters()), count(network.head_parameters())) == (trunk_size, head_size)
    assert count(network.parameters()) == trunk_size + head_size


def test_images_are_normalised_as_the_trunk_wants_them(paper, lite):
    assert paper.mean == pytest.approx((123.675, 116.28, 103.53))
    assert paper.std == pytest.approx((58.395, 57.12, 57.375))
    assert (lite.mean, lite.std) == ((127.0,) * 3, (128.0,) * 3)
    assert lite.exposure.mean.flatten().tolist() == pytest.approx([127 / 255] * 3)


@pytest.mark.parametrize("trunk", LITES)
@pytest.mark.parametrize("size", [(96, 64), (33, 47), (32, 32), (16, 16)])
def test_descriptors_have_unit_length_at_any_size(trunk, size):
    descriptors = built(trunk)(torch.randn(3, 3, *size))
    assert descriptors.shape == (3, 2048)
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


@pytest.mark.parametrize("size", [(64, 48), (33, 47), (16, 16)])
def test_the_papers_have_too(paper, size):
    descriptors = paper(torch.randn(2, 3, *size))
    assert descriptors.shape == (2, 2048)
    assert descriptors.norm(dim=1).tolist() == pytest.approx([1.0] * 2, abs=1e-5)


def test_each_image_is_by_itself(paper, lite):
    images = torch.randn(3, 3, 48, 64)
    for network in (paper, lite):
        together = network(images)
        for number in range(3):
            assert torch.allclose(network(images[number : number + 1])[0], together[number], atol=1e-5)


# ---------------------------------------------------------------------------------------------- against the formulas


def plain_vlad(tokens, layer):
    """[N, C] to [C * K]: equation 4 of NetVLAD, in float64; normalised for each word, and then as a whole."""
    weights, centres, biases = (
        getattr(layer, name).double().numpy() for name in ("cluster_weights", "cluster_weights2", "cluster_biases")
    )
    vlad = np.zeros(weights.shape)
    for token in tokens:
        scores = np.exp(token @ weights + biases)
        vlad += (token[:, None] - centres[0]) * (scores / scores.sum())
    return unit((vlad / np.linalg.norm(vlad, axis=0)).ravel())


def plain_gem(maps, power):
    """[C, H, W] to [C]."""
    return (np.maximum(maps, 1e-6) ** power).mean(axis=(1, 2)) ** (1 / power)


def linear(layer, vector):
    return layer.weight.double().numpy() @ vector + layer.bias.double().numpy()


def plain_tokens(maps):
    """[C, H, W] to [H * W, C], row by row, each of unit length."""
    return np.array([unit(maps[:, y, x]) for y in range(maps.shape[1]) for x in range(maps.shape[2])])


def test_the_papers_is_netvlad_of_patches_beside_gem_of_the_trunk(paper):
    images = torch.randn(2, 3, 48, 64)
    found, trunk_maps = paper(images).numpy(), paper.trunk(images).double().numpy()
    kernel, bias = (getattr(paper.patch_embedding, name).double().numpy() for name in ("weight", "bias"))
    gating = paper.net_vlad.context_gating
    for number, image in enumerate(images.double().numpy()):
        patches = [image[:, y : y + 16, x : x + 16] for y in range(0, 48, 16) for x in range(0, 64, 16)]
        tokens = np.array([unit(np.einsum("dcyx,cyx->d", kernel, patch) + bias) for patch in patches])
        summed = plain_vlad(tokens, paper.net_vlad) @ paper.net_vlad.hidden1_weights.double().numpy()
        gates = summed @ gating.gating_weights.double().numpy() + gating.gating_biases.double().numpy()
        local = linear(paper.project_tokens, summed / (1 + np.exp(-gates)))
        pooled = plain_gem(trunk_maps[number], float(paper.pool.p))
        expected = unit(np.concatenate([unit(local), unit(pooled)]))
        assert found[number] == pytest.approx(expected, abs=1e-5)


def plain_quarters(maps):
    """[C, H, W] to [4 * C]: for each channel top left, top right, bottom left, bottom right."""
    _, rows, columns = maps.shape
    tops = slice(0, -(-rows // 2)), slice(rows // 2, rows)
    lefts = slice(0, -(-columns // 2)), slice(columns // 2, columns)
    return np.array([maps[c, y, x].mean() for c in range(len(maps)) for y in tops for x in lefts])


@pytest.mark.parametrize("size", [(64, 96), (80, 48), (33, 47)])
def test_the_light_one_is_tokens_beside_pooled_maps_beside_layout(lite, size):
    images = torch.randn(2, 3, *size)
    found = lite(images).numpy()
    tokens, middle, last = (level.double().numpy() for level in lite.trunk(lite.exposure(images)))
    weights = lite.part_weights.double().numpy()
    for number in range(2):
        levels = [
            unit(plain_gem(maps[number], float(pool.p))) for pool, maps in zip(lite.pools, (middle, last), strict=True)
        ]
        parts = (
            linear(lite.project_tokens, plain_vlad(plain_tokens(tokens[number]), lite.net_vlad)),
            linear(lite.project_levels, np.concatenate(levels)),
            linear(lite.project_layout, unit(plain_quarters(tokens[number]))),
        )
        expected = unit(np.concatenate([weight * unit(part) for weight, part in zip(weights, parts, strict=True)]))
        assert found[number] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("trunk", LITES)
def test_parts_have_the_sizes_that_they_are_said_to_have(trunk):
    channels, from_levels, from_layout = LITES[trunk]
    with torch.device("meta"):
        network = build_network({"name": "student", "trunk": trunk})
    assert [layer.out_features for layer in network.projections()] == [1024, from_levels, from_layout]
    assert [layer.in_features for layer in network.projections()] == [
        16 * channels, sum(network.trunk.level_channels), 4 * channels,
    ]  # fmt: skip


def test_quarters_are_those_of_pytorch(lite):
    for rows, columns in ((15, 20), (2, 2), (1, 1), (5, 1), (7, 4)):
        maps = torch.randn(2, 112, rows, columns)
        expected = functional.adaptive_avg_pool2d(maps, 2).flatten(1)
        layout = lite.before_projection(maps, torch.rand(2, 672), torch.rand(2, 1152))[2]
        assert torch.allclose(layout, functional.normalize(expected, dim=1), atol=1e-6)


def test_a_weight_of_nought_leaves_a_part_out(lite):
    network = built("efficientnet_lite0")
    network.part_weights.data[:] = torch.tensor([0.0, 2.0, 2.0])
    found = network(torch.randn(1, 3, 64, 64))[0]
    assert found[:1024].abs().max() == 0
    assert found[1024:1600].norm().item() == pytest.approx(0.5**0.5, abs=1e-5)
    assert found[1600:].norm().item() == pytest.approx(0.5**0.5, abs=1e-5)


# ---------------------------------------------------------------------------------------------- frozen trunk


def test_features_are_what_the_frozen_trunk_says(paper, lite):
    images = torch.randn(2, 3, 40, 64)
    same, maps = paper.features(images)
    assert torch.equal(same, images)
    assert maps.shape == (2, 1024, 3, 4)
    tokens, middle, last = lite.features(images)
    assert [level.shape for level in (tokens, middle, last)] == [(2, 112, 3, 4), (2, 672), (2, 1152)]
    for network in (paper, lite):
        assert torch.equal(network.head(*network.features(images)), network(images))
        assert network.trunk_parts[-1 if network is paper else 1] == "trunk"


def test_features_fit_into_half_precision(lite):
    """So they are kept; what is left of them must say the same place."""
    features = lite.features(torch.randn(2, 3, 96, 96))
    whole, halved = lite.head(*features), lite.head(*(level.half().float() for level in features))
    assert ((whole * halved).sum(dim=1) > 0.9999).all()


@pytest.mark.parametrize("trunk", ["resnet50", "efficientnet_lite0"])
def test_every_weight_is_reached_by_a_gradient(trunk):
    torch.manual_seed(1)
    network = Student.from_spec({"name": "student", "trunk": trunk}).train()
    (network(torch.randn(3, 3, 64, 64)) * torch.randn(3, 2048)).sum().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
    assert all(weight.grad.abs().max() > 0 for weight in network.head_parameters())


def test_trunk_and_head_are_apart(paper, lite):
    heads = {
        paper: {"patch_embedding", "net_vlad", "project_tokens", "pool"},
        lite: {"net_vlad", "project_tokens", "project_levels", "project_layout"},
    }
    for network, parts in heads.items():
        trunk, head = list(network.trunk_parameters()), list(network.head_parameters())
        names = {id(weight): name.split(".")[0] for name, weight in network.named_parameters()}
        assert {names[id(weight)] for weight in head} == parts
        assert {names[id(weight)] for weight in trunk} == ({"trunk"} if network is paper else {"trunk", "pools"})
        assert len({id(weight) for weight in trunk + head}) == len(names)
