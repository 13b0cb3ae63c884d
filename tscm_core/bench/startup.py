"""``startup``: from the start of a process to its first descriptor, with an empty engine cache and with a filled one.

Where ROS is installed, :mod:`tscm_ros.bench` measures the same of the whole node.
"""

from __future__ import annotations

import dataclasses
import time
from tempfile import TemporaryDirectory

from tscm_core.bench.channel import Apart
from tscm_core.bench.records import Figure, Row, Section
from tscm_core.bench.request import Request, Say
from tscm_core.errors import DeployError

EMPTY, FILLED = "empty", "filled"
CACHES = (EMPTY, FILLED)
_WORKER = "tscm_core.bench.describe_worker"
_PATIENCE_S = 300.0


def run(request: Request, say: Say) -> Section:
    """Start a process twice, the second time with the engine that the first one left."""
    with TemporaryDirectory(prefix="tscm-bench-") as folder:
        config = request.config.replace({"model.engine_cache": f"{folder}/engines"})
        inside = dataclasses.replace(request, config=config)
        rows = [_start(inside, cache, say) for cache in CACHES]
    notes = ("a process that loads the network and describes one image; without ROS, and so without the node",)
    return Section("startup", "Cold start", tuple(rows), notes)


def _start(request: Request, cache: str, say: Say) -> Row:
    say(f"{cache} cache")
    begun = time.monotonic()
    with Apart(_WORKER) as worker:
        told = worker.ask({"request": request.to_json()}, _PATIENCE_S)
        seconds = time.monotonic() - begun
    if "refused" in told:
        raise DeployError(str(told["refused"]))
    return row(cache, seconds, str(told["title"]))


def row(cache: str, seconds: float, title: str) -> Row:
    """What a start took, and what ran the network."""
    return Row(f"{cache} engine cache: {title}", (Figure("time", "s", seconds),), {"cache": cache})
