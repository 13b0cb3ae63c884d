"""The released networks against what the authors' own code made of the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from released_weights import checkpoint_of, reference, reference_images, released_state

from tscm_core.checkpoints import load_network
from tscm_core.commands.import_checkpoint import import_checkpoint
from tscm_core.errors import ConfigError, ImageError
from tscm_core.models.build import build_network
from tscm_core.models.released import ReleasedStudent, ReleasedTeacher

SEGMENTS = {
    "student": {"NetVLAD": (0, 1024), "GeM": (1024, 2048)},
    "teacher": {"NetVLAD of ResNet": (0, 256), "fused": (256, 768), "NetVLAD of ViT": (768, 1024), "GeM": (1024, 2048)},
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["student", "teacher"])
def test_imported_networks_describe_as_the_released_code_did(name, tmp_path):
    expected = np.load(reference() / "expected_descriptors.npz")[name]
    dead = ("backbone.", "var_head.") if name == "student" else ()
    torch.save(checkpoint_of(released_state(name, dead)), tmp_path / "ckpt.pth.tar")
    import_checkpoint(tmp_path / "ckpt.pth.tar", tmp_path / "ours.safetensors")
    network = load_network(tmp_path / "ours.safetensors")
    assert isinstance(network, {"student": ReleasedStudent, "teacher": ReleasedTeacher}[name])
    with torch.inference_mode():
        found = network(reference_images()).numpy()
    assert found.shape == (2, network.dim)
    for segment, (begin, end) in SEGMENTS[name].items():
        ours, theirs = found[:, begin:end], expected[:, begin:end]
        error = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
        print(f"{name} {segment}: relative error {error.max():.1e}")
        assert error.max() < 1e-4, segment


@pytest.mark.parametrize("size", [(224, 225), (240, 320), (112, 112)])
def test_another_size_is_refused_in_a_sentence(size):
    with torch.device("meta"):
        networks = ReleasedStudent(), ReleasedTeacher()
        for network in networks:
            with pytest.raises(ImageError, match=f"images of 224x224 only, not {size[1]}x{size[0]}: resize"):
                network(torch.zeros(1, 3, *size))


def test_a_sample_of_the_student_crosses_token_borders():
    """The quirk: row 1 of what NetVLAD sees begins with channel 196 of token 0, not with another token or channel."""
    with torch.device("meta"):
        network = ReleasedStudent()
    seen = []

    def keep(tokens):
        seen.append(tokens)
        raise StopIteration

    network.net_vlad.forward = keep
    tokens = torch.arange(196 * 768.0).view(1, 196, 768)
    with pytest.raises(StopIteration):
        network.head(torch.zeros(1, 1024, 14, 14), tokens)
    assert seen[0].shape == (1, 768, 196)
    assert seen[0][0, 1, 0] == tokens[0, 0, 196]
    assert seen[0][0, 4, 0] == tokens[0, 1, 16]


def test_trunk_and_head_share_nothing_and_leave_nothing_out():
    with torch.device("meta"):
        for network in (ReleasedStudent(), ReleasedTeacher()):
            trunk, head = (set(map(id, part())) for part in (network.trunk_parameters, network.head_parameters))
            assert trunk
            assert head
            assert trunk.isdisjoint(head)
            assert trunk | head == set(map(id, network.parameters()))


def test_sizes():
    with torch.device("meta"):
        counts = [sum(w.numel() for w in build().parameters()) for build in (ReleasedStudent, ReleasedTeacher)]
    assert counts == [12_699_265, 125_001_217]


def test_there_is_nothing_to_set():
    with pytest.raises(ConfigError, match="network released_student has no setting trunk"):
        build_network({"name": "released_student", "trunk": "resnet50"})
