"""Settings: each one has a range and a meaning, and whatever does not fit is refused in one sentence."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest

from tscm_core.config import Config, Limits, check, load_config
from tscm_core.errors import ConfigError

DEFAULTS = {name: value for name, value, _ in Config().settings()}
LIMITS = {name: limits for name, _, limits in Config().settings()}
NUMBERS = [name for name, value in DEFAULTS.items() if type(value) in (int, float)]


def written(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_settings_are_listed_once_by_dotted_name():
    names = [name for name, _, _ in Config().settings()]
    assert len(names) == len(set(names)) >= 20
    assert DEFAULTS["keyframes.min_distance_m"] == Config().keyframes.min_distance_m == 0.5
    assert DEFAULTS["map_path"] == ""


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_setting_is_described_and_its_default_fits(name):
    assert LIMITS[name].description.endswith(".")
    assert check(name, DEFAULTS[name], DEFAULTS[name], LIMITS[name]) == DEFAULTS[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_with_both_ends_in_it(name):
    low, high, kind = LIMITS[name].minimum, LIMITS[name].maximum, type(DEFAULTS[name])
    for edge, away in ((low, -1), (high, 1)):
        beyond = int(edge) + away if kind is int else math.nextafter(edge, away * math.inf)
        changed = Config().replace({name: kind(edge)})
        assert {item: value for item, value, _ in changed.settings()}[name] == edge
        with pytest.raises(ConfigError, match=re.escape(f"{name} must be from {low:g} to {high:g}, not")):
            Config().replace({name: beyond})


@pytest.mark.parametrize("name", [name for name in NUMBERS if type(DEFAULTS[name]) is float])
def test_no_number_is_nan_or_infinite(name):
    for value in (math.nan, math.inf, -math.inf, 10**400, -(10**400)):
        with pytest.raises(ConfigError, match=f"{re.escape(name)} must be from"):
            Config().replace({name: value})


def test_whole_numbers_stand_for_floats_but_not_the_other_way():
    changed = Config().replace({"keyframes.min_distance_m": 2})
    assert type(changed.keyframes.min_distance_m) is float
    assert changed.keyframes.min_distance_m == 2.0
    with pytest.raises(ConfigError, match=r"recency.keyframes must be a int, not 3.0"):
        Config().replace({"recency.keyframes": 3.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keyframes.min_distance_m", True),
        ("keyframes.min_distance_m", "1.0"),
        ("keyframes.min_distance_m", None),
        ("keyframes.min_distance_m", [1.0]),
        ("recency.keyframes", False),
        ("map.resume", 1),
        ("map.resume", "yes"),
        ("map_path", 7),
    ],
)
def test_wrong_types_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{re.escape(name)} must be a \w+, not {re.escape(repr(value))}"):
        Config().replace({name: value})


def test_choices_are_named():
    assert Config().replace({"image_transport": "compressed"}).image_transport == "compressed"
    with pytest.raises(ConfigError, match="image_transport must be one of raw, compressed, not 'theora'"):
        Config().replace({"image_transport": "theora"})


@pytest.mark.parametrize("name", ["keyframes", "keyframes.", "min_distance_m", "keyframes.min_distance", "", ".map"])
def test_unknown_names_are_refused_and_the_known_ones_told(name):
    with pytest.raises(ConfigError, match=rf"unknown setting {re.escape(name)}: .*keyframes\.min_distance_m"):
        Config().replace({name: 1.0})


def test_replace_changes_what_was_named_and_nothing_else():
    changed = Config().replace({"keyframes.min_novelty": 0.5, "keyframes.min_texture": 0.25, "map_path": "a"})
    after = {name: value for name, value, _ in changed.settings()}
    wanted = {"keyframes.min_novelty": 0.5, "keyframes.min_texture": 0.25, "map_path": "a"}
    assert after == DEFAULTS | wanted
    again = changed.replace({"keyframes.min_texture": 0.75})
    assert (again.keyframes.min_novelty, again.keyframes.min_texture) == (0.5, 0.75)
    assert Config() == Config().replace({})


def test_the_default_network_is_the_one_of_the_package():
    assert DEFAULTS["model.weights"] == ""
    described = LIMITS["model.weights"].description
    assert all(part in described for part in (".safetensors", "empty: the student of this package", "imagenet: "))


def test_settings_are_frozen():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.map_path = "x"
    for section in (config.model, config.keyframes, config.recency, config.candidates, config.map, config.input):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits("x").live = True


BODY = "keyframes:\n  min_distance_m: 2\nmap_path: /tmp/map\nmap: {resume: false}\n"


@pytest.mark.parametrize("head", ["", "/**:\n  ros__parameters:\n", "/tscm:\n  ros__parameters:\n"])
def test_files_with_and_without_ros_head_say_the_same(tmp_path, head):
    indent = "    " if head else ""
    text = head + "".join(f"{indent}{line}\n" for line in BODY.splitlines())
    loaded = load_config(written(tmp_path, text))
    expected = {"keyframes.min_distance_m": 2.0, "map_path": "/tmp/map", "map.resume": False}
    assert loaded == Config().replace(expected)


def test_dotted_names_in_a_file_are_settings_too(tmp_path):
    loaded = load_config(written(tmp_path, "recency.seconds: 3\ncandidates: {top_places: 2}\n"))
    assert (loaded.recency.seconds, loaded.candidates.top_places) == (3.0, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keyframes: {min_distance_m: far}", "keyframes.min_distance_m must be a float, not 'far'"),
        ("keyframes: {min_distance: 1.0}", "unknown setting keyframes.min_distance"),
        ("keyframes: 3", "unknown setting keyframes"),
        ("keyframes:", "unknown setting keyframes"),
        ("keyframes: {min_distance_m: -1}", "must be from 0 to 100, not -1"),
        ("keyframes: {min_distance_m: .nan}", "must be from 0 to 100, not nan"),
        ("keyframes: {min_distance_m: .inf}", "must be from 0 to 100, not inf"),
        ("1: 2", "unknown setting 1"),
        ("", "holds no settings"),
        ("# nothing\n", "holds no settings"),
        ("- 1\n- 2\n", "holds no settings"),
        ("keyframes: {", "is not YAML"),
        ("map_path: [a", "is not YAML"),
        ("map_path: 2020-13-45", "is not YAML"),
        ("map_path: !!python/object:os.system {}", "is not YAML"),
        ("map: &map {inner: *map}", "is not YAML"),
        (b"map_path: \xff\xfe", "is not YAML"),
        (b"map_path: \x00", "is not YAML"),
    ],
)
def test_unfit_files_are_one_sentence_with_the_file_in_it(tmp_path, text, problem):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"settings file {path}")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_say_so(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read: No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_file_for_several_nodes_gives_ours_and_everybodys(tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    candidates: {min_similarity: 0.8, top_places: 3}\n"
        "/robot_a/tscm:\n  ros__parameters:\n    candidates: {min_similarity: 0.7}\n"
        "/camera_driver:\n  ros__parameters:\n    exposure: 3\n"
    )
    read = load_config(path).candidates
    assert (read.min_similarity, read.top_places) == (0.7, 3)
    path.write_text("/tscm:\n  ros__parameters:\n")
    with pytest.raises(ConfigError, match="holds no settings below ros__parameters"):
        load_config(path)
