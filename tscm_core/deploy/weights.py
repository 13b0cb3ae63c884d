"""Which weights are asked for, known without PyTorch where the file says so itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tscm_core.errors import ModelFileError
from tscm_core.network_header import SHIPPED, read_header, sha256_of

if TYPE_CHECKING:
    from tscm_core.models.network import Network

_SIZE = re.compile(r"-(\d+)x(\d+)-[0-9a-f]{12}$")
"""Where the name of a model says to what width and height images are resized."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights that are named, and not yet loaded."""

    name: str
    """As the setting ``model.weights`` names them."""
    model_id: str
    input_size: tuple[int, int]
    """(width, height) in pixels."""
    sha256: str
    """Of the file."""

    def network(self) -> Network:
        """Load them.

        Raises:
            ModelFileError: the file does not hold exactly these weights.
        """
        from tscm_core.checkpoints import load_student

        return load_student(self.name)


def find_weights(name: str) -> Weights:
    """What ``model.weights`` names.

    Raises:
        ModelFileError: the file is missing, unreadable, or not what it should be.
        MissingDependencyError: ``imagenet`` is asked for and its package is not installed.
    """
    if name and not name.endswith(".safetensors"):
        return _of_state_dict(name)
    path = Path(name).expanduser() if name else SHIPPED
    header = read_header(path)
    size = _SIZE.search(header.model_id)
    if size is None:
        raise ModelFileError(f"network file {path} is damaged: {header.model_id!r} is no name of a model")
    return Weights(name, header.model_id, (int(size[1]), int(size[2])), sha256_of(path))


def _of_state_dict(name: str) -> Weights:
    """These do not say what they are: the network has to be built to know."""
    from tscm_core.checkpoints import imagenet_weights, load_student, model_id

    network = load_student(name)
    width, height = network.input_size
    path = imagenet_weights() if name == "imagenet" else Path(name).expanduser()
    return Weights(name, model_id(network, f"{width}x{height}"), (width, height), sha256_of(path))
