"""From the settings to a describer that works: which backend, compiled here or taken from the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from tscm_core.config import ModelConfig
from tscm_core.deploy.apart import compile_apart
from tscm_core.deploy.backend import BACKENDS, CPU, CUDA, FP16, FP32, INT8, Backend, Report, Stop, Target
from tscm_core.deploy.building import describe_probe, digest_of, engine_key, load_engine, progress
from tscm_core.deploy.describer import NamedDescriber
from tscm_core.deploy.device import find_gpu
from tscm_core.deploy.engine_cache import EngineCache, NotKeptError, cache_folder, get_or_build
from tscm_core.deploy.engine_file import EngineInfo, EngineKey
from tscm_core.deploy.probe import LEAST_AGREEMENT, agreement
from tscm_core.deploy.threads import limit_threads
from tscm_core.deploy.weights import Weights, find_weights
from tscm_core.errors import DeployError
from tscm_core.memory import keep_memory

_EAGER, _TENSORRT, _AUTO = "eager", "tensorrt", "auto"
_CLASSES = {
    _TENSORRT: ("tscm_core.deploy.tensorrt_backend", "TensorRtBackend"),
    "onnxruntime": ("tscm_core.deploy.onnxruntime_backend", "OnnxRuntimeBackend"),
    "inductor": ("tscm_core.deploy.inductor_backend", "InductorBackend"),
}
"""Module and class of each backend; a module is imported when its backend is tried, since most need PyTorch."""
_HEAPS = 2
"""For what looks at images, and for all else."""
_GPU_BATCH = 8
"""Images at a time on a GPU, at most; on a CPU one after the other is as fast.

