"""Work in a thread of less priority."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from tscm_ros.gently import gently, gently_until_told


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


def test_what_is_told_before_the_end_is_not_waited_for():
    told, ended = threading.Event(), threading.Event()

    def work(tell):
        tell("in its place")
        assert told.wait(20)
        ended.set()
        return "tidied up"

    assert gently_until_told(work) == "in its place"
    assert not ended.is_set()
    told.set()
    assert ended.wait(20)
    assert gently_until_told(lambda tell: "never told") == "never told"
    with pytest.raises(ValueError, match="before it was told"):
        gently_until_told(lambda tell: (_ for _ in ()).throw(ValueError("before it was told")))
