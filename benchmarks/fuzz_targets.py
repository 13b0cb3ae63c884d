"""What is fuzzed: how each reader is given bytes, and the seeds it starts from."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fuzz_maps import log_target, map_target
from fuzz_messages import SEEDS as MESSAGES
from fuzz_messages import MessagePath, Reader
from fuzz_robots import robots_target
from fuzz_seeds import CONFIG, OneDescriber, Target, scene, small_features
from fuzz_tools import export_target, merge_target, repair_target

from tscm_core.config import GeometryConfig
from tscm_core.datasets import encoded_images
from tscm_core.deploy import engine_file
from tscm_core.deploy.engine_info import EngineInfo, EngineKey, StaleEngine
from tscm_core.network_header import NetworkHeader, read_header, to_metadata
from tscm_core.recognition.local_features import decode_features, encode_features
from tscm_core.recognition.two_view import verify


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
    "merged maps": merge_target,
    "exported map": export_target,
    "repaired map": repair_target,
    "raw images": _reader("raw"),
    "compressed images": _reader("compressed"),
    "local features": features_target,
    "engine file": engine_target,
    "network header": network_target,
    "message path": _reader("path"),
    "keyframe messages": robots_target,
}
