"""``tscm train``: one answer on standard output, sentences on standard error, and Ctrl-C that loses nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import training_toys as toys
from typer.testing import CliRunner

from tscm_core.commands.train import train_app
from tscm_core.errors import ConfigError, DatasetError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    toys.register()
    return toys.write_drive(tmp_path_factory.mktemp("toys") / "drive")


def test_help_names_the_files_and_options():
    for kind in ("teacher", "student"):
        text = CliRunner().invoke(train_app, [kind, "--help"], env={"COLUMNS": "200"}).stdout
        assert all(word in text for word in ("--config", "--resume", "--overwrite", "--set", "--json", "--out"))


def test_a_teacher_and_its_student_from_two_commands(drive, tmp_path):
    config = toys.write_settings(tmp_path / "toy.yaml", toys.settings_tree(drive, trainer={"max_epochs": 1}))
    taught = CliRunner().invoke(train_app, ["teacher", "--config", str(config), "--out", str(tmp_path / "t"), "--json"])
    assert taught.exit_code == 0, taught.output
    teacher = json.loads(taught.stdout)
    assert set(teacher["best"]) == {"recall@1", "recall@5", "recall@10", "epochs", "steps"}
    arguments = [
        "student",
        "--config",
        str(config),
        "--out",
        str(tmp_path / "s"),
        "--set",
        f"teacher.file={teacher['network']}",
    ]
    learnt = CliRunner().invoke(train_app, [*arguments, "--set", "trainer.max_epochs=2"], env={"COLUMNS": "200"})
    assert learnt.exit_code == 0, learnt.output
    assert "Best student" in learnt.stdout
    assert "epoch 2: loss" in learnt.stderr
    assert str(tmp_path / "s" / "best.safetensors") in learnt.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "optim.lrr=1"], "unknown setting optim.lrr: did you mean optim.lr"),
        (["--set", "optim.lr"], "--set takes NAME=VALUE"),
        (["--set", "trainer.batch=many"], "trainer.batch must be a int"),
    ],
)
def test_wrong_settings_are_named(arguments, sentence, drive, tmp_path):
    config = toys.write_settings(tmp_path / "toy.yaml", toys.settings_tree(drive))
    result = CliRunner().invoke(train_app, ["teacher", "--config", str(config), *arguments])
    assert isinstance(result.exception, ConfigError)
    assert sentence in str(result.exception)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_shipped_settings_ask_for_the_data_that_is_not_there(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train_app, [kind, "--config", str(ROOT / "config" / f"{kind}.yaml")])
    assert isinstance(result.exception, DatasetError), result.exception
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_control_c_keeps_the_last_checkpoint_and_says_so(drive, tmp_path):
    tree = toys.settings_tree(drive, trainer={"max_epochs": 100_000, "patience": 0})
    config = toys.write_settings(tmp_path / "toy.yaml", tree)
    command = toys.command("teacher", "--config", config, "--out", tmp_path / "run")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=toys.environment(), **pipes) as process:
        for _ in range(1800):
            if (tmp_path / "run" / "last.ckpt").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        began = (tmp_path / "run" / "last.ckpt").exists()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert began, stderr
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "interrupted: the training was interrupted at step" in stderr
    assert "last.ckpt is kept, --resume goes on from it" in stderr
    assert "Traceback" not in stderr
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["tscm"]["kind"] == "teacher"
