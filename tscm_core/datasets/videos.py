"""Frames of videos: neighbours in one video show the same place, other areas do not.

``frames.csv`` holds ``image,video,frame[,floor][,split]``: file name, name of the video, number of the frame, and where
they are known the area (a floor) and what the frame is for (``query`` or ``gallery``). Two videos of one area may show
the same place or not: nobody knows, so such a pair is neither positive nor negative.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import ConfigError, DatasetError

COLUMNS = {"image", "video", "frame"}
SPLITS = {"query": (True, False), "gallery": (False, True), "database": (False, True)}
"""What a frame of a split is: query, database."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One line of ``frames.csv``."""

    image: str
    video: str
    frame: int
    floor: str
    split: str


def read_frames(path: Path) -> list[VideoFrame]:
    """The lines of ``frames.csv``. Without a floor a video is an area of its own; without a split it is empty.

    Raises:
        DatasetError: the file cannot be read, lacks a column, or a frame is no number or has an unknown split.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"frames {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not rows or not rows[0].keys() >= COLUMNS:
        raise DatasetError(f"frames {path} must have a first line image,video,frame[,floor][,split] and lines below it")
    return [_frame(path, number, row) for number, row in enumerate(rows, start=2)]


def _frame(path: Path, line: int, row: dict[str, str | None]) -> VideoFrame:
    image, video, split = row["image"] or "", row["video"] or "", row.get("split") or ""
    if not image or not video:
        raise DatasetError(f"frames {path}, line {line}: image and video must be named")
    if split not in {"", *SPLITS}:
        raise DatasetError(f"frames {path}, line {line}: the split must be one of {', '.join(SPLITS)}, not {split!r}")
    try:
        return VideoFrame(image, video, int(row["frame"] or ""), row.get("floor") or f"video {video}", split)
    except ValueError as error:
        raise DatasetError(f"frames {path}, line {line}: the frame must be a whole number") from error


@dataclass(frozen=True, slots=True)
class FramesSource:
    """A folder with ``frames.csv`` and the images, beside it or in its folder ``images``; lengths are frames.

    ``areas`` and ``videos`` choose, ``areas_not`` and ``videos_not`` leave out; empty lists choose everything.
    ``protocol``: ``all``, every frame is query and database, for training; ``held_out``, the same, but a positive must
    be at least ``min_gap`` frames away, as the next frame would be found by anything; ``split``, as the file says.
    Far frames of one video may still show the same place, therefore ``negative_radius`` is infinite unless it is given.
    """

    folder: Path
    frames: Path | None = None
    areas: tuple[str, ...] = ()
    areas_not: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    videos_not: tuple[str, ...] = ()
    protocol: Literal["all", "held_out", "split"] = "all"
    positive_radius: float = 4.0
    negative_radius: float = float("inf")
    min_gap: float | None = None

    def open(self) -> PlaceSet:
        """Read the places.

        Raises:
            ConfigError: an area or a video that is chosen or left out does not exist.
            DatasetError: the file cannot be read, the choice is empty, or the limits are unfit.
        """
        table = self.frames or self.folder / "frames.csv"
        chosen = self._choose(read_frames(table))
        if not chosen:
            raise DatasetError(f"frames {table}: nothing is left of the areas and videos that were chosen")
        if self.protocol == "split" and not all(frame.split for frame in chosen):
            raise DatasetError(f"frames {table} has no split for every frame: choose the protocol all or held_out")
        roles = [SPLITS[frame.split] if self.protocol == "split" else (True, True) for frame in chosen]
        gap = (2.0 if self.protocol == "held_out" else 0.0) if self.min_gap is None else self.min_gap
        folder = self.folder / "images" if (self.folder / "images").is_dir() else self.folder
        owner = table.resolve()
        return make_places(
            self.folder.name,
            [folder / frame.image for frame in chosen],
            [(frame.frame, 0) for frame in chosen],
            limits=Limits(self.positive_radius, self.negative_radius, min_gap=gap),
            frames=[f"{owner}: {frame.floor}: {frame.video}" for frame in chosen],
            areas=[f"{owner}: {frame.floor}" for frame in chosen],
            is_query=[query for query, _ in roles],
            is_database=[database for _, database in roles],
        )

    def _choose(self, frames: list[VideoFrame]) -> list[VideoFrame]:
        floors, videos = {frame.floor for frame in frames}, {frame.video for frame in frames}
        asked = (("areas", floors), ("areas_not", floors), ("videos", videos), ("videos_not", videos))
        for key, known in asked:
            if unknown := [name for name in getattr(self, key) if name not in known]:
                raise ConfigError(
                    f"frames.{key}: there is no {unknown[0]!r}; there are {', '.join(sorted(known)[:30])}"
                )
        return [
            frame
            for frame in frames
            if (not self.areas or frame.floor in self.areas)
            and (not self.videos or frame.video in self.videos)
            and frame.floor not in self.areas_not
            and frame.video not in self.videos_not
        ]