TensorRT gets one as well: robots ask for one, and the versions for JetPack 6 may not keep what they save of more.
"""


@dataclass(frozen=True, slots=True)
class Built:
    """A backend that works, with what it runs."""

    describer: NamedDescriber
    backend: str
    """Its name: ``onnxruntime``."""
    target: Target
    refused: tuple[str, ...]
    """Why those that would be faster are not used, one sentence each."""
    info: EngineInfo | None = None
    """Of the engine; ``None`` for eager PyTorch, which has none."""
    path: Path | None = None
    """Of the engine in the cache; ``None`` if it is not kept there."""
    was_there: bool = False
    """It came from the cache."""
    seconds: float = 0.0
    """What compiling or loading took, with the check."""


def load_describer(config: ModelConfig, report: Report = lambda _: None, stop: Stop = lambda: False) -> NamedDescriber:
    """The describer that ``config`` asks for; also limits the threads of this process to ``config.threads``.

    Args:
        config: weights, backend, device, precision, threads, cache.
        report: takes what is going on, for the log: which backend was chosen, why not another, that it is compiling.
        stop: asked while it is being compiled, which may take minutes, whether to give up.

    Raises:
        StoppedError: ``stop`` said so.
        DeployError: the backend that is asked for cannot run here; with ``auto``: none can.
        ModelFileError: the weights cannot be loaded.
        MissingDependencyError: ``config.weights`` is ``imagenet`` and its package is not installed.
    """
    return build_engine(config, report, stop=stop).describer


def build_engine(
    config: ModelConfig,
    report: Report = lambda _: None,
    force: bool = False,
    calibration: Sequence[Path] = (),
    stop: Stop = lambda: False,
) -> Built:
    """Like :func:`load_describer`, with all that is to be known about it.

    Args:
        config: see there.
        report: see there.
        force: compile though the engine is in the cache.
        calibration: images from which int8 learns the range of each number.
        stop: see there.

    Raises:
        StoppedError: see there.
        DeployError: see there.
        ModelFileError: see there.
        MissingDependencyError: see there.
    """
    limit_threads(config.threads)
    keep_memory(_HEAPS)
    weights, cache = find_weights(config.weights), EngineCache(cache_folder(config.engine_cache))
    if config.backend != _EAGER:
        cache.check()
    refused: list[tuple[str, Target, str]] = []
    for name, target in choices(config, weights):
        begun = time.perf_counter()
        try:
            built = _attempt(_Order(name, target, weights, cache, force, tuple(calibration), stop), report)
        except DeployError as error:
            if config.backend == _AUTO and str(error) not in (reason for _, _, reason in refused):
                report(f"not used: {name} on {target.device} in {target.precision}: {error}")
            refused.append((name, target, str(error)))
            continue
        report(f"backend: {built.describer.backend}")
        return replace(built, refused=_sentences(refused), seconds=time.perf_counter() - begun)
    asked = "no backend can run" if config.backend == _AUTO else f"backend {config.backend} cannot run"
    raise DeployError(f"{asked} here: {'; '.join(_sentences(refused))}")


@dataclass(frozen=True, slots=True)
class _Order:
    name: str
    target: Target
    weights: Weights
    cache: EngineCache
    force: bool
    calibration: tuple[Path, ...]
    stop: Stop


def _sentences(refused: Sequence[tuple[str, Target, str]]) -> tuple[str, ...]:
    """Each backend and device once, with its reason; fp16 and fp32 mostly have the same."""
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for name, target, reason in refused:
        reasons.setdefault((name, target.device, reason), []).append(target.precision)
    return tuple(
        f"{name} on {device} in {' and '.join(precisions)}: {reason}"
        for (name, device, reason), precisions in reasons.items()
    )


def choices(config: ModelConfig, weights: Weights) -> Iterator[tuple[str, Target]]:
    """What may be tried, the fastest first."""
    gpu_first = (CUDA, CPU) if find_gpu() else (CPU,)
    for device in gpu_first if config.device == _AUTO else (config.device,):
        for name in BACKENDS if config.backend == _AUTO else (config.backend,):
            if device == CPU and name == _TENSORRT and config.backend == _AUTO:
                continue
            half_first = (FP16, FP32) if device == CUDA else (FP32,)
            for precision in half_first if config.precision == _AUTO else (config.precision,):
                yield (
                    name,
                    Target(
                        device=device,
                        precision=precision,
                        input_size=weights.input_size,
                        threads=config.threads,
                        max_batch=_GPU_BATCH if device == CUDA and name != _TENSORRT else 1,
                        workspace_mb=config.workspace_mb,
                    ),
                )


def _attempt(order: _Order, report: Report) -> Built:
    if order.name == _EAGER:
        return _eager(order.weights, order.target)
    backend, target = find_backend(order.name), order.target
    if refusal := backend.refusal(target, build=False):
        raise DeployError(refusal)
    cache, key = order.cache, engine_key(backend, target, order.weights)

    def build() -> tuple[EngineInfo, bytes]:
        with progress(report):
            return compile_apart(key, order.weights, target, order.calibration, report, order.stop)

    got = _got(order, key, build, report, order.force)
    if got.was_there and order.calibration and got.info.calibration != digest_of(order.calibration):
        raise DeployError(
            "there is one already that was calibrated on other images; --force replaces it, and maps made with it "
            "cannot be used any more"
        )
    try:
        describer = load_engine(backend, got.info, got.payload, target)
    except DeployError as error:
        if not got.was_there:
            raise
        report(f"the engine in the cache does not work: {error}; compiling again")
        got = _got(order, key, build, report, force=True)
        describer = load_engine(backend, got.info, got.payload, target)
    return Built(describer, order.name, target, (), got.info, cache.path(key) if got.kept else None, got.was_there)


@dataclass(frozen=True, slots=True)
class _Got:
    info: EngineInfo
    payload: bytes
    was_there: bool
    kept: bool = True


def _got(
    order: _Order, key: EngineKey, build: Callable[[], tuple[EngineInfo, bytes]], report: Report, force: bool
) -> _Got:
    """The engine, kept in the cache or not: a robot with a full disk still recognises places."""
    try:
        return _Got(*get_or_build(order.cache, key, build, report, force=force, stop=order.stop))
    except NotKeptError as error:
        report(f"the compiled network is used but not kept, and so compiled again next time: {error}")
        return _Got(error.info, error.payload, was_there=False, kept=False)


def _eager(weights: Weights, target: Target) -> Built:
    if target.precision == INT8 or (target.precision == FP16 and target.device == CPU):
        raise DeployError(f"eager PyTorch does not run {target.precision} on a {target.device}")
    try:
        import torch

        from tscm_core.deploy.eager import EagerDescriber
    except ImportError as error:
        raise DeployError(f"package {error.name} is not installed (pip install {error.name})") from error
    if target.device == CUDA and not torch.cuda.is_available():
        raise DeployError("PyTorch finds no GPU (is this its CPU build?)")
    limit_threads(target.threads)
    describer = EagerDescriber(weights.network(), target.input_size, target.device, target.precision == FP16)
    found = describe_probe(describer)
    if target.precision == FP16:
        agreed = agreement(found, describe_probe(EagerDescriber(weights.network(), target.input_size)))
        if agreed < LEAST_AGREEMENT[FP16]:
            raise DeployError(f"its descriptors agree with float32 to a cosine of {agreed:.6f} only")
    return Built(describer, _EAGER, target, ())


def find_backend(name: str) -> Backend:
    """The backend of this name, ``eager`` excepted.

    Raises:
        DeployError: there is none, or it is written on PyTorch and that is not installed.
    """
    if name not in _CLASSES:
        raise DeployError(f"there is no backend {name}: choose one of {', '.join(BACKENDS)}")
    module, class_name = _CLASSES[name]
    try:
        backend: Backend = getattr(import_module(module), class_name)()
    except ImportError as error:
        raise DeployError(f"package {error.name} is not installed (pip install {error.name})") from error
    return backend
