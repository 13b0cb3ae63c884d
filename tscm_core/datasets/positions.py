"""Ground truth beside images: ``positions.csv`` with ``image,x,y[,yaw]``, metres and degrees."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.encoded_images import is_cut_off
from tscm_core.errors import DatasetError
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Pose

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True)
class Position:
    """Where an image was taken: metres, and degrees counter-clockwise from x where the file gives them."""

    image: str
    x: float
    y: float
    yaw_deg: float | None

    @property
    def pose(self) -> Pose:
        """The same on the ground plane, heading along x when the file gives no yaw."""
        return pose_from_yaw(self.x, self.y, math.radians(self.yaw_deg or 0.0))


def list_images(folder: Path) -> list[Path]:
    """The images in ``folder``, or in its subfolder ``images`` if it has none of its own, in the order of their names.

    Raises:
        DatasetError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    for place in (folder, folder / "images"):
        images = sorted(path for path in place.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if images:
            return images
    raise DatasetError(f"{folder} holds no images ({', '.join(IMAGE_SUFFIXES)}), nor does a folder images in it")


def read_image(path: Path, flags: int) -> NDArray[np.uint8]:
    """The pixels of an image file as ``cv2.imread`` gives them for ``flags``.

    Raises:
        DatasetError: there is no such file, or it cannot be decoded, or it is a jpeg or png that is cut off, which
            OpenCV would fill with grey.
    """
    if not path.is_file():
        raise DatasetError(f"image {path} does not exist")
    try:
        data = path.read_bytes()
        whole = bool(data) and not is_cut_off(data)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if whole else None
    except OSError as error:
        raise DatasetError(f"image {path} cannot be read: {error.strerror}") from error
    except cv2.error:  # more pixels than OpenCV takes
        pixels = None
    if is_cut_off(data):
        raise DatasetError(f"image {path} cannot be decoded, as it is cut off: replace it or take it out")
    if pixels is None:
        raise DatasetError(f"image {path} cannot be decoded: replace it or take it out")
    return np.asarray(pixels, np.uint8)


def read_positions(path: Path) -> dict[str, Position]:
    """Positions by file name of the image.

    Raises:
        DatasetError: the file cannot be read, lacks a column, or holds something that is not a finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"positions {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows or not {"image", "x", "y"} <= rows[0].keys():
        raise DatasetError(f"positions {path} must have a first line image,x,y or image,x,y,yaw and lines below it")
    positions = [_position(path, number, row) for number, row in enumerate(rows, start=2)]
    return {position.image: position for position in positions}


def _position(path: Path, number: int, row: dict[str, str | None]) -> Position:
    try:
        x, y = float(row["x"] or ""), float(row["y"] or "")
        yaw = float(row["yaw"]) if row.get("yaw") else None  # type: ignore[arg-type]
    except ValueError as error:
        raise DatasetError(f"positions {path}, line {number}: {error}") from error
    if not all(math.isfinite(value) for value in (x, y, yaw or 0.0)):
        raise DatasetError(f"positions {path}, line {number}: x, y and yaw must be finite")
    return Position(row["image"] or "", x, y, yaw)


def match_positions(images: list[Path], positions: dict[str, Position], source: Path) -> list[Position]:
    """The position of each image.

    Raises:
        DatasetError: some images have none; all of them are counted and the first few named.
    """
    missing = [image.name for image in images if image.name not in positions]
    if missing:
        raise DatasetError(f"positions {source} lacks {len(missing)} of {len(images)} images: {', '.join(missing[:5])}")
    return [positions[image.name] for image in images]
