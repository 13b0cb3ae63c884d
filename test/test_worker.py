"""The newest item wins, what is overtaken is counted, and stopping waits for the work at hand."""

from __future__ import annotations

import threading

from tscm_ros.worker import NewestWorker


class Bench:
    """A worker whose work begins at once and ends when it is let."""

    def __init__(self):
        self.done = []
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.worker = NewestWorker(self._work, "bench")

    def _work(self, item):
        self.begun.release()
        assert self.may_end.acquire(timeout=10)
        self.done.append(item)

    def finish(self, count):
        """Let everything end, of which ``count`` items are still to begin."""
        for _ in range(count):
            self.may_end.release()
            assert self.begun.acquire(timeout=10)
        self.may_end.release()
        self.worker.stop()


def test_the_newest_item_wins_and_the_overtaken_are_counted():
    bench = Bench()
    bench.worker.put("first")
    assert bench.begun.acquire(timeout=10)
    for item in ("second", "third", "fourth"):
        bench.worker.put(item)
    bench.finish(1)
    assert bench.done == ["first", "fourth"]
    assert (bench.worker.received, bench.worker.dropped) == (4, 2)


def test_nothing_is_dropped_while_the_worker_keeps_up():
    bench = Bench()
    for item in range(5):
        bench.worker.put(item)
        assert bench.begun.acquire(timeout=10)
        bench.may_end.release()
    bench.worker.stop()
    assert bench.done == [0, 1, 2, 3, 4]
    assert (bench.worker.received, bench.worker.dropped) == (5, 0)


def test_putting_does_not_wait_for_the_work():
    bench = Bench()
    bench.worker.put("first")
    assert bench.begun.acquire(timeout=10)
    bench.worker.put("second")  # the first has not ended
    assert bench.done == []
    bench.finish(1)


def test_stop_finishes_the_item_at_hand_and_leaves_what_waits():
    bench = Bench()
    bench.worker.put("at hand")
    assert bench.begun.acquire(timeout=10)
    bench.worker.put("waiting")
    stopping = threading.Thread(target=bench.worker.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    bench.may_end.release()
    stopping.join(10)
    assert not stopping.is_alive()
    assert bench.done == ["at hand"]


def test_stop_without_work_ends_at_once_and_may_be_repeated():
    bench = Bench()
    bench.worker.stop()
    bench.worker.stop()
    assert bench.done == []
    assert not any(thread.name == "bench" for thread in threading.enumerate())


def test_the_share_of_drops_is_of_late_ones_only(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tscm_ros.worker.time.monotonic", lambda: now[0])
    bench = Bench()
    bench.worker.put("first")
    assert bench.begun.acquire(timeout=10)
    for item in ("second", "third", "fourth"):
        bench.worker.put(item)
    assert bench.worker.dropped_share() == 2 / 4
    now[0] += 31.0
    assert bench.worker.dropped_share() == 0.0
    bench.finish(1)
    assert bench.worker.dropped == 2
