"""What this machine computes with, asked of the system and of the driver, so that PyTorch need not be loaded for it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = ("model name", "Model", "Hardware", "CPU part")
"""Where processors of different makers say what they are, the best first."""
_FLAGS = ("flags", "Features")
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
"""Numbers of two attributes in the CUDA driver's interface."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU of NVIDIA's driver."""

    name: str
    capability: str
    """Compute capability: ``9.0``."""
    driver: str
    """Newest version of CUDA that the driver knows: ``12.4``."""


def device_name(device: str) -> str:
    """What an engine for ``device`` (``cpu`` or ``cuda``) runs on here: one from elsewhere has another name."""
    if device == "cpu":
        return cpu_name()
    gpu = find_gpu()
    return f"{gpu.name}, compute capability {gpu.capability}, CUDA {gpu.driver}" if gpu else "no GPU"


@functools.cache
def cpu_name() -> str:
    """The processor, and a hash of the instructions that it knows: ``AMD EPYC x86_64 3f9c21d0``."""
    told = _cpuinfo()
    name = next((told[key] for key in _NAMES if key in told), platform.processor() or "unknown processor")
    flags = " ".join(sorted(next((told[key] for key in _FLAGS if key in told), "").split()))
    return f"{name} {platform.machine()} {hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines."""
    told: dict[str, str] = {}
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return told
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            told.setdefault(key.strip(), value.strip())
    return told


@functools.cache
def find_gpu() -> Gpu | None:
    """The first GPU that CUDA programs may use; ``None`` if there is none, or no driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return None
    name, numbers = ctypes.create_string_buffer(256), []
    failed = cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, len(name), device)
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        failed = failed or cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        numbers.append(value.value)
    if failed or cuda.cuDriverGetVersion(ctypes.byref(version)):
        return None
    major, minor = version.value // 1000, version.value % 1000 // 10
    return Gpu(name.value.decode(errors="replace"), "{}.{}".format(*numbers), f"{major}.{minor}")
