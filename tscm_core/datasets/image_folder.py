"""What a folder of a drive holds beside its images (positions, calibration, depth), and when they were taken.

``<drive>/images/*.jpg``, ``positions.csv``, ``camera.yaml``, ``depth/<stem>.png``: all but the images may be missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.camera_files import read_camera_file
from tscm_core.datasets.depth_messages import read_depth
from tscm_core.datasets.positions import IMAGE_SUFFIXES, Position, list_images, read_image, read_positions
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.records import Depth, Intrinsics

FIRST_STAMP_NS = 1_700_000_000_000_000_000
"""Stamp of the first image of a drive made from files: fixed, so that the same files make the same drive."""

CAMERA_FRAME = "camera"
"""Frame of the camera where nothing says its name."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """The files of a drive. ``positions`` are by file name of the image, and empty where there is no such file."""

    images: tuple[Path, ...]
    positions: dict[str, Position]
    positions_file: Path | None
    intrinsics: Intrinsics | None
    depth: Path | None

    def stamp_ns(self, number: int, rate_hz: float) -> int:
        """When image ``number``, from 0, was taken, at ``rate_hz`` images a second."""
        return FIRST_STAMP_NS + round(number * 1e9 / rate_hz)

    def pixels(self, image: Path) -> NDArray[np.uint8]:
        """Grey [H, W] or BGR [H, W, 3] uint8.

        Raises:
            DatasetError: the image cannot be decoded.
        """
        return read_image(image, cv2.IMREAD_ANYCOLOR)

    def depth_of(self, image: Path) -> Depth | None:
        """The depth image that belongs to an image, metres [H, W], or ``None`` if there is none.

        Raises:
            ImageError: it cannot be read.
        """
        file = self.depth / f"{image.stem}.png" if self.depth else None
        return read_depth(file) if file is not None and file.is_file() else None


def read_image_folder(folder: Path, positions: Path | None = None) -> ImageFolder:
    """Find out what a folder holds.

    Args:
        folder: with images, or around a folder ``images`` that holds them; whatever goes with the images may be in it
            or, where it is the folder ``images`` itself, beside it.
        positions: a file to read instead of ``positions.csv``.

    Raises:
        DatasetError: no images, or positions or calibration that cannot be read.
    """
    images = list_images(folder)
    around = dict.fromkeys((folder, images[0].parent.parent))
    table = positions or _first(around, "positions.csv")
    camera = _first(around, "camera.yaml")
    depth = next((place / "depth" for place in around if (place / "depth").is_dir()), None)
    return ImageFolder(
        tuple(images),
        read_positions(table) if table else {},
        table,
        read_camera_file(camera) if camera else None,
        depth if depth != images[0].parent else None,
    )


def holds_images(folder: Path) -> bool:
    """Whether ``read_image_folder`` would find images."""
    places = (folder, folder / "images")
    return any(path.suffix.lower() in IMAGE_SUFFIXES for place in places for path in place.glob("*"))


def rgb_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of what ``ImageFolder.pixels`` gives."""
    conversion = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """An image file as RGB [H, W, 3].

    Raises:
        ImageError: it cannot be decoded, or is cut off.
    """
    try:
        return rgb_of(read_image(path, cv2.IMREAD_ANYCOLOR))
    except DatasetError as error:
        raise ImageError(str(error)) from error


def _first(places: dict[Path, None], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)
