"""Pairs of two streams: what a search through everything finds, while little is held."""

from __future__ import annotations

import random

import pytest

from tscm_core.datasets.stamp_pairing import PATIENCE_NS, Arrival, pair_nearest

MS = 1_000_000


def streams(seed, delay_ms=200, count=80):
    """Images each 66 ms and depth each 33 ms with jitter, a tenth lost, recorded up to ``delay_ms`` late."""
    rng = random.Random(seed)
    made = []
    for second, period in ((False, 66), (True, 33)):
        delay = rng.randrange(delay_ms)
        for number in range(count * 66 // period):
            stamp_ns = 10**12 + (number * period + rng.randrange(10)) * MS
            if rng.random() > 0.1:
                made.append(Arrival(stamp_ns, stamp_ns + delay * MS, (second, number), second))
    return sorted(made, key=lambda item: item.received_ns)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("within_ms", [5, 50])
def test_the_nearest_of_all_is_found(seed, within_ms):
    arrivals = streams(seed)
    seconds = [item for item in arrivals if item.second]
    expected = []
    for first in (item for item in arrivals if not item.second):
        best = min(seconds, key=lambda item: (abs(item.stamp_ns - first.stamp_ns), item.stamp_ns))
        expected.append((first, best if abs(best.stamp_ns - first.stamp_ns) <= within_ms * MS else None))
    got = list(pair_nearest(arrivals, within_ms * MS))
    assert got == expected
    assert sum(partner is not None for _, partner in got) > 10


def test_little_is_read_ahead_and_nobody_is_waited_for_for_ever():
    """One depth at first and then never again: an image is given at most a second after it was recorded."""
    read = []

    def arrivals():
        yield Arrival(0, 0, "depth", second=True)
        for number in range(100):
            read.append(number)
            yield Arrival((1 + number) * 100 * MS, (1 + number) * 100 * MS, number)

    for first, partner in pair_nearest(arrivals(), 150 * MS):
        assert read[-1] - first.content <= PATIENCE_NS // (100 * MS) + 1
        assert (partner is not None) == (first.content == 0)


def test_depth_without_images_is_forgotten(monkeypatch):
    held = []
    monkeypatch.setattr(
        "tscm_core.datasets.stamp_pairing._nearest", lambda first, seconds, within: held.append(len(seconds))
    )
    stream = [Arrival(n * 10 * MS, n * 10 * MS, n, second=True) for n in range(2000)]
    list(pair_nearest([*stream, Arrival(19_990 * MS, 20_000 * MS, "image")], 50 * MS))
    assert held == [106]  # of a second, the 50 ms and both ends


def test_no_depth_at_all_and_nothing_at_all():
    images = [Arrival(n, n, n) for n in range(3)]
    assert list(pair_nearest(images, 50)) == [(item, None) for item in images]
    assert list(pair_nearest([], 50)) == []
