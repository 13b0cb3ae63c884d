"""How memory goes back to the system: not at once, but for large pieces."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of the settings in glibc's ``mallopt``."""
_KEPT, _LARGEST = 1 << 30, 1 << 25


def give_back() -> bool:
    """Give the system what was freed, after all: once a whole map went, the next image does not need its memory.

    Returns:
        Whether the C library can.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError):
        return False


def keep_memory(heaps: int = 0) -> bool:
    """Let this process keep up to 1 GiB that it has freed, for the next image.

    By default glibc gives the megabytes of every feature map back to the system and asks for them again a moment
    later; the system clears each page anew. That costs a third of the time of a small network.

    Args:
        heaps: how many heaps the threads share; 0: glibc's own number, eight for each processor. Each keeps the most
            that its threads ever used. In a process that begins new threads again and again, as each activation of a
            node does, every heap comes to that in time, until all are as large as the largest.

    Returns:
        Whether the C library has such settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    settings = {_TRIM_THRESHOLD: _KEPT, _MMAP_THRESHOLD: _LARGEST} | ({_ARENA_MAX: heaps} if heaps else {})
    return all(bool(mallopt(name, value)) for name, value in settings.items())
