"""What the fuzz begins with: a kind of target, a scene with its local features, and small maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.config import Config, GeometryConfig
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.local_features import LocalFeatures, encode_features, extract
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

DIM, MODEL = 8, "fuzz"
CONFIG = Config().replace(
    {"recency.keyframes": 0, "recency.seconds": 0.0, "recency.metres": 0.0, "candidates.min_similarity": -1.0}
)
COVARIANCE = tuple(float(value) for value in (0.01 * np.eye(6)).ravel())
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


def map_seeds(folder: Path) -> list[bytes]:
    """Small maps: with geometry and a loop, without, and empty."""
    return [small_map(folder / f"seed-{count}.tscm", count) for count in (0, 2, 4)]


def small_map(path: Path, count: int, started_ns: int = 5) -> bytes:
    """A saved map of ``count`` keyframes, one of which closes a loop if there are three."""
    with MapStore.create(path, MODEL, DIM) as store:
        if count:
            store.begin_session("monday", started_ns)
        fill(store, range(1, count + 1))
        store.save_copy(path.with_suffix(".saved"))
    return path.with_suffix(".saved").read_bytes()


def killed_map(path: Path) -> tuple[bytes, bytes]:
    """The map of a process that was killed, and its log: half of the keyframes are in that alone."""
    with MapStore.create(path, MODEL, DIM) as store:
        for number in range(3):
            store.begin_session(("monday", "tuesday", "sunday")[number], number)
            fill(store, range(2 * number + 1, 2 * number + 3), session=store.newest_session)
            if number == 1:
                store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        main, log = (Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal"))
    return main, log


def fill(store: MapStore, ids: Sequence[int], session: str = "monday") -> None:
    """Keyframes with features, all but the second with a pose; the third closes a loop."""
    features = encode_features(small_features(60, with_camera=True))
    jpeg = bytes(cv2.imencode(".jpg", scene(0)[:24, :32])[1])
    descriptor = np.eye(1, DIM, dtype=np.float32)[0]
    for id_ in ids:
        pose = Pose((float(id_), 0.0, 0.0)) if id_ != 2 else None
        keyframe = Keyframe(id_, session, id_ * 10**9, pose, float(id_), descriptor, jpeg, features)
        motion = RelativePose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0), True, COVARIANCE)
        match = Candidate(1, "monday", 10**9, None, 1.0, 0.0, 1, Status.ACCEPTED, 3, 60, 50, motion)
        store.add(keyframe, [Loop(id_, match)] if id_ == 3 else [])


def small_features(count: int, *, with_camera: bool) -> LocalFeatures:
    """The features of a scene, with depth."""
    depth = np.full((240, 320), 2.0, np.float32)
    frame = Frame(1, scene(1), None, "", CAMERA if with_camera else None, depth)
    found = extract(frame, GeometryConfig())
    return LocalFeatures(
        found.points[:count], found.descriptors[:count], found.depths[:count], found.width, found.height, found.camera
    )
