"""The backend for processors without a GPU, and for GPUs where ONNX Runtime's GPU build is installed.

What it compiles is ONNX, which ONNX Runtime fits to the processor when it is loaded: to do that beforehand would save 9
of 54 milliseconds, and tie the file to the machine.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.deploy.backend import CPU, CUDA, FP16, INT8, Images, Report, Runner, Target
from tscm_core.deploy.onnxruntime_gpu import CUDA_PROVIDER, gpu_options, gpu_payload, gpu_session
from tscm_core.errors import DeployError
from tscm_core.recognition.image import resize

if TYPE_CHECKING:  # PyTorch, which a process that only runs a compiled network does not need
    from tscm_core.models.network import Network

_CPU_PROVIDER = "CPUExecutionProvider"
_TO_BUILD = ("torch", "onnx", "onnxscript")
_ERRORS = 3
"""Level from which ONNX Runtime writes to standard error."""


class OnnxRuntimeBackend:
    """Networks by ONNX Runtime: fp32 and int8 on a CPU, fp32 and fp16 on a GPU. Keeps the ``Backend`` protocol."""

    name = "onnxruntime"

    def refusal(self, target: Target, *, build: bool) -> str:
        """See ``Backend.refusal``."""
        try:
            import onnxruntime
        except ImportError as error:
            return _missing("onnxruntime", error)
        if target.device == CUDA and CUDA_PROVIDER not in onnxruntime.get_available_providers():
            return f"onnxruntime has no {CUDA_PROVIDER} here (pip install onnxruntime-gpu instead of onnxruntime)"
        if target.device == CUDA and target.precision == INT8:
            return "onnxruntime runs int8 on a CPU only (set model.precision to fp16, or model.device to cpu)"
        if target.device == CPU and target.precision == FP16:
            return "onnxruntime runs fp16 on a GPU only (set model.precision to fp32)"
        missing = [package for package in _TO_BUILD if build and importlib.util.find_spec(package) is None]
        return f"package {missing[0]} is not installed (pip install {' '.join(missing)})" if missing else ""

    def version(self) -> str:
        """See ``Backend.version``."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def options(self, target: Target) -> str:
        """See ``Backend.options``; on a CPU nothing: one file runs any number of images with any number of threads."""
        return "" if target.device == CPU else gpu_options(target)

    def build(self, network: Network, target: Target, report: Report) -> bytes:
        """See ``Backend.build``."""
        if target.precision == INT8:
            raise DeployError(
                "int8 learns the range of each number from images: compile ahead (tscm compile --precision int8 "
                "--calibration DIR)"
            )
        model = _exported(network, target)
        return bytes(model.SerializeToString()) if target.device == CPU else gpu_payload(model, target, report)

    def build_int8(self, network: Network, target: Target, images: Sequence[Path], report: Report) -> bytes:
        """Like ``build``, in integers of eight bits for a CPU.

        Args:
            network: what to compile.
            target: for what; its precision is int8.
            images: files of the kind that it will see; a hundred are enough.
            report: takes what is going on.

        Raises:
            DeployError: there are no images, or one cannot be read, or this device does not run int8.
        """
        if refusal := self.refusal(target, build=True):
            raise DeployError(refusal)
        if not images:
            raise DeployError("int8 learns the range of each number from images: give a hundred of the robot's own")
        from tscm_core.deploy.int8 import quantise

        seen = list(_read(images, target.input_size))  # before the rest, which takes a while
        report(f"learning the range of each number from {len(seen)} images")
        return bytes(quantise(_exported(network, target), seen).SerializeToString())

    def load(self, payload: bytes, target: Target) -> Runner:
        """See ``Backend.load``."""
        options = session_options(target.threads)
        if target.device == CUDA:
            return _Session(gpu_session(payload, target, options), target.max_batch)
        import onnxruntime

        try:
            session = onnxruntime.InferenceSession(payload, options, providers=[_CPU_PROVIDER])
        except Exception as error:  # the errors of ONNX Runtime have no class in common
            raise DeployError(f"onnxruntime cannot load it: {error}") from error
        return _Session(session, target.max_batch)


def session_options(threads: int) -> Any:
    """What all sessions have in common, an ``onnxruntime.SessionOptions``.

    Args:
        threads: that may calculate, the calling one among them. None of them waits for work in a loop: that gains a
            third of the time with two threads, and takes the second core even between images (45 ms of processor time
            for one image every 50 ms, where 9 do).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False  # as fast without, since memory.py, and ten megabytes less
    options.log_severity_level = _ERRORS
    return options


class _Session:
    """A session of ONNX Runtime as a ``Runner``."""

    def __init__(self, session: Any, max_batch: int) -> None:
        self.max_batch = max_batch
        self._session = session
        self._input, self._outputs = session.get_inputs()[0].name, [session.get_outputs()[0].name]

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """See ``Runner``."""
        descriptors: NDArray[np.float32] = self._session.run(self._outputs, {self._input: images})[0]
        return descriptors


def _exported(network: Network, target: Target) -> Any:
    from tscm_core.deploy.export import images_to_onnx
    from tscm_core.deploy.onnx_rewriting import spell_out_powers, to_half

    model = images_to_onnx(network, target.input_size)
    spell_out_powers(model)
    if target.precision == FP16:
        to_half(model)
    return model


def _read(paths: Sequence[Path], size: tuple[int, int]) -> Iterator[Images]:
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise DeployError(f"image {path} cannot be read: leave it out")
        yield resize(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), size)[None]


def _missing(package: str, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"package {package} is not installed (pip install {package})"
    return f"package {package} cannot be loaded: {error} (pip install --force-reinstall {package})"
