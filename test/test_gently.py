"""Work in a thread of less priority."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from tscm_ros.gently import gently


def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_it_gives_what_the_work_gives_and_raises_what_it_raises():
    assert gently(lambda: 6 * 7) == 42
    with pytest.raises(KeyError, match="nothing here"):
        gently(lambda: {}["nothing here"])


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_only_the_work_has_less_priority():
    before = priority()
    inside = gently(lambda: (threading.get_ident(), priority()))
    assert inside == (inside[0], min(19, before + 10))
    assert inside[0] != threading.get_ident()
    assert priority() == before
