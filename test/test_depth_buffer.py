"""To each picture the depth of its moment: the nearest, in time, and without waiting in vain."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from ros_helpers import SECOND, depth_message, stamp_of

from tscm_ros.depth_buffer import KEPT, DepthBuffer

T0 = 1_700_000_000 * SECOND
GAP_S = 0.05
PATIENCE_S = 10.0


def at(seconds):
    return T0 + round(seconds * SECOND)


@pytest.fixture
def buffer():
    return DepthBuffer()


def add(buffer, *seconds):
    for moment in seconds:
        buffer.add(depth_message(np.ones((2, 2)), at(moment)))


def found(buffer, seconds, wait_s=0.0):
    """Seconds of the depth image chosen, and how long that took."""
    began = time.monotonic()
    message = buffer.nearest(at(seconds), wait_s, GAP_S)
    return None if message is None else (stamp_of(message) - T0) / SECOND, time.monotonic() - began


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.1, 0.1), (0.12, 0.1), (0.18, 0.2), (0.15, 0.1), (0.25, 0.2), (0.251, None), (-0.051, None)],
)
def test_the_nearest_within_the_gap_is_chosen(buffer, seconds, expected):
    add(buffer, 0.0, 0.1, 0.2)
    assert found(buffer, seconds)[0] == expected


def test_without_depth_nobody_waits(buffer):
    assert found(buffer, 0.0, PATIENCE_S)[1] < PATIENCE_S / 2
    assert buffer.age_s is None


def test_depth_that_is_due_is_waited_for(buffer):
    add(buffer, 0.0, 0.1, 0.2)
    began = time.monotonic()
    threading.Timer(0.05, add, (buffer, 0.3)).start()
    chosen, _ = found(buffer, 0.3, PATIENCE_S)
    assert chosen == 0.3
    assert 0.04 <= time.monotonic() - began < PATIENCE_S / 2


def test_waiting_ends_in_time(buffer):
    add(buffer, 0.0, 0.1, 0.2)
    chosen, elapsed = found(buffer, 0.3, 0.03)
    assert chosen is None
    assert elapsed >= 0.03


@pytest.mark.parametrize(
    ("stamps", "wanted", "expected"),
    [
        ((0.0, 0.5), 0.7, None),  # the next comes at 1.0, too far from here
        ((0.0, 0.5), 0.51, 0.5),  # the newest is the nearest
        ((0.0, 0.1), 2.0, None),  # depth has stopped
        ((10.0, 10.1), 0.0, None),  # the clock of the pictures began again
    ],
)
def test_what_is_not_due_is_not_waited_for(buffer, stamps, wanted, expected):
    add(buffer, *stamps)
    chosen, elapsed = found(buffer, wanted, PATIENCE_S)
    assert chosen == expected
    assert elapsed < PATIENCE_S / 2


def test_only_the_newest_are_kept(buffer):
    add(buffer, *(number / 10 for number in range(KEPT + 3)))
    assert found(buffer, 0.2)[0] is None
    assert found(buffer, 0.3)[0] == 0.3
    assert buffer.age_s < PATIENCE_S
