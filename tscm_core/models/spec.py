"""Reading the settings of a network: every key known, every value of its default's type."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from tscm_core.errors import ConfigError

Spec = dict[str, object]
"""Name and settings of a network as JSON values, ``name`` first: enough for ``build_network`` to make it again."""


SIDES = (16, 8192)
"""Least and most pixels in a side of an image: a patch of the transformers, and what no camera here exceeds."""


def read_spec(
    spec: Mapping[str, object], defaults: Mapping[str, object], choices: Mapping[str, Collection[object]] | None = None
) -> Spec:
    """``defaults``, in their order, with the values of ``spec``.

    Args:
        spec: settings; all may be left out.
        defaults: name and value of every setting, ``name`` among them. Whole numbers are sizes: at least 1;
            ``input_size`` is width and height of an image: 16, a patch, to 8192.
        choices: for some settings, all that they may be.

    Raises:
        ConfigError: a setting is unknown, of another type than its default, or not among its choices.
    """
    name = defaults["name"]
    if unknown := sorted(set(spec) - set(defaults)):
        near = difflib.get_close_matches(unknown[0], list(defaults), n=1)
        hint = f"did you mean {near[0]}" if near else f"there are {', '.join(defaults)}"
        raise ConfigError(f"network {name} has no setting {unknown[0]}: {hint}")
    for key, value in spec.items():
        _check(f"setting {key} of network {name}", value, defaults[key], (choices or {}).get(key))
    full = {**defaults, **spec}
    sides = full.get("input_size", [SIDES[0]])
    if not all(SIDES[0] <= side <= SIDES[1] for side in sides):  # type: ignore[attr-defined]
        raise ConfigError(f"setting input_size of network {name} must be from {SIDES[0]} to {SIDES[1]}, not {sides}")
    return full


def _check(what: str, value: object, default: object, choices: Collection[object] | None) -> None:
    if choices is not None and not any(value is choice or value == choice for choice in choices):
        raise ConfigError(f"{what} must be one of {', '.join(map(str, choices))}, not {value!r}")
    if type(value) is not type(default):
        raise ConfigError(f"{what} must be of type {type(default).__name__}, not {value!r}")
    numbers = value if isinstance(value, list) else [value]
    if isinstance(default, list) and (len(numbers) != len(default) or {type(n) for n in numbers} != {type(default[0])}):
        raise ConfigError(f"{what} must be {len(default)} numbers like {default}, not {value!r}")
    if any(isinstance(number, int) and not isinstance(number, bool) and number < 1 for number in numbers):
        raise ConfigError(f"{what} must be at least 1, not {value!r}")
