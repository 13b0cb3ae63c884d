"""Local features of an image: where they are, what they look like, how far away they are, and how they are stored."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.config import GeometryConfig
from tscm_core.errors import FeatureError
from tscm_core.recognition.records import Depth, Frame, Intrinsics, Rgb

FEATURE_FORMAT = "tscm-orb-1"
"""Name of the layout below, as ``tscm_msgs/Keyframe`` carries it."""

DESCRIPTOR_BYTES = 32
_HEAD = struct.Struct("<4sHHHBB")
_CAMERA = struct.Struct("<HH4dBB")
_MAGIC = b"tsf1"
_HAS_DEPTH, _HAS_CAMERA = 1, 2
_MODELS = ("", "plumb_bob", "rational_polynomial", "equidistant")
COEFFICIENTS = {"plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
"""Of distortion models, as ``Intrinsics`` has them."""
MOST_PIXELS = 1e9
"""That a number of a camera may be: beyond it rays overflow."""
_LEAST_FOCAL = 1e-3
_STEPS = 65535
_MOST_SIDE = 65535
_OVERSAMPLING = 2
_GRID = (10, 8)
_THRESHOLDS = (20, 8)
"""Of FAST corners, in grey levels: the second where the first finds too few, in dim light. Few corners cost less."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalFeatures:
    """Local features of one image, as they are after storing and reading.

    ``points`` are float32 [N, 2], x and y in pixels of the whole image, which has ``width`` times ``height`` of them;
    ``descriptors`` are uint8 [N, 32], to be compared by Hamming distance; ``depths`` are float32 [N] metres along the
    optical axis, NaN where unknown.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    depths: NDArray[np.float32]
    width: int
    height: int
    camera: Intrinsics | None = None

    def __len__(self) -> int:
        return len(self.points)


def extract(frame: Frame, rule: GeometryConfig) -> LocalFeatures:
    """Oriented FAST corners with rotated BRIEF descriptors (ORB, Rublee et al., ICCV 2011), spread over the image.

    What is given back has been through :func:`encode_features`, so that a map gives the same answers before it is saved
    and after it is loaded.
    """
    height, width = frame.image.shape[:2]
    grey = _grey(frame.image, rule.image_width)
    points, descriptors = _orb(grey, rule.features)
    larger = np.array([width / grey.shape[1], height / grey.shape[0]])
    points = np.asarray((points + 0.5) * larger - 0.5, np.float32)  # the centre of the first pixel is at 0
    depths = _depths_at(frame.depth, points, width, height)
    camera = scaled(frame.intrinsics, width, height)
    return decode_features(encode_features(LocalFeatures(points, descriptors, depths, width, height, camera)))


def _grey(image: Rgb, most_width: int) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = min(1.0, most_width / width)
    if scale < 1.0:
        size = (most_width, max(1, round(height * scale)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _orb(grey: NDArray[np.uint8], count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points float32 [N, 2] and descriptors uint8 [N, 32] of the best ``count`` corners, spread over a grid."""
    nothing = np.zeros((0, 2), np.float32), np.zeros((0, DESCRIPTOR_BYTES), np.uint8)
    if min(grey.shape) < 2 * 31 + 1:
        return nothing
    for threshold in _THRESHOLDS:
        orb = cv2.ORB_create(_OVERSAMPLING * count, 1.2, 8, fastThreshold=threshold)  # type: ignore[attr-defined]
        corners = orb.detect(grey, None)
        if len(corners) >= count:
            break
    if len(corners) > count:
        corners = _spread(corners, count, grey.shape[1], grey.shape[0])
    corners, descriptors = orb.compute(grey, corners)
    if descriptors is None:
        return nothing
    return np.asarray(_positions(corners), np.float32).reshape(-1, 2), np.asarray(descriptors, np.uint8)


