"""Reading drives from ROS 2 bags (mcap or sqlite3), without ROS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from tscm_core.datasets.bag_files import reason
from tscm_core.datasets.bag_topics import BagTopics, Chosen, PoseTopic, Topic, TopicChooser
from tscm_core.datasets.depth_messages import depth_from_message
from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.datasets.pose_messages import intrinsics_from_message, intrinsics_problem, stamp_of
from tscm_core.datasets.pose_sources import PoseSource, chain_of, track_of
from tscm_core.datasets.satellite_fixes import FIX_INTERVAL_NS
from tscm_core.datasets.stamp_pairing import Arrival, pair_nearest
from tscm_core.datasets.transform_tree import BODY_FRAMES, FIXED_FRAMES, TransformChain
from tscm_core.errors import BagError, ImageError, TscmError
from tscm_core.recognition.poses import PoseTrack
from tscm_core.recognition.records import Frame, Intrinsics, Pose

__all__ = ["DEPTH_WITHIN_NS", "BagTopics", "DriveBag"]

DEPTH_WITHIN_NS = 50_000_000
"""Depth whose stamp is further from the image's than this belongs to another moment."""


class DriveBag:
    """One camera's images in a bag, each with the pose at its stamp and with depth where the bag has them."""

    def __init__(self, path: Path, topics: BagTopics | None = None, max_gap_s: float = 0.5) -> None:
        self.path = path
        self._wanted = topics or BagTopics()
        self._max_gap_ns = round(max_gap_s * 1e9)
        self._true_poses: dict[int, Pose | None] = {}

    def __enter__(self) -> DriveBag:
        """Open the bag and find its topics.

        Raises:
            BagError: it cannot be read, has no images, or has several topics to choose from.
        """
        if self.path.suffix == ".bag":  # of ROS 1: the reader would take it, and its messages have other fields
            raise BagError(self.path, reason(self.path, FileNotFoundError()))
        try:
            self._reader = AnyReader([self.path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._reader.open()
        except Exception as error:  # rosbags lets errors of yaml, sqlite3 and struct through
            raise BagError(self.path, reason(self.path, error)) from error
        try:
            self.topics = self._choose_topics()
        except BagError:
            self._reader.close()
            raise
        self.image_count = self.topics.image.count
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag."""
        self._reader.close()

    @property
    def pose_source(self) -> str:
        """Where the poses come from, for a log line; empty if there are none."""
        poses, topic = self._poses, self.topics.pose
        if isinstance(poses, TransformChain):
            return f"{topic.name}: {poses.leaf} in {poses.root}"
        return f"{topic.name} ({topic.kind})" if topic.kind not in ("", "tf") else ""

    @property
    def odometry(self) -> str:
        """Where the poses of the frames come from, in a few words; see ``drive_source.WithTruth``."""
        return self.pose_source or "none"

    @property
    def true_poses(self) -> Mapping[int, Pose | None] | None:
        """By stamp, of the frames read so far; ``None`` if no topic of true poses was named."""
        return self._true_poses if self.topics.truth.kind else None

    @cached_property
    def intrinsics_problem(self) -> str:
        """Why the frames have no intrinsics although there is a camera info, for a log line; empty if they have."""
        info = self._first(self.topics.camera_info)
        return "" if info is None else str(self._guarded(lambda: intrinsics_problem(info)))

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The images in the order of the bag, RGB, with poses interpolated at their stamps and the nearest depth.

        Args:
            refuse: called with the stamp and the reason for each image, or its depth, that cannot be used; without it
                the first such ends the reading.
            wanted: stamps in nanoseconds; all other images are left out without the work of decoding them.

        Raises:
            ImageError: an image cannot be used, and nobody asked to be told.
            BagError: the bag is damaged.
        """
        poses, truth = self._poses, self._truth  # before the images: one file, one reader
        info = self._first(self.topics.camera_info)
        intrinsics = None if info is None else self._guarded(lambda: intrinsics_from_message(info))
        for image, depth in self._arrivals():
            if wanted is not None and image.stamp_ns not in wanted:
                continue
            try:
                frame = self._guarded(partial(self._frame, image, depth, poses, intrinsics))
            except ImageError as error:
                if refuse is None:
                    raise
                refuse(image.stamp_ns, error)
                continue
            if truth is not None:
                self._true_poses.setdefault(frame.stamp_ns, self._at(frame.stamp_ns, truth, self.topics.truth))
            yield frame

    def _at(self, stamp_ns: int, poses: PoseSource, topic: PoseTopic) -> Pose | None:
        return poses.at(stamp_ns, max(self._max_gap_ns, FIX_INTERVAL_NS if topic.kind == "fix" else 0))

    def _frame(self, image: Arrival, depth: Arrival | None, poses: PoseSource, intrinsics: Intrinsics | None) -> Frame:
        return Frame(
            image.stamp_ns,
            rgb_from_message(image.content),
            self._at(image.stamp_ns, poses, self.topics.pose),
            image.content.header.frame_id,
            intrinsics,
            None if depth is None else depth_from_message(depth.content),
        )

    def _choose_topics(self) -> Chosen:
        counts: dict[tuple[str, str], int] = {}
        for connection in self._reader.connections:  # a topic with several publishers may have several
            key = connection.topic, connection.msgtype
            counts[key] = counts.get(key, 0) + connection.msgcount
        topics = [Topic(name, kind, count) for (name, kind), count in counts.items()]
        return TopicChooser(self.path, topics, self._wanted, self._first).choose()

    def _arrivals(self) -> Iterator[tuple[Arrival, Arrival | None]]:
        image, depth = self.topics.image.name, self.topics.depth
        if not depth:
            yield from ((arrival, None) for arrival in self._messages(image))
            return
        yield from pair_nearest(self._messages(image, depth), DEPTH_WITHIN_NS)

    @cached_property
    def _poses(self) -> PoseSource:
        return self._source_of(self.topics.pose, asked=bool(self._wanted.pose or self._wanted.odometry))

    @cached_property
    def _truth(self) -> PoseSource | None:
        return self._source_of(self.topics.truth, asked=True) if self.topics.truth.kind else None

    def _source_of(self, told: PoseTopic, *, asked: bool) -> PoseSource:
        if not told.kind:
            return PoseTrack()
        if told.kind != "tf":
            track: PoseTrack = self._guarded(lambda: track_of(told.kind, self._stamped(told.name)))
            return track
        image = self._first(self.topics.image.name)
        frame = image.header.frame_id if image is not None else ""
        static = f"{told.name.removesuffix('_static')}_static"
        chain: TransformChain | None = self._guarded(
            lambda: chain_of(self._stamped(told.name), self._stamped(static), frame, told.fixed_frame)
        )
        if chain is None and asked:
            leaves = ", ".join(dict.fromkeys((frame, *BODY_FRAMES)))
            roots = told.fixed_frame or ", ".join(FIXED_FRAMES)
            raise BagError(self.path, f"has no tf that leads from one of {leaves} to one of {roots}")
        return chain or PoseTrack()

    def _stamped(self, topic: str) -> Iterator[tuple[int, Any]]:
        return ((arrival.stamp_ns, arrival.content) for arrival in self._messages(topic))

    def _first(self, topic: str) -> Any:
        """The first message of a topic; ``None`` if it has none or is not there."""
        return next((arrival.content for arrival in self._messages(topic)), None)

    def _messages(self, topic: str, second: str = "") -> Iterator[Arrival]:
        connections = [item for item in self._reader.connections if item.topic in (topic, second) and item.topic]
        if connections:
            yield from self._guard(self._read(connections, second))

    def _read(self, connections: list[Any], second: str) -> Iterator[Arrival]:
        for at, received_ns, raw in self._reader.messages(connections):
            message: Any = self._reader.deserialize(raw, at.msgtype)
            stamp_ns = stamp_of(message.header) if hasattr(message, "header") else 0
            yield Arrival(stamp_ns or received_ns, received_ns, message, at.topic == second)

    def _guard(self, arrivals: Iterator[Arrival]) -> Iterator[Arrival]:
        while True:
            item = self._guarded(lambda: next(arrivals, None))
            if item is None:
                return
            yield item

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except TscmError:
            raise
        except Exception as error:  # as above, those of the decompressors, and fields that a message lacks
            raise BagError(self.path, reason(self.path, error, "is damaged")) from error
