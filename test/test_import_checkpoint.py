"""``tscm import-checkpoint``: what it takes, what it says, and that it writes nothing when it refuses."""

from __future__ import annotations

import json
import os
import random

import pytest
import torch
import typer
from released_weights import checkpoint_of, released_state
from typer.testing import CliRunner

from tscm_core.checkpoints import load_network
from tscm_core.commands.import_checkpoint import import_checkpoint, import_checkpoint_command
from tscm_core.errors import ModelFileError
from tscm_core.models.released_weights import released_network
from tscm_core.network_header import read_header

pytestmark = pytest.mark.shared_data
DEAD = ("backbone.", "var_head.", "backboneS.net_vlad.bn2.")


@pytest.fixture(scope="module")
def student():
    """A student's whole state dict: true names and shapes; ones that take no room in a file."""
    state = released_state("student", dead=("",))
    return {name: torch.ones((), dtype=torch.float32).expand(tensor.shape) for name, tensor in state.items()}


@pytest.fixture
def saved(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "ckpt.pth.tar")
        return tmp_path / "ckpt.pth.tar"

    return save


def refusal(file, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelFileError) as caught:
        import_checkpoint(file, tmp_path / "out.safetensors")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before
    return str(caught.value)


def run(*arguments):
    app = typer.Typer()
    app.command("import-checkpoint")(import_checkpoint_command)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_student_is_imported_without_the_dead_teacher(student, saved, tmp_path):
    done = run(saved(checkpoint_of(student)), "--out", tmp_path / "out.safetensors", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    header = read_header(tmp_path / "out.safetensors")
    live = {name for name in student if not name.startswith(DEAD)}
    assert answer == {
        "network": "released_student",
        "out": str(tmp_path / "out.safetensors"),
        "model_id": header.model_id,
        "dim": 2048,
        "parameters": 12_699_265,
        "tensors_left_out": len(student) - len(live),
        "epoch": 7,
        "step": 4321,
    }
    assert dict(header.config) == {"imported_from": "ckpt.pth.tar", "epoch": 7, "step": 4321}
    network = load_network(tmp_path / "out.safetensors")
    assert len(network.state_dict()) == len(live)
    assert (tmp_path / "out.safetensors").stat().st_size < 60e6


def test_a_table_is_for_people(student, saved, tmp_path):
    done = run(saved(checkpoint_of(student)), "--out", tmp_path / "out.safetensors")
    assert done.exit_code == 0
    assert "released_student" in done.output


def test_a_teacher_is_recognised(tmp_path):
    with torch.device("meta"):
        state = {name: torch.ones(tensor.shape) for name, tensor in released_state("teacher", dead=("",)).items()}
    state["backbone.attn1.out.bias"] = torch.zeros(3)
    with pytest.raises(
        ModelFileError, match=r"not of the released teacher: 0 .*1 tensors of another shape \(inter_tran"
    ):
        released_network(state, tmp_path)


def test_names_of_a_data_parallel_run_are_understood(student, tmp_path):
    network, left_out = released_network({f"module.{name}": tensor for name, tensor in student.items()}, tmp_path)
    assert network.spec == {"name": "released_student"}
    assert left_out == sum(name.startswith(DEAD) for name in student)


def test_an_existing_file_is_kept_unless_told_otherwise(student, saved, tmp_path):
    file, out = saved(checkpoint_of(student)), tmp_path / "out.safetensors"
    out.write_text("precious")
    with pytest.raises(ModelFileError, match=r"out\.safetensors exists: name another file, or add --overwrite"):
        import_checkpoint(file, out)
    assert out.read_text() == "precious"
    import_checkpoint(file, out, overwrite=True)
    load_network(out)
    with pytest.raises(ModelFileError, match=r"exists: name another file$"):
        import_checkpoint(file, tmp_path, overwrite=True)


def test_a_missing_file_and_a_missing_folder(student, saved, tmp_path):
    assert refusal(tmp_path / "absent.pth.tar", tmp_path).endswith("does not exist")
    assert refusal(tmp_path, tmp_path).endswith("is a folder, not a file")
    with pytest.raises(ModelFileError, match="cannot be written: there is no folder"):
        import_checkpoint(saved(checkpoint_of(student)), tmp_path / "no" / "out.safetensors")


@pytest.mark.parametrize("kind", ["missing", "unknown", "reshaped", "twin", "not finite", "not a tensor"])
def test_one_wrong_tensor_is_enough(student, saved, tmp_path, kind):
    state = dict(student)
    name = "backboneS.linear0.bias"
    if kind == "missing":
        del state[name]
    elif kind == "unknown":
        state["backboneS.linear1.bias"] = torch.ones(2)
    elif kind == "twin":
        state["backbone.backboneR.0.weight"] = torch.ones(2)
    else:
        state[name] = {"reshaped": torch.ones(7), "not finite": torch.full((1024,), torch.nan)}.get(kind, "text")
    text = refusal(saved(checkpoint_of(state)), tmp_path)
    said = {"missing": r"1 tensors missing (project.bias)", "unknown": "1 tensors unknown (backboneS.linear1.bias)"}
    said |= {"reshaped": "1 tensors of another shape (project.bias)", "not finite": "first in project.bias"}
    said |= {"twin": "backbone.backboneR.0.weight is of another shape", "not a tensor": "no state_dict of plain"}
    assert said[kind] in text


@pytest.mark.parametrize(
    "content",
    [{}, [], 7, {"state_dict": 3}, {"state_dict": {}}, {"state_dict": {"a": torch.zeros(1)}}, {"a": torch.zeros(1)}],
)
def test_other_contents_are_refused(saved, tmp_path, content):
    refusal(saved(content), tmp_path)


class Program:
    def __reduce__(self):
        return os.system, ("touch was_run",)


def test_a_program_is_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is not a checkpoint of the released" in refusal(saved({"state_dict": {"a": Program()}}), tmp_path)
    assert not (tmp_path / "was_run").exists()


def test_random_bytes_are_refused(tmp_path):
    for size in (0, 1, 100, 10_000):
        (tmp_path / "random.tar").write_bytes(random.Random(size).randbytes(size))
        refusal(tmp_path / "random.tar", tmp_path)


@pytest.mark.parametrize("part", [40, None], ids=["cut", "whole"])
def test_a_network_file_is_no_checkpoint(part, tmp_path):
    from tscm_core.checkpoints import SHIPPED

    file = tmp_path / "net.safetensors"
    file.write_bytes(SHIPPED.read_bytes()[:part])
    assert "net.safetensors is not " in refusal(file, tmp_path)
