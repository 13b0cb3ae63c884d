"""Whether a soak stayed flat: memory, handles, threads, latency, files; and whether everything was answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from soak_series import KINDS, Asked, Images, Latencies, Record, Sample, part

PER_FRAMES = 10_000
KEYFRAME_KIB = 7.2
"""What a keyframe takes in memory, `tscm bench`: as long as the map grows, that much is no leak."""
_BLOCKS, _SURE = 8, 2.5
"""The second half is cut into so many blocks; a slope is told from noise at so many standard errors (six are free)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold: ``memory_mib`` for 10,000 frames; the ratio and milliseconds by which p99 may be above."""

    memory_mib: float = 2.0
    latency_ratio: float = 1.5
    latency_ms: float = 2.0
    lost_share: float = 0.01
    file_ratio: float = 1.25
    log_mib: float = 8.0
    max_keyframes: int = 0


@dataclass(frozen=True, slots=True)
class Trend:
    """Growth for 10,000 frames, and the standard error of that."""

    slope: float
    error: float


def trend(frames: Sequence[float], values: Sequence[float]) -> Trend | None:
    """A line through the medians of eight blocks: a spike or a sawtooth in one block does not bend it.

    ``None`` if there are fewer than two values for each block.
    """
    if len(frames) < 2 * _BLOCKS:
        return None
    blocks = list(zip(np.array_split(frames, _BLOCKS), np.array_split(values, _BLOCKS), strict=True))
    x = np.array([block.mean() for block, _ in blocks]) / PER_FRAMES
    y = np.array([np.median(block) for _, block in blocks])
    spread = x - x.mean()
    slope = float(spread @ y / (spread @ spread))
    rest = y - y.mean() - slope * spread
    return Trend(slope, math.sqrt(float(rest @ rest) / (_BLOCKS - 2) / float(spread @ spread)))


def memory_trend(samples: Sequence[Sample], of: Callable[[Sample], float] | None = None) -> Trend | None:
    """Of the second half, MiB for 10,000 frames; of anonymous memory less that of the map if nothing else is asked."""
    half = part(samples, 0.5, 1.0)
    return trend([sample.frame for sample in half], [(of or beside_map)(sample) for sample in half])


def beside_map(sample: Sample) -> float:
    """Anonymous memory in MiB without what the keyframes of the map account for."""
    return sample.held.anonymous - sample.map_size * KEYFRAME_KIB / 1024.0


def judge(record: Record, limits: Limits) -> list[str]:
    """What is not as it must be, in one sentence each; empty if all is well."""
    samples = record.samples
    found = [record.end] if record.end else []
    found += _memory(samples, limits)
    found += _stays("handle", samples, lambda sample: sample.held.handles)
    found += _stays("thread", samples, lambda sample: sample.held.threads)
    found += _latency(record.latencies, samples[-1].frame if samples else 0, limits)
    found += _files(samples, limits)
    found += _images(record.images, limits)
    found += _services(record.services)
    if record.complaints:
        found.append(f"the node logged {len(record.complaints)} errors, the first: {record.complaints[0]}")
    if record.looked and not (record.pictures and record.markers):
        found.append(
            f"somebody looked {record.looked} times and saw {record.pictures} pictures and {record.markers} markers"
        )
    return found


def _memory(samples: Sequence[Sample], limits: Limits) -> list[str]:
    grown = memory_trend(samples)
    if grown is None:
        return ["the run is too short to tell whether memory grows: take more frames or a shorter --sample-every"]
    if grown.slope <= limits.memory_mib or grown.slope <= _SURE * grown.error:
        return []
    return [
        f"memory grows: {grown.slope:.2f} MiB (standard error {grown.error:.2f}) for {PER_FRAMES} frames in the second "
        f"half, the map's share not counted; at most {limits.memory_mib:g} is allowed"
    ]


def _stays(what: str, samples: Sequence[Sample], of: Callable[[Sample], dict[str, int]]) -> list[str]:
    """What leaks is never given back, so that not even the lowest count is what it was."""
    second, last = part(samples, 0.25, 0.5), part(samples, 0.75, 1.0)
    if not (second and last):
        return []

    def total(sample: Sample) -> int:
        return sum(of(sample).values())

    before, after = min(second, key=total), min(last, key=total)
    if total(after) <= total(before):
        return []
    more = {name: count - of(before).get(name, 0) for name, count in of(after).items()}
    named = ", ".join(f"{count} x {name}" for name, count in more.items() if count > 0)
    return [
        f"a {what} leaks: at least {total(before)} in the second quarter, at least {total(after)} in the last; "
        f"more are: {named}"
    ]


def quarters(latencies: Latencies, frames: int) -> list[dict[str, tuple[float, float]]]:
    """(p50, p99) in milliseconds by kind, of each quarter of the run."""
    ends = [round(frames * index / 4) for index in range(5)]
    return [latencies.percentiles(begin, end) for begin, end in pairwise(ends)]


def _latency(latencies: Latencies, frames: int, limits: Limits) -> list[str]:
    _, second, _, last = quarters(latencies, frames)
    found = []
    for kind in KINDS:
        if kind not in second or kind not in last:
            continue
        (_, before), (_, after) = second[kind], last[kind]
        if after > before * limits.latency_ratio + limits.latency_ms:
            found.append(
                f"images that are {kind} become slow: p99 was {before:.1f} ms in the second quarter and is "
                f"{after:.1f} ms in the last"
            )
    return found


def _files(samples: Sequence[Sample], limits: Limits) -> list[str]:
    second, last = part(samples, 0.25, 0.5), part(samples, 0.75, 1.0)
    if not (second and last):
        return []
    found = []
    most = max(sample.map_size for sample in samples)
    if limits.max_keyframes and most > limits.max_keyframes:
        found.append(f"the map has {most} keyframes, and map.max_keyframes is {limits.max_keyframes}")
    before, after = (max(sample.live_mib / max(sample.map_size, 1) for sample in some) for some in (second, last))
    if after > before * limits.file_ratio:
        found.append(
            f"the live map grows faster than its keyframes: {before * 1024:.1f} KiB of file for each in the second "
            f"quarter, {after * 1024:.1f} in the last"
        )
    before, after = (max(sample.log_mib for sample in some) for some in (second, last))
    if after > before + limits.log_mib:
        found.append(f"the log of the live map grows: {before:.1f} MiB in the second quarter, {after:.1f} in the last")
    return found


def _images(images: Images, limits: Limits) -> list[str]:
    found = []
    if images.unanswered:
        found.append(f"{images.unanswered} images that the node received were not answered for")
    if images.refused:
        found.append(f"{images.refused} images were refused, the last because: {images.last_refusal}")
    if images.lost > limits.lost_share * images.sent:
        found.append(f"{images.lost} of {images.sent} images were lost on the way: DDS did not bring them to the node")
    return found


def _services(services: dict[str, Asked]) -> list[str]:
    return [
        f"{name} failed {asked.failures} of {asked.calls} times, first: {asked.texts[0]}"
        for name, asked in services.items()
        if asked.failures
    ]
