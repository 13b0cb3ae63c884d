"""A run from settings to a network file; one that is killed and goes on ends, bit for bit, like one that is not."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
import torch
import training_toys as toys

from tscm_core.checkpoints import load_network
from tscm_core.errors import ConfigError, DatasetError, ModelFileError
from tscm_core.network_header import read_header
from tscm_core.training.run import Watcher, train
from tscm_core.training.settings_file import load_settings, settings_from
from tscm_core.training.task import DescriptorTask


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    toys.register()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return toys.write_drive(tmp_path_factory.mktemp("toys") / "drive")


@pytest.fixture(scope="module")
def teacher(drive, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train("teacher", settings_from(toys.settings_tree(drive, network={"dim": 5}, trainer={"max_epochs": 1})), out)
    return str(out / "best.safetensors")


class KilledError(Exception):
    pass


def kill_in_batch(monkeypatch, number):
    whole, seen = DescriptorTask.training_step, []

    def step(self, batch, batch_idx):
        seen.append(batch_idx)
        if len(seen) == number:
            raise KilledError
        return whole(self, batch, batch_idx)

    monkeypatch.setattr(DescriptorTask, "training_step", step)


def checkpoint(out):
    return torch.load(out / "last.ckpt", weights_only=True)


def leaves(value, head=""):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, inner in pairs:
        yield from leaves(inner, f"{head}/{key}")
    if not isinstance(value, dict | list | tuple):
        yield head, value


def assert_same_checkpoint(left, right):
    left, right = dict(leaves(left)), dict(leaves(right))
    assert left.keys() == right.keys()
    for name, value in left.items():
        same = torch.equal(value, right[name]) if isinstance(value, torch.Tensor) else value == right[name]
        assert same, name


def test_a_run_leaves_its_settings_checkpoint_network_and_figures(drive, tmp_path):
    said, settings = [], settings_from(toys.settings_tree(drive))
    result = train("teacher", settings, tmp_path / "run", watcher=Watcher(say=said.append))
    assert load_settings(tmp_path / "run" / "config.yaml") == settings
    assert result["steps"] == 18
    assert result["epochs"] == 3
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert set(result) == {"best", "epochs", "steps", "images_per_s", "network", "model_id"}
    header = read_header(result["network"])
    assert header.model_id == result["model_id"]
    assert header.config == settings.to_dict()
    assert header.metrics == result["best"]
    assert list(load_network(result["network"]).state_dict()) == list(toys.ToyNetwork().state_dict())
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    recalls = [row["recall@1"] for row in rows if "recall@1" in row]
    assert len(recalls) == len(said) == 4
    assert result["best"]["recall@1"] == max(recalls)
    assert [row["step"] for row in rows if "loss/hard" in row] == list(range(1, 19))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    kept = checkpoint(tmp_path / "run")
    assert kept["tscm"] == {"kind": "teacher", "settings": settings.to_dict()}


CASES = {
    "whole network, in chunks": ({"trainer": {"chunk": 3}}, (4, 13)),
    "accumulated": ({"optim": {"lr": 0.01, "accumulate": 2}, "trainer": {"checkpoint_steps": 1}}, (4,)),
    "cached, then unfrozen": ({"freeze": {"trunk": True, "variants": 2, "unfreeze_after": 1}}, (3, 9)),
    "rarely mined, few steps": ({"mining": {"refresh": 2}, "trainer": {"max_steps": 11}}, (10,)),
    "distilled": ({"teacher": {"sees": "clean"}, "mining": {"by": "teacher"}}, (8,)),
    "distilled, axes turned": ({"network": {"dim": 5}, "teacher": {"sees": "clean"}}, (1, 9)),
    "same augmented images": (
        {"teacher": {"sees": "augmented"}, "data": {"teacher_input_size": [30, 20], "workers": 1}},
        (11,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_run_ends_like_one_that_was_not(name, drive, teacher, tmp_path, monkeypatch):
    sections, batches = CASES[name]
    if "teacher" in sections:
        sections = sections | {"teacher": sections["teacher"] | {"file": teacher}}
    settings = settings_from(toys.settings_tree(drive, **sections))
    whole = train("student", settings, tmp_path / "whole")
    for batch in batches:
        with monkeypatch.context() as patch:
            kill_in_batch(patch, batch)
            with pytest.raises(KilledError):
                train("student", settings, tmp_path / f"killed {batch}")
        result = train("student", settings, tmp_path / f"killed {batch}", resume=True)
        unlike = ("images_per_s", "network")
        assert {k: v for k, v in result.items() if k not in unlike} == {
            k: v for k, v in whole.items() if k not in unlike
        }
        assert_same_checkpoint(checkpoint(tmp_path / f"killed {batch}"), checkpoint(tmp_path / "whole"))
        assert toys.same(toys.weights(result["network"]), toys.weights(whole["network"]))
    turned = checkpoint(tmp_path / "whole")["state_dict"].get("turn")
    assert (turned is not None) == name.endswith("turned")
    if turned is not None:
        assert not torch.allclose(turned, torch.eye(5), atol=0.1)
        assert torch.allclose(turned @ turned.T, torch.eye(5), atol=1e-5)


def test_a_run_killed_by_sigkill_within_an_epoch_ends_like_one_that_was_not(drive, tmp_path):
    tree = toys.settings_tree(drive)
    config = toys.write_settings(tmp_path / "toy.yaml", tree)
    killed = subprocess.run(
        toys.command("teacher", "--config", config, "--out", tmp_path / "killed"),
        env=toys.environment(TRAINING_KILL="10"), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(tmp_path / "killed")["global_step"] == 8, "checkpoints come every 2 steps, epochs every 6"
    train("teacher", settings_from(tree), tmp_path / "whole")
    train("teacher", settings_from(tree), tmp_path / "killed", resume=True)
    assert_same_checkpoint(checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole"))
    rows, others = (
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("killed", "whole")
    )
    assert [row["step"] for row in rows] == [row["step"] for row in others], "steps that came twice were taken back"
    assert [row.get("epoch_loss") for row in rows] == [row.get("epoch_loss") for row in others]


def test_learning_teaches(drive, tmp_path):
    """Colours that mean nothing at first tell places apart in the end."""
    from tscm_core.models.network import Network

    settings = settings_from(
        toys.settings_tree(drive, augment={"strength": 0.0}, network={"dropout": 0.0}, trainer={"max_epochs": 8})
    )
    train("teacher", settings, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["epoch_loss"] for row in rows if "epoch_loss" in row]
    assert losses[-1] < 0.5 * losses[0]
    assert isinstance(load_network(tmp_path / "run" / "best.safetensors"), Network)


def test_a_distilled_student_comes_nearer_to_its_teacher(drive, teacher, tmp_path):
    weights = {"hard": 0.0, "soft": 1.0, "cross": 0.0}
    tree = toys.settings_tree(drive, teacher={"file": teacher}, loss={"weights": weights}, network={"dim": 4})
    train("student", settings_from(tree), tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["epoch_loss"] for row in rows if "epoch_loss" in row]
    assert losses[-1] < losses[0]
    names = checkpoint(tmp_path / "run")["state_dict"].keys()
    assert "loss.projection.linear.weight" in names
    assert all(name.startswith(("network.", "loss.projection.")) for name in names), "the teacher is not in it"
    assert "projection" not in " ".join(toys.weights(tmp_path / "run" / "best.safetensors"))


def test_a_frozen_trunk_and_statistics_stay_as_they_are(drive, tmp_path):
    torch.manual_seed(1234)
    before = toys.ToyNetwork().state_dict()
    for name, freeze in {
        "cached": {"trunk": True, "variants": 1},
        "not cached": {"trunk": True},
        "statistics": {},
    }.items():
        tree = toys.settings_tree(drive, freeze=freeze, trainer={"max_epochs": 1})
        train("teacher", settings_from(tree), tmp_path / name)
        state = checkpoint(tmp_path / name)["state_dict"]
        moved = {part for part in before if not torch.equal(before[part], state[f"network.{part}"])}
        trunk = {"trunk.0.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias"}
        assert moved == {"linear.weight", "linear.bias"} | (trunk if name == "statistics" else set())


def test_a_batch_in_chunks_teaches_the_same(drive, tmp_path):
    states = []
    for chunk in (0, 5):
        tree = toys.settings_tree(drive, trainer={"max_steps": 2, "chunk": chunk}, network={"dropout": 0.0})
        train("teacher", settings_from(tree), tmp_path / str(chunk))
        states.append(checkpoint(tmp_path / str(chunk))["state_dict"])
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-5), name


def test_patience_ends_a_run_that_gets_no_better(drive, tmp_path):
    tree = toys.settings_tree(drive, optim={"lr": 0.0}, trainer={"patience": 2, "max_epochs": 50})
    result = train("teacher", settings_from(tree), tmp_path / "run")
    assert result["epochs"] == 3
    assert result["best"]["epochs"] == 0, "none was better than the first"


def test_more_patience_lets_a_run_go_on(drive, tmp_path):
    tree = toys.settings_tree(drive, optim={"lr": 0.0}, trainer={"patience": 1, "max_epochs": 50})
    assert train("teacher", settings_from(tree), tmp_path / "run")["epochs"] == 2
    tree["trainer"]["patience"] = 3
    assert train("teacher", settings_from(tree), tmp_path / "run", resume=True)["epochs"] == 4


@pytest.mark.parametrize("end", [{"max_steps": 8}, {"patience": 1}, {"max_epochs": 2}])
def test_a_run_killed_before_its_figures_were_written_learns_no_more(end, drive, tmp_path):
    settings = settings_from(toys.settings_tree(drive, optim={"lr": 0.0}, trainer={"max_epochs": 5} | end))
    whole = train("teacher", settings, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    result = train("teacher", settings, tmp_path / "run", resume=True)
    assert (result["steps"], result["epochs"], result["best"]) == (whole["steps"], whole["epochs"], whole["best"])


def test_a_run_is_not_made_shorter_than_it_is(drive, tmp_path):
    tree = toys.settings_tree(drive, trainer={"max_epochs": 3})
    train("teacher", settings_from(tree), tmp_path / "run")
    tree["trainer"]["max_epochs"] = 1
    with pytest.raises(ConfigError, match="training cannot go on like this"):
        train("teacher", settings_from(tree), tmp_path / "run", resume=True)


def test_recall_is_the_mean_of_all_sources_also_of_those_called_the_same(drive, tmp_path):
    other = toys.write_drive(tmp_path / "other" / drive.name, seed=1)
    tree = toys.settings_tree(drive, trainer={"max_epochs": 1})
    tree["data"]["val"] = [tree["data"]["val"][0], tree["data"]["val"][0] | {"folder": str(other)}]
    best = train("teacher", settings_from(tree), tmp_path / "run")["best"]
    assert best["recall@1"] == (best["drive/recall@1"] + best["drive (2)/recall@1"]) / 2


def test_validation_without_a_right_image_is_refused_before_anything_is_written(drive, tmp_path):
    tree = toys.settings_tree(drive)
    tree["data"]["val"] = [tree["data"]["val"][0] | {"positive_radius": 0.5}]
    with pytest.raises(DatasetError, match="none of the 24 queries of drive has a right image"):
        train("teacher", settings_from(tree), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_loss_of_an_epoch_is_the_mean_of_its_batches(drive, tmp_path, monkeypatch):
    losses, whole = [], DescriptorTask.training_step

    def step(self, batch, batch_idx):
        loss = whole(self, batch, batch_idx)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(DescriptorTask, "training_step", step)
    tree = toys.settings_tree(drive, optim={"accumulate": 3}, trainer={"max_epochs": 1})
    train("teacher", settings_from(tree), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 6
    assert rows[-1]["epoch_loss"] == pytest.approx(sum(losses) / 6)


def test_a_run_that_is_over_answers_at_once_and_may_be_made_longer(drive, tmp_path):
    tree = toys.settings_tree(drive, trainer={"max_epochs": 1})
    first = train("teacher", settings_from(tree), tmp_path / "run")
    assert train("teacher", settings_from(tree), tmp_path / "run", resume=True) == first
    tree["trainer"]["max_epochs"] = 2
    assert train("teacher", settings_from(tree), tmp_path / "run", resume=True)["steps"] == 12


def test_a_run_is_not_overwritten_by_accident_nor_continued_as_another(drive, tmp_path):
    tree = toys.settings_tree(drive, trainer={"max_epochs": 1})
    train("teacher", settings_from(tree), tmp_path)
    with pytest.raises(ConfigError, match="holds a training run: --resume goes on with it, --overwrite begins anew"):
        train("teacher", settings_from(tree), tmp_path)
    other = toys.settings_tree(drive, trainer={"max_epochs": 1, "batch": 2, "log_every": 3}, optim={"lr": 0.5})
    with pytest.raises(ConfigError, match=r"other settings: optim\.lr, trainer\.batch differ"):
        train("teacher", settings_from(other), tmp_path, resume=True)
    assert train("teacher", settings_from(other), tmp_path, overwrite=True)["steps"] == 12


def test_what_is_missing_is_said_before_anything_is_written(drive, tmp_path):
    with pytest.raises(DatasetError):
        train("teacher", settings_from(toys.settings_tree(tmp_path / "absent")), tmp_path / "run")
    tree = toys.settings_tree(drive, teacher={"file": str(tmp_path / "absent.safetensors")})
    with pytest.raises(ModelFileError, match="does not exist"):
        train("student", settings_from(tree), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "sections", "sentence"),
    [
        ("teacher", {"teacher": {"file": "a.safetensors"}}, "a teacher learns alone"),
        ("student", {"mining": {"by": "teacher"}}, "teacher.file names none"),
        ("student", {"freeze": {"variants": 3}}, "freeze.trunk is false"),
        ("student", {"init": {"whiten": True}}, "set freeze.trunk and freeze.variants"),
        ("student", {"freeze": {"batch_norm": False}, "trainer": {"chunk": 8}}, "set freeze.batch_norm"),
        ("student", {"network": {"name": "student", "trunk": "efficientnet_lite9"}}, "efficientnet_lite9"),
        ("student", {"network": {"name": "tow"}}, "there is no network 'tow'"),
        ("student", {"init": {"init_from": {"vit": "a.pth"}}}, "the network has no part vit"),
        ("student", {"data": {"train": []}}, "names no source"),
        (
            "student",
            {"freeze": {"trunk": True, "variants": 9}, "data": {"cache_mb": 0}},
            "take 1 MB, but data.cache_mb",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(kind, sections, sentence, drive, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        train(kind, settings_from(toys.settings_tree(drive, **sections)), tmp_path / "run")


def test_a_checkpoint_that_is_none_is_refused(drive, tmp_path):
    settings = settings_from(toys.settings_tree(drive, trainer={"max_epochs": 1}))
    train("teacher", settings, tmp_path)
    (tmp_path / "result.json").unlink()
    for content in (b"", b"no checkpoint"):
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(ModelFileError, match=r"last\.ckpt is not a checkpoint"):
            train("teacher", settings, tmp_path, resume=True)


def test_two_processes_share_the_tuples_and_see_the_same_recall(drive, tmp_path):
    config = toys.write_settings(tmp_path / "toy.yaml", toys.settings_tree(drive, trainer={"devices": 2, "batch": 2}))
    run = subprocess.run(
        toys.command("teacher", "--config", config, "--out", tmp_path / "run", "--json"),
        env=toys.environment(TRAINING_RECALL=str(tmp_path / "recall")),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["steps"] == 18, "24 tuples an epoch, 2 processes with 2 of them each"
    first, second = ((tmp_path / f"recall.{rank}").read_text() for rank in (0, 1))
    assert first == second, "recall and weights agree after each epoch"
    assert len(first.splitlines()) == 4
