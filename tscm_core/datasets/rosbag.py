"""Reading drives from ROS 2 bags (mcap or sqlite3), without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.typesys import Stores, get_typestore

from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.datasets.pose_messages import intrinsics_from_message, pose_from_odometry
from tscm_core.errors import BagError, ImageError
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Frame, Intrinsics

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Which topics of a bag to read; an empty name stands for the only one of its type."""

    image: str = ""
    odometry: str = ""
    camera_info: str = ""


class DriveBag:
    """One camera's images in a bag, each with the pose at its stamp where the bag has odometry."""

    def __init__(self, path: Path, topics: BagTopics | None = None, max_gap_s: float = 0.5) -> None:
        self.path = path
        self._wanted = topics or BagTopics()
        self._max_gap_ns = round(max_gap_s * 1e9)

    def __enter__(self) -> DriveBag:
        """Open the bag and find its topics.

        Raises:
            BagError: it cannot be read, has no images, or has several topics to choose from.
        """
        try:
            self._reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._reader.open()
        except FileNotFoundError as error:
            raise BagError(self.path, "does not exist, or has no metadata.yaml") from error
        except Exception as error:  # rosbags lets errors of yaml, sqlite3 and struct through
            raise BagError(self.path, f"cannot be read: {_first_line(error)}") from error
        try:
            self._find_topics()
        except BagError:
            self._reader.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag."""
        self._reader.close()

    def _find_topics(self) -> None:
        image = self._connection(IMAGE_TYPES, self._wanted.image, "image")
        if image is None:
            kinds = sorted({connection.msgtype for connection in self._reader.connections})
            raise BagError(self.path, f"has no images: it holds {', '.join(kinds) or 'nothing'}")
        self.image: Connection = image
        self.odometry = self._connection((ODOMETRY_TYPE,), self._wanted.odometry, "odometry")
        self.camera_info = self._connection((CAMERA_INFO_TYPE,), self._wanted.camera_info, "camera-info")
        self.image_count = image.msgcount

    def _connection(self, kinds: tuple[str, ...], topic: str, option: str) -> Connection | None:
        fitting = [connection for connection in self._reader.connections if connection.msgtype in kinds]
        names = ", ".join(sorted({connection.topic for connection in fitting})) or "none"
        if topic:
            fitting = [connection for connection in fitting if connection.topic == topic]
            if not fitting:
                raise BagError(self.path, f"has no {option} topic {topic}: there is {names}")
        if len({connection.topic for connection in fitting}) > 1:
            raise BagError(self.path, f"has several {option} topics, choose one with --{option}-topic: {names}")
        return fitting[0] if fitting else None

    def frames(self, refuse: Callable[[int, ImageError], None] | None = None) -> Iterator[Frame]:
        """The images in the order of the bag, RGB, with poses interpolated at their stamps.

        Args:
            refuse: called with the stamp and the reason for each image that cannot be used; without it the first such
                image ends the reading.

        Raises:
            ImageError: an image cannot be used, and nobody asked to be told.
            BagError: the bag is damaged.
        """
        track, intrinsics = self._track(), self._intrinsics()
        for stamp_ns, message in self._messages(self.image):
            try:
                image = rgb_from_message(message)
            except ImageError as error:
                if refuse is None:
                    raise
                refuse(stamp_ns, error)
                continue
            yield Frame(stamp_ns, image, track.at(stamp_ns, self._max_gap_ns), message.header.frame_id, intrinsics)

    def _track(self) -> PoseTrack:
        track = PoseTrack(capacity=10**9)
        if self.odometry:
            poses = ((stamp_ns, pose_from_odometry(message)) for stamp_ns, message in self._messages(self.odometry))
            for stamp_ns, pose in sorted(poses, key=lambda item: item[0]):
                if pose is not None:
                    track.add(stamp_ns, pose)
        return track

    def _intrinsics(self) -> Intrinsics | None:
        if not self.camera_info:
            return None
        for _, message in self._messages(self.camera_info):
            return intrinsics_from_message(message)
        return None

    def _messages(self, connection: Connection) -> Iterator[tuple[int, Any]]:
        try:
            for at, received_ns, raw in self._reader.messages([connection]):
                message: Any = self._reader.deserialize(raw, at.msgtype)
                stamp = message.header.stamp
                yield (stamp.sec * 10**9 + stamp.nanosec) or received_ns, message
        except Exception as error:  # as above, and those of the decompressors
            raise BagError(self.path, f"is damaged: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Parsers print the whole text that they could not parse."""
    return (str(error).splitlines() or [type(error).__name__])[0]
