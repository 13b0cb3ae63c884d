"""What scale.py has processes of their own do: fill a map, drive on it and be killed, come back, and load it.

Each step gives plain figures by name. Memory is what the process grew by, so that nothing else is in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scale_traffic import Took, Traffic, timed
from scale_visits import DIM, MODEL, PICTURES, STEP_M, STEP_NS, Visits, pictures

from tscm_core.bench import scenes
from tscm_core.bench.measure import resident_mib, settle_memory
from tscm_core.bench.places import Rows, places, queries
from tscm_core.config import Config
from tscm_core.deploy.threads import limit_threads
from tscm_core.errors import TscmError
from tscm_core.maps.live_file import LIVE_SUFFIX
from tscm_core.maps.live_map import LiveMap, Saved, open_live_map
from tscm_core.maps.map_files import beside
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.image import thumbnail_jpeg
from tscm_core.recognition.local_features import encode_features, extract
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Frame, Keyframe

FIRST, SECOND, LOADED = "first", "second", "loaded"
Figures = dict[str, Any]
_STRETCH, _STRETCHES = 20, 200
_MIB, _MB = 1 << 20, 1e6
_TMP = "tmp"
_BEFORE_LOAD_S = 0.5
_left_open: list[LiveMap] = []
"""A map that is closed has no log: what is here is still open when its process is killed."""


def configured(features: bool) -> Config:
    """The settings as they come, but for images at 10 Hz, each a keyframe."""
    return Config().replace({"keyframes.min_interval_s": 0.0, "geometry.enabled": features})


def in_child(folder: Path, step: Callable[..., Figures], *arguments: object) -> Figures:
    """What ``step(folder, *arguments)`` gives in a new process, which is killed (SIGKILL) once it has told that.

    Raises:
        TscmError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(sending, folder, step, arguments))
    child.start()
    sending.close()
    try:
        figures, failed = receiving.recv()
    except EOFError:
        figures, failed = {}, "its process ended without a word"
    child.join()
    if failed:
        raise TscmError(f"{step.__name__} {arguments} failed: {failed}")
    return dict(figures)


def _tell(sending: Connection, folder: Path, step: Callable[..., Figures], arguments: tuple[object, ...]) -> None:
    limit_threads(1)
    tempfile.tempdir = str(folder / _TMP)
    Path(tempfile.tempdir).mkdir(exist_ok=True)
    try:
        sending.send((step(folder, *arguments), ""))
    except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
        sending.send(({}, f"{type(error).__name__}: {error}"))
    os.kill(os.getpid(), signal.SIGKILL)


