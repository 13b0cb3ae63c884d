"""ONNX Runtime on NVIDIA's GPUs: by its TensorRT provider where that works, else by its CUDA provider.

TensorRT's engine is written into the ONNX file, so that it is kept where other engines are, and checked as they are
(https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html). Names and meaning of the options:
https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html and CUDA-ExecutionProvider.html.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tscm_core.deploy.backend import FP16, Report, Target
from tscm_core.errors import DeployError

CUDA_PROVIDER, TENSORRT_PROVIDER = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_MEMORY = 2 << 30
"""Bytes that a session may take: a Jetson shares eight gigabytes with everything else."""
_END = b"\n"
"""After the provider's name, with which a payload begins; ONNX follows."""


def gpu_options(target: Target) -> str:
    """What is compiled in: the provider that would be used, images at a time, memory while compiling."""
    return f"{_offered()[0]}, up to {target.max_batch} images, {target.workspace_mb} MiB"


def gpu_payload(model: Any, target: Target, report: Report) -> bytes:
    """What :func:`gpu_session` loads: the provider's name and ONNX, with the engine inside if TensorRT made one.

    Args:
        model: ``onnx.ModelProto``.
        target: for what.
        report: told why, if TensorRT is not used.
    """
    onnx = bytes(model.SerializeToString())
    if TENSORRT_PROVIDER in _offered():
        try:
            return TENSORRT_PROVIDER.encode() + _END + _tensorrt_context(onnx, target)
        except DeployError as error:
            report(f"onnxruntime uses its CUDA provider, because its TensorRT provider does not work: {error}")
    return CUDA_PROVIDER.encode() + _END + onnx


def gpu_session(payload: bytes, target: Target, options: Any) -> Any:
    """An ``onnxruntime.InferenceSession`` that runs on the GPU, and nowhere else.

    Args:
        payload: what :func:`gpu_payload` returned.
        target: for what.
        options: ``onnxruntime.SessionOptions``.

    Raises:
        DeployError: it would not run there.
    """
    name, _, onnx = payload.partition(_END)
    return _session(onnx, name.decode(errors="replace"), target, options, {"device_id": 0})


def _offered() -> list[str]:
    """Providers for a GPU that this build of ONNX Runtime has, the better first; whether they work is not known yet."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    return [name for name in (TENSORRT_PROVIDER, CUDA_PROVIDER) if name in available] or ["no provider"]


def _tensorrt_context(onnx: bytes, target: Target) -> bytes:
    """ONNX with the engine that TensorRT made of ``onnx``."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "context.onnx"
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 3
        whole = _session(onnx, TENSORRT_PROVIDER, target, quiet, _compiling(path, target))
        if not path.is_file():
            raise DeployError("it left no engine")
        context = path.read_bytes()
    if _ends(_session(context, TENSORRT_PROVIDER, target, quiet, {"device_id": 0})) != _ends(whole):
        raise DeployError("its engine is of a part of the network only")
    return context


def _ends(session: Any) -> list[str]:
    """Names of what goes in and out."""
    return [end.name for end in (*session.get_inputs(), *session.get_outputs())]


def _compiling(path: Path, target: Target) -> dict[str, object]:
    """Options of the TensorRT provider that have it write what it compiled to ``path``, and nothing anywhere else."""
    width, height = target.input_size
    shapes = {
        f"trt_profile_{name}_shapes": f"images:{batch}x{height}x{width}x3"
        for name, batch in (("min", 1), ("opt", 1), ("max", target.max_batch))
    }
    return {
        "device_id": 0,
        "trt_max_workspace_size": target.workspace_mb << 20,
        "trt_fp16_enable": target.precision == FP16,
        "trt_layer_norm_fp32_fallback": True,
        "trt_engine_cache_enable": False,
        "trt_timing_cache_enable": False,
        "trt_dump_ep_context_model": True,
        "trt_ep_context_embed_mode": 1,
        "trt_ep_context_file_path": str(path),
        **shapes,
    }


def _cuda(target: Target) -> dict[str, object]:
    return {
        "device_id": 0,
        "gpu_mem_limit": _MEMORY,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all of them, again for each number of images
        "use_tf32": target.precision == FP16,  # fp32 is to be float32
    }


def _session(onnx: bytes, name: str, target: Target, options: Any, tensorrt: dict[str, object]) -> Any:
    """A session whose first provider is ``name``; ONNX Runtime itself would run on the CPU without a word."""
    import onnxruntime

    tuned = [(TENSORRT_PROVIDER, tensorrt)] if name == TENSORRT_PROVIDER else []
    try:
        session = onnxruntime.InferenceSession(
            onnx, options, providers=[*tuned, (CUDA_PROVIDER, _cuda(target))], enable_fallback=0
        )
    except Exception as error:  # the errors of ONNX Runtime have no class in common
        raise DeployError(f"onnxruntime cannot load it on the GPU: {error}") from error
    if session.get_providers()[0] != name:
        raise DeployError(
            f"onnxruntime offers its {name} but cannot start it: see that the versions of CUDA, cuDNN and TensorRT are "
            f"those that this onnxruntime-gpu asks for"
        )
    return session
