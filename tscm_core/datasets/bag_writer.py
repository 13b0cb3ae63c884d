"""Writing drives as ROS 2 bags, without ROS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError
from rosbags.typesys import Stores, get_typestore

from tscm_core.datasets.depth_messages import millimetres_from_depth
from tscm_core.datasets.image_folder import FIRST_STAMP_NS, read_image_folder
from tscm_core.datasets.positions import Position, match_positions
from tscm_core.errors import BagError
from tscm_core.recognition.records import Depth, Intrinsics, Pose

__all__ = [
    "CAMERA_INFO_TOPIC", "DEPTH_TOPIC", "FIRST_STAMP_NS", "IMAGE_TOPIC", "ODOMETRY_TOPIC", "DriveWriter", "Storage",
    "bag_from_images", "fresh_bag",
]  # fmt: skip

IMAGE_TOPIC = "/camera/image_raw"
DEPTH_TOPIC = "/camera/depth/image_rect_raw"
CAMERA_INFO_TOPIC = "/camera/camera_info"
ODOMETRY_TOPIC = "/odometry"
Storage = Literal["mcap", "sqlite3"]
_PLUGINS = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


class DriveWriter:
    """Writes images, depth, odometry and camera info into a bag; all else goes before the image of the same stamp."""

    def __init__(self, path: Path, storage: Storage = "mcap") -> None:
        self._path = path
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._storage = _PLUGINS[storage]
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> DriveWriter:
        """Create the bag.

        Raises:
            BagError: something is already there, or it cannot be created.
        """
        try:
            self._writer = Writer(self._path, version=8, storage_plugin=self._storage)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise BagError(self._path, f"cannot be written: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the bag and wait until it is on the disk; after an error, remove what there is of it."""
        self._writer.close()
        if kind is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            return
        for file in self._path.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())

    def image(self, stamp_ns: int, pixels: NDArray[np.uint8], encoding: str, frame_id: str = "camera") -> None:
        """One image, ``uint8 [H, W]`` (mono8) or ``uint8 [H, W, 3]`` (bgr8 or rgb8)."""
        self._picture(IMAGE_TOPIC, stamp_ns, frame_id, encoding, pixels)

    def depth(self, stamp_ns: int, depth: Depth, frame_id: str = "camera") -> None:
        """Depth registered to the image of the same stamp, metres float32 [H, W], as 16UC1: whole millimetres."""
        self._picture(DEPTH_TOPIC, stamp_ns, frame_id, "16UC1", millimetres_from_depth(depth).astype("<u2"))

    def odometry(self, stamp_ns: int, pose: Pose) -> None:
        """One pose, in its own frame."""
        types = self._types.types
        point = types["geometry_msgs/msg/Point"](*pose.position)
        quaternion = types["geometry_msgs/msg/Quaternion"](*pose.orientation)
        zero = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
        message = types["nav_msgs/msg/Odometry"](
            self._header(stamp_ns, pose.frame_id),
            "base_link",
            types["geometry_msgs/msg/PoseWithCovariance"](
                types["geometry_msgs/msg/Pose"](point, quaternion), np.zeros(36)
            ),
            types["geometry_msgs/msg/TwistWithCovariance"](types["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36)),
        )
        self._write(ODOMETRY_TOPIC, "nav_msgs/msg/Odometry", stamp_ns, message)

    def camera_info(self, stamp_ns: int, camera: Intrinsics, frame_id: str = "camera") -> None:
        """The intrinsics of a camera, with its distortion."""
        types = self._types.types
        k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
        p = np.insert(k, (3, 6, 9), 0.0)
        roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        message = types["sensor_msgs/msg/CameraInfo"](
            self._header(stamp_ns, frame_id), camera.height, camera.width, camera.distortion_model or "plumb_bob",
            np.array(camera.distortion or (0.0,) * 5), k, np.eye(3).reshape(-1), p, 0, 0, roi,
        )  # fmt: skip
        self._write(CAMERA_INFO_TOPIC, "sensor_msgs/msg/CameraInfo", stamp_ns, message)

    def _picture(self, topic: str, stamp_ns: int, frame_id: str, encoding: str, pixels: NDArray[Any]) -> None:
        height, width = pixels.shape[:2]
        data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
        make = self._types.types["sensor_msgs/msg/Image"]
        message = make(self._header(stamp_ns, frame_id), height, width, encoding, 0, data.size // height, data)
        self._write(topic, "sensor_msgs/msg/Image", stamp_ns, message)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        types = self._types.types
        stamp = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        return types["std_msgs/msg/Header"](stamp, frame_id)

    def _write(self, topic: str, kind: str, stamp_ns: int, message: object) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._types)
        try:
            self._writer.write(self._connections[topic], stamp_ns, self._types.serialize_cdr(message, kind))
        except OSError as error:
            raise BagError(self._path, f"cannot be written: {error.strerror}") from error


def bag_from_images(
    folder: Path, out: Path, rate_hz: float, positions: Path | None = None, storage: Storage = "mcap"
) -> Iterator[int]:
    """Write the images of a folder as a drive; yields the number of images written so far.

    Odometry comes from ``positions``, or from ``positions.csv`` in the folder or beside it, or there is none; camera
    info from ``camera.yaml`` and depth from the folder ``depth`` there.

    Raises:
        DatasetError: no images, unreadable images or images without a position, or a calibration that cannot be read.
        ImageError: a depth image cannot be read.
        BagError: the bag exists already or cannot be written.
    """
    drive = read_image_folder(folder, positions)
    places: list[Position] = []
    if drive.positions_file:
        places = match_positions(list(drive.images), drive.positions, drive.positions_file)
    with DriveWriter(out, storage) as bag:
        for number, path in enumerate(drive.images):
            stamp_ns = drive.stamp_ns(number, rate_hz)
            if places:
                bag.odometry(stamp_ns, places[number].pose)
            if drive.intrinsics:
                bag.camera_info(stamp_ns, drive.intrinsics)
            depth = drive.depth_of(path)
            if depth is not None:
                bag.depth(stamp_ns, depth)
            pixels = drive.pixels(path)
            bag.image(stamp_ns, pixels, "mono8" if pixels.ndim == 2 else "bgr8")
            yield number + 1


@contextmanager
def fresh_bag(path: Path, overwrite: bool) -> Iterator[Path]:
    """A path where a bag may be written: with ``overwrite``, an old bag gives way once the new one is complete.

    Raises:
        BagError: something is there, and it may not, or is no bag that could be, replaced.
    """
    if path.suffix == ".bag":
        raise BagError(path, "ends in .bag, which readers take for a ROS 1 bag: leave the ending out")
    if not path.exists():
        yield path
        return
    if not overwrite:
        raise BagError(path, "exists already: choose another name, or --overwrite")
    if not (path / "metadata.yaml").is_file():
        raise BagError(path, "exists and is not a bag: it is left alone")
    aside = path.with_name(f".{path.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside / path.name  # a bag names its files after its folder
        shutil.rmtree(path)
        (aside / path.name).rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
