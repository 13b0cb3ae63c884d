"""Settings of a training run: strict, complete, and the same after a trip through a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from tscm_core.errors import ConfigError
from tscm_core.models.build import build_network
from tscm_core.training.settings import TrainSettings
from tscm_core.training.settings_file import differences, load_settings, settings_from

CONFIG = Path(__file__).resolve().parent.parent / "config"


def test_a_dump_holds_every_default_and_comes_back_the_same(tmp_path):
    plain = TrainSettings().to_dict()
    for item in dataclasses.fields(TrainSettings):
        section = getattr(TrainSettings(), item.name)
        if dataclasses.is_dataclass(section):
            assert plain[item.name].keys() == {inner.name for inner in dataclasses.fields(section)}
    changed = {
        "network": {"name": "student", "input_size": [320, 240]},
        "init": {"init_from": {"trunk": "resnet50.pth"}},
        "data": {"train": [{"kind": "positions", "folder": "a"}, {"kind": "frames"}], "input_size": [320, 240]},
        "loss": {"weights": {"soft": 0.5}},
        "augment": {"strength": 0},
    }
    settings = settings_from(changed)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings.to_dict()))
    assert load_settings(tmp_path / "config.yaml") == settings
    assert settings.data.input_size == (320, 240)
    assert settings.loss.weights.soft == 0.5
    assert settings.loss.weights.hard == 1.0
    assert len(settings.data.train) == 2


def test_every_setting_has_a_meaning_and_a_default_within_its_limits():
    for item in dataclasses.fields(TrainSettings):
        section = getattr(TrainSettings(), item.name)
        own = dataclasses.is_dataclass(section) and section.__module__.endswith("training.settings")
        for inner in dataclasses.fields(section) if own else ():
            if not dataclasses.is_dataclass(getattr(section, inner.name)):
                limits = inner.metadata["limits"]
                assert limits.description.endswith("."), inner.name
                assert not isinstance(getattr(section, inner.name), int | float | str) or isinstance(
                    settings_from({item.name: {inner.name: getattr(section, inner.name)}}), TrainSettings
                )


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"optm": {}}, "unknown setting optm: did you mean optim?"),
        ({"optim": {"weigth_decay": 1}}, "unknown setting optim.weigth_decay: did you mean optim.weight_decay?"),
        ({"loss": {"weights": {"croos": 1}}}, "unknown setting loss.weights.croos: did you mean loss.weights.cross?"),
        ({"augment": {"blurr": 1}}, "unknown setting augment.blurr: did you mean augment.blur?"),
        ({"optim": {"lr": "fast"}}, "optim.lr must be a float, not 'fast'"),
        ({"optim": {"lr": -1}}, "optim.lr must be from 0 to 10, not -1"),
        ({"optim": {"lr": float("nan")}}, "optim.lr must be from 0 to 10, not nan"),
        ({"optim": {"name": "sgd"}}, "optim.name must be one of adam, adamw"),
        ({"trainer": {"batch": True}}, "trainer.batch must be a int, not True"),
        ({"trainer": {"precision": "16"}}, "trainer.precision must be one of 32-true"),
        ({"trainer": 3}, "trainer must hold settings by name, not 3"),
        ({"data": {"train": {"kind": "positions"}}}, "data.train must be a list of mappings"),
        ({"data": {"train": ["folder"]}}, "data.train must be a list of mappings"),
        ({"data": {"input_size": [320]}}, "data.input_size must be a list of 2 numbers"),
        ({"data": {"input_size": [320, 0]}}, "data.input_size must be a width and a height, or 0, 0 for"),
        ({"data": {"input_size": [320, -1]}}, "data.input_size must be from 0 to 4096, not -1"),
        ({"network": "student"}, "network must hold settings by name"),
        ({"loss": {"weights": {"hard": 0, "soft": 0, "cross": 0}}}, "all loss weights are 0"),
        ({"augment": {"strength": 5}}, "augment.strength must be from 0 to 2"),
        ({1: 2}, "unknown setting 1"),
    ],
)
def test_what_is_unfit_is_refused_by_name(tree, sentence):
    with pytest.raises(ConfigError) as caught:
        settings_from(tree)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"a: [", b"\xff\xfe", b"optim: {lr: x}\n"])
def test_a_file_that_is_none_is_named(content, tmp_path):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings file .*a\.yaml"):
        load_settings(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_pairs_change_what_the_file_says(tmp_path):
    (tmp_path / "a.yaml").write_text("optim: {lr: 0.1, decay: 0.5}\n")
    pairs = ["optim.lr=1e-4", "loss.weights.soft=0.25", "data.input_size=[64, 48]", "network.name=toy", "teacher.file="]
    settings = load_settings(tmp_path / "a.yaml", pairs)
    assert (settings.optim.lr, settings.optim.decay, settings.loss.weights.soft) == (1e-4, 0.5, 0.25)
    assert settings.data.input_size == (64, 48)
    assert settings.network == {"name": "toy"}
    for pair in ("optim.lr", "optim.lr=[", "=1", "optim.lr.x=1", "optim=1"):
        with pytest.raises(ConfigError):
            load_settings(tmp_path / "a.yaml", [pair])


def test_differences_are_named_in_full():
    ours = settings_from({"optim": {"lr": 0.1}, "data": {"train": [{"kind": "a"}]}, "network": {"name": "a", "dim": 1}})
    theirs = settings_from({"optim": {"lr": 0.2}, "loss": {"weights": {"hard": 2}}, "network": {"name": "a"}})
    assert differences(ours, theirs) == ["network.dim", "data.train", "loss.weights.hard", "optim.lr"]
    assert differences(ours, ours) == []


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_shipped_settings_are_the_papers(kind):
    settings = load_settings(CONFIG / f"{kind}.yaml")
    assert settings.network["name"] == kind
    optim, trainer = settings.optim, settings.trainer
    assert (optim.name, optim.lr, optim.decay, optim.weight_decay) == ("adam", 1e-5, 0.99, 1e-3)
    assert (trainer.batch, trainer.patience, trainer.seed) == (8, 10, 1234)
    assert (settings.mining.negatives, settings.loss.margin) == (10, 0.1)
    assert [source["split"] for source in settings.data.train] == ["pitts30k_train"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_the_shipped_networks_can_be_built(kind):
    settings = load_settings(CONFIG / f"{kind}.yaml")
    network = build_network(settings.network)
    assert set(settings.init.init_from) <= {name for name, _ in network.named_children()}
