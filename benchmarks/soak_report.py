"""A soak for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from soak_series import KINDS, Record
from soak_verdict import Limits, Trend, judge, memory_trend, quarters
from tables import print_rows

from tscm_core.commands.support import errors


def trends(record: Record) -> dict[str, Trend | None]:
    """Of memory in the second half, MiB for 10,000 frames; ``None`` if the run is too short."""
    samples = record.samples
    return {
        "anonymous": memory_trend(samples, lambda sample: sample.held.anonymous),
        "beside the map": memory_trend(samples),
        "of the soak itself": memory_trend(samples, lambda sample: sample.own_mib),
    }


def result(record: Record, limits: Limits, header: dict[str, Any]) -> dict[str, Any]:
    """All of a run for ``soak.json``."""
    frames = record.samples[-1].frame if record.samples else 0
    images = record.images
    return {
        "benchmark": "soak",
        **header,
        "frames": frames,
        "seconds": record.samples[-1].seconds if record.samples else 0.0,
        "findings": judge(record, limits),
        "limits": asdict(limits),
        "memory_mib_for_10000_frames": {name: asdict(one) if one else None for name, one in trends(record).items()},
        "latency_ms_by_quarter": quarters(record.latencies, frames),
        "sent_to_status_ms": record.latencies.paths(0, frames),
        "images": {**asdict(images), "lost_on_the_way": images.lost, "unanswered": images.unanswered},
        "services": {name: asdict(asked) for name, asked in sorted(record.services.items())},
        "pictures": record.pictures,
        "markers": record.markers,
        "looked": record.looked,
        "marks": record.marks,
        "samples": [asdict(sample) for sample in record.samples],
    }


def show(record: Record, title: str) -> None:
    """A line for each quarter of the run, and then the sums, for people."""
    rows = []
    most = record.samples[-1].frame
    for index, latencies in enumerate(quarters(record.latencies, most)):
        some = [sample for sample in record.samples if index < 4 * sample.frame / most <= index + 1]
        if some:
            last = some[-1]
            times = {kind: "{:.1f} / {:.1f}".format(*latencies[kind]) if kind in latencies else "-" for kind in KINDS}
            memory = f"{last.held.anonymous:.1f}"
            counts = {"handles": min(item.handles for item in some), "threads": min(item.threads for item in some)}
            rows.append({"to": last.frame, "memory": memory, **counts, "map": last.map_size, **times})
    heads = {
        "to": "to frame",
        "memory": "anonymous MiB",
        "handles": "handles",
        "threads": "threads",
        "map": "keyframes",
    }
    print_rows(title, rows, {**heads, **{kind: f"{kind}: p50 / p99 ms" for kind in KINDS}})
    images = record.images
    errors.print(
        f"images: sent {images.sent}, lost on the way {images.lost}, processed {images.processed}, dropped "
        f"{images.dropped}, refused {images.refused}, unanswered {images.unanswered}; pictures {record.pictures}, "
        f"markers {record.markers}"
    )
    for name, asked in sorted(record.services.items()):
        mean = asked.total_ms / max(asked.calls, 1)
        errors.print(
            f"{name}: {asked.calls} calls, {asked.failures} failed, mean {mean:.1f} ms, most {asked.most_ms:.1f} ms"
        )
    for name, grown in trends(record).items():
        if grown is not None:
            errors.print(f"memory, {name}: {grown.slope:+.2f} ± {grown.error:.2f} MiB for 10,000 frames")
