"""Memory that was freed is kept for the next image."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tscm_core import memory

FREED = """
import sys
import torch
from tscm_core.memory import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 1_000_000
before = resident_mb()
blocks = [torch.ones(1_000_000) for _ in range(100)]  # 4 MB each
del blocks
print(resident_mb() - before)
"""


def kept_mb(how):
    return int(subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_what_was_freed_stays_for_the_next_image():
    assert kept_mb("keep") > 350
    assert kept_mb("leave") < 100


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
    assert memory.give_back() is False


HEAPS = """
import ctypes, sys, threading
from tscm_core.memory import keep_memory
assert keep_memory(int(sys.argv[1]))
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
heaps, here = set(), threading.Barrier(12)
def use():
    at = libc.malloc(1000)
    heaps.add(at >> 26)  # glibc's heaps beside the first are aligned to 64 MiB
    here.wait()
threads = [threading.Thread(target=use) for _ in range(12)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(heaps))
"""


def heaps_of_twelve_threads(heaps):
    made = subprocess.run([sys.executable, "-c", HEAPS, str(heaps)], capture_output=True, text=True, check=True)
    return int(made.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_threads_share_a_few_heaps_where_asked_to():
    assert heaps_of_twelve_threads(2) <= 2
    assert heaps_of_twelve_threads(0) > 4


GIVEN_BACK = """
import sys
from tscm_core.memory import give_back, keep_memory
def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 1_000_000
assert keep_memory(2)
before = resident_mb()
blocks = [bytearray(b"1") * 1_000_000 for _ in range(200)]
kept = blocks[::50]
del blocks
assert resident_mb() - before > 150
assert give_back()
print(resident_mb() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_was_freed_goes_back_when_asked_though_some_between_is_still_used():
    made = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True)
    assert int(made.stdout) < 30
