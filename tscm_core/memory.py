"""How memory goes back to the system: not at once."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the settings in glibc's ``mallopt``."""
_KEPT, _LARGEST = 1 << 30, 1 << 25


def keep_memory() -> bool:
    """Let this process keep up to 1 GiB that it has freed, for the next image.

    By default glibc gives the megabytes of every feature map back to the system and asks for them again a moment
    later; the system clears each page anew. That costs a third of the time of a small network.

    Returns:
        Whether the C library has such settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST))
