"""Odometry waits for images, images wait for odometry, and neither waits for ever."""

from __future__ import annotations

import math
import threading
import time

import pytest
from ros_helpers import SECOND, odometry_message

from tscm_ros.pose_buffer import CAPACITY, PoseBuffer

T0 = 1_700_000_000 * SECOND
GAP_S = 0.5
PATIENCE_S = 10.0


@pytest.fixture
def buffer():
    return PoseBuffer()


def add(buffer, *stamps_and_x):
    for seconds, x in stamps_and_x:
        buffer.add(odometry_message(T0 + round(seconds * SECOND), x))


def x_at(buffer, seconds, wait_s=0.0, gap_s=GAP_S):
    pose = buffer.at(T0 + round(seconds * SECOND), wait_s, gap_s)
    return None if pose is None else pose.position[0]


class Clock:
    """Moves only while somebody waits."""

    def __init__(self):
        self.now, self.waits = 100.0, []

    def monotonic(self):
        return self.now


class Nothing(threading.Condition):
    """Nothing arrives, and the time that is waited for it passes at once."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock

    def wait(self, timeout=None):
        self._clock.waits.append(timeout)
        self._clock.now += timeout
        return False


def elapsed_of(ask):
    began = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - began


def test_the_pose_is_interpolated_between_its_neighbours(buffer):
    add(buffer, (0.0, 1.0), (0.4, 3.0))
    assert x_at(buffer, 0.1) == pytest.approx(1.5)
    assert x_at(buffer, 0.4) == 3.0
    assert buffer.at(T0, 0.0, GAP_S).frame_id == "odom"


def test_odometry_too_far_from_the_image_is_not_used(buffer):
    add(buffer, (0.0, 1.0))
    assert x_at(buffer, 0.5) == 1.0
    assert x_at(buffer, 0.51) is None
    assert x_at(buffer, -0.51) is None


def test_without_odometry_nobody_waits(buffer):
    answer, elapsed = elapsed_of(lambda: x_at(buffer, 0.0, PATIENCE_S))
    assert answer is None
    assert elapsed < PATIENCE_S / 2


def test_odometry_that_has_stopped_is_not_waited_for(buffer):
    add(buffer, (0.0, 1.0))
    answer, elapsed = elapsed_of(lambda: x_at(buffer, 5.0, PATIENCE_S))
    assert answer is None
    assert elapsed < PATIENCE_S / 2


def test_the_first_odometry_is_waited_for_when_somebody_sends_it():
    buffer = PoseBuffer(expected=lambda: True)
    threading.Timer(0.05, add, (buffer, (0.1, 1.0))).start()
    assert x_at(buffer, 0.0, PATIENCE_S) == 1.0


def test_an_image_waits_for_the_odometry_behind_it(buffer):
    add(buffer, (0.0, 0.0))
    sender = threading.Timer(0.05, add, (buffer, (0.1, 1.0), (0.3, 3.0)))
    (_, answer), elapsed = elapsed_of(lambda: (sender.start(), x_at(buffer, 0.2, PATIENCE_S)))
    assert answer == pytest.approx(2.0)
    assert 0.04 <= elapsed < PATIENCE_S / 2


def test_waiting_ends_in_time_with_the_nearest_pose(buffer):
    add(buffer, (0.0, 1.0))
    answer, elapsed = elapsed_of(lambda: x_at(buffer, 0.2, wait_s=0.03))
    assert answer == 1.0
    assert elapsed >= 0.03


def test_odometry_that_is_not_finite_is_left_out(buffer):
    add(buffer, (0.0, math.nan), (0.1, math.inf))
    assert x_at(buffer, 0.0) is None
    assert buffer.age_s is None
    add(buffer, (0.2, 2.0))
    assert x_at(buffer, 0.1) == 2.0
    assert 0.0 <= buffer.age_s < PATIENCE_S


def test_a_clock_that_begins_again_forgets_the_past(buffer):
    add(buffer, (100.0, 1.0), (0.0, 5.0))
    assert x_at(buffer, 100.0) is None
    assert x_at(buffer, 0.0) == 5.0


def test_the_oldest_poses_are_forgotten(buffer):
    count = 3 * CAPACITY
    add(buffer, *((number / 1000, float(number)) for number in range(count)))
    assert x_at(buffer, 0.0, gap_s=0.01) is None
    for number in (count - CAPACITY, count - 1):
        assert x_at(buffer, number / 1000, gap_s=0.01) == float(number)


def test_a_publisher_that_never_sends_costs_images_only_a_while(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("tscm_ros.pose_buffer.time", clock)
    silent = PoseBuffer(expected=lambda: True)
    monkeypatch.setattr(silent, "_arrived", Nothing(clock))
    for number in range(6):
        assert x_at(silent, number, wait_s=0.75) is None
    assert clock.waits == [0.75] * 3  # the third one begins within the two seconds of grace
    add(silent, (9.0, 1.0))
    assert x_at(silent, 9.0) == 1.0
