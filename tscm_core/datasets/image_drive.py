"""A drive in a folder of images, without a bag: the same frames as ``tscm bag from-images`` would put into one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType

from tscm_core.datasets.image_folder import CAMERA_FRAME, read_image_folder, read_rgb
from tscm_core.errors import ImageError
from tscm_core.recognition.records import Frame


class ImageDrive:
    """The images of a folder in the order of their names, ``rate_hz`` a second, with what lies beside them."""

    def __init__(self, path: Path, rate_hz: float = 2.0) -> None:
        self.path = path
        self._rate_hz = rate_hz

    def __enter__(self) -> ImageDrive:
        """Read all but the images and their depth.

        Raises:
            DatasetError: no images, or positions or calibration that cannot be read.
        """
        self._folder = read_image_folder(self.path)
        self.image_count = len(self._folder.images)
        self.pose_source = str(self._folder.positions_file or "")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        """The frames; see ``DriveSource.frames``. An image that the positions do not name has no pose."""
        folder = self._folder
        for number, path in enumerate(folder.images):
            stamp_ns = folder.stamp_ns(number, self._rate_hz)
            if wanted is not None and stamp_ns not in wanted:
                continue
            position = folder.positions.get(path.name)
            try:
                image, depth = read_rgb(path), folder.depth_of(path)
            except ImageError as error:
                if refuse is None:
                    raise
                refuse(stamp_ns, error)
                continue
            yield Frame(stamp_ns, image, position.pose if position else None, CAMERA_FRAME, folder.intrinsics, depth)