def _spread(corners: Sequence[cv2.KeyPoint], count: int, width: int, height: int) -> list[cv2.KeyPoint]:
    """The strongest corner of every cell of a grid, then the second of every cell, and so on."""
    points = _positions(corners)
    strength = np.array([corner.response for corner in corners])
    column, row = (points / (width, height) * _GRID).astype(np.int64).T
    cell = column * _GRID[1] + row
    order = np.lexsort((-strength, cell))
    _, first = np.unique(cell[order], return_index=True)
    turn = np.empty(len(order), np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return [corners[number] for number in np.lexsort((-strength, turn))[:count]]


def _positions(corners: Sequence[cv2.KeyPoint]) -> NDArray[np.float32]:
    """Pixels float32 [N, 2]."""
    convert = cv2.KeyPoint_convert  # type: ignore[attr-defined]
    return np.asarray(convert(corners), np.float32).reshape(-1, 2)


def _depths_at(depth: Depth | None, points: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Metres at each point, float32 [N]; NaN where the depth image has none."""
    if depth is None or not len(points):
        return np.full(len(points), np.nan, np.float32)
    rows, columns = depth.shape
    x = np.clip(((points[:, 0] + 0.5) * columns / width).astype(np.int64), 0, columns - 1)
    y = np.clip(((points[:, 1] + 0.5) * rows / height).astype(np.int64), 0, rows - 1)
    metres = depth[y, x].astype(np.float32)
    return np.asarray(np.where(np.isfinite(metres) & (metres > 0.0), metres, np.nan), np.float32)


def scaled(camera: Intrinsics | None, width: int, height: int) -> Intrinsics | None:
    """The intrinsics for an image of this size; ``None`` if it has another shape than what they were made for."""
    if camera is None or (camera.width, camera.height) == (width, height):
        return camera
    if not camera.width or not camera.height:
        return Intrinsics(
            width, height, camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion, camera.distortion_model
        )
    across, down = width / camera.width, height / camera.height
    if abs(across / down - 1.0) > 0.02:
        return None
    return Intrinsics(
        width, height, camera.fx * across, camera.fy * down, camera.cx * across, camera.cy * down,
        camera.distortion, camera.distortion_model,
    )  # fmt: skip


def is_sound(camera: Intrinsics) -> bool:
    """Whether rays can be computed with these intrinsics: every number finite, and focal lengths of some pixels."""
    numbers = (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion)
    counts = COEFFICIENTS.get(camera.distortion_model, 0)
    return (
        all(abs(number) <= MOST_PIXELS for number in numbers)
        and min(camera.fx, camera.fy) >= _LEAST_FOCAL
        and len(camera.distortion) in (0, counts)
    )


def encode_features(features: LocalFeatures) -> bytes:
    """Features as bytes: a head, the camera if there is one, points, descriptors and depths; little-endian.

    Points are kept to 1/65535 of the longer side of the image, depths as float16. 600 features are 22.8 kB with depth.
    """
    side = max(features.width, features.height, 1)
    if side > _MOST_SIDE:
        raise FeatureError(f"an image of {features.width} x {features.height} pixels is too large for local features")
    with_depth = bool(np.isfinite(features.depths).any())
    flags = _HAS_DEPTH * with_depth | _HAS_CAMERA * (features.camera is not None)
    head = _HEAD.pack(_MAGIC, len(features), features.width, features.height, flags, 0)
    points = np.clip(np.rint(features.points * (_STEPS / side)), 0, _STEPS).astype("<u2")
    depths = np.nan_to_num(features.depths, nan=0.0, posinf=0.0).clip(0.0, 65504.0).astype("<f2")
    return b"".join(
        (
            head,
            _encode_camera(features.camera),
            points.tobytes(),
            np.ascontiguousarray(features.descriptors, np.uint8).tobytes(),
            depths.tobytes() if with_depth else b"",
        )
    )


def _encode_camera(camera: Intrinsics | None) -> bytes:
    if camera is None:
        return b""
    model = _MODELS.index(camera.distortion_model) if camera.distortion_model in _MODELS else 0
    bend = camera.distortion if model else ()
    return _CAMERA.pack(
        camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy, model, len(bend)
    ) + struct.pack(f"<{len(bend)}d", *bend)


def decode_features(blob: bytes) -> LocalFeatures:
    """The features that :func:`encode_features` wrote.

    Raises:
        FeatureError: the bytes are damaged, or of a version that this program does not know.
    """
    try:
        magic, count, width, height, flags, _ = _HEAD.unpack_from(blob)
        camera, at = _decode_camera(blob, _HEAD.size) if flags & _HAS_CAMERA else (None, _HEAD.size)
    except (struct.error, IndexError) as error:
        raise FeatureError("local features are cut off") from error
    if magic != _MAGIC:
        raise FeatureError(f"local features begin with {magic!r} instead of {_MAGIC!r}: another version made them")
    ends = np.cumsum([at, 4 * count, DESCRIPTOR_BYTES * count, 2 * count if flags & _HAS_DEPTH else 0]).tolist()
    if ends[-1] != len(blob):
        raise FeatureError(f"local features have {len(blob)} bytes instead of {ends[-1]}")
    side = max(width, height, 1)
    points = np.frombuffer(blob[ends[0] : ends[1]], "<u2").reshape(-1, 2) * np.float32(side / _STEPS)
    descriptors = np.frombuffer(blob[ends[1] : ends[2]], np.uint8).reshape(-1, DESCRIPTOR_BYTES)
    depths = np.full(count, np.nan, np.float32)
    if flags & _HAS_DEPTH:
        stored = np.frombuffer(blob[ends[2] : ends[3]], "<f2").astype(np.float32)
        depths = np.where(stored > 0.0, stored, np.float32(np.nan))
    return LocalFeatures(np.asarray(points, np.float32), descriptors, depths, width, height, camera)


def _decode_camera(blob: bytes, at: int) -> tuple[Intrinsics, int]:
    width, height, fx, fy, cx, cy, model, count = _CAMERA.unpack_from(blob, at)
    at += _CAMERA.size
    bend = struct.unpack_from(f"<{count}d", blob, at)
    return Intrinsics(width, height, fx, fy, cx, cy, bend, _MODELS[model]), at + 8 * count
