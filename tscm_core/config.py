"""Every setting, once: name, default, range, meaning. ROS parameters and the command line are made from it."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tscm_core.config_sections import (
    CandidateConfig,
    GeometryConfig,
    InputConfig,
    KeyframeConfig,
    Limits,
    MapConfig,
    ModelConfig,
    OdometryConfig,
    RecencyConfig,
    RobotsConfig,
    TemporalConfig,
    Value,
    setting,
)
from tscm_core.errors import ConfigError

__all__ = [
    "CandidateConfig",
    "Config",
    "GeometryConfig",
    "InputConfig",
    "KeyframeConfig",
    "Limits",
    "MapConfig",
    "ModelConfig",
    "OdometryConfig",
    "RecencyConfig",
    "RobotsConfig",
    "TemporalConfig",
    "Value",
    "check",
    "load_config",
    "parse_pair",
]


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a loop detector and of the node around it."""

    autostart: bool = setting(
        True, "Configure and activate the node as it starts; false leaves that to a lifecycle manager."
    )
    mode: str = setting(
        "mapping",
        "mapping: keyframes are remembered; localization: places are recognised, and nothing is added to the map.",
        choices=("mapping", "localization"),
        live=True,
    )
    image_transport: str = setting("raw", "How images arrive.", choices=("raw", "compressed"))
    map_path: str = setting(
        "",
        "Map file for save_map and load_map, and beside it the live map; empty: ~/.ros/tscm/<namespace>/map.tscm.",
    )
    map_directory: str = setting(
        "",
        "Folder that the paths given to save_map and load_map must stay in, relative ones below it; no links, no '..'; "
        "empty: any path.",
    )
    model: ModelConfig = field(default_factory=ModelConfig)
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    recency: RecencyConfig = field(default_factory=RecencyConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    odometry: OdometryConfig = field(default_factory=OdometryConfig)
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    map: MapConfig = field(default_factory=MapConfig)
    robots: RobotsConfig = field(default_factory=RobotsConfig)
    input: InputConfig = field(default_factory=InputConfig)

    def settings(self) -> Iterator[tuple[str, Value, Limits]]:
        """Every setting as (dotted name, value, limits), e.g. ``("keyframes.min_distance_m", 0.5, ...)``."""
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if "limits" in item.metadata:
                yield item.name, value, item.metadata["limits"]
                continue
            for inner in dataclasses.fields(value):
                yield f"{item.name}.{inner.name}", getattr(value, inner.name), inner.metadata["limits"]

    def replace(self, changes: Mapping[str, object]) -> Config:
        """A copy with some settings changed, by dotted name.

        Raises:
            ConfigError: a name is unknown, or a value has the wrong type or is out of range.
        """
        known = {name: (value, limits) for name, value, limits in self.settings()}
        plain: dict[str, Any] = {}
        sections: dict[str, dict[str, Value]] = {}
        for name, value in changes.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ConfigError(f"unknown setting {name}: {hint}the settings are {', '.join(known)}")
            section, _, key = name.rpartition(".")
            (sections.setdefault(section, {}) if section else plain)[key] = check(name, value, *known[name])
        changed = {name: dataclasses.replace(getattr(self, name), **values) for name, values in sections.items()}
        return dataclasses.replace(self, **plain, **changed)


def check(name: str, value: object, example: Value, limits: Limits) -> Value:
    """``value`` as the type of ``example``, if it is within ``limits``.

    Raises:
        ConfigError: it is not; the sentence names the setting, the value and what is allowed.
    """
    if isinstance(example, float) and type(value) is int:
        value = float(value) if abs(value) < 2**63 else math.inf  # beyond every range, and perhaps beyond float
    if type(value) is not type(example):
        raise ConfigError(f"{name} must be a {type(example).__name__}, not {value!r}")
    if limits.choices and value not in limits.choices:
        raise ConfigError(f"{name} must be one of {', '.join(limits.choices)}, not {value!r}")
    if limits.minimum is not None and limits.maximum is not None and not limits.minimum <= value <= limits.maximum:  # type: ignore[operator]
        raise ConfigError(f"{name} must be from {limits.minimum:g} to {limits.maximum:g}, not {value}")
    return value


def load_config(path: Path) -> Config:
    """Read settings from a ROS parameter file (``/**: ros__parameters:``) or from the same tree without that head.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown or unfit setting.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        changes = dict(_settings_of(tree)) if isinstance(tree, dict) else None
    except OSError as error:
        raise ConfigError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: not UTF-8, no such date
        raise ConfigError(f"settings file {path} is not YAML: {str(error).splitlines()[0]}") from error
    if changes is None:
        raise ConfigError(f"settings file {path} holds no settings")
    try:
        return Config().replace(changes)
    except ConfigError as error:
        raise ConfigError(f"settings file {path}: {error}") from error


def _settings_of(tree: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """The settings in a tree: those below ``ros__parameters`` of every node that may be ours."""
    heads = {name: body["ros__parameters"] for name, body in tree.items() if _is_ros_head(body)}
    if not heads:
        yield from _flatten(tree)
    for name, body in heads.items():
        if name.strip("/*") in ("", "tscm") or name.endswith("/tscm") or len(heads) == 1:
            if not isinstance(body, dict):
                raise ConfigError(f"{name} holds no settings below ros__parameters")
            yield from _flatten(body)


def _is_ros_head(body: object) -> bool:
    return isinstance(body, dict) and "ros__parameters" in body


def _flatten(tree: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", value


def parse_pair(pair: str) -> tuple[str, object]:
    """Name and value of what was given as ``--set NAME=VALUE``; the value is YAML.

    Raises:
        ConfigError: it is no pair, or the value is not YAML.
    """
    name, equals, value = pair.partition("=")
    if not equals:
        raise ConfigError(f"--set takes NAME=VALUE, not {pair!r}")
    try:
        return name.strip(), yaml.safe_load(value) if value else ""
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--set {name}: {value!r} is not a value") from error
