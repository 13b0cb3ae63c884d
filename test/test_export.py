"""Exported programs say what the network says."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from tscm_core.deploy.export import INPUT, OUTPUT, export_onnx, export_program
from tscm_core.models.released import ReleasedStudent


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ReleasedStudent().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 224, 224)


def test_a_torch_program_is_equal(network, images):
    program = export_program(network, (224, 224))
    assert torch.allclose(program.module()(images), network(images), atol=1e-5)


@pytest.mark.slow
def test_an_onnx_file_is_equal(network, images, tmp_path):
    export_onnx(network, (224, 224), tmp_path / "student.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["student.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    expected = network(images).numpy()
    assert found.shape == (1, 2048)
    assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
