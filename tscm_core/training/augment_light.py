"""What light and weather do to an image. Images are RGB ``float32 [H, W, 3]``, 0..255; strength 0 changes nothing.

Illumination varies slowly over an image, therefore its maps are made small and enlarged.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = NDArray[np.float32]

GREY = np.full((3, 3), 1 / 3, np.float32)
MAP_SIZE = 40
"""Width and height of the small maps, pixels."""


def exposure(image: Image, rng: Generator, strength: float) -> Image:
    """Gain up to one stop, gamma, colour temperature and tint, and saturation."""
    gain = 2.0 ** rng.uniform(-1.0 * strength, 0.8 * strength)
    gamma = 2.0 ** rng.uniform(-0.7 * strength, 0.7 * strength)
    warm, tint = rng.uniform(-0.18, 0.18) * strength, rng.uniform(-0.06, 0.06) * strength
    colour = np.array([1 + warm, 1 + tint, 1 - warm], np.float32) * gain
    levels = np.arange(256, dtype=np.float32) / 255
    table = 255 * levels[:, None] ** gamma * colour  # [256, 3], not cut off yet: the camera meters before it does
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    lit = np.asarray(cv2.LUT(pixels, table.astype(np.float32)[None]), np.float32)
    return saturation(lit, 1 + rng.uniform(-0.7, 0.3) * strength)


def saturation(image: Image, factor: float) -> Image:
    """Colours away from grey by ``factor``: 0 grey, 1 as they are."""
    mix = factor * np.eye(3, dtype=np.float32) + (1 - factor) * GREY
    return np.asarray(cv2.transform(image, mix), np.float32)


def local_contrast(image: Image, rng: Generator, strength: float) -> Image:
    """Detail against its surroundings weaker or stronger, as haze, cheap lenses and tone mapping make it."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(2, width // 12), max(2, height // 12)), interpolation=cv2.INTER_AREA)
    around = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    factor = 1 + rng.uniform(-0.45, 0.6) * strength
    return np.asarray(cv2.addWeighted(image, factor, around, 1 - factor, 0), np.float32)


def shading(image: Image, rng: Generator, strength: float) -> Image:
    """A slope of light across the image, and darker corners."""
    y, x = _grid()
    angle, depth, vignette = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.55) * strength, rng.uniform(0, 0.4) * strength
    slope = 1 - depth * (0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle)))
    return _lit(image, (slope * (1 - vignette * (x**2 + y**2) / 2))[..., None].repeat(3, axis=2))


def darkness(image: Image, rng: Generator, strength: float) -> Image:
    """Dusk to night: little light, blue or orange, a sky that has none, and lamps that light what is near them.

    Sensor noise grows with what is missing of the light.
    """
    depth = rng.uniform(0.3, 1.0) * strength
    ambient = 1 - 0.8 * depth
    sky = np.array([0.75, 0.9, 1.2]) if rng.random() < 0.6 else np.array([1.2, 0.92, 0.65])
    light = np.ones((MAP_SIZE, MAP_SIZE, 3)) * ambient * (1 + (sky - 1) * min(1.0, depth))
    glare = np.zeros_like(light)
    for _ in range(int(rng.integers(0, 4))):
        halo, core, colour = _lamp(rng, depth)
        light += halo[..., None] * colour
        glare += core[..., None] * colour
    muted = saturation(image, 1 - 0.5 * depth)
    if rng.random() < 0.6:
        muted = _without_sky(muted, rng.uniform(0.5, 0.95) * min(1.0, depth))
    dark = _lit(muted, light.astype(np.float32))
    dark += _enlarged((255 * glare).astype(np.float32), image)
    return noise(dark, rng, 0.9 * depth)


def _without_sky(image: Image, amount: float) -> Image:
    """What is bright and high in the image is sky by day; at night it is darker than all that lamps reach."""
    rows = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
    high = np.clip(0.6 - 1.5 * rows, 0, 1)
    bright = np.clip((cv2.transform(image, GREY[:1]) - 130) / 60, 0, 1)  # [H, W]
    return np.asarray(image * (1 - amount * high * bright)[..., None], np.float32)


