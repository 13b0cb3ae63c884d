"""One thread that works on the newest item; what it has no time for is dropped and counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
_RECENT_S = 30.0


class NewestWorker(Generic[Item]):
    """Calls ``work`` with the newest item put; an item still waiting when a newer one comes is dropped."""

    def __init__(self, work: Callable[[Item], None], name: str) -> None:
        self._work = work
        self._waiting: Item | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self.received = self.dropped = 0
        self._recent: deque[tuple[float, bool]] = deque(maxlen=2000)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Hand in an item and return at once."""
        with self._changed:
            self.received += 1
            self.dropped += self._waiting is not None
            self._recent.append((time.monotonic(), self._waiting is not None))
            self._waiting = item
            self._changed.notify_all()

    def dropped_share(self) -> float:
        """Share, 0 to 1, of the items of the last 30 s that another one replaced."""
        now = time.monotonic()
        with self._changed:
            recent = [dropped for at, dropped in self._recent if now - at < _RECENT_S]
        return sum(recent) / len(recent) if recent else 0.0

    def stop(self) -> None:
        """Finish the item at hand, drop what waits, end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (item := self._take()) is not None:
            self._work(item)

    def _take(self) -> Item | None:
        with self._changed:
            while self._waiting is None and not self._stopped:
                self._changed.wait()
            item, self._waiting = self._waiting, None
            return None if self._stopped else item
