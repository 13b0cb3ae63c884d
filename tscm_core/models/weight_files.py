"""Reading files of tensors, never of programs, and loading them without leaving a tensor out or over."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tscm_core.errors import ModelFileError, absence

_DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
    AssertionError, MemoryError, struct.error, pickle.UnpicklingError,
)  # fmt: skip
"""What readers raise over damaged files, which may say anything."""


def read_pickle(path: Path, what: str) -> object:
    """What ``torch.save`` wrote, if it is tensors, numbers, strings and containers of these.

    Args:
        path: the file.
        what: what it should be, for the message: "a PyTorch state dict of plain tensors".

    Raises:
        ModelFileError: the file cannot be read, is no such file, or holds objects that only running code would restore.
    """
    from safetensors import SafetensorError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd files, which are refused below in one sentence
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, *_DAMAGE) as error:  # torch.load takes files of that name, too
        raise ModelFileError(f"weights file {path} is not {what}") from error


def read_state(path: Path, absent: str) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in any other that ``torch.save`` wrote.

    One that is wrapped, as ``{"state_dict": ...}`` or ``{"model": ...}``, is taken out.

    Raises:
        ModelFileError: the file is missing (``absent`` ends the message), or holds anything but tensors by name.
    """
    if not path.is_file():
        raise ModelFileError(f"weights file {path} {absence(path)}: {absent}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path, _STATE)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not is_state(state):
        raise ModelFileError(f"weights file {path} is not {_STATE}")
    return dict(state)  # type: ignore[call-overload, no-any-return]


_STATE = "a PyTorch state dict of plain tensors"


def is_state(value: object) -> bool:
    """Whether this is a mapping of names to plain tensors: dense ones of real numbers, neither sparse nor quantised."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) and _is_plain(tensor) for name, tensor in value.items()
    )


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_complex()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *_DAMAGE) as error:
        raise ModelFileError(f"weights file {path} is not a whole safetensors file") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load all of ``state`` into all of ``module``.

    Raises:
        ModelFileError: a tensor is missing, unknown or of another shape; the message counts and names them.
    """
    check_names(module.state_dict(), state, path, what)
    module.load_state_dict(state)


def check_names(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Refuse tensors that are not by name and shape those of ``what``.

    Raises:
        ModelFileError: a tensor is missing, unknown or of another shape; the message counts and names them.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    reshaped = sorted(name for name in expected.keys() & found.keys() if expected[name].shape != found[name].shape)
    if missing or extra or reshaped:
        raise ModelFileError(
            f"weights file {path} is not of {what}: {_some('missing', missing)}, "
            f"{_some('unknown', extra)}, {_some('of another shape', reshaped)}"
        )


def _some(what: str, names: list[str]) -> str:
    return f"{len(names)} tensors {what}" + (f" ({', '.join(names[:3])})" if names else "")
