"""What is fuzzed: how each reader is given bytes, and the seeds it starts from."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fuzz_log import log_mutator
from fuzz_messages import SEEDS as MESSAGES
from fuzz_messages import MessagePath, Reader
from fuzz_rows import MapMutator
from numpy.typing import NDArray

from tscm_core.config import Config, GeometryConfig
from tscm_core.datasets import encoded_images
from tscm_core.deploy import engine_file
from tscm_core.deploy.engine_info import EngineInfo, EngineKey, StaleEngine
from tscm_core.errors import TscmError
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_store import MapStore
from tscm_core.network_header import NetworkHeader, read_header, to_metadata
from tscm_core.recognition.local_features import LocalFeatures, decode_features, encode_features, extract
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import (
    Candidate,
    Frame,
    Intrinsics,
    Keyframe,
    Loop,
    Pose,
    RelativePose,
    Rgb,
    Status,
)
from tscm_core.recognition.two_view import verify

DIM, MODEL = 8, "fuzz"
CONFIG = Config().replace(
    {"recency.keyframes": 0, "recency.seconds": 0.0, "recency.metres": 0.0, "candidates.min_similarity": -1.0}
)
CAMERA = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5, (0.1, 0.01, 0.0, 0.0, 0.0), "plumb_bob")


@dataclass(frozen=True)
class Target:
    """One reader: what it is given first, what it does with bytes, and what it may raise beside TscmError."""

    seeds: Sequence[bytes]
    run: Callable[[bytes], None]
    allowed: tuple[type[Exception], ...] = ()
    mutate: Callable[[bytes, int], bytes] | None = None
    most_mb: int = 256
    """What one input may allocate."""


class OneDescriber:
    """Every image looks the same, so that geometry decides."""

    dim, model_id, input_size = DIM, MODEL, (32, 24)

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """The first unit vector for each image."""
        return np.tile(np.eye(1, DIM, dtype=np.float32), (len(images), 1))


def scene(seed: int) -> Rgb:
    """Rectangles with corners, uint8 [240, 320, 3]."""
    chance = np.random.default_rng(seed)
    image = np.full((240, 320, 3), 90, np.uint8)
    for x, y, w, h in chance.integers((0, 0, 6, 6), (310, 230, 50, 50), (150, 4)):
        image[y : y + h, x : x + w] = chance.integers(0, 256, 3)
    return image


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


def map_seeds(folder: Path) -> list[bytes]:
    """Small maps: with geometry and a loop, without, and empty."""
    features = encode_features(small_features(60, with_camera=True))
    return [_map(folder / f"seed-{count}.tscm", count, features) for count in (0, 2, 4)]


def _map(path: Path, count: int, features: bytes) -> bytes:
    jpeg = bytes(cv2.imencode(".jpg", scene(0)[:24, :32])[1])
    with MapStore.create(path, MODEL, DIM) as store:
        if count:
            store.begin_session("monday", 5)
        for id_ in range(1, count + 1):
            pose = Pose((float(id_), 0.0, 0.0)) if id_ % 2 else None
            descriptor = np.eye(1, DIM, dtype=np.float32)[0]
            keyframe = Keyframe(id_, "monday", id_ * 10**9, pose, float(id_), descriptor, jpeg, features)
            motion = RelativePose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), True, (0.0,) * 36)
            match = Candidate(1, "monday", 10**9, None, 1.0, 0.0, 1, Status.ACCEPTED, 3, 60, 50, motion)
            store.add(keyframe, [Loop(id_, match)] if id_ == 3 else [])
        store.save_copy(path.with_suffix(".saved"))
    return path.with_suffix(".saved").read_bytes()


def small_features(count: int, *, with_camera: bool) -> LocalFeatures:
    """The features of a scene, with depth."""
    depth = np.full((240, 320), 2.0, np.float32)
    frame = Frame(1, scene(1), None, "", CAMERA if with_camera else None, depth)
    found = extract(frame, GeometryConfig())
    return LocalFeatures(
        found.points[:count], found.descriptors[:count], found.depths[:count], found.width, found.height, found.camera
    )


def log_target(folder: Path) -> Target:
    """A map whose writer was killed: the log beside it is hostile."""
    path, beside = folder / "killed.tscm", folder / "killed.tscm-wal"
    with MapStore.create(folder / "live.tscm", MODEL, DIM) as store:
        for number in range(3):
            store.begin_session(f"drive {number}", number)
        main, log = ((folder / f"live.tscm{suffix}").read_bytes() for suffix in ("", "-wal"))

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


def features_target(_: Path) -> Target:
    """Local features as maps and messages bring them: decoded, and compared with good ones."""
    ours = small_features(60, with_camera=True)
    rule = GeometryConfig()

    def run(data: bytes) -> None:
        features = decode_features(data)
        for view in (verify(ours, features, rule), verify(features, ours, rule)):
            assert view.relative_pose is None or len(view.relative_pose.covariance) == 36

    kept = [encode_features(small_features(60, with_camera=which)) for which in (True, False)]
    return Target([*kept, encode_features(small_features(0, with_camera=False))], run)


def engine_target(folder: Path) -> Target:
    """A compiled network in the cache."""
    path = folder / "a.engine"
    key = EngineKey("m", "0" * 64, "eager", "1", "cpu", "fp32", (224, 224), "p")
    engine_file.write_engine(path, EngineInfo(key, "m", 2, b"\0" * 8, 1.0, 1, 1.0), b"payload")
    seed = path.read_bytes()

    def run(data: bytes) -> None:
        path.write_bytes(data)
        entry = engine_file.inspect(path)
        assert (entry.info is None) == bool(entry.problem)
        engine_file.read_engine(path)

    return Target([seed], run, (StaleEngine,), engine_file_mutator, most_mb=64)


def engine_file_mutator(data: bytes, number: int) -> bytes:
    """The header changed, and its digest made right."""
    chance, prefix = random.Random(number), engine_file._PREFIX
    if len(data) < prefix.size + 2:
        return data
    header = bytearray(data[prefix.size :])
    length = min(prefix.unpack_from(data)[1], len(header))
    words = (b"[", b"{}", b"null", b"1e999", b"-1", b"9" * 5000, b'"', b"[" * 5000, b"NaN", b"true", b"\xff", b"")
    at = chance.randrange(length + 1)
    header[at : min(at + chance.randrange(8), length)] = chance.choice(words)
    length = max(0, min(len(header), length + len(header) - (len(data) - prefix.size)))
    digest = hashlib.sha256(header[:length]).digest()
    return bytes(prefix.pack(engine_file.MAGIC, length, digest) + header)


def network_target(folder: Path) -> Target:
    """The header of a network file."""
    from safetensors.numpy import save

    path = folder / "a.safetensors"
    header = NetworkHeader({"name": "x"}, {"a": 1}, {}, "id")
    seed = save({"w": np.zeros(2, np.float32)}, to_metadata(header))

    def run(data: bytes) -> None:
        path.write_bytes(data)
        read_header(path)

    return Target([seed], run, most_mb=256)


def _reader(kind: str) -> Callable[[Path], Target]:
    def target(_: Path) -> Target:
        encoded_images.decode.__defaults__ = (2**20, cv2.IMREAD_UNCHANGED)  # a small bound shows what goes past it
        reader: Any = MessagePath(OneDescriber(), CONFIG, scene(1)) if kind == "path" else Reader(kind)
        return Target(MESSAGES[kind](), reader, most_mb=128)

    return target


TARGETS: dict[str, Callable[[Path], Target]] = {
    "map file": map_target,
    "map with its log": log_target,
    "raw images": _reader("raw"),
    "compressed images": _reader("compressed"),
    "local features": features_target,
    "engine file": engine_target,
    "network header": network_target,
    "message path": _reader("path"),
}
