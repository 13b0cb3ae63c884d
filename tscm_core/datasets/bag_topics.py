"""Which topics of a bag make up a drive: the ones that were named, or the only ones that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscm_core.datasets.depth_messages import DEPTH_ENCODINGS
from tscm_core.errors import BagError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"
ODOMETRY_TYPE = "nav_msgs/msg/Odometry"
POSE_TYPES = ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped")
FIX_TYPE = "sensor_msgs/msg/NavSatFix"
TRANSFORM_TYPE = "tf2_msgs/msg/TFMessage"

POSE_KINDS = {"odometry": (ODOMETRY_TYPE,), "pose": POSE_TYPES, "fix": (FIX_TYPE,), "tf": (TRANSFORM_TYPE,)}
"""Kinds of topics that say where the robot is, the preferred first."""

WISHES = ("goal", "initialpose")
"""Poses on topics with these in their names say where somebody wants the robot, not where it is."""


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Which topics of a bag to read; an empty name stands for the only one of its type.

    ``pose`` names a topic of any type in ``POSE_KINDS``, or is ``tf`` or ``tf:FRAME`` for the tree of frames, with
    ``FRAME`` as the one that stands still. ``odometry`` means the same as ``pose``. ``truth`` is named in the same way:
    true poses, which the frames do not carry; it is never taken for ``pose`` unasked.
    """

    image: str = ""
    odometry: str = ""
    camera_info: str = ""
    pose: str = ""
    depth: str = ""
    truth: str = ""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a bag: its name, its type and the number of its messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class PoseTopic:
    """Where poses come from: ``kind`` is a key of ``POSE_KINDS``, empty: nowhere; ``fixed_frame`` of ``tf:FRAME``."""

    kind: str = ""
    name: str = ""
    fixed_frame: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The topics of one drive."""

    image: Topic
    camera_info: str = ""
    depth: str = ""
    pose: PoseTopic = PoseTopic()
    truth: PoseTopic = PoseTopic()


class TopicChooser:
    """Chooses among the topics of one bag.

    Args:
        path: of the bag, for sentences.
        topics: all of the bag.
        wanted: names that the user gave.
        peek: the first message of a topic; asked only where the names do not decide.
    """

    def __init__(self, path: Path, topics: Iterable[Topic], wanted: BagTopics, peek: Callable[[str], Any]) -> None:
        self._path, self._topics, self._wanted, self._peek = path, list(topics), wanted, peek

    def choose(self) -> Chosen:
        """The topics of the drive.

        Raises:
            BagError: there are no images, a named topic is not there, or there are several and none was named.
        """
        pictures = [topic for topic in self._topics if topic.type in IMAGE_TYPES]
        if not pictures:
            kinds = sorted({topic.type for topic in self._topics})
            raise BagError(self._path, f"has no images: it holds {', '.join(kinds) or 'nothing'}")
        image = self._only(pictures if self._wanted.image else self._colour(pictures), self._wanted.image, "image")
        assert image is not None  # there are pictures, and of several one was chosen
        truth = self._named_pose(self._wanted.truth, "truth") if self._wanted.truth else PoseTopic()
        pose = self._choose_pose(truth)
        return Chosen(image, self._choose_info(image), self._choose_depth(pictures, image), pose, truth)

    def _only(self, fitting: list[Topic], name: str, option: str) -> Topic | None:
        names = ", ".join(sorted(topic.name for topic in fitting)) or "none"
        if name:
            for topic in fitting:
                if topic.name == name:
                    return topic
            raise BagError(self._path, f"has no {option} topic {name}: there is {names}")
        filled = [topic for topic in fitting if topic.count] or fitting[:1]
        if len(filled) > 1:
            raise BagError(self._path, f"has several {option} topics, choose one with --{option}-topic: {names}")
        return filled[0] if filled else None

    def _colour(self, pictures: list[Topic]) -> list[Topic]:
        """Pictures that are not depth; by name too, unless that leaves none; all, where all are of depth."""
        if len(pictures) == 1:
            return pictures
        coloured = [topic for topic in pictures if not self._is_depth(topic)]
        return [topic for topic in coloured if "depth" not in topic.name.lower()] or coloured or pictures

    def _is_depth(self, topic: Topic) -> bool:
        if topic.type != IMAGE_TYPES[0] and "depth" not in topic.name.lower():
            return False  # compressed depth is called that by its transport
        first = self._peek(topic.name)
        if first is None:
            return "depth" in topic.name.lower()
        return first.encoding in ("16UC1", "32FC1") if hasattr(first, "encoding") else "compressedDepth" in first.format

    def _choose_depth(self, pictures: list[Topic], image: Topic) -> str:
        """The depth image of the same camera frame; one that was named is believed."""
        if self._wanted.depth:
            named = self._only([topic for topic in pictures if topic != image], self._wanted.depth, "depth")
            first = self._peek(self._wanted.depth)
            if hasattr(first, "encoding") and first.encoding not in DEPTH_ENCODINGS:
                raise BagError(self._path, f"has no depth on {self._wanted.depth}, but images of {first.encoding}")
            return named.name if named else ""
        others = [topic for topic in pictures if topic != image and topic.count and self._is_depth(topic)]
        frame = self._frame_of(image) if others else ""
        there = {topic.name for topic in others}
        registered = [
            topic
            for topic in others
            if self._frame_of(topic) == frame
            and topic.name.removesuffix("/compressedDepth") not in there - {topic.name}
        ]
        only = self._only(registered, "", "depth")
        return only.name if only else ""

    def _frame_of(self, topic: Topic) -> str:
        first = self._peek(topic.name)
        return str(first.header.frame_id) if first is not None else ""

    def _choose_info(self, image: Topic) -> str:
        """The camera info; of several that beside the image, as ROS names them."""
        infos = [topic for topic in self._topics if topic.type == CAMERA_INFO_TYPE]
        plain = image.name.removesuffix("/compressed")
        beside = f"{plain.rpartition('/')[0]}/camera_info"
        asked = self._wanted.camera_info or (beside if beside in {topic.name for topic in infos} else "")
        only = self._only(infos, asked, "camera-info")
        return only.name if only else ""

    def _choose_pose(self, truth: PoseTopic) -> PoseTopic:
        wanted, option = self._wanted.pose or self._wanted.odometry, "pose" if self._wanted.pose else "odometry"
        if self._wanted.pose and self._wanted.odometry not in ("", wanted):
            raise BagError(self._path, f"cannot have poses of both {self._wanted.odometry} and {wanted}: name one")
        if not wanted:
            return self._only_pose(truth)
        named = self._named_pose(wanted, option)
        if named == truth:
            raise BagError(self._path, f"cannot judge {wanted} by itself: name another topic with --truth-topic")
        return named

    def _named_pose(self, wanted: str, option: str) -> PoseTopic:
        if wanted == "tf" or wanted.startswith("tf:"):
            transforms = [topic for topic in self._topics if topic.type == TRANSFORM_TYPE]
            if not transforms:
                raise BagError(self._path, f"has no tf, which was asked for as {wanted}")
            return PoseTopic("tf", self._tf(transforms), wanted[3:])
        known = {kind for kinds in POSE_KINDS.values() for kind in kinds}
        named = self._only([topic for topic in self._topics if topic.type in known], wanted, option)
        assert named is not None  # else it would have raised
        return PoseTopic(next(kind for kind, types in POSE_KINDS.items() if named.type in types), named.name)

    def _only_pose(self, truth: PoseTopic) -> PoseTopic:
        """The only topic of the most preferred kind, but for that of the true poses."""
        for kind, types in POSE_KINDS.items():
            fitting = [topic for topic in self._topics if topic.type in types and topic.count]
            if kind == truth.kind:  # of tf nothing is left: the one tree tells the truth
                fitting = [topic for topic in fitting if topic.name != truth.name and kind != "tf"]
            if kind == "pose":
                fitting = [topic for topic in fitting if not any(wish in topic.name.lower() for wish in WISHES)]
            if kind == "tf" and fitting:
                return PoseTopic(kind, self._tf([topic for topic in self._topics if topic.type == TRANSFORM_TYPE]))
            only = self._only(fitting, "", "odometry" if kind == "odometry" else "pose")
            if only:
                return PoseTopic(kind, only.name)
        return PoseTopic()

    def _tf(self, transforms: list[Topic]) -> str:
        moving = [topic for topic in transforms if not topic.name.endswith("tf_static")] or transforms
        root = [topic for topic in moving if topic.name == "/tf"]
        only = self._only(root or moving, "", "pose")
        return only.name if only else ""
