"""Convolutions in eight bits say nearly the same."""

from __future__ import annotations

import copy
import functools

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn
from training_toys import HEIGHT, WIDTH, ToyNetwork

from tscm_core.deploy import export, int8
from tscm_core.deploy.backend import Target
from tscm_core.deploy.export import images_to_onnx
from tscm_core.deploy.int8 import quantise
from tscm_core.deploy.onnxruntime_backend import OnnxRuntimeBackend
from tscm_core.errors import DeployError

SIZE = (WIDTH, HEIGHT)
INT8 = Target(precision="int8", input_size=SIZE)


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 8, 1)

    def forward(self, x):
        return x + self.second(self.first(x).clamp(0, 6))


@functools.cache
def network():
    torch.manual_seed(0)
    network = ToyNetwork(dim=16)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 1)]
    network.trunk = nn.Sequential(*layers, Residual(), Residual(), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    network.linear = nn.Linear(32, 16)
    return network.eval().requires_grad_(False)


@functools.cache
def exported():
    return images_to_onnx(network(), SIZE)


def a_copy(*_):
    return copy.deepcopy(exported())


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 3, 4, 3), np.uint8)
    return np.stack([cv2.resize(image, SIZE, interpolation=cv2.INTER_CUBIC) for image in small])


def describe(payload, images):
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def test_descriptors_are_nearly_the_same(images):
    model = a_copy()
    whole = describe(model.SerializeToString(), images)
    found = describe(quantise(model, (image[None] for image in images)).SerializeToString(), images)
    cosines = (whole * found).sum(axis=1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(found, axis=1)
    assert 0.99 < cosines.min() < 0.999999  # the upper bound: it does calculate in eight bits


def test_all_but_the_first_convolutions_are_quantised_with_a_scale_for_each_channel(images):
    model = quantise(a_copy(), (image[None] for image in images[:2]))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    eight = [tensor for tensor in tensors.values() if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4]
    whole = [tensor for tensor in tensors.values() if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4]
    assert sorted(tuple(tensor.dims[:2]) for tensor in eight) == [(8, 16), (8, 16), (16, 8), (16, 8)]
    assert sorted(tuple(tensor.dims[:2]) for tensor in whole if tensor.dims[0] == 8) == [(8, 3), (8, 8), (8, 8)]
    (scale,) = [
        node.input[1]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] == eight[0].name
    ]
    assert len(np.unique(numpy_helper.to_array(tensors[scale]))) == eight[0].dims[0]


@pytest.mark.parametrize(
    ("machine", "flags", "most"),
    [
        ("x86_64", "avx2 avx512f", 64),
        ("x86_64", "avx2 avx512_vnni", 127),
        ("x86_64", "avx_vnni", 127),
        ("aarch64", "", 127),
    ],
)
def test_a_weight_has_seven_bits_where_sums_would_overflow(images, tmp_path, monkeypatch, machine, flags, most):
    (tmp_path / "cpuinfo").write_text(f"flags : fpu {flags} sse\n")
    monkeypatch.setattr("tscm_core.deploy.device._CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(int8.platform, "machine", lambda: machine)
    model = quantise(a_copy(), [images[:1]])
    eight = [
        numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert max(int(np.abs(weights.astype(int)).max()) for weights in eight) == most


def test_the_backend_learns_from_files(images, tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)  # and is to be reduced again
        cv2.imwrite(str(path), cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
    monkeypatch.setattr(export, "images_to_onnx", a_copy)
    backend, said = OnnxRuntimeBackend(), []
    payload = backend.build_int8(network(), INT8, paths, said.append)
    expected = quantise(a_copy(), (image[None] for image in images)).SerializeToString()
    assert describe(payload, images) == pytest.approx(describe(expected, images), abs=1e-6)
    assert said == ["learning the range of each number from 12 images"]
    assert backend.load(payload, INT8)(images[:1]).shape == (1, 16)


def test_what_it_cannot_learn_from_is_said(tmp_path):
    backend = OnnxRuntimeBackend()
    with pytest.raises(DeployError, match="give a hundred"):
        backend.build_int8(network(), INT8, [], print)
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(DeployError, match=r"image .*text\.png cannot be read"):
        backend.build_int8(network(), INT8, [path], print)
    with pytest.raises(DeployError, match="tscm compile --precision int8"):
        backend.build(network(), INT8, print)
