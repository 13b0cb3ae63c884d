"""Small folders of pictures whose places are known, and videos of them."""

from __future__ import annotations

import cv2
import numpy as np
from toys import picture

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.positions import Position
from tscm_core.evaluation.trial import LocatedImages


def rows(*numbers):
    return np.array(numbers, np.int64)


def write(folder, places, lines=None, suffix=".png"):
    """Pictures of places, named 000.png onwards; ``lines`` become positions.csv."""
    folder.mkdir(parents=True)
    for number, (place, change) in enumerate(places):
        cv2.imwrite(str(folder / f"{number:03}{suffix}"), cv2.cvtColor(picture(place, change), cv2.COLOR_RGB2BGR))
    if lines is not None:
        (folder / "positions.csv").write_text("\n".join(lines))
    return folder


def located(folder, *positions):
    images = sorted(folder.glob("*.png"))
    return LocatedImages(
        tuple(images), tuple(Position(image.name, *xy) for image, xy in zip(images, positions, strict=True))
    )


def make_two_folders(tmp_path):
    write(tmp_path / "a", [(1, 0), (2, 0), (3, 0)], ["image,x,y", "000.png,0,0", "001.png,10,0", "002.png,20,0"])
    write(tmp_path / "b", [(1, 9), (3, 9)], ["image,x,y", "000.png,0,3", "001.png,10,4"])
    return tmp_path / "a", tmp_path / "b"


def make_videos(tmp_path):
    """Two videos of one floor and one of another; every frame is query and database."""
    folder = write(tmp_path / "frames", [(1, 0), (1, 9), (5, 0), (1, 1), (5, 9)])
    return make_places(
        "videos",
        sorted(folder.glob("*.png")),
        [(0, 0), (3, 0), (9, 0), (0, 0), (0, 0)],
        limits=Limits(4.0, np.inf),
        frames=["a", "a", "a", "b", "c"],
        areas=["first floor", "first floor", "first floor", "first floor", "second floor"],
    )
