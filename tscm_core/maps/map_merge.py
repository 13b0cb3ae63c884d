"""Several maps become one: drives side by side, ids rewritten, and the loops between them found.

The maps are only read. All work is done in an unfinished file beside the target, which is renamed once it is complete
and on the disk: first the rows of all maps are copied, then the loops between them are sought in the copy, so that a
map that is being driven on is held no longer than copying takes. What several maps hold of one drive is there once.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tscm_core.config import Config
from tscm_core.errors import MapFileError
from tscm_core.maps.map_between import LoopsBetween, StatusCount
from tscm_core.maps.map_copy import refuse_target, seal, write_beside, write_empty
from tscm_core.maps.map_files import connect, map_errors, real_path, transaction
from tscm_core.maps.map_format import LOOPS, loop_row
from tscm_core.maps.map_reader import MapInfo, inspect, read_keyframes, read_loops
from tscm_core.maps.merge_rows import MergedSession, RowMerger
from tscm_core.recognition.geometry import LocalMatcher
from tscm_core.recognition.records import Candidate, Keyframe, Loop

__all__ = ["LoopBetween", "Merged", "MergedSession", "Progress", "merge"]

Progress = Callable[[int, int], None]
"""Called with the steps done and those in all: two a keyframe."""


@dataclass(frozen=True, slots=True)
class LoopBetween:
    """A keyframe of one map that shows a place of another, by the ids and names of the merged map."""

    keyframe_id: int
    session: str
    stamp_ns: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged map: what is in it, and what was found on the way.

    ``carried`` counts the loops that the maps had; ``statuses`` tells what became of the keyframes of all maps but the
    first one when they were looked for in the maps before; ``notes`` are for people, one sentence each.
    """

    path: Path
    model_id: str
    keyframes: int
    sessions: tuple[MergedSession, ...]
    carried: int
    between: tuple[LoopBetween, ...]
    statuses: tuple[StatusCount, ...]
    notes: tuple[str, ...]


