"""TensorRT through torch-tensorrt: for NVIDIA GPUs, a Jetson's above all.

Written for torch-tensorrt 2.5 (JetPack 6) to 2.14. Where these differ:

- up to 2.5 TensorRT chose each layer's precision from ``enabled_precisions``; from 2.6 to 2.12 it keeps the types of
  the graph if ``use_explicit_typing`` is set; from 2.13 on it always does.
- ``save`` with ``retrace=False`` writes the graph as it was compiled; later versions trace it again by default.
"""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tscm_core.deploy.backend import CUDA, FP16, FP32, Images, Report, Target
from tscm_core.deploy.compilers import FAILURES, NO_GPU, first_line, quiet
from tscm_core.deploy.device import find_gpu
from tscm_core.deploy.graph import DescribeImages
from tscm_core.deploy.half import half_trunk
from tscm_core.errors import DeployError
from tscm_core.models.network import Network

_ENGINE = "_run_on_acc"
"""How torch-tensorrt calls a part of the graph that TensorRT runs."""


class TensorRtBackend:
    """Keeps the ``Backend`` protocol. Float16 or float32, one image up to ``max_batch``."""

    name = "tensorrt"

    def refusal(self, target: Target, *, build: bool) -> str:
        """See ``Backend.refusal``."""
        if target.device != CUDA:
            return f"TensorRT needs an NVIDIA GPU, and {'model.device is cpu' if find_gpu() else 'there is none here'}"
        if target.precision not in (FP32, FP16):
            return f"TensorRT computes in fp16 or fp32 here, not in {target.precision} (set model.precision: fp16)"
        if not torch.cuda.is_available():
            return NO_GPU
        return _missing()

    def version(self) -> str:
        """See ``Backend.version``: an engine is for one TensorRT, its wrapping for one of each of the others."""
        import tensorrt

        wrapper = _torch_tensorrt().__version__
        return f"torch-tensorrt {wrapper}, tensorrt {tensorrt.__version__}, torch {torch.__version__}"

    def options(self, target: Target) -> str:
        """How large a batch may be, and what the compiler may use: with less it may choose slower kernels."""
        return f"batch {target.max_batch}, workspace {target.workspace_mb} MiB"

    def build(self, network: Network, target: Target, report: Report) -> bytes:
        """Compile for the GPU of this machine: minutes on a Jetson.

        Raises:
            DeployError: an operator has no converter, or TensorRT fails.
        """
        report("compiling the network with TensorRT, which takes minutes on a Jetson")
        try:
            with quiet(), torch.no_grad(), tempfile.TemporaryDirectory(prefix="tscm_tensorrt_") as folder:
                return _compile(network, target, Path(folder))
        except FAILURES as error:
            raise DeployError(
                f"TensorRT cannot compile the network: {first_line(error)}; where memory runs out a smaller "
                f"workspace_mb helps, else choose another backend"
            ) from error

    def load(self, payload: bytes, target: Target) -> TensorRtRunner:
        """What ``build`` returned, ready to run.

        Raises:
            DeployError: it is not an engine of these versions for this GPU.
        """
        try:
            with quiet(), tempfile.TemporaryDirectory(prefix="tscm_tensorrt_") as folder:
                file = Path(folder) / "engine.ep"
                file.write_bytes(payload)
                program = _torch_tensorrt().load(str(file)).module()
        except FAILURES as error:
            raise DeployError(f"what TensorRT compiled cannot be loaded: {first_line(error)}; compile again") from error
        return TensorRtRunner(program, target)


class TensorRtRunner:
    """A loaded engine. Keeps the ``Runner`` protocol."""

    def __init__(self, program: Callable[[torch.Tensor], Any], target: Target) -> None:
        self.max_batch = target.max_batch
        self._program, self._device = program, target.device

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """See ``Runner``."""
        with torch.inference_mode():
            pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self._device)
            found = self._program(pixels.float())
            descriptors = found[0] if isinstance(found, (tuple, list)) else found
            values: NDArray[np.float32] = descriptors.float().cpu().numpy()
            return values


def _torch_tensorrt() -> ModuleType:
    import torch_tensorrt

    return torch_tensorrt  # type: ignore[no-any-return]


def _missing() -> str:
    """Why torch-tensorrt cannot be imported."""
    try:
        with quiet():
            _torch_tensorrt()
    except ModuleNotFoundError as error:
        package = (error.name or "torch_tensorrt").replace("_", "-")
        return f"package {package} is not installed (pip install torch-tensorrt; on a Jetson as in docs/jetson.md)"
    except (ImportError, OSError, RuntimeError) as error:
        return (
            f"package torch-tensorrt cannot be imported: {first_line(error)} "
            f"(install the torch-tensorrt made for torch {torch.__version__})"
        )
    return ""


def _compile(network: Network, target: Target, folder: Path) -> bytes:
    torch_tensorrt = _torch_tensorrt()
    own = half_trunk(network) if target.precision == FP16 else copy.deepcopy(network)
    example = _example(target, min(2, target.max_batch))
    program = torch.export.export(
        DescribeImages(own).to(target.device), (example,), dynamic_shapes=_shapes(target), strict=False
    )
    compiled = torch_tensorrt.dynamo.compile(
        program,
        arg_inputs=[_input(torch_tensorrt, target)],
        workspace_size=target.workspace_mb << 20,
        require_full_compilation=True,
        min_block_size=1,  # else a small graph is handed back as it came, without a word
        truncate_double=True,
        cache_built_engines=False,
        reuse_cached_engines=False,
        timing_cache_path=str(folder / "timing_cache.bin"),
        **_typing(torch_tensorrt, target.precision),
    )
    if sum(_ENGINE in name for name, _ in compiled.named_children()) != 1:
        raise DeployError("not all of the network became one TensorRT engine")
    file = folder / "engine.ep"
    torch_tensorrt.save(compiled, str(file), output_format="exported_program", arg_inputs=[example], retrace=False)
    return file.read_bytes()


def _example(target: Target, batch: int) -> torch.Tensor:
    """Float32: TensorRT takes bytes only where they are made floats first of all, and 2.5 not at all."""
    width, height = target.input_size
    return torch.zeros(batch, height, width, 3, device=target.device)


def _shapes(target: Target) -> tuple[dict[int, Any]] | None:
    """One image at a time is compiled as such: TensorRT then knows every size."""
    return None if target.max_batch == 1 else ({0: torch.export.Dim("batch", min=1, max=target.max_batch)},)


def _input(torch_tensorrt: ModuleType, target: Target) -> Any:
    width, height = target.input_size
    one = (1, height, width, 3)
    if target.max_batch == 1:
        return torch_tensorrt.Input(shape=one, dtype=torch.float32)
    most = (target.max_batch, height, width, 3)
    return torch_tensorrt.Input(min_shape=one, opt_shape=one, max_shape=most, dtype=torch.float32)


def _typing(torch_tensorrt: ModuleType, precision: str) -> dict[str, Any]:
    """So that what is half in the graph is half in the engine, and nothing else, where the version lets one say so."""
    known = inspect.signature(torch_tensorrt.dynamo.compile).parameters
    if "use_explicit_typing" in known:
        return {"use_explicit_typing": True}
    if "enabled_precisions" in known:
        return {"enabled_precisions": {torch.float32, torch.float16} if precision == FP16 else {torch.float32}}
    return {}
