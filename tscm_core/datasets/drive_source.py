"""What a drive is to the rest of the program, and how to open one, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from tscm_core.datasets.bag_topics import BagTopics
from tscm_core.datasets.image_drive import ImageDrive
from tscm_core.datasets.image_folder import holds_images
from tscm_core.datasets.kitti import KittiSequence, is_kitti_sequence
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.records import Frame, Pose

BAG_SUFFIXES = (".mcap", ".db3", ".bag")


class DriveSource(Protocol):
    """The images of one camera in the order in which they were taken; to be used in a ``with`` block."""

    @property
    def path(self) -> Path:
        """Where the drive is kept."""

    @property
    def image_count(self) -> int:
        """Images in it, usable or not."""

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The frames; may be called again and gives the same.

        Args:
            refuse: called with the stamp and the reason for each image that cannot be used; without it the first such
                image ends the reading.
            wanted: stamps in nanoseconds; all other images are left out without the work of decoding them.

        Raises:
            ImageError: an image cannot be used, and nobody asked to be told.
            TscmError: the drive is damaged.
        """

    def __enter__(self) -> DriveSource:
        """Open it."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


@runtime_checkable
class WithTruth(Protocol):
    """A drive whose frames may carry other poses, for odometry, than those that judge what is found with them."""

    @property
    def odometry(self) -> str:
        """Where the poses of the frames come from, in a few words."""

    @property
    def true_poses(self) -> Mapping[int, Pose | None] | None:
        """By stamp, of the frames read so far; ``None`` if the frames carry the true poses themselves."""


def open_drive(
    path: Path, topics: BagTopics | None = None, max_gap_s: float = 0.5, rate_hz: float = 2.0
) -> DriveSource:
    """The drive in ``path``: a ROS 2 bag, a KITTI odometry sequence or a folder of images.

    Args:
        path: a bag (folder with ``metadata.yaml``, ``.mcap`` or ``.db3``), a folder with ``image_2`` or ``image_0`` and
            ``times.txt`` or ``calib.txt``, or a folder of images or around a folder ``images``.
        topics: which topics of a bag to read; the other two have none.
        max_gap_s: poses of a bag further from an image's stamp than this are not used.
        rate_hz: images a second in a folder of images, which says nothing of time.

    Raises:
        DatasetError: it is none of these, or a topic of true poses is asked of what is no bag. What is wrong inside one
            of them is said when the ``with`` block begins.
    """
    if path.suffix in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        return DriveBag(path, topics, max_gap_s)
    if topics is not None and topics.truth and path.exists() and not _holds_bag_files(path):
        raise DatasetError(f"{path} is no bag and has no topic {topics.truth} of true poses: leave --truth-topic out")
    if is_kitti_sequence(path):
        return KittiSequence(path)
    if holds_images(path):
        return ImageDrive(path, rate_hz)
    if _holds_bag_files(path):
        return DriveBag(path, topics, max_gap_s)  # which says what is missing
    state = "is none of the drives that are understood" if path.exists() else "does not exist"
    raise DatasetError(
        f"{path} {state}: give a ROS 2 bag (folder with metadata.yaml, .mcap or .db3), a KITTI odometry sequence "
        f"(folder with image_2 or image_0 and times.txt or calib.txt), or a folder of images"
    )


def _holds_bag_files(path: Path) -> bool:
    return path.is_dir() and any(item.suffix in BAG_SUFFIXES[:2] for item in path.iterdir())
