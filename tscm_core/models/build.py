"""Networks by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from tscm_core.errors import ConfigError
from tscm_core.models.network import Network

NETWORKS = {
    "student": ("tscm_core.models.student", "Student"),
    "baseline": ("tscm_core.models.baseline", "Baseline"),
    "teacher": ("tscm_core.models.teacher", "Teacher"),
    "released_student": ("tscm_core.models.released", "ReleasedStudent"),
    "released_teacher": ("tscm_core.models.released", "ReleasedTeacher"),
}
"""Module and class of each network; a module is imported when it is asked for."""


def build_network(spec: Mapping[str, object]) -> Network:
    """The network that ``spec`` describes, with random weights.

    Args:
        spec: ``name`` and, as the class of that network says, its settings; those left out take their defaults.

    Raises:
        ConfigError: the name or a setting is unknown, or a value is of the wrong type or out of range.
    """
    name = spec.get("name")
    if not isinstance(name, str) or name not in NETWORKS:
        raise ConfigError(f"there is no network {name!r}: name one of {', '.join(NETWORKS)}")
    module, class_name = NETWORKS[name]
    network: Network = getattr(import_module(module), class_name).from_spec(spec)
    return network
