"""One describer in a process of its own, which measures a round whenever it is asked for one."""

from __future__ import annotations

import base64
import sys
import time
from itertools import cycle
from typing import Any

import numpy as np

from tscm_core.bench.channel import Channel
from tscm_core.bench.measure import growth_mib, resident_mib, settle_memory, timed
from tscm_core.bench.pictures import frames
from tscm_core.bench.request import Request
from tscm_core.deploy.load import build_engine
from tscm_core.errors import TscmError

_PICTURES = 20


def main() -> int:
    """Answer ``{"request": ...}`` with what was loaded, then ``{"round": count}`` and ``{"probe": count}``."""
    channel = Channel()
    asked = channel.receive()
    if asked is None:
        return 1
    request = Request.from_json(asked["request"])
    try:
        describer, told = _load(request)
    except (TscmError, ImportError) as error:
        channel.send({"refused": str(error)})
        return 0
    channel.send(told)
    images = [frame.image for frame in frames(request.images, _PICTURES)]
    turns = cycle(images)
    while (asked := channel.receive()) is not None:
        if "round" in asked:
            channel.send({"ms": [timed(lambda: describer.describe([next(turns)])) for _ in range(asked["round"])]})
        else:
            rows = np.concatenate([describer.describe([image]) for image in images[: asked["probe"]]])
            channel.send({"shape": rows.shape, "rows": base64.b64encode(rows.astype("<f4").tobytes()).decode()})
    return 0


def _load(request: Request) -> tuple[Any, dict[str, Any]]:
    """The describer, and what loading it took: time until it is warm, and memory."""
    settle_memory()
    before, start = resident_mib(), time.perf_counter()
    built = build_engine(request.config.model, _ignore)
    seconds = time.perf_counter() - start
    settle_memory()
    told = {
        "title": built.describer.backend,
        "built": built.info is not None and not built.was_there,
        "model_id": built.describer.model_id,
        "load_s": seconds,
        "memory_mib": growth_mib(before, resident_mib()),
    }
    return built.describer, told


def _ignore(sentence: str) -> None:
    """What is going on is of no interest here."""


if __name__ == "__main__":
    sys.exit(main())
