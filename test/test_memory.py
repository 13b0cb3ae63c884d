"""Memory that was freed is kept: the process asks the system for new pages once, not for every image."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from tscm_core import memory

FAULTS = """
import resource, sys
import torch
from tscm_core.memory import keep_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(4_000_000).add(1)
before = faults()
for _ in range(20):
    torch.ones(4_000_000).add(1)  # two blocks of 16 MB each time: 4 k pages
print(faults() - before)
"""


def page_faults(how):
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_pages_are_taken_from_the_system_once():
    kept = page_faults("keep")
    assert kept < 1000 < page_faults("leave")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
