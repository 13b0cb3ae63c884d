"""Engines: what they depend on, how they are compiled and loaded, and that nothing unchecked is used."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tscm_core import __version__
from tscm_core.deploy.backend import CPU, INT8, Backend, IntegerBackend, Report, Target
from tscm_core.deploy.compilers import first_line
from tscm_core.deploy.describer import CompiledDescriber
from tscm_core.deploy.device import device_name
from tscm_core.deploy.engine_file import EngineInfo, EngineKey
from tscm_core.deploy.probe import LEAST_AGREEMENT, LEAST_AGREEMENT_LATER, agreement, probe_images
from tscm_core.deploy.threads import limit_threads
from tscm_core.deploy.weights import Weights
from tscm_core.errors import DeployError, ModelFileError
from tscm_core.recognition.descriptor import Describer

if TYPE_CHECKING:
    from tscm_core.models.network import Network

_DIGITS, _PROGRESS_S = 12, 5.0


def engine_key(backend: Backend, target: Target, weights: Weights) -> EngineKey:
    """All that an engine of ``backend`` for ``target`` and ``weights`` depends on, here and now."""
    return EngineKey(
        model_id=weights.model_id,
        weights_sha256=weights.sha256,
        backend=backend.name,
        backend_version=backend.version(),
        device=device_name(target.device),
        precision=target.precision,
        input_size=target.input_size,
        program=_program(),
        options=backend.options(target),
    )


def compile_engine(
    backend: Backend, key: EngineKey, weights: Weights, target: Target, calibration: Sequence[Path], report: Report
) -> tuple[EngineInfo, bytes]:
    """Compile, load and compare: an engine that does not say what the network says is not handed out.

    Args:
        backend: what compiles.
        key: what :func:`engine_key` gave for the next two.
        weights: what is compiled.
        target: for what.
        calibration: images from which int8 learns the range of each number.
        report: takes what is going on.

    Returns:
        What is known of the engine, and its payload.

    Raises:
        DeployError: it cannot be compiled, or its descriptors are too far from those of the network.
        ModelFileError: the weights cannot be loaded.
    """
    if refusal := backend.refusal(target, build=True):
        raise DeployError(refusal)
    network = weights.network()
    from tscm_core.deploy.eager import EagerDescriber  # PyTorch, which loading an engine does without

    limit_threads(target.threads)
    eager = EagerDescriber(copy.deepcopy(network), target.input_size)
    if eager.model_id != key.model_id:
        raise ModelFileError(f"weights {weights.name} were replaced while they were read: begin again")
    expected = eager.describe(list(probe_images(target.input_size)))
    begun = time.perf_counter()
    payload = _payload(backend, network, target, calibration, report)
    build_s = time.perf_counter() - begun
    found = _describe_probe(backend, payload, target, network.dim)
    agreed, least = agreement(found, expected), LEAST_AGREEMENT[target.precision]
    if agreed < least:
        raise DeployError(
            f"its descriptors agree with those of the network to a cosine of {agreed:.6f} only, and {least} is needed"
        )
    name = key.model_id
    if target.precision == INT8:  # so far from the network's that they are another model's; checked against themselves
        expected, name = found, f"{name}-int8-{hashlib.sha256(payload).hexdigest()[:_DIGITS]}"
    report(f"compiled {key.model_id} in {build_s:.1f} s; cosine to the network's own descriptors: {agreed:.6f}")
    probe = np.ascontiguousarray(expected, "<f4").tobytes()
    learnt = digest_of(calibration) if target.precision == INT8 else ""
    return EngineInfo(key, name, network.dim, probe, agreed, time.time_ns(), build_s, learnt), payload


def load_engine(backend: Backend, info: EngineInfo, payload: bytes, target: Target) -> CompiledDescriber:
    """An engine, ready to run, warm, and saying of the probe what the network said when it was compiled.

    Raises:
        DeployError: it cannot be loaded, or says something else.
    """
    describer = CompiledDescriber(
        backend.load(payload, target), info.dim, info.descriptor_id, target.input_size, _title(backend, target)
    )
    agreed = agreement(describe_probe(describer), info.probe_descriptors())
    if agreed < LEAST_AGREEMENT_LATER[target.precision]:
        raise DeployError(f"its descriptors agree with the expected ones to a cosine of {agreed:.6f} only")
    return describer


def _payload(backend: Backend, network: Network, target: Target, calibration: Sequence[Path], report: Report) -> bytes:
    if target.precision != INT8 or not calibration:
        return backend.build(network, target, report)
    if not isinstance(backend, IntegerBackend):
        raise DeployError(f"{backend.name} has no int8")
    return backend.build_int8(network, target, calibration, report)


def _describe_probe(backend: Backend, payload: bytes, target: Target, dim: int) -> NDArray[np.float32]:
    describer = CompiledDescriber(backend.load(payload, target), dim, "", target.input_size, "")
    return describe_probe(describer)


def describe_probe(describer: Describer) -> NDArray[np.float32]:
    """What a describer, newly made, says of the probe images: ``float32 [P, dim]``; it is warm from then on.

    Raises:
        DeployError: it does not run.
    """
    try:
        return describer.describe(list(probe_images(describer.input_size)))
    except Exception as error:  # libraries and drivers fail in many ways; another backend may still work
        raise DeployError(f"it does not run: {type(error).__name__}: {first_line(error)}") from error


def _title(backend: Backend, target: Target) -> str:
    """What runs, for people: ``onnxruntime 1.32.0 on cpu, fp32, 1 thread``."""
    threads = f", {target.threads} thread{'s' if target.threads > 1 else ''}" if target.device == CPU else ""
    version = backend.version() if backend.name in backend.version() else f"{backend.name} ({backend.version()})"
    return f"{version} on {target.device}, {target.precision}{threads}"


@contextlib.contextmanager
def progress(report: Report) -> Iterator[None]:
    """Says every few seconds that the compiler is still at work: on a Jetson that takes minutes."""
    ended, begun = threading.Event(), time.monotonic()

    def say() -> None:
        while not ended.wait(_PROGRESS_S):
            report(f"still compiling, {time.monotonic() - begun:.0f} s so far")

    thread = threading.Thread(target=say, name="compile progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@functools.cache
def _program() -> str:
    """Our version, and a hash of the code that says what a network does: an engine of an older one is stale."""
    home = Path(__file__).parent
    return f"tscm {__version__} {digest_of([*(home.parent / 'models').glob('*.py'), *home.glob('*.py')])}"


def digest_of(files: Iterable[Path]) -> str:
    """Of what is in ``files``, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGITS]
