"""Images that come at 10 Hz to a map, each a keyframe, and once a second a call to relocalize."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from tscm_core.config import Config
from tscm_core.maps.live_map import LiveMap
from tscm_core.recognition.records import Candidate, Observation, Rgb

if TYPE_CHECKING:
    from scale_visits import Visits

Result = TypeVar("Result")
Took = dict[str, float]
PERIOD_S, RELOCALIZE_S = 0.1, 1.0
_PLACE = Config().candidates.place_keyframes
"""Keyframes whose numbers differ by so many are one place."""
_STAGES = ("features", "search", "geometry", "store")


def timed(work: Callable[[], Result]) -> tuple[Result, Took]:
    """What a call gives, and the seconds that it takes: all of them, and those of the processor in this thread."""
    start, spent = time.perf_counter(), time.thread_time()
    result = work()
    return result, {"s": time.perf_counter() - start, "cpu_s": time.thread_time() - spent}


@dataclass
class _Seen:
    """All that came of the images of one phase."""

    observations: list[Observation] = field(default_factory=list)
    observe_ms: list[float] = field(default_factory=list)
    observe_cpu_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    relocalize_ms: list[float] = field(default_factory=list)
    relocalize_cpu_ms: list[float] = field(default_factory=list)
    found: int = 0
    relocated: int = 0
    dropped: int = 0


class Traffic:
    """The camera of a robot that sees places of the map again, and somebody who asks where it is.

    Like the node, it takes the newest image: those that came while another was judged are dropped, and counted.
    """

    def __init__(self, live: LiveMap, visits: Visits, pictures: Sequence[Rgb], count: int) -> None:
        self._live, self._visits, self._pictures = live, visits, pictures
        self._count = count
        self._frames = len(visits.numbers) * 3 // 4
        self._number = 0
        self._asked = self._frames
        self._added: dict[tuple[str, int], int] = {}
        self._own: list[str] = []
        """Sessions of the keyframes that the images became."""

    def run(self, seconds: float, work: Callable[[], object] | None = None, *, once: bool = False) -> dict[str, Any]:
        """Drive for ``seconds``; with ``work``, while that is done again and again (or ``once``) and to its end.

        Only images count that came while it was done.
        """
        seen, stop, idle = _Seen(), threading.Event(), threading.Event()
        errors: list[BaseException] = []
        end = time.perf_counter() + seconds

        def working() -> None:
            try:
                while work is not None:
                    work()
                    if once or time.perf_counter() >= end:
                        break
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
            idle.set()

        threads = [threading.Thread(target=self._ask, args=(stop, seen))] * (not once)
        threads += [threading.Thread(target=working)] * (work is not None)
        for thread in threads:
            thread.start()
        self._drive(seen, lambda: idle.is_set() if work else time.perf_counter() >= end)
        stop.set()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return _summary(seen)

    def keyframes_of(self, session: str) -> int:
        """How many images became keyframes of ``session``."""
        return self._own.count(session)

    def _drive(self, seen: _Seen, ended: Callable[[], bool]) -> None:
        start, turn = time.perf_counter(), 0
        while True:
            due = start + turn * PERIOD_S
            time.sleep(max(0.0, due - time.perf_counter()))
            if ended():
                return
            visit = self._number % self._frames
            frame = self._visits.frame(visit, self._number, self._picture(visit))
            self._number += 1
            began = time.perf_counter()
            observation, took = timed(partial(self._live.observe, frame))
            done = time.perf_counter()
            seen.late_ms.append((began - due) * 1e3)
            seen.observe_ms.append(took["s"] * 1e3)
            seen.observe_cpu_ms.append(took["cpu_s"] * 1e3)
            seen.observations.append(observation)
            place = int(self._visits.numbers[visit])
            seen.found += self._shows(observation.candidates, place)
            if observation.keyframe is not None:
                self._added[observation.session, observation.keyframe.id] = place
                self._own.append(observation.session)
            newest = max(turn + 1, int((done - start) / PERIOD_S))
            seen.dropped += newest - turn - 1
            turn = newest

    def _ask(self, stop: threading.Event, seen: _Seen) -> None:
        while True:
            visit = self._asked
            self._asked = self._frames + (visit + 1 - self._frames) % (len(self._visits.numbers) - self._frames)
            image = self._visits.frame(visit, 0, self._picture(visit)).image
            found, took = timed(partial(self._live.relocalize, image))
            seen.relocalize_ms.append(took["s"] * 1e3)
            seen.relocalize_cpu_ms.append(took["cpu_s"] * 1e3)
            seen.relocated += self._shows(found.candidates, int(self._visits.numbers[visit]))
            if stop.wait(RELOCALIZE_S):
                return

    def _picture(self, visit: int) -> Rgb:
        return self._pictures[int(self._visits.numbers[visit]) % len(self._pictures)]

    def _shows(self, candidates: Sequence[Candidate], place: int) -> bool:
        """Whether the most similar candidate is ``place``, or what counts as one with it (place_keyframes)."""
        best = next((item for item in candidates if item.rank == 1), None)
        if best is None:
            return False
        if best.keyframe_id <= self._count:
            seen = best.keyframe_id - 1
        else:
            seen = self._added.get((best.session, best.keyframe_id), -self._count)
        return abs(seen - place) <= _PLACE


def _summary(seen: _Seen) -> dict[str, Any]:
    stages = {name: [_ms(item, name) for item in seen.observations] for name in _STAGES}
    return {
        "frames": len(seen.observations),
        "keyframes": sum(item.keyframe is not None for item in seen.observations),
        "accepted": sum(bool(item.accepted) for item in seen.observations),
        "found": seen.found,
        "dropped": seen.dropped,
        "relocalized": len(seen.relocalize_ms),
        "relocated": seen.relocated,
        "observe_ms": spread(seen.observe_ms),
        "late_ms": spread(seen.late_ms),
        "relocalize_ms": spread(seen.relocalize_ms),
        "observe_cpu_ms": spread(seen.observe_cpu_ms),
        "relocalize_cpu_ms": spread(seen.relocalize_cpu_ms),
        **{f"{name}_ms": spread(values) for name, values in stages.items()},
    }


def _ms(observation: Observation, stage: str) -> float:
    return sum(time.milliseconds for time in observation.stage_times if time.stage == stage)


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median, 95th percentile and the largest; ``None`` of nothing."""
    if not values:
        return None
    p50, p95, most = np.percentile(values, (50, 95, 100))
    return {"p50": float(p50), "p95": float(p95), "max": float(most)}
