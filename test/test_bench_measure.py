"""Measuring: percentiles, what is left out, the order of turns, memory."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest

from tscm_core.bench.measure import Samples, growth_mib, measure, ratio, resident_mib, take_turns, together


class Clock:
    """Moves only when something takes time."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def taking(clock, seconds):
    """Work that takes so many seconds, one call after the other."""
    following = iter(seconds)

    def work():
        clock.now += next(following)

    return work


@pytest.mark.parametrize("count", [1, 2, 20, 21, 1000])
def test_percentiles_are_those_of_numpy_over_all_samples(count):
    values = np.random.default_rng(count).lognormal(size=count)
    samples = Samples(tuple(values))
    assert samples.p50 == pytest.approx(np.median(values))
    assert samples.p95 == pytest.approx(np.quantile(values, 0.95))
    assert samples.count == count


def test_warm_up_is_left_out_and_every_sample_after_it_counts():
    clock = Clock()
    samples = measure(taking(clock, [9.0, 8.0, 0.001, 0.002, 0.5]), seconds=0, least=3, warm_up=2, clock=clock)
    assert samples.values == pytest.approx((1.0, 2.0, 500.0))


def test_it_stops_after_the_time_but_not_before_the_least_and_never_beyond_the_most():
    clock = Clock()
    assert measure(taking(clock, itertools.repeat(1.0)), seconds=5.0, least=2, warm_up=0, clock=clock).count == 5
    assert measure(taking(clock, itertools.repeat(1.0)), seconds=5.0, least=8, warm_up=0, clock=clock).count == 8
    assert (
        measure(taking(clock, itertools.repeat(1.0)), seconds=5.0, most=3, least=1, warm_up=0, clock=clock).count == 3
    )


def test_turns_alternate_and_the_warm_up_round_does_not_count():
    asked = []

    def work(name, value):
        def one():
            asked.append(name)
            return [value, len(asked)]

        return one

    rounds = take_turns({"a": work("a", 1.0), "b": work("b", 2.0), "c": work("c", 3.0)}, rounds=2, warm_up=1)
    assert "".join(asked) == "abccbaabc"
    assert [samples.values for samples in rounds["a"]] == [(1.0, 6), (1.0, 7)]
    assert [samples.values for samples in rounds["c"]] == [(3.0, 4), (3.0, 9)]


def test_turns_end_when_the_time_is_over_with_as_many_rounds_for_each():
    clock = Clock()

    def work():
        clock.now += 1.0
        return [1.0]

    rounds = take_turns({"a": work, "b": work}, rounds=50, seconds=9.0, least=3, clock=clock)
    assert {name: len(samples) for name, samples in rounds.items()} == {"a": 5, "b": 5}
    rounds = take_turns({"a": work, "b": work}, rounds=50, seconds=0.0, least=3, clock=clock)
    assert len(rounds["a"]) == 3


def test_the_ratio_is_of_medians_round_by_round_so_that_a_busy_while_does_not_matter():
    eager = [Samples((10.0, 10.0, 90.0)), Samples((50.0, 50.0)), Samples((10.0,))]
    fast = [Samples((5.0, 5.0, 5.0)), Samples((25.0, 25.0)), Samples((9.0,))]
    assert ratio(fast, eager) == pytest.approx(0.5)
    assert together(fast).values == (5.0, 5.0, 5.0, 25.0, 25.0, 9.0)


def test_memory_of_a_process_grows_by_what_is_taken():
    """In one of its own: this one may use again what other tests left."""
    code = (
        "import os, numpy as np; from tscm_core.bench.measure import growth_mib, resident_mib; "
        "before = resident_mib(); kept = np.ones(64 << 20, np.uint8); "
        "print(growth_mib(before, resident_mib(os.getpid())), kept.any())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert (float(said[0]), said[1]) == (pytest.approx(64, abs=8), "True")


def test_memory_of_a_process_that_is_not_there_is_not_known():
    assert resident_mib(2**30) is None
    assert growth_mib(None, 3.0) is None
