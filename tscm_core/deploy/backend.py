"""What a backend is: something that compiles a network, and runs what it compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # PyTorch, which a process that only runs a compiled network does not need
    from tscm_core.models.network import Network

BACKENDS = ("tensorrt", "onnxruntime", "inductor", "eager")
"""All of them; in this order, but for what the device decides, ``auto`` tries them."""
FP32, FP16, INT8 = "fp32", "fp16", "int8"
PRECISIONS = (FP32, FP16, INT8)
CPU, CUDA = "cpu", "cuda"

Report = Callable[[str], None]
"""Takes a sentence about what is going on, for the log."""
Stop = Callable[[], bool]
"""Whether what takes long is to be called off: the node is being stopped."""
Images = NDArray[np.uint8]
"""RGB ``[B, H, W, 3]`` at the input size of the network."""


class Runner(Protocol):
    """A compiled network that is loaded."""

    max_batch: int
    """Images at a time, at most."""

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """RGB ``uint8 [B, H, W, 3]`` at the input size, 1 to ``max_batch`` of them, to ``float32 [B, dim]``."""


@dataclass(frozen=True, slots=True)
class Target:
    """For what an engine is compiled and loaded."""

    device: str = CPU
    """``cpu`` or ``cuda``."""
    precision: str = FP32
    input_size: tuple[int, int] = (320, 240)
    """(width, height) of the images in pixels."""
    threads: int = 1
    """Processor threads that it may use."""
    max_batch: int = 1
    """Images at a time, at most."""
    workspace_mb: int = 1024
    """Memory that the compiler may use on a GPU for trying kernels out."""


class Backend(Protocol):
    """One way to run a network. The module of a backend imports what it needs only inside these functions."""

    name: str

    def refusal(self, target: Target, *, build: bool) -> str:
        """Why it cannot run here, or, with ``build``, cannot compile here: a clause with the remedy; empty if it can.

        As it ends a sentence: ``package onnxruntime is not installed (pip install onnxruntime)``.
        """

    def version(self) -> str:
        """Everything beside the device and the network whose change makes an engine stale: ``onnxruntime 1.32.0``."""

    def options(self, target: Target) -> str:
        """What of ``target`` beside device, precision and input size is compiled in; empty: nothing."""

    def build(self, network: Network, target: Target, report: Report) -> bytes:
        """Compile; what is returned is stored, and handed to ``load`` in this or another process.

        Raises:
            DeployError: it cannot be compiled.
        """

    def load(self, payload: bytes, target: Target) -> Runner:
        """What ``build`` returned, ready to run. Runs nothing yet.

        Raises:
            DeployError: it cannot be loaded.
        """


@runtime_checkable
class IntegerBackend(Backend, Protocol):
    """A backend that can also compile to int8, and so needs to see images."""

    def build_int8(self, network: Network, target: Target, images: Sequence[Path], report: Report) -> bytes:
        """Like ``build``; ``images`` are files like what the robot will see.

        Raises:
            DeployError: it cannot be compiled, or an image cannot be read.
        """
