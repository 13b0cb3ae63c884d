"""Sequences of the KITTI odometry benchmark (Geiger, Lenz, Urtasun, CVPR 2012), as they are downloaded.

``sequences/00/image_2/000000.png``, ``sequences/00/times.txt`` (seconds), ``sequences/00/calib.txt`` (P0 to P3, 3 x 4
each) and ``poses/00.txt`` (3 x 4 a line: camera 0 in the axes that it had at the first image). All but the images may
be missing, but not both text files of the sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.image_folder import CAMERA_FRAME, FIRST_STAMP_NS, read_rgb
from tscm_core.datasets.positions import list_images
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.records import Frame, Intrinsics, Pose

CAMERAS = ("image_2", "image_0", "image_3", "image_1")
"""Folders of the four cameras, the preferred first: left colour, left grey, right colour, right grey."""

RATE_HZ = 10.0
"""Of the recordings, for a sequence without ``times.txt``."""

FRAME_ID = "kitti"
"""Frame of the poses: x forward, y left, z up, of camera 0 at the first image."""

_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""From a camera's axes (x right, y down, z forward) to x forward, y left, z up."""


def is_kitti_sequence(path: Path) -> bool:
    """Whether a folder has a camera's folder and ``times.txt`` or ``calib.txt``."""
    has_camera = any((path / name).is_dir() for name in CAMERAS)
    return has_camera and any((path / name).is_file() for name in ("times.txt", "calib.txt"))


class KittiSequence:
    """One camera's images of a sequence, with poses where there is ground truth (sequences 00 to 10)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> KittiSequence:
        """Read the text files.

        Raises:
            DatasetError: no images, a text file that cannot be read, or one that has no line for an image.
        """
        camera = next(name for name in CAMERAS if (self.path / name).is_dir())
        self._images = list_images(self.path / camera)
        self.image_count = len(self._images)
        times, poses = self.path / "times.txt", self._poses_file()
        self._times = _read_rows(times, 1) if times.is_file() else None
        self._poses = _read_rows(poses, 12) if poses else None
        self._calibration = self._read_calibration(f"P{camera[-1]}")
        self._numbers = [self._number(image, times, poses) for image in self._images]
        self.pose_source = str(poses or "")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The frames; see ``DriveSource.frames``."""
        for number, path in zip(self._numbers, self._images, strict=True):
            seconds = number / RATE_HZ if self._times is None else float(self._times[number, 0])
            stamp_ns = FIRST_STAMP_NS + round(seconds * 1e9)
            if wanted is not None and stamp_ns not in wanted:
                continue
            try:
                image = read_rgb(path)
            except ImageError as error:
                if refuse is None:
                    raise
                refuse(stamp_ns, error)
                continue
            pose = None if self._poses is None else pose_from_camera_axes(self._poses[number].reshape(3, 4))
            yield Frame(stamp_ns, image, pose, CAMERA_FRAME, self._intrinsics(image))

    def _poses_file(self) -> Path | None:
        sequence = self.path.resolve()
        places = (sequence.parent.parent / "poses" / f"{sequence.name}.txt", self.path / "poses.txt")
        return next((place for place in places if place.is_file()), None)

    def _number(self, image: Path, times: Path, poses: Path | None) -> int:
        """Which line of the text files is an image's: its name says so, also where some images were left out."""
        if not image.stem.isdecimal():
            raise DatasetError(f"image {image} must be called by its number, as 000000.png, to have a line in {times}")
        number = int(image.stem)
        for rows, file in ((self._times, times), (self._poses, poses)):
            if rows is not None and number >= len(rows):
                raise DatasetError(f"{file} has {len(rows)} lines, none of them for image {image.name}: get it whole")
        return number

    def _read_calibration(self, name: str) -> NDArray[np.float64] | None:
        """The projection [3, 4] of a camera."""
        file = self.path / "calib.txt"
        if not file.is_file():
            return None
        for line in _read_lines(file):
            head, _, numbers = line.partition(":")
            if head == name:
                return _row(file, numbers, 12).reshape(3, 4)
        raise DatasetError(f"calibration {file} has no line {name}:")

    def _intrinsics(self, image: NDArray[np.uint8]) -> Intrinsics | None:
        p = self._calibration
        if p is None:
            return None
        return Intrinsics(
            image.shape[1], image.shape[0], float(p[0, 0]), float(p[1, 1]), float(p[0, 2]), float(p[1, 2])
        )


def pose_from_camera_axes(matrix: NDArray[np.float64]) -> Pose:
    """A pose in ``FRAME_ID`` from one, [3, 4], in camera axes (x right, y down, z forward) on both sides."""
    x, y, z = (float(value) for value in _AXES @ matrix[:, 3])
    turn, _ = cv2.Rodrigues(_AXES @ matrix[:, :3] @ _AXES.T)
    angle = float(np.linalg.norm(turn))
    a, b, c = (float(value) for value in turn.ravel() * (math.sin(angle / 2.0) / angle if angle > 1e-12 else 0.5))
    return Pose((x, y, z), (a, b, c, math.cos(angle / 2.0)), FRAME_ID)


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _read_rows(file: Path, count: int) -> NDArray[np.float64]:
    """Numbers of a text file, [lines, count]."""
    lines = _read_lines(file)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DatasetError(f"{file} is empty")
    return np.stack([_row(file, line, count, f", line {number}") for number, line in enumerate(lines, 1)])


def _row(file: Path, text: str, count: int, where: str = "") -> NDArray[np.float64]:
    try:
        row = np.array([float(word) for word in text.split()], np.float64)
    except ValueError as error:
        raise DatasetError(f"{file}{where}: {error}") from error
    if len(row) != count or not np.isfinite(row).all():
        raise DatasetError(f"{file}{where} must hold {count} finite numbers, not {len(row)}")
    return row
