"""What a soak keeps: a sample every few seconds, the latency of every image, and the answers of services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from soak_meter import Held

KINDS = ("passed over", "looked up")
"""An image that the keyframe gate stopped, which is cheap, and one that went on: described, searched for, verified."""
_TEXTS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """The node after ``frame`` images, while no service was under way; sizes of files in MiB."""

    frame: int
    seconds: float
    held: Held
    map_size: int
    live_mib: float
    log_mib: float
    own_mib: float
    """Anonymous memory of the soak itself, which must not grow either."""
    latencies_ms: dict[str, tuple[float, float]]
    """(p50, p99) by kind, of the images since the last sample, as the node measures it."""

    @property
    def handles(self) -> int:
        """Open handles."""
        return sum(self.held.handles.values())

    @property
    def threads(self) -> int:
        """Threads."""
        return sum(self.held.threads.values())


def part(samples: Sequence[Sample], begin: float, end: float) -> list[Sample]:
    """The samples of a part of the run, by its images: 0.25, 0.5 is the second quarter."""
    most = samples[-1].frame if samples else 0
    return [sample for sample in samples if begin * most < sample.frame <= end * most]


class Latencies:
    """Milliseconds of every image, in room that is taken once and for all: a soak must not grow while it looks."""

    def __init__(self, frames: int) -> None:
        self.node_ms = np.full(frames, np.nan, np.float32)
        self.path_ms = np.full(frames, np.nan, np.float32)
        self.looked_up = np.zeros(frames, np.bool_)

    def add(self, number: int, node_ms: float, path_ms: float, looked_up: bool) -> None:
        """Take those of image ``number``, from 1: inside the node, and from sending it until its status came."""
        self.node_ms[number - 1], self.path_ms[number - 1] = node_ms, path_ms
        self.looked_up[number - 1] = looked_up

    def percentiles(self, begin: int, end: int) -> dict[str, tuple[float, float]]:
        """(p50, p99) inside the node by kind, of the images begin < number <= end; a kind that has none is left out."""
        times, kinds = self.node_ms[begin:end], self.looked_up[begin:end]
        chosen = {name: times[(kinds == bool(index)) & ~np.isnan(times)] for index, name in enumerate(KINDS)}
        return {name: percentiles(some) for name, some in chosen.items() if some.size}

    def paths(self, begin: int, end: int) -> tuple[float, float] | None:
        """(p50, p99) from sending to status, whatever the kind; ``None`` if there was no image."""
        times = self.path_ms[begin:end]
        times = times[~np.isnan(times)]
        return percentiles(times) if times.size else None


def percentiles(times: NDArray[np.float32]) -> tuple[float, float]:
    """Median and 99th percentile, to the microsecond."""
    p50, p99 = np.percentile(times, (50, 99))
    return round(float(p50), 3), round(float(p99), 3)


@dataclass(slots=True)
class Images:
    """What became of the images, summed over all activations of the node."""

    sent: int = 0
    received: int = 0
    """By the node, as its diagnostics say: the others were lost on the way."""
    processed: int = 0
    """A status of each came."""
    dropped: int = 0
    refused: int = 0
    last_refusal: str = ""

    @property
    def lost(self) -> int:
        """On the way: DDS never brought them to the node."""
        return self.sent - self.received

    @property
    def unanswered(self) -> int:
        """The node has received them, and neither processed, dropped nor refused them."""
        return self.received - self.processed - self.dropped - self.refused


@dataclass(slots=True)
class Asked:
    """One service: how often it was called, what failed, and how long it took."""

    calls: int = 0
    failures: int = 0
    texts: list[str] = field(default_factory=list)
    """Of the first failures."""
    total_ms: float = 0.0
    most_ms: float = 0.0

    def answered(self, milliseconds: float, problem: str = "") -> None:
        """Count an answer; ``problem`` is empty if it is as it should be."""
        self.calls += 1
        self.total_ms += milliseconds
        self.most_ms = max(self.most_ms, milliseconds)
        if problem:
            self.failures += 1
            self.texts += [problem] if len(self.texts) < _TEXTS else []


@dataclass(slots=True)
class Record:
    """All of a run."""

    latencies: Latencies
    samples: list[Sample] = field(default_factory=list)
    images: Images = field(default_factory=Images)
    services: dict[str, Asked] = field(default_factory=dict)
    marks: dict[str, list[int]] = field(default_factory=dict)
    """After which images the rarer chores were done."""
    pictures: int = 0
    markers: int = 0
    looked: int = 0
    """How often a subscriber of pictures and markers came."""
    complaints: list[str] = field(default_factory=list)
    """Lines of the node's log that are errors."""
    end: str = ""
    """Why the run ended early; empty if it did not."""
