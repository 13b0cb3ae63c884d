"""Networks as programs that run without their Python source: ``torch.export`` and ONNX."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tscm_core.errors import ModelFileError
from tscm_core.models.network import Network

INPUT, OUTPUT = "images", "descriptors"
"""Names in an ONNX file."""


def export_program(network: Network, size: tuple[int, int], batch: int = 1) -> torch.export.ExportedProgram:
    """The network as a graph of tensor operations, for normalised images of one size.

    Args:
        network: in eval mode.
        size: width and height of the images.
        batch: how many images at a time.
    """
    return torch.export.export(network, (_example(size, batch),), strict=False)


def export_onnx(network: Network, size: tuple[int, int], path: Path | str, batch: int = 1) -> None:
    """Write the network as ONNX, weights inside: float32 ``images [B, 3, H, W]`` to ``descriptors [B, dim]``.

    Images are to be normalised as for the network itself.

    Args:
        network: in eval mode.
        size: width and height of the images.
        path: file to write.
        batch: how many images at a time.

    Raises:
        ModelFileError: the file cannot be written.
    """
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            network, (_example(size, batch),), input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
    if program is None:
        raise ModelFileError(f"the network gave nothing to write to {path}")
    try:
        program.save(str(path), external_data=False)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress and what else could be installed; none of it is for our users."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _example(size: tuple[int, int], batch: int) -> Tensor:
    width, height = size
    return torch.zeros(batch, 3, height, width)
