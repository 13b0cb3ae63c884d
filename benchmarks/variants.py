"""Drives made of the images of folders, and the same two laps driven another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from tscm_core.datasets.image_folder import CAMERA_FRAME, FIRST_STAMP_NS, ImageFolder, read_image_folder, read_rgb
from tscm_core.errors import DatasetError, ImageError
from tscm_core.evaluation.ground_truth import Query, TruePlaces, Truth
from tscm_core.recognition.records import Frame, Pose, Rgb

STEP_S = 0.5
"""Between two images of a folder, which says nothing of time."""
STAND_S, STAND_HZ = 60.0, 15.0
STAND = "a minute's stand"
NOISE = 4.0
"""Standard deviation of the sensor noise that makes each image of a stand another one, in grey levels."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One image of a drive, ``at_s`` seconds after its beginning; ``noise`` is the seed of fresh sensor noise."""

    folder: ImageFolder
    number: int
    at_s: float = 0.0
    noise: int | None = None

    @property
    def pose(self) -> Pose | None:
        """Where it was taken."""
        position = self.folder.positions.get(self.folder.images[self.number].name)
        return position.pose if position else None

    @property
    def stamp_ns(self) -> int:
        """When it was taken."""
        return FIRST_STAMP_NS + round(self.at_s * 1e9)

    def image(self) -> Rgb:
        """RGB uint8 [H, W, 3]."""
        image = read_rgb(self.folder.images[self.number])
        if self.noise is None:
            return image
        grain = NOISE * np.random.default_rng(self.noise).standard_normal(image.shape, np.float32)
        return np.asarray(cv2.add(image, np.rint(grain).astype(np.int16), dtype=cv2.CV_8U), np.uint8)


Shots = tuple[Shot, ...]


class ShotDrive:
    """A drive made of shots; keeps the ``DriveSource`` protocol."""

    def __init__(self, path: Path, shots: Sequence[Shot]) -> None:
        self.path, self.shots = path, tuple(shots)
        self.image_count = len(self.shots)

    def __enter__(self) -> ShotDrive:
        """Nothing to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The frames; see ``DriveSource.frames``. Depth is left out: no figure here depends on it."""
        for shot in self.shots:
            if wanted is not None and shot.stamp_ns not in wanted:
                continue
            try:
                image = shot.image()
            except ImageError as error:
                if refuse is None:
                    raise
                refuse(shot.stamp_ns, error)
                continue
            yield Frame(shot.stamp_ns, image, shot.pose, CAMERA_FRAME, shot.folder.intrinsics)


def timed(shots: Sequence[Shot]) -> Shots:
    """The same shots one after another, ``STEP_S`` apart."""
    return tuple(dataclasses.replace(shot, at_s=number * STEP_S) for number, shot in enumerate(shots))


def all_of(path: Path) -> Shots:
    """The images of a folder in their order."""
    folder = read_image_folder(path)
    return timed([Shot(folder, number) for number in range(len(folder.images))])


def laps(text: str) -> tuple[Shots, Shots]:
    """Two laps from ``PATH1,PATH2``, or from one folder as ``PATH@IMAGES``, of which the first IMAGES are lap one.

    Raises:
        DatasetError: it is neither.
    """
    first, comma, second = text.partition(",")
    if comma:
        return all_of(Path(first)), all_of(Path(second))
    path, at, count = text.rpartition("@")
    if not at or not count.isdecimal():
        raise DatasetError(f"two laps are PATH1,PATH2 or PATH@IMAGES_OF_THE_FIRST, not {text!r}")
    shots = all_of(Path(path))
    return shots[: int(count)], shots[int(count) :]


def in_reverse(first: Shots, second: Shots) -> Shots:
    """The second lap backed up from its end."""
    return timed(first + second[::-1])


def at_half_speed(first: Shots, second: Shots, fine: Shots = ()) -> Shots:
    """The second lap with twice the images for a way: rendered so (``fine``), or against every second of the first."""
    return timed(first + fine) if fine else timed(first[::2] + second)


def with_losses(first: Shots, second: Shots) -> Shots:
    """Every third image lost; the others keep their stamps."""
    return tuple(shot for number, shot in enumerate(timed(first + second)) if number % 3 != 2)


def with_stand(first: Shots, second: Shots, truth: Truth) -> Shots:
    """A stand after the revisited place that is nearest to the middle of the second lap, each image with fresh noise.

    Raises:
        DatasetError: no place of the first lap is seen again on the second.
    """
    plain, at = timed(first + second), _revisited(first, second, truth)
    count = round(STAND_S * STAND_HZ)
    stand = (
        dataclasses.replace(plain[at], at_s=plain[at].at_s + number / STAND_HZ, noise=number)
        for number in range(1, count + 1)
    )
    later = (dataclasses.replace(shot, at_s=shot.at_s + STAND_S) for shot in plain[at + 1 :])
    return (*plain[: at + 1], *stand, *later)


def _revisited(first: Shots, second: Shots, truth: Truth) -> int:
    places = TruePlaces([shot.pose for shot in first + second], truth)
    middle = len(first) + len(second) // 2
    for number in sorted(range(len(first), len(first) + len(second)), key=lambda one: abs(one - middle)):
        if any(places.verdict(number, Query(len(first), tuple(range(len(first))))).right):
            return number
    raise DatasetError(f"{second[0].folder.images[0].parent}: no place of the first lap is seen on the second")


def variants(first: Shots, second: Shots, truth: Truth, fine: Shots = ()) -> dict[str, Shots]:
    """The drive as it is and its variants, by name."""
    return {
        "plain": timed(first + second),
        "in reverse": in_reverse(first, second),
        "at half speed": at_half_speed(first, second, fine),
        "every third lost": with_losses(first, second),
        STAND: with_stand(first, second, truth),
    }
