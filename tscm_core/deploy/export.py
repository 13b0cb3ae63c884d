"""Networks as programs that run without their Python source: ``torch.export`` and ONNX."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tscm_core.deploy.compilers import quiet
from tscm_core.deploy.graph import DescribeImages
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

    Images are to be normalised as for the network itself. The file is written whole, or not at all.

    Args:
        network: in eval mode.
        size: width and height of the images.
        path: file to write.
        batch: how many images at a time.

    Raises:
        ModelFileError: the file cannot be written.
    """
    payload = _to_onnx(network, _example(size, batch), {}).SerializeToString()
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def images_to_onnx(network: Network, size: tuple[int, int]) -> Any:
    """Preprocessing and network as ONNX: ``uint8 images [B, H, W, 3]``, any B, to ``float32 descriptors [B, dim]``.

    Args:
        network: in eval mode.
        size: width and height of the images.

    Returns:
        An ``onnx.ModelProto``, weights inside.

    Raises:
        ModelFileError: the network cannot be written as ONNX.
    """
    width, height = size
    images = torch.zeros(2, height, width, 3, dtype=torch.uint8)  # two: of one the exporter thinks that it stays one
    return _to_onnx(DescribeImages(network), images, {INPUT: {0: torch.export.Dim("batch", min=1, max=1024)}})


def _to_onnx(module: nn.Module, example: Tensor, dynamic: dict[str, dict[int, object]]) -> Any:
    with quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamo=True,
            verbose=False,
            dynamic_shapes=dynamic or None,
        )
    if program is None:
        raise ModelFileError("the network gave nothing that could be written as ONNX")
    return program.model_proto


def _example(size: tuple[int, int], batch: int) -> Tensor:
    width, height = size
    return torch.zeros(batch, 3, height, width)
