"""What the parts of durability.py share: a map that costs no network, what stands in a map, and what is a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tscm_core.config import Config
from tscm_core.errors import TscmError
from tscm_core.maps.live_map import LiveMap, open_live_map
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, SESSIONS, Row
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Descriptor, Frame, Rgb

SECOND = 1_000_000_000
PLACES = 12
CONFIG = Config().replace(
    {
        "geometry.enabled": False,
        "odometry.enabled": False,
        "temporal.enabled": False,
        "recency.keyframes": 5,
        "recency.seconds": 4.0,
        "candidates.place_keyframes": 2,
    }
)
"""Every frame is a keyframe, and appearance alone closes loops."""

Content = dict[tuple[str, int, int], Row]
"""Sessions, keyframes and loops of a map by (table, id, match id), as they stand in the file."""


class ToyDescriber:
    """Which place an image shows stands in its first pixel; each place has a random direction of its own."""

    model_id = "toy"

    def __init__(self, dim: int, size: tuple[int, int]) -> None:
        self.dim, self.input_size = dim, size

    def describe(self, images: Sequence[Rgb]) -> Descriptor:
        """``float32 [B, dim]`` of unit length."""
        return np.stack([self._direction(int(image[0, 0, 0]), int(image[0, 0, 1])) for image in images])

    def _direction(self, place: int, change: int) -> Descriptor:
        mixed = _normal(place, self.dim) + change / 1000 * _normal(1000 + change, self.dim)
        return (mixed / np.linalg.norm(mixed)).astype(np.float32)


def _normal(seed: int, dim: int) -> Descriptor:
    vector = np.random.default_rng(seed).normal(size=dim)
    return vector / np.linalg.norm(vector)


TINY = ToyDescriber(64, (32, 24))
LARGE = ToyDescriber(2048, (640, 480))
"""With keyframes of real size: 2048 numbers, a thumbnail and a thousand local features."""


def frame(number: int, describer: ToyDescriber = TINY) -> Frame:
    """Image ``number`` of a drive round and round past a dozen places."""
    width, height = describer.input_size
    image = _texture(width, height).copy()
    image[0, 0] = number % PLACES, number // PLACES % 200, 0
    return Frame(number * SECOND, image, pose_from_yaw(0.5 * number, 0.0, 0.0), "camera")


_textures: dict[tuple[int, int], Rgb] = {}


def _texture(width: int, height: int) -> Rgb:
    """Random blocks, which have corners."""
    if (width, height) not in _textures:
        blocks = np.random.default_rng(7).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        _textures[width, height] = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return _textures[width, height]


def begin(folder: Path, session: str = "monday", *, resume: bool = True, config: Config = CONFIG) -> LiveMap:
    """The live map beside ``folder/map.tscm``."""
    return open_live_map(folder / "map.tscm", resume, TINY, config, session)


def content(path: Path, model_id: str | None = "toy") -> Content:
    """All that stands in the map at ``path``, after everything in it was verified.

    Raises:
        MapFileError: it is refused.
    """
    with MapReader(path, model_id) as reader:
        rows: Content = {("keyframe", row[1], 0): row for row in reader.rows(KEYFRAMES)}
        rows.update({("session", row[1], 0): row for row in reader.rows(SESSIONS)})
        rows.update({("loop", row[1], row[2]): row for row in reader.rows(LOOPS)})
        return rows


def is_sentence(error: BaseException) -> bool:
    """Whether ``error`` is what a person may be shown: one of ours, in one line."""
    text = str(error)
    return isinstance(error, TscmError) and bool(text) and "\n" not in text
