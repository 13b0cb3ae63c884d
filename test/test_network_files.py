"""Network files: what is written is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import random

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from tscm_core import checkpoints
from tscm_core.checkpoints import load_network, model_id, save_network
from tscm_core.errors import ConfigError, ModelFileError
from tscm_core.models import build
from tscm_core.models.network import Network
from tscm_core.models.spec import read_spec
from tscm_core.network_header import read_header, to_metadata


class Toy(Network):
    """Two channels' means of a small convolution."""

    input_size = (20, 10)

    def __init__(self, dim):
        super().__init__()
        self.spec = {"name": "toy", "dim": dim}
        self.dim = dim
        self.trunk = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        self.project = nn.Linear(5, dim)

    @classmethod
    def from_spec(cls, spec):
        return cls(read_spec(spec, {"name": "toy", "dim": 4})["dim"])

    def features(self, images):
        return (self.trunk(images),)

    def head(self, *features):
        return functional.normalize(self.project(features[0].mean(dim=(2, 3))), dim=1)


@pytest.fixture
def toy(monkeypatch):
    import sys

    monkeypatch.setitem(build.NETWORKS, "toy", (__name__, "Toy"))
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type("Module", (), {"Toy": Toy}))
    torch.manual_seed(3)
    network = Toy(6)
    network(torch.rand(8, 3, 10, 20))  # moves the batch statistics
    return network


@pytest.fixture
def file(toy, tmp_path):
    save_network(toy, tmp_path / "toy.safetensors", config={"epochs": 3}, metrics={"recall": {"1": 0.5}})
    return tmp_path / "toy.safetensors"


def refusal(path):
    with pytest.raises(ModelFileError) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_comes_back_as_it_went(toy, file):
    images = torch.rand(2, 3, 10, 20)
    loaded = load_network(file)
    assert isinstance(loaded, Toy)
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(loaded(images), toy.eval()(images))
    header = read_header(file)
    assert (header.spec, header.config) == ({"name": "toy", "dim": 6}, {"epochs": 3})
    assert header.metrics == {"recall": {"1": 0.5}}
    assert header.model_id == model_id(toy, "20x10") == model_id(loaded, "20x10")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    (file.parent / "plain").touch()
    assert file.stat().st_mode == (file.parent / "plain").stat().st_mode


def test_half_keeps_matrices_small_and_vectors_whole(toy, tmp_path):
    path = tmp_path / "half.safetensors"
    toy.project.weight.data[0, 0] = 1e6  # more than float16 holds
    before = {name: tensor.clone() for name, tensor in toy.state_dict().items()}
    header = save_network(toy, path, config={}, metrics={}, half=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in toy.state_dict().items())
    stored = load_file(path)
    assert stored["trunk.0.weight"].dtype == torch.float16
    assert {stored[name].dtype for name in ("trunk.0.bias", "trunk.1.running_var", "project.weight")} == {torch.float32}
    loaded = load_network(path)
    assert loaded.trunk[0].weight.dtype == torch.float32
    assert torch.equal(loaded.trunk[0].weight, before["trunk.0.weight"].half().float())
    assert torch.equal(loaded.project.weight, before["project.weight"])
    assert header.model_id == read_header(path).model_id == model_id(loaded, "20x10") != model_id(toy, "20x10")


def test_a_file_that_is_there_survives_a_failed_write(toy, file, monkeypatch):
    raw = file.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(ModelFileError, match="cannot be written: No space left on device"):
        save_network(toy, file, config={}, metrics={})
    assert file.read_bytes() == raw
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_is_no_json_is_refused_before_anything_is_written(toy, tmp_path):
    with pytest.raises(ConfigError, match="must be JSON values"):
        save_network(toy, tmp_path / "toy.safetensors", config={"a": object()}, metrics={})
    assert list(tmp_path.iterdir()) == []


def test_truncated_and_foreign_files_are_refused(file, tmp_path):
    raw = file.read_bytes()
    broken = tmp_path / "broken.safetensors"
    for length in (0, 5, 8, 100, len(raw) // 2, len(raw) - 1):
        broken.write_bytes(raw[:length])
        assert "damaged" in refusal(broken)
    broken.write_bytes(random.Random(0).randbytes(500))
    refusal(broken)
    save_file({"a": torch.zeros(1)}, broken)
    assert "is not a network file of this program" in refusal(broken)
    refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "absent.safetensors")


def test_one_changed_bit_is_found(file):
    raw = bytearray(file.read_bytes())
    rng = random.Random(1)
    start = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(20):
        damaged = bytearray(raw)
        damaged[rng.randrange(start, len(raw))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        assert "is damaged: its weights are not those of model toy-20x10-" in refusal(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": "2"}, "has format version 2; this program reads 1"),
        ({"spec": json.dumps({"name": "other"})}, "there is no network 'other'"),
        ({"spec": json.dumps({"name": "toy", "size": 3})}, "has no setting size"),
        ({"spec": json.dumps({"name": "toy", "dim": 7})}, "2 tensors of another shape (project.bias, project.weight)"),
        ({"spec": json.dumps({"name": "toy", "dim": 10**12})}, "2 tensors of another shape"),
        ({"spec": "[]"}, "damaged header"),
        ({"config": "{"}, "damaged header"),
        ({"metrics": "[" * 100_000}, "damaged header"),
        ({"model_id": "toy-20x10-0"}, "its weights are not those of model toy-20x10-0"),
    ],
)
def test_a_header_that_lies_is_refused(toy, file, change, said):
    header = read_header(file)
    metadata = {**to_metadata(header), **change}
    save_file(toy.state_dict(), file, metadata=metadata)
    assert said in refusal(file)


def test_a_header_that_lacks_something_is_refused(toy, file):
    metadata = to_metadata(read_header(file))
    for name in ("spec", "config", "metrics", "model_id"):
        save_file(toy.state_dict(), file, metadata={key: value for key, value in metadata.items() if key != name})
        assert "damaged header" in refusal(file)
