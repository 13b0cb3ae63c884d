"""Between two networks: weight by weight, and nothing written that is not whole or not asked for."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from tscm_core.checkpoints import load_network, save_network
from tscm_core.cli import app, main
from tscm_core.errors import ConfigError, ModelFileError
from tscm_core.models.build import build_network
from tscm_core.network_header import read_header
from tscm_core.training.averaging import average

KIND = {"name": "student", "trunk": "efficientnet_lite0", "clusters": 12}


def network(seed, kind=None):
    torch.manual_seed(seed)
    return build_network(kind or KIND).eval()


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_each_weight_lies_between_the_two(part):
    before, after = network(0), network(1)
    mean = average(before, after, part)
    assert not mean.training
    for name, weight in mean.state_dict().items():
        first, second = before.state_dict()[name], after.state_dict()[name]
        assert weight.dtype == first.dtype
        if weight.is_floating_point():
            assert torch.allclose(weight, (1 - part) * first + part * second, atol=1e-6), name


def test_neither_network_is_changed():
    before, after = network(0), network(1)
    kept = {name: weight.clone() for name, weight in before.state_dict().items()}
    average(before, after, 0.5)
    assert all(torch.equal(weight, kept[name]) for name, weight in before.state_dict().items())


def test_two_kinds_and_parts_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"clusters 12.* and .*clusters 13"):
        average(network(0), network(0, {**KIND, "clusters": 13}), 0.5)
    for part in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            average(network(0), network(1), part)


def test_the_command_writes_a_network_with_its_history(tmp_path):
    headers = [
        save_network(network(seed), tmp_path / f"{seed}.safetensors", config={"seed": seed}, metrics={"recall@1": seed})
        for seed in (0, 1)
    ]
    out = tmp_path / "mean.safetensors"
    command = ["average", str(tmp_path / "0.safetensors"), str(tmp_path / "1.safetensors"), "--out", str(out)]
    done = CliRunner().invoke(app, [*command, "--part", "0.25", "--half", "--json"])
    assert done.exit_code == 0, done.output
    header = read_header(out)
    assert json.loads(done.stdout) == {"file": str(out), "part": 0.25, "model_id": header.model_id}
    assert header.metrics == {"recall@1": 1}
    origin = {"before": headers[0].model_id, "after": headers[1].model_id, "part": 0.25}
    assert header.config == {"seed": 1, "averaged": origin}
    wanted = average(network(0), network(1), 0.25).state_dict()["project_tokens.weight"]
    assert torch.equal(load_network(out).state_dict()["project_tokens.weight"], wanted.half().float())
    again = CliRunner().invoke(app, command)
    assert isinstance(again.exception, ModelFileError)
    assert "--overwrite" in str(again.exception)


def test_what_the_system_refuses_is_one_sentence(tmp_path, monkeypatch, capsys):
    name = "x" * 300 + ".safetensors"
    monkeypatch.setattr("sys.argv", ["tscm", "average", name, name, "--out", str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "File name too long" in capsys.readouterr().err
