"""Images changed as robots meet them changed: light, weather, blur, another viewpoint, something in the way.

Never mirrored: a mirrored place is another place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tscm_core.errors import ConfigError
from tscm_core.recognition.records import Rgb
from tscm_core.training import augment_light as light


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How often and how strongly images are changed.

    Each part has the probability that an image meets it. ``strength`` scales how far every part goes: 0 leaves the
    images as they are, 1 is made for robots that come back at another hour.

    Raises:
        ConfigError: a probability is not within 0..1, a limit not within its range.
    """

    strength: float = 1.0
    exposure: float = 0.8
    local_contrast: float = 0.3
    shading: float = 0.3
    darkness: float = 0.3
    snow: float = 0.08
    fog: float = 0.12
    noise: float = 0.2
    blur: float = 0.25
    viewpoint: float = 0.7
    occlusion: float = 0.3
    jpeg: float = 0.3
    max_perspective: float = 0.08
    """How far a corner moves, in widths of the image."""
    min_crop: float = 0.75
    """Least part of width and height that remains."""
    max_rotation_deg: float = 7.0
    max_occlusion: float = 0.2
    """Largest part of the area that is hidden."""
    max_blur: float = 0.02
    """Length of the longest motion blur, in widths of the image."""
    min_jpeg_quality: int = 25

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        highest = {"strength": 2.0, "max_rotation_deg": 45.0, "min_jpeg_quality": 100, "max_perspective": 0.3}
        for item in fields(self):
            value, most = getattr(self, item.name), highest.get(item.name, 1.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise ConfigError(f"augment.{item.name} must be from 0 to {most:g}, not {value!r}")
        if self.min_crop < 0.3:
            raise ConfigError(f"augment.min_crop must be from 0.3 to 1, not {self.min_crop}")


class Augmenter:
    """Changes images; the same generator state gives the same change."""

    def __init__(self, config: AugmentConfig | None = None) -> None:
        self.config = config or AugmentConfig()

    def __call__(self, rgb: Rgb, rng: Generator) -> Rgb:
        """A changed copy of ``rgb``, uint8 ``[H, W, 3]`` like it.

        The order is that of the world: the scene, what stands before it, weather, light, lens, sensor, file.
        """
        config = self.config
        if config.strength == 0:
            return np.array(rgb)
        image: NDArray[np.uint8] = rgb
        if rng.random() < config.viewpoint:
            image = viewpoint(image, rng, config)
        if rng.random() < config.occlusion:
            image = occlusion(image, rng, config)
        image = self._lit(image, rng)
        if rng.random() < config.blur:
            image = blur(image, rng, config)
        if rng.random() < config.jpeg:
            image = jpeg(image, rng, config)
        return np.array(image) if image is rgb else image

    def _lit(self, image: Rgb, rng: Generator) -> Rgb:
        parts: list[tuple[float, Callable[[light.Image, Generator, float], light.Image]]] = [
            (self.config.snow, light.snow),
            (self.config.fog, light.fog),
            (self.config.shading, light.shading),
            (self.config.darkness, light.darkness),
            (self.config.local_contrast, light.local_contrast),
            (self.config.exposure, light.exposure),
        ]
        chosen = [part for probability, part in parts if rng.random() < probability]
        lit = image.astype(np.float32)
        for part in chosen:
            lit = part(lit, rng, self.config.strength)
        lit = light.metered(lit, before=image)
        if rng.random() < self.config.noise:
            lit = light.noise(lit, rng, self.config.strength)
        return np.asarray(cv2.convertScaleAbs(np.maximum(lit, 0)), np.uint8)


def viewpoint(image: Rgb, rng: Generator, config: AugmentConfig) -> Rgb:
    """Seen from a little elsewhere: perspective, crop and rotation; what was out of sight is reflected."""
    height, width = image.shape[:2]
    strength = config.strength
    scale = 1 - rng.uniform(0, 1 - config.min_crop) * min(1.0, strength)
    angle = np.deg2rad(rng.uniform(-1, 1) * config.max_rotation_deg * strength)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2) * scale  # [4, 2]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    room = (1 - scale) / 2 * np.array([width, height])
    shift = np.array([width, height]) / 2 + rng.uniform(-1, 1, 2) * room
    moved = corners @ turn + shift + rng.uniform(-1, 1, (4, 2)) * config.max_perspective * strength * width
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(moved.astype(np.float32), target)
    return np.asarray(cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def occlusion(image: Rgb, rng: Generator, config: AugmentConfig) -> Rgb:
    """One or two boxes or ellipses hide together at most ``max_occlusion`` of the area."""
    height, width = image.shape[:2]
    result = np.array(image)
    count = int(rng.integers(1, 3))
    for _ in range(count):
        area = rng.uniform(0.2, 1.0) * min(1.0, config.max_occlusion * config.strength) / count * height * width
        aspect = np.exp(rng.uniform(-0.9, 0.9))
        wide, high = min(width, int(np.sqrt(area * aspect))), min(height, int(np.sqrt(area / aspect)))
        if wide < 1 or high < 1:
            continue
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        window = result[top : top + high, left : left + wide]
        cover = _cover(image, high, wide, rng)
        if rng.random() < 0.5:
            window[:] = cover
        else:
            shape = np.zeros((high, wide), np.uint8)
            cv2.ellipse(shape, (wide // 2, high // 2), (wide // 2, high // 2), 0, 0, 360, 255, -1)
            cv2.copyTo(cover, shape, window)
    return result


def _cover(image: Rgb, high: int, wide: int, rng: Generator) -> Rgb:
    """What hides: a colour, blotches of colours, or a piece of the same image."""
    kind = rng.integers(3)
    colour = rng.uniform(0, 255) * (1 + rng.uniform(-0.5, 0.0, 3))
    if kind == 0:
        return np.full((high, wide, 3), colour, np.uint8)
    if kind == 1:
        spread = rng.normal(0, 40, (max(1, high // 8), max(1, wide // 8), 3)) + colour
        blotches = np.clip(spread, 0, 255).astype(np.uint8)
        return np.asarray(cv2.resize(blotches, (wide, high), interpolation=cv2.INTER_LINEAR), np.uint8)
    top, left = rng.integers(0, image.shape[0] - high + 1), rng.integers(0, image.shape[1] - wide + 1)
    return np.array(image[top : top + high, left : left + wide])


def blur(image: Rgb, rng: Generator, config: AugmentConfig) -> Rgb:
    """Out of focus, or moved while the shutter was open."""
    longest = config.max_blur * config.strength * image.shape[1]
    length = rng.uniform(0.3, 1.0) * longest
    if rng.random() < 0.4:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.05, length / 3)), np.uint8)
    angle = rng.normal(0, 0.5)  # robots turn: mostly sideways
    size = max(1, int(np.ceil(length)) // 2 * 2 + 1)
    kernel = np.zeros((size, size), np.float32)
    for step in np.linspace(-length / 2, length / 2, 4 * size):
        kernel[round(size // 2 + step * np.sin(angle)), round(size // 2 + step * np.cos(angle))] += 1
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def jpeg(image: Rgb, rng: Generator, config: AugmentConfig) -> Rgb:
    """Compressed and decompressed, at a quality down to ``min_jpeg_quality``."""
    worst = 95 - (95 - config.min_jpeg_quality) * min(1.0, config.strength)
    quality = int(rng.uniform(min(worst, 95), 95))
    _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
