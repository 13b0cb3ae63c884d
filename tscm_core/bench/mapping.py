"""``map``: one keyframe more, save, load and restart of a map of the size that the budgets speak of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from tscm_core.bench import scenes
from tscm_core.bench.budgets import ADD, BUDGET_PLACES, LOAD, MEMORY, SAVE
from tscm_core.bench.measure import Samples, growth_mib, resident_mib, settle_memory
from tscm_core.bench.places import places
from tscm_core.bench.records import Figure, Row, Section, known, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.config import Config
from tscm_core.maps.live_file import LIVE_SUFFIX
from tscm_core.maps.live_map import open_live_map
from tscm_core.maps.map_files import beside
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.image import thumbnail_jpeg
from tscm_core.recognition.local_features import encode_features, extract
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Keyframe, Observation, Rgb, Status

DIM, MODEL = 2048, "bench-made-up"
_SESSION = "bench"
_MIB, _CACHED, _TIMES = 1 << 20, 256, 3


class MadeUpDescriber:
    """What a map asks of a describer; no image is ever described here."""

    dim, model_id, input_size = DIM, MODEL, (320, 240)

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """Nothing but zeros."""
        return np.zeros((len(images), self.dim), np.float32)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a keyframe holds beside its descriptor: a thumbnail and local features, of real size."""

    thumbnail: bytes
    features: bytes


def run(request: Request, say: Say) -> Section:
    """Measure in a folder for temporary files, which is removed."""
    count, config = request.effort.map_places, request.config
    with TemporaryDirectory(prefix="tscm-bench-") as folder:
        path = Path(folder) / "map.tscm"
        live, parts = beside(path, LIVE_SUFFIX), list(_parts(config))
        say(f"{count} keyframes")
        rows = [_add(live, count, request.effort.map_added, parts, config)]
        settle_memory()
        say("restart, save and load")
        rows += _large(path, config)
        size = path.stat().st_size
    whole = count + request.effort.map_added
    rows.append(
        Row("file", known(("size", "MiB", size / _MIB), ("a place", "kB", size / whole / 1e3)), {"what": "file"})
    )
    notes = (
        f"{whole} places with thumbnails of {len(parts[0].thumbnail) / 1e3:.0f} kB and {config.geometry.features} "
        f"local features at most, descriptors made up; budgets are for {BUDGET_PLACES}",
        f"in {folder} ({file_system(Path(folder).parent)}); set TMPDIR to measure another disk",
        f"memory: what the process grew by when the map was opened, with the features of {_CACHED} places in the cache",
    )
    return Section("map", "The map", tuple(rows), notes)


def made_up_map(path: Path, count: int, model_id: str, dim: int, config: Config) -> None:
    """Make a map of ``count`` places at ``path``, as large as real ones, in the name of the model ``model_id``.

    Raises:
        MapFileError: it cannot be written.
    """
    with MapStore.create(path, model_id, dim) as store:
        store.begin_session(_SESSION, scenes.FIRST_NS)
        for keyframe in _keyframes(count, list(_parts(config)), dim):
            store.add(keyframe)


def _add(live: Path, count: int, added: int, parts: list[_Parts], config: Config) -> Row:
    """Fill a map with ``count`` keyframes, and time ``added`` more: what the node does once a frame is judged."""
    with MapStore.create(live, MODEL, DIM) as store:
        store.begin_session(_SESSION, scenes.FIRST_NS)
        detector = LoopDetector(MadeUpDescriber(), config, _SESSION, load_features=store.features)
        times = []
        for number, keyframe in enumerate(_keyframes(count + added, parts)):
            seen = Observation(keyframe.stamp_ns, _SESSION, Status.MAP_TOO_YOUNG, "", number + 1, 0, keyframe)
            start = time.perf_counter()
            store.add(keyframe)
            detector.remember(seen)
            if number >= count:
                times.append((time.perf_counter() - start) * 1e3)
    return Row(
        f"add one keyframe to {count:,}, committed", (sampled(Samples(tuple(times)), budget=ADD),), {"what": "add"}
    )


def _large(path: Path, config: Config) -> list[Row]:
    """Open the live map as the node does after a restart; save it, and load what was saved."""
    before, start = resident_mib(), time.perf_counter()
    with open_live_map(path, True, MadeUpDescriber(), config, "again") as live:
        open_s, count = time.perf_counter() - start, live.size
        for place in live.places[-_CACHED:]:
            live.features(place.keyframe_id)
        settle_memory()
        grown = growth_mib(before, resident_mib())
        save = _repeated(lambda: live.save(path))
    load = float(np.median([_load(path, path.with_name(f"other_{number}.tscm"), config) for number in range(_TIMES)]))
    opened = Figure("time", "s", open_s)
    rows = [
        Row("save", (Figure("time", "s", save, samples=_TIMES, budget=SAVE),), {"what": "save"}),
        Row("load", (Figure("time", "s", load, samples=_TIMES, budget=LOAD),), {"what": "load"}),
        Row("open after a restart", (opened,), {"what": "restore"}),
    ]
    if grown is not None:
        figure = Figure("a place", "kB", grown * _MIB / count / 1e3, budget=MEMORY)
        rows.append(Row("memory, index and caches", (figure, Figure("size", "MiB", grown)), {"what": "memory"}))
    return rows


def _load(source: Path, path: Path, config: Config) -> float:
    """Seconds to load a map into a running one that is empty."""
    with open_live_map(path, False, MadeUpDescriber(), config, "begun") as live:
        start = time.perf_counter()
        live.load("loaded", source)
        seconds = time.perf_counter() - start
    live.live_path.unlink()
    return seconds


def _repeated(work: Callable[[], object]) -> float:
    """Median seconds of a few times."""
    times = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _parts(config: Config) -> Iterator[_Parts]:
    for frame in scenes.drive(8):
        features = encode_features(extract(frame, config.geometry))
        yield _Parts(thumbnail_jpeg(frame.image, config.map.thumbnail_width), features)


def _keyframes(count: int, parts: list[_Parts], dim: int = DIM) -> Iterator[Keyframe]:
    poses = [frame.pose for frame in scenes.drive(2)]
    number = 0
    for block in places(count, dim):
        for descriptor in block:
            part = parts[number % len(parts)]
            number += 1
            yield Keyframe(
                number, _SESSION, scenes.FIRST_NS + number * scenes.STEP_NS, poses[number % 2],
                number * scenes.STEP_M, stored_precision(descriptor), part.thumbnail, part.features,
            )  # fmt: skip


def file_system(folder: Path, mounts: str = "/proc/mounts") -> str:
    """The kind of file system under ``folder``: in memory a commit costs nothing."""
    try:
        lines = [line.split() for line in Path(mounts).read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown file system"
    above = [(len(line[1]), line[2]) for line in lines if len(line) > 2 and folder.resolve().is_relative_to(line[1])]
    return max(above, default=(0, "unknown file system"))[1]
