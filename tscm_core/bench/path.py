"""``path``: a small drive through the live map, as the node does it, without ROS."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tscm_core.bench import scenes
from tscm_core.bench.measure import Samples
from tscm_core.bench.records import Figure, Row, Section, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.deploy.load import load_describer
from tscm_core.maps.live_map import LiveMap, open_live_map
from tscm_core.recognition.records import Frame, Observation, Status

WARM_UP = 5
"""Images at the beginning that are not counted."""
_SEEN = 0.5


def run(request: Request, say: Say) -> Section:
    """Measure the stages over a drive that goes to and fro before a wall."""
    describer = load_describer(request.config.model, say)
    frames = list(scenes.drive(request.effort.path_frames))
    say(f"{len(frames)} images")
    with (
        TemporaryDirectory(prefix="tscm-bench-") as folder,
        open_live_map(Path(folder) / "map.tscm", False, describer, request.config, "bench") as live,
    ):
        seen, whole = _drive(live, frames)
    keyframes = [item for item in seen if item.keyframe is not None]
    statuses = Counter(item.status.name for item in seen)
    rows = (*stage_rows(keyframes), _whole(seen, whole))
    notes = (
        f"made-up images of {scenes.WIDTH} x {scenes.HEIGHT}; "
        f"{getattr(describer, 'backend', 'a describer')}; {request.config.model.threads} thread",
        f"{len(seen)} images: {', '.join(f'{count} {name}' for name, count in statuses.most_common())}; the stages are "
        f"those of the keyframes that reached them",
    )
    return Section("path", "The whole path in one process", rows, notes)


def _drive(live: LiveMap, frames: Sequence[Frame]) -> tuple[list[Observation], list[float]]:
    """What was seen after the warm-up, and the milliseconds of each image."""
    seen, whole = [], []
    for number, frame in enumerate(frames):
        start = time.perf_counter()
        observation = live.observe(frame)
        if number >= WARM_UP:
            whole.append((time.perf_counter() - start) * 1e3)
            seen.append(observation)
    return seen, whole


def stage_rows(keyframes: Sequence[Observation]) -> list[Row]:
    """A row for each stage, in the order in which they run; those that took no time worth a word are left out."""
    times: dict[str, list[float]] = {}
    for item in keyframes:
        for stage in item.stage_times:
            times.setdefault(stage.stage, []).append(stage.milliseconds)
    return [
        Row(stage, (sampled(Samples(tuple(values))),), {"stage": stage})
        for stage, values in times.items()
        if max(values) >= _SEEN
    ]


def _whole(seen: Sequence[Observation], whole: Sequence[float]) -> Row:
    kept = [ms for item, ms in zip(seen, whole, strict=True) if item.status is not Status.NOT_KEYFRAME]
    figures = (
        sampled(Samples(tuple(kept))),
        Figure("images a second", "", 1e3 * len(whole) / sum(whole)),
    )
    return Row("one keyframe, everything", figures, {"stage": "all"})
