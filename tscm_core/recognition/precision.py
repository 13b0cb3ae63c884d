"""The one precision in which descriptors are kept, compared and sent: IEEE 754 half, little-endian.

Nothing is made unit length again after rounding. Widening float16 to float32 is exact, so that a descriptor
is the same, bit for bit, in memory, in a map file, after loading it and in a message. The price is a length
within 5e-4 of 1 (about 1e-5 for 2048 numbers), far below any difference in similarity that means something.
"""

from __future__ import annotations

import numpy as np

from tscm_core.recognition.records import Descriptor

BYTES_PER_NUMBER = 2
LENGTH_TOLERANCE = 1e-2
"""How far from 1 the length of a descriptor may be before it is taken for damaged."""


def stored_precision(descriptor: Descriptor) -> Descriptor:
    """``float32 [..., D]`` rounded to what a map keeps; doing it twice changes nothing."""
    return np.ascontiguousarray(descriptor, dtype=np.float16).astype(np.float32)


def encode_descriptor(descriptor: Descriptor) -> bytes:
    """``float32 [D]`` as ``2 * D`` bytes; without loss for what :func:`stored_precision` returned."""
    return np.ascontiguousarray(descriptor, dtype="<f2").tobytes()


def decode_descriptor(encoded: bytes, dim: int) -> Descriptor:
    """The ``float32 [dim]`` that :func:`encode_descriptor` wrote.

    Raises:
        ValueError: ``encoded`` is not ``2 * dim`` bytes long.
    """
    if len(encoded) != BYTES_PER_NUMBER * dim:
        raise ValueError(f"{len(encoded)} bytes are not a descriptor of {dim} numbers")
    return np.frombuffer(encoded, dtype="<f2").astype(np.float32)


def is_unit_length(descriptor: Descriptor) -> bool:
    """Whether ``descriptor [D]`` is finite and of length 1 within :data:`LENGTH_TOLERANCE`."""
    with np.errstate(invalid="ignore"):  # numpy warns of some kinds of nan
        length = float(np.sqrt(np.sum(np.square(descriptor, dtype=np.float64))))
    return abs(length - 1.0) <= LENGTH_TOLERANCE  # false for nan and inf
