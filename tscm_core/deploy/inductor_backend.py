"""PyTorch's own compiler, ahead of time: AOTInductor writes C++ for a CPU, Triton kernels for a GPU."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tscm_core.deploy.backend import CPU, CUDA, FP16, FP32, Images, Report, Target
from tscm_core.deploy.compilers import FAILURES, NO_GPU, first_line, quiet
from tscm_core.deploy.graph import DescribeImages
from tscm_core.deploy.half import half_trunk
from tscm_core.deploy.powers import quicken_powers
from tscm_core.errors import DeployError
from tscm_core.models.network import Network

_NO_COMPILER = "there is no C++ compiler (apt install g++)"
_MODEL = "model"
"""What torch calls the only model in a package."""
Program = Callable[[list[Tensor]], list[Tensor]]


class InductorBackend:
    """Keeps the ``Backend`` protocol. Float32 on a CPU; float32 and float16 on a GPU."""

    name = "inductor"

    def refusal(self, target: Target, *, build: bool) -> str:
        """See ``Backend.refusal``. What was compiled runs without a compiler."""
        if target.device == CUDA:
            return _refusal_on_gpu(target, build=build)
        if target.precision != FP32:
            return f"inductor computes in fp32 on a CPU, not in {target.precision} (set model.precision: fp32)"
        return _NO_COMPILER if build and not _has_cxx() else ""

    def version(self) -> str:
        """See ``Backend.version``."""
        return f"torch {torch.__version__}"

    def options(self, target: Target) -> str:
        """On a CPU the number of threads; on a GPU how large a batch may be."""
        return f"threads {target.threads}" if target.device == CPU else f"batch {target.max_batch}"

    def build(self, network: Network, target: Target, report: Report) -> bytes:
        """Compile; 10 to 30 s and half a gigabyte of memory for a student.

        Raises:
            DeployError: there is no compiler, or it fails.
        """
        report("compiling the network with AOTInductor, which takes up to a minute")
        module = _module(network, target)
        try:
            with quiet(), _scratch(), torch.no_grad():
                return _compile(module, target)
        except FAILURES as error:
            reason = _NO_COMPILER if type(error).__name__ == "InvalidCxxCompiler" else first_line(error)
            raise DeployError(f"inductor cannot compile the network: {reason}; or choose another backend") from error

    def load(self, payload: bytes, target: Target) -> InductorRunner:
        """What ``build`` returned, ready to run; needs no compiler, and leaves no file behind.

        Raises:
            DeployError: it is not a package of this version of torch for this machine.
        """
        try:
            with quiet():
                program = _load_on_cpu(payload) if target.device == CPU else _load_on_gpu(payload)
        except FAILURES as error:
            raise DeployError(f"what inductor compiled cannot be loaded: {first_line(error)}; compile again") from error
        return InductorRunner(program, target)


class InductorRunner:
    """A loaded program. Keeps the ``Runner`` protocol.

    On a CPU the program takes one image, and a batch is a loop: more at a time are no faster there. On a GPU it takes
    any batch up to ``max_batch``.
    """

    def __init__(self, program: Program, target: Target) -> None:
        self.max_batch = target.max_batch
        self._program, self._device, self._threads = program, target.device, target.threads
        self._limited = threading.local()

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """See ``Runner``. May be called from any thread."""
        self._limit_threads()
        pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
        if self._device == CUDA:
            return self._run(pixels.to(CUDA))
        return np.concatenate([self._run(pixels[i : i + 1]) for i in range(len(pixels))])

    def _run(self, pixels: Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            descriptors: NDArray[np.float32] = self._program([pixels])[0].float().cpu().numpy()
            return descriptors

    def _limit_threads(self) -> None:
        """OpenMP keeps its limit for each thread: one that never heard of it would take every processor."""
        if not getattr(self._limited, "done", False):
            torch.set_num_threads(self._threads)
            self._limited.done = True


def _refusal_on_gpu(target: Target, *, build: bool) -> str:
    if not torch.cuda.is_available():
        return NO_GPU
    if target.precision not in (FP32, FP16):
        return f"inductor computes in fp32 or fp16 on a GPU, not in {target.precision} (set model.precision: fp16)"
    if build and importlib.util.find_spec("triton") is None:
        return "package triton is not installed (pip install triton)"
    return _NO_COMPILER if build and not _has_cxx() else ""


def _has_cxx() -> bool:
    """As torch looks for it: ``$CXX``, else g++."""
    from shutil import which

    return which(os.environ.get("CXX") or "g++") is not None


def _module(network: Network, target: Target) -> DescribeImages:
    """A copy of its own: the one that came may be channels last, which costs a quarter of the speed here."""
    own = half_trunk(network) if target.precision == FP16 else copy.deepcopy(network)
    own.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return DescribeImages(own).to(target.device)


def _compile(module: DescribeImages, target: Target) -> bytes:
    from torch._inductor import aoti_compile_and_package, config

    many = target.device == CUDA and target.max_batch > 1
    width, height = target.input_size
    example = torch.zeros(2 if many else 1, height, width, 3, dtype=torch.uint8, device=target.device)
    shapes = ({0: torch.export.Dim("batch", min=1, max=target.max_batch)},) if many else None
    program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
    quicken_powers(program)
    # Weights become constants, so that normalisation folds into convolutions, which are laid out as the kernels want.
    settings: dict[str, Any] = {"freezing": True, "cpp.threads": target.threads}
    package = io.BytesIO()
    if hasattr(config.aot_inductor, "precompile_headers"):
        settings["aot_inductor.precompile_headers"] = False  # used once, and they would stay, outside the cache folder
    with config.patch(compile_threads=1):  # no pool of processes that would outlive the build
        aoti_compile_and_package(program, package_path=package, inductor_configs=settings)
    return package.getvalue()


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """A cache folder for the compiler that goes when it is done, and no memory in this process of what lay there."""
    with (
        tempfile.TemporaryDirectory(prefix="tscm_inductor_") as folder,
        _environment("TORCHINDUCTOR_CACHE_DIR", folder),
    ):
        from torch._inductor.utils import fresh_inductor_cache  # may make the folder as it is imported

        with fresh_inductor_cache(dir=folder):
            yield


def _load_on_cpu(payload: bytes) -> Program:
    """What was unpacked can go at once: the library stays open, the weights are in it."""
    with tempfile.TemporaryDirectory(prefix="tscm_inductor_") as folder, _environment("TMPDIR", folder):
        return _open(payload, folder)  # unpacks to TMPDIR, which by itself it cleans up only at an orderly exit


def _load_on_gpu(payload: bytes) -> Program:
    """Kernels are read from what was unpacked when they first run: the loader removes it when it goes."""
    with tempfile.TemporaryDirectory(prefix="tscm_inductor_") as folder:
        return _open(payload, folder)


def _open(payload: bytes, folder: str) -> Program:
    """``torch._inductor.aoti_load_package`` less the import of the whole compiler, which takes it seconds."""
    package = Path(folder) / "package.pt2"
    package.write_bytes(payload)
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(package), _MODEL, False, 1, -1)
    except (AttributeError, TypeError):  # a version of torch that has another loader
        model = torch._inductor.aoti_load_package(str(package))
        return lambda images: [model(*images)]
    run: Program = loader.boxed_run
    return run


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """One variable set for a while; libraries written in C see it too."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
