"""On what was measured: versions, processor, GPU, and whether the machine had anything else to do."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tscm_core import __version__
from tscm_core.deploy.device import find_gpu, find_processor

_PACKAGES = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "faiss": ("faiss-cpu", "faiss-gpu", "faiss"),
    "opencv": ("opencv-python-headless", "opencv-python", "opencv-contrib-python"),
    "numpy": ("numpy",),
    "torch_tensorrt": ("torch-tensorrt",),
}
"""What decides how fast things are, and the names under which it may be installed."""
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
"""Instructions that the libraries make use of."""
_BUSY = 0.25
"""Load for each core from which on a machine has other work."""


def header() -> dict[str, Any]:
    """All of it, as JSON values."""
    return {
        "tscm": __version__,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: found for name, names in _PACKAGES.items() if (found := _first_version(names))},
        "system": f"{platform.system()} {platform.release()}",
        **_processor(),
        "gpu": _gpu(),
        **_load(),
    }


def _first_version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return _cv2_version() if "opencv-python" in names else None


def _cv2_version() -> str | None:
    """OpenCV as the distribution installs it, which pip does not see."""
    try:
        import cv2
    except ImportError:
        return None
    return str(cv2.__version__)


def _processor() -> dict[str, Any]:
    found = find_processor()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "processor": found.name or platform.processor() or platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in found.flags],
        "cores": usable,
    }


def _gpu() -> str | None:
    gpu = find_gpu()
    return str(gpu) if gpu else None


def _load() -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {"load_average": round(load, 2), "busy": is_busy(load, os.cpu_count() or 1)}


def is_busy(load: float, cores: int) -> bool:
    """Whether other programs had so much to do in the last minute that times may be too long."""
    return load > _BUSY * cores


def warnings_of(facts: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the figures, a sentence each."""
    if not facts["busy"]:
        return []
    return [f"the machine is busy (load average {facts['load_average']:g}): times may be too long"]
