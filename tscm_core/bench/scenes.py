"""A made-up place that a bench can drive through: a long painted wall with pillars before it, seen by a camera.

Its pictures are rigid scenes with parallax: local features match, geometry holds, and revisits are recognised.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Frame, Intrinsics, Rgb

WIDTH, HEIGHT, FOCAL = 640, 480, 500.0
CAMERA = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
STEP_M, STEP_NS = 0.5, 500_000_000
"""Way and time between two images of the drive: by the settings as they come, each is a keyframe."""
LAP = 40
"""Images from one end of the wall to the other."""
FIRST_NS = 1_700_000_000 * 10**9
_WALL_M, _PILLARS_M = 4.0, 2.6
"""How far away they are."""
_PIXELS_A_METRE = 100
_LENGTH_M, _HEIGHT_M, _MARGIN_M = 34.0, 6.0, 7.0
_PILLAR_EVERY_M, _PILLAR_WIDTH_M = 3.1, 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Pictures of the wall and of the row of pillars, uint8 [H, W, 3], and where the pillars are, uint8 [H, W]."""

    wall: Rgb
    pillars: Rgb
    mask: NDArray[np.uint8]


def place(seed: int) -> Place:
    """A place like no other."""
    random = np.random.default_rng(seed)
    size = round(_LENGTH_M * _PIXELS_A_METRE), round(_HEIGHT_M * _PIXELS_A_METRE)
    mask = np.zeros(size[::-1], np.uint8)
    begin = random.uniform(0.0, _PILLAR_EVERY_M)
    for left in np.arange(begin, _LENGTH_M, _PILLAR_EVERY_M):
        first = round(float(left) * _PIXELS_A_METRE)
        mask[:, first : first + round(_PILLAR_WIDTH_M * _PIXELS_A_METRE)] = 255
    return Place(_painted(random, size), _painted(random, size), mask)


def view(scene: Place, x_m: float, closer_m: float = 0.0, yaw_rad: float = 0.0) -> Rgb:
    """What the camera sees, RGB ``uint8 [480, 640, 3]``.

    Args:
        scene: where it is.
        x_m: how far along the wall.
        closer_m: by how much it is nearer to the wall than on its usual way.
        yaw_rad: by how much it is turned from the wall, to the right.
    """
    image = _warped(scene.wall, _WALL_M - closer_m, x_m, yaw_rad)
    pillars = _warped(scene.pillars, _PILLARS_M - closer_m, x_m, yaw_rad)
    mask = _warped(scene.mask, _PILLARS_M - closer_m, x_m, yaw_rad)
    return np.asarray(np.where(mask[..., None] > 127, pillars, image), np.uint8)


def drive(count: int, seed: int = 0, laps: int | None = None) -> Iterator[Frame]:
    """Frames of a camera that looks at the wall while the robot goes to and fro before it, never quite the same way.

    Args:
        count: frames to give.
        seed: of the place and the way.
        laps: how many different ones there are, after which the pictures are those of two laps before; ``None``: all.
    """
    scene, cache = place(seed), dict[tuple[int, int], Rgb]()
    for number in range(count):
        lap, step = divmod(number, LAP)
        here = step if lap % 2 == 0 else LAP - 1 - step
        shown = lap if laps is None or lap < laps else laps - 2 + (lap - laps) % 2
        if (shown, here) not in cache:
            random = np.random.default_rng((seed, shown, here))
            aside, closer, yaw = random.uniform(-1.0, 1.0, 3) * (0.08, 0.1, math.radians(2.0))
            image = view(scene, here * STEP_M + aside, closer, yaw)
            if laps is not None:
                cache[shown, here] = image
        else:
            image = cache[shown, here]
        pose = pose_from_yaw(here * STEP_M, 0.0, math.pi / 2)
        yield Frame(FIRST_NS + number * STEP_NS, image, pose, "camera", CAMERA)


def _painted(random: np.random.Generator, size: tuple[int, int]) -> Rgb:
    """Colours that change slowly, and shapes of every size with edges and corners."""
    width, height = size
    coarse = random.integers(0, 256, (height // 120 + 2, width // 120 + 2, 3), np.uint8)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    for _ in range(width * height // 1500):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        reach = np.exp(random.uniform(math.log(3.0), math.log(40.0), 2))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        axes = int(reach[0]), int(reach[1])
        if random.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + axes[0], y + axes[1]), colour, -1)
        else:
            cv2.ellipse(image, (x, y), axes, float(random.uniform(0.0, 180.0)), 0.0, 360.0, colour, -1)
    return np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)


def _warped(texture: NDArray[np.uint8], distance_m: float, x_m: float, yaw_rad: float) -> NDArray[np.uint8]:
    """A plane across the viewing direction, as the camera sees it."""
    step = 1.0 / _PIXELS_A_METRE
    on_plane = np.array(
        [[step, 0.0, -_MARGIN_M - x_m], [0.0, step, -_HEIGHT_M / 2], [0.0, 0.0, distance_m]]
    )  # pixels of the texture to metres before the camera
    sine, cosine = math.sin(yaw_rad), math.cos(yaw_rad)
    turn = np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])
    lens = np.array([[FOCAL, 0.0, CAMERA.cx], [0.0, FOCAL, CAMERA.cy], [0.0, 0.0, 1.0]])
    return np.asarray(cv2.warpPerspective(texture, lens @ turn @ on_plane, (WIDTH, HEIGHT)), np.uint8)
