"""Rates, silence and losses, from stamps and clocks that are given here."""

from __future__ import annotations

import numpy as np
import pytest

from tscm_core.recognition.records import StageTime
from tscm_ros import statistics
from tscm_ros.statistics import InputStatistics, StageStatistics

PERIOD_NS = 66_666_667


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(statistics, "time", clock)
    return clock


def arrivals(stamps):
    counted = InputStatistics()
    for stamp in stamps:
        counted.add(int(stamp))
    return counted


def test_stages_have_median_and_95th_percentile_of_the_last_frames():
    stages = StageStatistics()
    for _ in range(statistics.WINDOW):
        stages.add([StageTime("describe", 1e6)])
    for number in range(statistics.WINDOW):
        stages.add([StageTime("describe", float(number)), StageTime("search", 2.0)])
    assert stages.percentiles() == {
        "describe": (pytest.approx(99.5), pytest.approx(np.percentile(range(200), 95))),
        "search": (2.0, 2.0),
    }


def test_silence_counts_from_the_last_image_and_before_it_from_the_start(clock):
    counted = InputStatistics()
    clock.now += 3.0
    assert counted.silence_s == 3.0
    counted.add(0)
    assert counted.silence_s == 0.0
    clock.now += 1.5
    assert counted.silence_s == 1.5


def test_the_rate_is_that_of_the_last_ten_seconds(clock):
    counted = InputStatistics()
    for number in range(300):
        counted.add(number)
        clock.now += 0.1
    assert counted.rate_hz == pytest.approx(10.0, rel=0.02)
    clock.now += 5.0
    assert counted.rate_hz == pytest.approx(5.0, rel=0.03)
    clock.now += 20.0
    assert counted.rate_hz == 0.0


def test_the_rate_of_a_fast_camera_is_not_cut_off(clock):
    counted = InputStatistics()
    for number in range(600):
        counted.add(number)
        clock.now += 1 / 60
    assert counted.rate_hz == pytest.approx(60.0, rel=0.02)


def test_the_rate_soon_after_the_start_is_that_since_the_start(clock):
    counted = InputStatistics()
    for number in range(20):
        clock.now += 0.1
        counted.add(number)
    assert counted.rate_hz == pytest.approx(10.0)


@pytest.mark.parametrize("jitter_ns", [0, 5_000_000])
@pytest.mark.parametrize("lost", [0.0, 0.3, 0.6])
def test_lost_images_show_between_the_stamps(lost, jitter_ns):
    estimates = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        stamps = np.arange(2000) * PERIOD_NS + random.integers(-jitter_ns, jitter_ns + 1, 2000)
        estimates.append(arrivals(stamps[random.random(2000) >= lost]).lost_share)
    assert np.mean(estimates) == pytest.approx(lost, abs=0.06)
    assert lost or max(estimates) < 0.02


def test_nothing_is_said_about_losses_before_there_is_enough_to_tell():
    assert arrivals([]).lost_share == 0.0
    assert arrivals(np.arange(15) ** 2 * PERIOD_NS).lost_share == 0.0


def test_stamps_that_stand_still_or_go_back_are_no_loss():
    assert arrivals([7] * 100).lost_share == 0.0
    assert arrivals(np.arange(100)[::-1] * PERIOD_NS).lost_share == 0.0
    again = [*range(50), *range(50)]
    assert arrivals(np.array(again) * PERIOD_NS).lost_share == 0.0


def test_a_camera_that_slows_down_loses_nothing_once_its_steps_are_all_slow():
    fast, slow = np.arange(100) * PERIOD_NS, 100 * PERIOD_NS + np.arange(200) * 4 * PERIOD_NS
    assert arrivals([*fast, *slow]).lost_share == 0.0


def test_camera_infos_tell_of_images_that_hardly_ever_come(clock):
    counted = InputStatistics()
    for number in range(100):
        counted.add_info()
        if number % 10 == 0:
            counted.add(number * PERIOD_NS)
        clock.now += 0.05
    assert counted.lost_share == pytest.approx(0.9)
