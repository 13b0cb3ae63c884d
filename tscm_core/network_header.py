"""What a network file says about itself. Without PyTorch: a robot that has a compiled network never loads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscm_core.errors import ConfigError, ModelFileError, absence

SHIPPED = Path(__file__).with_name("weights") / "student.safetensors"
"""The default student."""
FORMAT, FORMAT_VERSION = "tscm-network", "1"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class NetworkHeader:
    """What a network file says about its weights."""

    spec: Mapping[str, Any]
    """Name and settings of the network, as ``build_network`` takes them."""
    config: Mapping[str, Any]
    """How it was trained."""
    metrics: Mapping[str, Any]
    """How good it was then."""
    model_id: str
    """Of the weights as they are loaded, with images resized to the network's own ``input_size``."""


def read_header(path: Path | str) -> NetworkHeader:
    """What a network file says about itself; its weights are not read.

    Raises:
        ModelFileError: the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelFileError(f"network file {path} {absence(path)}")
    try:
        with safe_open(path, framework="np") as file:
            return from_metadata(file.metadata() or {}, path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelFileError(f"network file {path} is damaged or no network file: {reason(error)}") from error


def sha256_of(path: Path) -> str:
    """Of the bytes of a file, in hexadecimal digits.

    Raises:
        ModelFileError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise ModelFileError(f"weights {path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def to_metadata(header: NetworkHeader) -> dict[str, str]:
    """A header as the strings that stand in a file.

    Raises:
        ConfigError: a part of it is not JSON.
    """
    try:
        parts = {name: json.dumps(getattr(header, name)) for name in ("spec", "config", "metrics")}
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"what is written beside a network must be JSON values: {error}") from error
    return {"format": FORMAT, "format_version": FORMAT_VERSION, **parts, "model_id": header.model_id}


def from_metadata(metadata: Mapping[str, str], path: Path) -> NetworkHeader:
    """The header that ``to_metadata`` made strings of; ``path`` is named in errors.

    Raises:
        ModelFileError: it is none, is damaged, or of a newer version.
    """
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"file {path} is not a network file of this program: import or train one")
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"network file {path} has format version {metadata.get('format_version')}; this program reads "
            f"{FORMAT_VERSION}: update it"
        )
    try:
        spec, config, metrics = (json.loads(metadata[name]) for name in ("spec", "config", "metrics"))
        header = NetworkHeader(spec, config, metrics, metadata["model_id"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelFileError(f"network file {path} has a damaged header") from error
    if not all(isinstance(value, dict) for value in (spec, config, metrics)):
        raise ModelFileError(f"network file {path} has a damaged header")
    return header


def reason(error: Exception) -> str:
    """What went wrong in a library, in its first line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
