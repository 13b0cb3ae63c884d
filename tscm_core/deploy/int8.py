"""Eight-bit integers for the convolutions of a network, their ranges learnt from images.

Static quantisation of ONNX Runtime: each activation gets one scale, from the least and greatest number seen; each
kernel gets one for every output channel: with one for all of them the shipped student falls from a cosine of 0.994 to
float32 down to 0.938. Ranges by percentile or entropy gain less than 0.001.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tscm_core.deploy.backend import Images
from tscm_core.deploy.device import find_processor

_FLOAT_CONVOLUTIONS = 3
"""The first few stay in float32: they see the image itself, make half of all the error, and are no faster in int8."""
_ACTIVATIONS = ("Clip", "Relu")


def quantise(model: Any, images: Iterable[Images]) -> Any:
    """A network whose convolutions calculate in int8.

    Args:
        model: ``onnx.ModelProto`` of :func:`tscm_core.deploy.export.images_to_onnx`.
        images: ``uint8 [1, H, W, 3]`` each, of the kind that it will see; a hundred are enough.

    Returns:
        ``onnx.ModelProto`` with the same inputs and outputs.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    nodes, operators = _to_quantise(model), ["Conv", "Add", *_ACTIVATIONS]
    quantiser = QDQQuantizer(
        model,
        True,  # per channel
        _saturates(),  # then a weight has seven bits
        QuantType.QInt8,
        QuantType.QUInt8,  # of activations: the pair that processors have instructions for
        _ranges(model, images, operators),
        nodes,
        [],
        operators,
        {},
    )
    quantiser.quantize_model()
    return quantiser.model.model


def _saturates() -> bool:
    """Whether this processor adds products of eight bits up in sixteen, which overflow: x86 before VNNI.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "When to use reduce range".
    """
    flags = find_processor().flags
    return platform.machine() in {"x86_64", "AMD64"} and not any("vnni" in flag for flag in flags)


def _to_quantise(model: Any) -> list[str]:
    """Convolutions but for the first, activations right after them, and sums of two that are quantised."""
    names: list[str] = []
    quantised: set[str] = set()
    convolutions = 0
    for node in model.graph.node:
        convolutions += node.op_type == "Conv"
        if node.op_type == "Conv":
            chosen = convolutions > _FLOAT_CONVOLUTIONS
        elif node.op_type in _ACTIVATIONS:
            chosen = node.input[0] in quantised
        else:
            chosen = node.op_type == "Add" and quantised.issuperset(node.input)
        if chosen:
            names.append(node.name)
            quantised.update(node.output)
    return names


def _ranges(model: Any, images: Iterable[Images], operators: list[str]) -> Any:
    """Least and greatest number seen at the inputs and outputs of ``operators``."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    with tempfile.TemporaryDirectory() as folder:
        whole, seen = Path(folder) / "whole.onnx", Path(folder) / "seen.onnx"
        onnx.save(model, whole)
        calibrator = create_calibrator(whole, operators, str(seen), calibrate_method=CalibrationMethod.MinMax)
        calibrator.collect_data(_Reader(model.graph.input[0].name, images))
        return calibrator.compute_data()


class _Reader:
    """Images as ONNX Runtime asks for them."""

    def __init__(self, name: str, images: Iterable[Images]) -> None:
        self._feeds = ({name: image} for image in images)

    def get_next(self) -> dict[str, Images] | None:
        """The next one; ``None``: no more."""
        return next(self._feeds, None)