def fill(folder: Path, count: int, features: bool) -> Figures:
    """Make a live map of ``count`` places, and the descriptors of second visits to some of them."""
    chosen, kept = stretches(count), list[Rows]()
    live = beside(folder / "map.tscm", LIVE_SUFFIX)
    start = time.perf_counter()
    with MapStore.create(live, MODEL, DIM) as store:
        store.begin_session(FIRST, scenes.FIRST_NS)
        for keyframe in _keyframes(count, features, set(chosen.tolist()), kept):
            store.add(keyframe)
        sizes = {"thumbnail_b": len(keyframe.thumbnail_jpeg), "features_b": len(keyframe.features or b"")}
    shuffled = np.random.default_rng(0).permutation(len(chosen) // _STRETCH)
    order = (shuffled[:, None] * _STRETCH + np.arange(_STRETCH)).ravel()
    np.save(folder / "visits.npy", stored_precision(queries(np.concatenate(kept)))[order])
    np.save(folder / "numbers.npy", chosen[order])
    size = live.stat().st_size
    return {
        "fill_s": time.perf_counter() - start,
        "file_mb": size / _MB,
        "file_a_place_kb": size / count / 1e3,
        **sizes,
    }


def stretches(count: int) -> NDArray[np.int64]:
    """The places that are visited again, ascending: stretches of 20, spread over the map."""
    number = min(_STRETCHES, count // _STRETCH)
    begins = np.arange(number) * (count // number)
    return np.asarray((begins[:, None] + np.arange(_STRETCH)).ravel(), np.int64)


def _keyframes(count: int, features: bool, chosen: set[int], kept: list[Rows]) -> Iterator[Keyframe]:
    config, number = configured(features), 0
    parts = [
        (
            thumbnail_jpeg(picture, config.map.thumbnail_width),
            encode_features(extract(Frame(0, picture, intrinsics=scenes.CAMERA), config.geometry))
            if features
            else None,
        )
        for picture in pictures()
    ]
    for block in places(count, DIM):
        kept.append(block[[at for at in range(len(block)) if number + at in chosen]])
        for descriptor in stored_precision(block):
            thumbnail, local = parts[number % PICTURES]
            stamp, way = scenes.FIRST_NS + number * STEP_NS, number * STEP_M
            number += 1
            yield Keyframe(number, FIRST, stamp, pose_from_yaw(way, 0.0, 0.0), way, descriptor, thumbnail, local)


def drive(folder: Path, count: int, features: bool, seconds: float) -> Figures:
    """Open the map as after a restart; drive at 10 Hz, then while it is saved again and again."""
    path, visits, again = folder / "map.tscm", Visits.of(folder), pictures(again=True)
    before = _settled_mb()
    _forget_peak()
    live, took = timed(lambda: open_live_map(path, True, visits, configured(features), SECOND))
    figures: Figures = {"open": took, "opened": live.size, "open_peak_mb": peak_mb() - before}
    grown = _settled_mb() - before
    figures |= {"memory_mb": grown, "memory_a_place_kb": grown * 1e3 / count}
    figures["new_session"] = timed(lambda: live.begin_session(SECOND))[1]
    traffic = Traffic(live, visits, again, count)
    figures["quiet"] = traffic.run(seconds)
    figures["save"] = timed(live.save)[1]
    path.unlink()
    before = _settled_mb()
    _forget_peak()
    saves: list[tuple[Saved, Took]] = []
    figures["saving"] = traffic.run(seconds, lambda: saves.append(timed(live.save)))
    figures |= {"saves": len(saves), "saved": saves[-1][0].keyframes, "save_peak_mb": peak_mb() - before}
    figures["save_driving"] = {name: float(np.median([took[name] for _, took in saves])) for name in saves[0][1]}
    figures |= {"added": live.size - count, "saved_mb": path.stat().st_size / _MB}
    _left_open.append(live)
    return figures


def come_back(folder: Path, features: bool) -> Figures:
    """Open the map after its process was killed, and close it."""
    path, visits = folder / "map.tscm", Visits.of(folder)
    live, took = timed(lambda: open_live_map(path, True, visits, configured(features), "third"))
    with live:
        return {"open_after_kill": took, "opened_after_kill": live.size}


def load(folder: Path, count: int, features: bool) -> Figures:
    """Load the saved map into a running one that knows hardly anything yet, while images come at 10 Hz."""
    visits, again = Visits.of(folder), pictures(again=True)
    (folder / "other").mkdir()
    with open_live_map(folder / "other" / "map.tscm", True, visits, configured(features), "before") as live:
        traffic, before = Traffic(live, visits, again, count), _settled_mb()
        figures: Figures = {"before": traffic.run(_BEFORE_LOAD_S)}
        _forget_peak()
        loads: list[tuple[Saved, Took]] = []
        work = partial(live.load, LOADED, folder / "map.tscm")
        figures["loading"] = traffic.run(0.0, lambda: loads.append(timed(work)), once=True)
        figures |= {"load": loads[0][1], "loaded": loads[0][0].keyframes, "load_peak_mb": peak_mb() - before}
        figures |= {"after_load": live.size, "frames_after_load": traffic.keyframes_of(live.session)}
        return figures


def _settled_mb() -> float:
    settle_memory()
    return (resident_mib() or 0.0) * _MIB / _MB


def peak_mb() -> float:
    """The most memory that this process had since :func:`_forget_peak`; what it has now where Linux does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return (resident_mib() or 0.0) * _MIB / _MB


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return
