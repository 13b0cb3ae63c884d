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

    def __str__(self) -> str:
        """For people, and for the key of an engine."""
        return f"{self.name}, compute capability {self.capability}, CUDA {self.driver}"


@dataclass(frozen=True, slots=True)
class Processor:
    """The first processor, as Linux describes it; empty where it does not."""

    name: str
    flags: frozenset[str]
    """Instructions that it knows."""


def device_name(device: str) -> str:
    """What an engine for ``device`` (``cpu`` or ``cuda``) runs on here: one from elsewhere has another name."""
    if device == "cpu":
        return cpu_name()
    gpu = find_gpu()
    return str(gpu) if gpu else "no GPU"


@functools.cache
def cpu_name() -> str:
    """The processor, and a hash of the instructions that it knows: ``AMD EPYC x86_64 3f9c21d0``."""
    found = find_processor()
    name = found.name or platform.processor() or "unknown processor"
    flags = hashlib.sha256(" ".join(sorted(found.flags)).encode())
    return f"{name} {platform.machine()} {flags.hexdigest()[:8]}"


def find_processor() -> Processor:
    """The first processor in ``/proc/cpuinfo``."""
    told: dict[str, str] = {}
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            told.setdefault(key.strip(), value.strip())
    name = next((told[key] for key in _NAMES if key in told), "")
    return Processor(name, frozenset(next((told[key] for key in _FLAGS if key in told), "").split()))


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
