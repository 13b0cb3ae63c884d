"""Settings of a training run from YAML: an unknown key, a wrong type or a value out of range is an error by name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tscm_core.config import Limits, check, parse_pair
from tscm_core.errors import ConfigError
from tscm_core.training.settings import TrainSettings

Section = TypeVar("Section")
_ANYTHING = Limits("")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""1e-4, which YAML takes for a word and everyone else for a number."""


def load_settings(path: Path, changes: Iterable[str] = ()) -> TrainSettings:
    """Settings from a YAML file, changed by ``section.key=value`` pairs; values are YAML too.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown or unfit setting.
    """
    tree = _read(path)
    try:
        settings_from(tree)  # what is wrong in the file is said of the file
    except ConfigError as error:
        raise ConfigError(f"settings file {path}: {error}") from error
    for pair in changes:
        _put(tree, *parse_pair(pair))
    return settings_from(tree)


def settings_from(tree: Mapping[str, Any]) -> TrainSettings:
    """Settings from a tree like that of a YAML file; what it does not name keeps its default.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    return _section(TrainSettings(), tree, "")


def differences(ours: TrainSettings, theirs: TrainSettings) -> list[str]:
    """Dotted names of the settings that differ, in the order of their definition."""
    left, right = dict(_leaves(ours.to_dict())), dict(_leaves(theirs.to_dict()))
    return [name for name in dict.fromkeys([*left, *right]) if left.get(name, _leaves) != right.get(name, _leaves)]


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, no such date
        raise ConfigError(f"settings file {path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"settings file {path} holds no settings")
    return tree


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *heads, last = name.split(".")
    for head in heads:
        inner = tree.get(head)
        tree[head] = dict(inner) if isinstance(inner, Mapping) else {}
        tree = tree[head]
    tree[last] = value


def _section(defaults: Section, tree: object, head: str) -> Section:
    """``defaults``, a dataclass, with the values that ``tree`` names."""
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{head.rstrip('.') or 'the file'} must hold settings by name, not {tree!r}")
    fields = {item.name: item for item in dataclasses.fields(defaults)}  # type: ignore[arg-type]
    for name in tree:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, 1)
            hint = f"did you mean {head}{near[0]}? " if near else ""
            raise ConfigError(
                f"unknown setting {head}{name}: {hint}there are {', '.join(head + key for key in fields)}"
            )
    values = {
        name: _value(f"{head}{name}", value, getattr(defaults, name), fields[name].metadata.get("limits", _ANYTHING))
        for name, value in tree.items()
    }
    return dataclasses.replace(defaults, **values)  # type: ignore[type-var]


def _value(name: str, value: object, default: Any, limits: Limits) -> Any:
    if dataclasses.is_dataclass(default):
        return _section(default, value, f"{name}.")
    if isinstance(default, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ConfigError(f"{name} must hold settings by name, not {value!r}")
        return dict(value)
    if default == ():
        if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
            raise ConfigError(f"{name} must be a list of mappings, not {value!r}")
        return tuple(dict(item) for item in value)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or len(value) != len(default):
            raise ConfigError(f"{name} must be a list of {len(default)} numbers, not {value!r}")
        return tuple(check(name, item, example, limits) for item, example in zip(value, default, strict=True))
    if isinstance(default, float) and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        value = float(value)
    return check(name, value, default, limits)


def _leaves(tree: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{head}{name}.")
        else:
            yield f"{head}{name}", value