def _lamp(rng: Generator, depth: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One lamp: the light it sheds on the scene, its own glare, and its colour."""
    y, x = _grid()
    reach, power = rng.uniform(0.15, 0.6), rng.uniform(0.3, 0.9) * depth
    squared = (x - rng.uniform(-1.1, 1.1)) ** 2 + (y - rng.uniform(-1.1, 0.4)) ** 2
    colour = np.array([[1.15, 0.95, 0.65], [1.0, 1.0, 1.0], [0.9, 1.0, 1.15]][int(rng.integers(3))])
    core = rng.uniform(0, 0.8) * depth * np.exp(-squared / rng.uniform(0.03, 0.1) ** 2)
    return power / (1 + squared / reach**2), core, colour


def snow(image: Image, rng: Generator, strength: float) -> Image:
    """Winter: colours fade, and low or bright parts turn white in patches."""
    y, _ = _grid()
    amount = rng.uniform(0.3, 1.0) * strength
    patches = cv2.resize(rng.random((5, 5)), (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_CUBIC)
    ground = np.clip((y - rng.uniform(-0.3, 0.5)) * 2 + (patches - 0.5) * 1.6, 0, 1)
    faded = saturation(image, 1 - 0.7 * amount)
    bright = cv2.resize(faded.mean(axis=2), (MAP_SIZE, MAP_SIZE), interpolation=cv2.INTER_AREA) / 255
    cover = np.clip(ground * (0.5 + bright), 0, 1) * 0.85 * amount
    cover = _enlarged(cover.astype(np.float32)[..., None].repeat(3, axis=2), image)
    return np.asarray(faded + cover * (np.array([232, 236, 242], np.float32) - faded), np.float32)


def fog(image: Image, rng: Generator, strength: float) -> Image:
    """Haze that thickens with distance, which grows from the lower edge to a horizon and stays above it."""
    rows = np.linspace(0, 1, image.shape[0], dtype=np.float32)
    distance = 0.25 + 0.75 * np.clip((1 - rows) / (1 - rng.uniform(0.25, 0.5)), 0, 1)
    veil = 1 - np.exp(-rng.uniform(0.3, 1.6) * strength * distance)
    grey = rng.uniform(150, 225) * (1 + rng.uniform(-0.04, 0.04, 3))
    veil = veil.astype(np.float32)[:, None, None]
    return np.asarray(image * (1 - veil) + veil * grey.astype(np.float32), np.float32)


def metered(image: Image, before: NDArray[np.uint8]) -> Image:
    """Brought back to a mean that a camera's automatic exposure would keep, unless it was outside before too."""
    level = sum(cv2.mean(image)[:3]) / 3
    original = sum(cv2.mean(before)[:3]) / 3
    wanted = min(max(level, min(28.0, original)), max(190.0, original))
    return image if abs(wanted - level) < 1 else np.asarray(image * np.float32(wanted / max(level, 1.0)), np.float32)


def noise(image: Image, rng: Generator, strength: float) -> Image:
    """Sensor noise, in part of grains larger than a pixel, up to a standard deviation of 14 levels."""
    height, width = image.shape[:2]
    top, left = rng.integers(0, _MARGIN, 2)
    grain = _noise(height + _MARGIN, width + _MARGIN)[top : top + height, left : left + width]
    sigma = float(rng.uniform(0.2, 1.0) * 14 * strength)
    return np.asarray(cv2.scaleAdd(np.ascontiguousarray(grain), sigma, image), np.float32)


_MARGIN = 64


@lru_cache(maxsize=4)
def _noise(height: int, width: int) -> Image:
    """Normal noise, drawn once per size: drawing it for each image would cost more than all the rest."""
    drawn = np.random.default_rng(7).standard_normal((height, width, 3), np.float32)
    coarse = cv2.GaussianBlur(drawn, (3, 3), 0.8)
    return np.asarray(0.75 * drawn + coarse, np.float32)


@lru_cache(maxsize=1)
def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates from -1 to 1 over the small maps: y, x."""
    line = np.linspace(-1, 1, MAP_SIZE)
    return line[:, None], line[None, :]


def _enlarged(small: Image, image: Image) -> Image:
    height, width = image.shape[:2]
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _lit(image: Image, light: Image) -> Image:
    return np.asarray(cv2.multiply(image, _enlarged(np.asarray(light, np.float32), image)), np.float32)
