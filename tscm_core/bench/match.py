"""``match``: searching maps of several sizes with one thread, against an exact search."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from tscm_core.bench.budgets import AGREEMENT, MATCH
from tscm_core.bench.measure import growth_mib, measure, resident_mib, settle_memory
from tscm_core.bench.places import places, queries
from tscm_core.bench.records import Figure, Row, Section, known, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.deploy.threads import limit_threads
from tscm_core.recognition.place_index import PlaceIndex

_DIM, _SEED = 2048, 0
_SEARCHED_S = 1.5
_WARM_UP = 3000
_BYTES_A_MIB, _A_KB = 1 << 20, 1e3
_EQUAL = 1e-4
"""Similarities that differ by less are equal: maps keep descriptors in float16."""

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Built:
    """An index, second visits float32 [Q, dim] to places spread over it, and what adding them all took."""

    index: PlaceIndex
    visits: Rows
    seconds: float
    grown_mib: float | None


def run(request: Request, say: Say) -> Section:
    """Measure each size of ``request.effort.match_sizes``."""
    effort = request.effort
    limit_threads(1)
    _built(_WARM_UP, 1)  # what is taken once, whatever the size, belongs to no place
    rows = [
        _size(count, effort.match_queries, request.config.candidates.top_keyframes, say) for count in effort.match_sizes
    ]
    notes = [
        f"made-up descriptors of {_DIM} numbers that wander as those of a drive do; the queries are second visits; the "
        f"best {request.config.candidates.top_keyframes} are asked for, as the node does, with one thread",
        "agreement: queries whose best place is as similar as the best of an exact search",
    ]
    if 1_000_000 not in effort.match_sizes:
        notes.append("1,000,000 places left out: they take minutes and 5 GB of memory (--all)")
    return Section("match", "Match one descriptor", tuple(rows), tuple(notes))


def _size(count: int, asked: int, top: int, say: Say) -> Row:
    say(f"{count} places")
    built = _built(count, asked)
    hits = [built.index.search(query, top, count) for query in built.visits]
    agreed = agreement(np.array([found[0].position if found else -1 for found in hits]), built.visits, count)
    turns = cycle(list(built.visits))
    times = measure(lambda: built.index.search(next(turns), top, count), _SEARCHED_S, least=50, most=2000, warm_up=10)
    figures = (
        sampled(times, budget=MATCH.get(count)),
        Figure("agreement", "%", 100.0 * agreed, samples=len(hits), budget=AGREEMENT.get(count)),
        *known(("memory a place", "kB", _a_place_kb(built.grown_mib, count)), ("build", "s", built.seconds)),
    )
    return Row(f"{count:,} places", figures, {"places": count})


def _built(count: int, asked: int) -> _Built:
    settle_memory()
    before, index, seconds, begin = resident_mib(), PlaceIndex(_DIM), 0.0, 0
    every, stretches, middles = max(1, count // asked), list[Rows](), list[int]()
    for block in places(count, _DIM, _SEED):
        start = time.perf_counter()
        index.add(block)
        seconds += time.perf_counter() - start
        for at in range(-begin % every, len(block), every):  # each with its neighbours, between which a visit may fall
            first = max(0, at - 1)
            middles.append(sum(map(len, stretches)) + at - first)
            stretches.append(block[first : at + 2].copy())
        begin += len(block)
    del block
    seen = np.concatenate(stretches)
    stretches.clear()
    settle_memory()
    grown = growth_mib(before, resident_mib())
    own = None if grown is None else grown - seen.nbytes / _BYTES_A_MIB
    return _Built(index, queries(seen, _SEED)[middles], seconds, own)


def agreement(found: NDArray[np.int64], visits: Rows, count: int) -> float:
    """Share of ``visits`` [Q, dim] whose first hit ``found`` [Q], -1 for none, is as similar as the best of all places.

    By similarity, not by position: of two places that are equally similar either is right. The best of all is that of
    an exact search in float32.
    """
    best, hit = (np.full(len(visits), -1.0, np.float32) for _ in range(2))
    begin = 0
    for block in places(count, _DIM, _SEED):
        similar = visits @ block.T
        best = np.maximum(best, similar.max(axis=1))
        here = np.flatnonzero((found >= begin) & (found < begin + len(block)))
        hit[here] = similar[here, found[here] - begin]
        begin += len(block)
    return float(np.mean(hit >= best - _EQUAL))


def _a_place_kb(grown_mib: float | None, count: int) -> float | None:
    return None if grown_mib is None else grown_mib * _BYTES_A_MIB / count / _A_KB
