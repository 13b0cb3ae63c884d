"""``describe``: every backend that works here, for both students and for several numbers of threads.

Each backend runs in a process of its own, and they take turns: a machine that is busy for a while slows all of them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscm_core.bench.budgets import DESCRIBE, DESCRIBE_GPU, DISTANCE, PAPER_STUDENT, Budget
from tscm_core.bench.channel import Apart, ProcessError
from tscm_core.bench.measure import Samples, ratio, take_turns, together
from tscm_core.bench.pictures import frames
from tscm_core.bench.records import Figure, Row, Section, known, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.bench.students import DEFAULT, EAGER, Student, backends, obstacle, students
from tscm_core.deploy.backend import BACKENDS

_WORKER = "tscm_core.bench.describe_worker"
_PATIENCE_S, _LONG_S = 120.0, 900.0
_PROBED = 12


@dataclass(frozen=True, slots=True)
class Found:
    """What one backend did in one group: its rounds, what loading it took, and descriptors float32 [N, dim]."""

    rounds: tuple[Samples, ...]
    told: Mapping[str, Any]
    descriptors: NDArray[np.float32]


def run(request: Request, say: Say) -> Section:
    """Measure all of them; what does not work here is named with the reason."""
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    if request.images is not None:
        frames(request.images, _PROBED)  # what is wrong with them is said here, not by every worker
    with TemporaryDirectory(prefix="tscm-bench-") as folder:
        for student in students(request.config.model, Path(folder)):
            for threads in request.effort.describe_threads:
                config = replace(student.config, threads=threads)
                wanted = [name for name in backends() if not _known_obstacle(name, student, left_out)]
                found = _group(
                    replace(request, config=replace(request.config, model=config)), wanted, left_out, say, student
                )
                rows += group_rows(student, threads, found)
    pictures = "made-up images of 640 x 480" if request.images is None else "images of the given drive"
    notes = (
        f"{pictures}, one at a time, resized within the time; load: from the start of loading until it is warm, with "
        f"what it imports, from the cache; memory: what the process grew by",
        f"to eager: time as a share of eager PyTorch's with as many threads, median over rounds that take turns; "
        f"distance: largest cosine distance to its descriptors over {_PROBED} images",
        *(f"{name} left out: {reason}" for name, reason in left_out.items()),
    )
    return Section("describe", "Describe one image", tuple(rows), notes)


def _known_obstacle(name: str, student: Student, left_out: Mapping[str, str]) -> bool:
    """Whether it was seen already that it does not run here, whatever the student and the threads."""
    return name in left_out and student.name != DEFAULT


def _group(
    request: Request, wanted: Sequence[str], left_out: dict[str, str], say: Say, student: Student
) -> dict[str, Found]:
    """All backends of one student with one number of threads, at the same time but never at once."""
    threads, effort = request.config.model.threads, request.effort
    say(f"{student.title}, {threads} thread{'s' if threads > 1 else ''}")
    with ExitStack() as stack:
        workers: dict[str, tuple[Apart, dict[str, Any]]] = {}
        for name in wanted:
            config = replace(request.config.model, backend=name)
            reason = obstacle(config, everything=effort.everything)
            started = reason or _start(stack, replace(request, config=replace(request.config, model=config)), say)
            if isinstance(started, str):
                first = student.name == DEFAULT and threads == effort.describe_threads[0]
                left_out.setdefault(name if first else f"{name} ({student.name}, threads: {threads})", started)
            else:
                workers[name] = started
        turns = {name: partial(_round, worker, effort.describe_images) for name, (worker, _) in workers.items()}
        rounds = take_turns(turns, effort.describe_rounds, seconds=effort.describe_seconds)
        return {name: Found(rounds[name], told, _descriptors(worker)) for name, (worker, told) in workers.items()}


def _start(stack: ExitStack, request: Request, say: Say) -> tuple[Apart, dict[str, Any]] | str:
    """A worker that is ready, with what it told; or why there is none.

    One that had to compile is replaced, so that what loading takes is what it takes every other day.
    """
    patience = _LONG_S if request.effort.everything else _PATIENCE_S
    for last in (False, True):
        worker = stack.enter_context(Apart(_WORKER))
        try:
            told = worker.ask({"request": request.to_json()}, patience)
        except ProcessError as error:
            return str(error)
        if "refused" in told:
            return str(told["refused"])
        if last or not told["built"]:
            break
        say(f"{told['title']}: compiled in {told['load_s']:.0f} s")
        worker.end()
    return worker, told


def _round(worker: Apart, count: int) -> Sequence[float]:
    return [float(ms) for ms in worker.ask({"round": count}, _PATIENCE_S)["ms"]]


def _descriptors(worker: Apart) -> NDArray[np.float32]:
    told = worker.ask({"probe": _PROBED}, _PATIENCE_S)
    return np.asarray(np.frombuffer(base64.b64decode(told["rows"]), "<f4").reshape(told["shape"]), np.float32)


def group_rows(student: Student, threads: int, found: Mapping[str, Found]) -> list[Row]:
    """A row for each backend of one student with one number of threads.

    The budgets are for what ``auto`` takes: the first of :data:`BACKENDS` that runs.
    """
    eager = found.get(EAGER)
    best = next((name for name in BACKENDS if name in found), None)
    return [_row(student, threads, name, item, eager, judged=name == best) for name, item in found.items()]


def _row(student: Student, threads: int, name: str, item: Found, eager: Found | None, *, judged: bool) -> Row:
    on_gpu = " on cuda" in str(item.told["title"])
    paper, judged = student.name != DEFAULT, judged and threads == 1
    limit = _limit(on_gpu=on_gpu, paper=paper) if judged else None
    figures = [sampled(together(item.rounds), budget=limit)]
    if eager is not None and name != EAGER:
        share = PAPER_STUDENT if judged and paper and not on_gpu else None
        figures.append(Figure("to eager", "", ratio(item.rounds, eager.rounds), budget=share))
        figures.append(Figure("distance", "", distance(item.descriptors, eager.descriptors), budget=DISTANCE))
    figures += known(("load", "s", item.told["load_s"]), ("memory", "MiB", item.told["memory_mib"]))
    tags: dict[str, str | int] = {
        "student": student.name,
        "backend": name,
        "threads": threads,
        "title": str(item.told["title"]),
    }
    return Row(f"{student.name}, {name}, {threads} thread{'s' if threads > 1 else ''}", tuple(figures), tags)


def _limit(*, on_gpu: bool, paper: bool) -> Budget | None:
    if on_gpu:
        return DESCRIBE_GPU
    return None if paper else DESCRIBE


def distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest cosine distance between rows [N, dim] of unit length, 0 to 2."""
    return max(0.0, 1.0 - float(np.min(np.einsum("nd,nd->n", found.astype(np.float64), expected.astype(np.float64)))))