def merge(
    sources: Sequence[Path],
    out: Path,
    config: Config | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
    matcher: LocalMatcher | None = None,
) -> Merged:
    """Write the map ``out`` with all drives of ``sources`` and the loops between them, or nothing.

    The first map keeps its ids; those of each other one are all larger by one number, so that steps between its
    keyframes stay what they were. A map that a node is driving on is taken as it is at one moment.

    Maps may share drives, as those of two robots do that began with one map, or two states of one map: each keyframe
    of such a drive is taken once, also if one of the maps has given it up since, and keeps its id where that is free.

    Args:
        sources: two maps or more, of one model.
        out: the map to write; its folder is made if need be.
        config: rules for loops between the maps.
        overwrite: whether a file at ``out`` may be replaced, once the new one is complete.
        progress: see :data:`Progress`.
        matcher: verifies local features; the one of the robot unless said otherwise.

    Raises:
        MapFileError: a map cannot be trusted, is given twice, was made by another model, or holds a drive of another
            one with other content or under other ids; or ``out`` cannot be written, or is there already.
    """
    infos = _inspected([real_path(source) for source in sources])
    target = real_path(out)
    _refuse_target(target, infos, overwrite)
    dim = infos[0].dim

    def write(unfinished: Path) -> Merged:
        write_empty(unfinished, infos[0].model_id, dim)
        with contextlib.closing(connect(unfinished, "mode=rw")) as db:
            finder = LoopsBetween(dim, config or Config(), _loader(db), matcher)
            merged = _fill(db, target, infos, finder, progress)
        if target.exists() and not overwrite:  # somebody else was quicker
            raise _exists(target)
        return merged

    with map_errors(target, "cannot be written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_beside(target, write)


def _inspected(paths: Sequence[Path]) -> list[MapInfo]:
    """What the maps say about themselves, after making sure that they can be merged."""
    if len(paths) < 2:
        raise MapFileError(paths[0] if paths else "", "is not merged with anything: give two maps or more")
    infos = [inspect(path) for path in paths]
    for one, again in itertools.combinations(paths, 2):
        if one.samefile(again):
            raise MapFileError(again, f"is the same file as {one}: give each map once")
    first = infos[0]
    for info in infos[1:]:
        if (info.model_id, info.dim) != (first.model_id, first.dim):
            raise MapFileError(
                info.path,
                f"holds descriptors of model {info.model_id} ({info.dim} numbers), but map {first.path} those of "
                f"model {first.model_id} ({first.dim} numbers), and they cannot be compared: map again with one model",
            )
    return infos


def _refuse_target(target: Path, infos: Sequence[MapInfo], overwrite: bool) -> None:
    for info in infos:
        if target.exists() and target.samefile(info.path):
            raise MapFileError(target, "is one of the maps to merge, which are only read: write to another file")
        with map_errors(target, "cannot be written"):
            refuse_target(info.path, target)
    if target.exists() and not overwrite:
        raise _exists(target)


def _exists(target: Path) -> MapFileError:
    return MapFileError(target, "exists already: choose another name, or --overwrite")


def _loader(db: sqlite3.Connection) -> Callable[[int], bytes | None]:
    def features(keyframe_id: int) -> bytes | None:
        row = db.execute("SELECT features FROM keyframes WHERE id = ?", (keyframe_id,)).fetchone()
        return None if row is None else row[0]

    return features


def _fill(
    db: sqlite3.Connection, target: Path, infos: Sequence[MapInfo], finder: LoopsBetween, progress: Progress
) -> Merged:
    """Copy, search, and seal the file with its digest."""
    total, steps = 2 * sum(info.keyframes for info in infos), itertools.count(1)

    def step() -> None:
        done = next(steps)
        progress(done, max(done, total))  # a map that is being driven on may have grown since it was looked at

    for pragma in ("journal_mode = MEMORY", "synchronous = OFF"):  # the whole file is synced afterwards
        db.execute(f"PRAGMA {pragma}")
    merger = RowMerger(db, infos, step)
    with transaction(db):
        for info in infos:
            merger.copy(info)
    between = tuple(_search(db, merger.last_ids, infos[0].dim, finder, step))
    with transaction(db):
        db.executemany(LOOPS.insert, (loop_row(Loop(item.keyframe_id, item.candidate)) for item in between))
        seal(db)
    return Merged(
        path=target,
        model_id=infos[0].model_id,
        keyframes=sum(session.keyframes for session in merger.sessions),
        sessions=tuple(merger.sessions),
        carried=merger.carried,
        between=between,
        statuses=finder.statuses,
        notes=(*merger.notes, *_unverified(finder)),
    )


def _search(
    db: sqlite3.Connection, last_ids: Sequence[int], dim: int, finder: LoopsBetween, step: Callable[[], None]
) -> Iterator[LoopBetween]:
    """The loops between the maps, in the order of their keyframes, best first."""
    ends = iter(last_ids)
    end = next(ends, 0)
    for keyframe, carried in _with_loops(read_keyframes(db, dim), read_loops(db)):
        if keyframe.id > end:
            end = next(ends)
            finder.begin_map()
        for candidate in finder.take(keyframe, carried):
            yield LoopBetween(keyframe.id, keyframe.session, keyframe.stamp_ns, candidate)
        step()


def _with_loops(keyframes: Iterator[Keyframe], loops: Iterator[Loop]) -> Iterator[tuple[Keyframe, tuple[Loop, ...]]]:
    """Each keyframe with its loops; both come in the order of the keyframes, and are never all in memory."""
    by_keyframe = itertools.groupby(loops, lambda loop: loop.keyframe_id)
    waiting = next(by_keyframe, None)
    for keyframe in keyframes:
        if waiting is not None and waiting[0] == keyframe.id:
            yield keyframe, tuple(waiting[1])
            waiting = next(by_keyframe, None)
        else:
            yield keyframe, ()


def _unverified(finder: LoopsBetween) -> Iterator[str]:
    if finder.without_features:
        yield (
            f"{finder.without_features} keyframes have no local features, as in maps made without geometry: they close "
            f"no loops while geometry.enabled is true"
        )
