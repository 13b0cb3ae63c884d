"""Hostile messages out of bytes: images whose fields disagree, poses and stamps of any number."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from tscm_core.config import Config
from tscm_core.datasets.depth_messages import depth_from_message
from tscm_core.datasets.image_messages import ENCODINGS, rgb_from_message
from tscm_core.datasets.pose_messages import intrinsics_from_message, pose_from_odometry, stamp_of
from tscm_core.errors import ImageError
from tscm_core.maps.map_format import keyframe_row
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.local_features import scaled
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Frame, Intrinsics, Observation, Rgb

_IMAGE = struct.Struct("<HHI4B")
_WORLD = struct.Struct("<iI7d9d8dBBII")
_NAMES = (
    *ENCODINGS,
    "32FC1",
    "64FC1",
    "16SC1",
    "8UC2",
    "",
    "rgb8; jpeg",
    "bayer_rggb8",
    "purple8",
    "16UC1; compressedDepth png",
)
_FORMATS = ("jpeg", "png", "", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed", "16UC1; compressedDepth",
            "32FC1; compressedDepth", "mono16; png compressedDepth", "bayer_x; png")  # fmt: skip
_MODELS = ("plumb_bob", "rational_polynomial", "equidistant", "", "fov")
_MOST = 1 << 20


def raw_message(data: bytes) -> Any:
    """A ``sensor_msgs/Image``; where a flag says so, the data are made as long as the fields want."""
    head, rest = data[: _IMAGE.size].ljust(_IMAGE.size, b"\0"), data[_IMAGE.size :]
    height, width, step, encoding, big, flags, scale = _IMAGE.unpack(head)
    if flags & 1:
        step = width * (1 + flags // 2 % 8)
    rows = height * (2 + scale % 5) // 2
    if flags & 16 and 0 < rows * step <= _MOST:
        rest = (rest or b"\0") * (rows * step // max(len(rest), 1) + 1)
        rest = rest[: rows * step]
    size = {"height": height << (16 * (flags >> 7)), "width": width, "step": step}
    return SimpleNamespace(**size, encoding=_NAMES[encoding % len(_NAMES)], is_bigendian=big, data=array("B", rest))


def compressed_message(data: bytes) -> Any:
    """A ``sensor_msgs/CompressedImage``: the first byte chooses the format."""
    return SimpleNamespace(format=_FORMATS[(data[0] if data else 0) % len(_FORMATS)], data=array("B", data[1:]))


class Reader:
    """Picture and depth of a message, each or a refusal."""

    def __init__(self, kind: str) -> None:
        self._make = raw_message if kind == "raw" else compressed_message

    def __call__(self, data: bytes) -> None:
        """Raises a refusal only where the message is neither a picture nor depth."""
        message = self._make(data)
        refused: ImageError | None = None
        try:
            image = rgb_from_message(message)
            assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
            assert image.flags.c_contiguous
        except ImageError as error:
            refused = error
        try:
            depth = depth_from_message(message)
            assert depth.dtype == np.float32
            assert np.isfinite(depth).all()
            assert (depth >= 0.0).all()
        except ImageError:
            if refused is not None:
                raise refused from None


class MessagePath:
    """What the node does with an image, its odometry and its camera info, down to the messages that it sends."""

    def __init__(self, describer: Describer, config: Config, picture: Rgb) -> None:
        self._describer, self._config, self._picture = describer, config, picture
        camera = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
        first = LoopDetector(describer, config).observe(Frame(-(2**62), picture, None, "camera", camera))
        assert first.keyframe is not None
        self._first = first.keyframe

    def __call__(self, data: bytes) -> None:
        """A map of one place, and then this."""
        world, rest = data[: _WORLD.size].ljust(_WORLD.size, b"\0"), data[_WORLD.size :]
        sec, nanosec, *numbers, model, count, width, height = _WORLD.unpack(world)
        header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="odom")
        image = self._picture if model & 64 else rgb_from_message(raw_message(rest))
        track, stamp_ns = PoseTrack(), stamp_of(header)
        for late in (-1, 0, 3):
            pose = pose_from_odometry(odometry(numbers[:7], header))
            if pose is not None:
                track.add(stamp_ns + late, pose)
        info = camera_info(numbers[7:16], numbers[16 : 16 + count % 9], _MODELS[model % 5], (width, height), count)
        camera = intrinsics_from_message(info)
        fitted = None if camera is None else scaled(camera, image.shape[1], image.shape[0])
        detector = LoopDetector(self._describer, self._config)
        detector.restore([self._first], (), "next")
        for step in range(2):
            stamp = stamp_ns + step * 10**9
            seen = detector.observe(Frame(stamp, image, track.at(stamp, 10**9), "camera", fitted))
            self.to_messages(seen)
            if seen.keyframe is not None:
                keyframe_row(seen.keyframe, 1, self._describer.dim)

    @staticmethod
    def to_messages(seen: Observation) -> None:
        """All messages of an observation, where ROS is installed: their setters hold every range."""
        try:
            from tscm_ros import messages
        except ImportError:
            return
        sender, counts = messages.Sender("robot", "model"), messages.Counts(0, 0, 1.0)
        messages.to_frame_status(seen, seen.stage_times, sender, "camera", counts)
        messages.to_loop_candidates(seen, seen.stage_times, sender, "camera")
        for candidate in seen.candidates:
            messages.to_candidate(candidate)
        if seen.keyframe is not None:
            messages.to_keyframe(seen.keyframe, sender, "camera")


def odometry(numbers: list[float], header: Any) -> Any:
    """A ``nav_msgs/Odometry``."""
    x, y, z, *turn = numbers
    position = SimpleNamespace(x=x, y=y, z=z)
    orientation = SimpleNamespace(**dict(zip("xyzw", turn, strict=True)))
    return SimpleNamespace(
        header=header, pose=SimpleNamespace(pose=SimpleNamespace(position=position, orientation=orientation))
    )


def camera_info(k: list[float], d: list[float], model: str, size: tuple[int, int], bits: int) -> Any:
    """A ``sensor_msgs/CameraInfo``; ``bits`` are binning and a region."""
    region = SimpleNamespace(width=size[0] // 2 if bits & 64 else 0, height=size[1] // 2, x_offset=3, y_offset=2)
    return SimpleNamespace(
        k=k,
        d=d,
        distortion_model=model,
        width=size[0],
        height=size[1],
        roi=region,
        binning_x=bits >> 4,
        binning_y=bits & 3,
    )


def _raw_seeds() -> list[bytes]:
    small = bytes(range(256))
    return [_IMAGE.pack(6, 8, 0, number, 0, 17 + 2 * 7, 0) + small for number in range(len(_NAMES))]


def _compressed_seeds() -> list[bytes]:
    image = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)
    pictures = (image, image[..., 0], np.dstack([image, image[..., :1]]), deep)
    files = [
        bytes(cv2.imencode(end, item)[1])
        for item in pictures
        for end in (".png", ".jpg")
        if item is not deep or end == ".png"
    ]
    progressive = bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1])
    kinds = [bytes([number]) + file for number in (0, 4) for file in (*files, progressive)]
    return [*kinds, bytes([5]) + b"\0" * 12 + files[-1], bytes([6]) + struct.pack("<iff", 0, 100.0, 1.0) + files[-1]]


def _path_seeds() -> list[bytes]:
    k = [300.0, 0.0, 159.5, 0.0, 300.0, 119.5, 0.0, 0.0, 1.0]
    world = [
        _WORLD.pack(sec, 5, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, *k, 0.1, 0.01, *[0.0] * 6, 64 + model, count, 320, 240)
        for sec, model, count in ((1, 0, 5), (-5, 1, 8), (9, 2, 4), (7, 3, 0))
    ]
    return [*world, *(head[:-10] + bytes([0, 5]) + head[-8:] + raw for head in world[:1] for raw in _raw_seeds()[:6])]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "raw": _raw_seeds,
    "compressed": _compressed_seeds,
    "path": _path_seeds,
}
