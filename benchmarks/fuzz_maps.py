"""Hostile maps, and what reads them: the library, and each command that makes something of a map."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from fuzz_log import log_mutator
from fuzz_messages import MessagePath
from fuzz_rows import MapMutator
from fuzz_seeds import CAMERA, CONFIG, DIM, MODEL, OneDescriber, Target, killed_map, map_seeds, scene

from tscm_core.errors import TscmError
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Frame, Pose


def map_target(folder: Path) -> Target:
    """A map file: checked, inspected, read, driven on, and recognised in."""
    path, live = folder / "hostile.tscm", folder / "hostile.live"
    picture = Frame(10**15, scene(1), Pose((1.0, 2.0, 0.0)), "camera", CAMERA)

    def run(data: bytes) -> None:
        path.write_bytes(data)
        problems = check(path)
        with contextlib.suppress(Exception if problems else ()):
            inspect(path)
        if problems:
            require_refusal(path)
            return
        with MapReader(path, MODEL, DIM) as reader:
            detector = LoopDetector(OneDescriber(), CONFIG)
            detector.restore(reader.keyframes(), reader.loops(), "next")
        seen = detector.judge(picture)
        live.write_bytes(data)
        with MapStore.open(live, MODEL, DIM) as store:
            store.begin_session("next one", 1)
            if seen.keyframe is not None:
                store.add(replace(seen.keyframe, session="next one"), seen.loops)
            store.save_copy(folder / "copy.tscm")
        assert check(folder / "copy.tscm") == []
        MessagePath.to_messages(seen)

    seeds = list(map_seeds(folder))
    return Target(seeds, run, mutate=MapMutator(folder, seeds))


def require_refusal(path: Path) -> None:
    """What ``check`` finds wrong must not open."""
    with contextlib.suppress(TscmError), MapReader(path):
        raise AssertionError("check found problems, but the map opens")
    inspect(path)


def log_target(folder: Path) -> Target:
    """A map whose writer was killed: the log beside it is hostile."""
    path, beside = folder / "killed.tscm", folder / "killed.tscm-wal"
    main, log = killed_map(folder / "live.tscm")

    def run(data: bytes) -> None:
        for suffix in ("-shm", ".lock"):
            (folder / f"killed.tscm{suffix}").unlink(missing_ok=True)
        path.write_bytes(main)
        beside.write_bytes(data)
        problems = check(path)
        if problems:
            require_refusal(path)
            return
        with MapReader(path) as reader, MapStore.open(path, MODEL, DIM) as store:
            assert {item.name for item in store.sessions()} == {item.name for item in reader.sessions()}

    return Target([log, b""], run, mutate=log_mutator(log))
