"""Light, exposure and sensor noise of a rendered drive, applied to finished images."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

HEIGHT, WIDTH = 480, 640
NOISE_SHIFT = 64


@dataclass(frozen=True)
class Lighting:
    """Channels become `255 * gain * colour * (value / 255) ** gamma`, plus noise (sigma, 8-bit levels)."""

    gain: float = 1.0
    gamma: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0


# The levels are dark: even by day the exposure is lifted (gamma below one).
DAY = Lighting(gamma=0.7, noise=2.0)
EVENING = Lighting(gain=0.75, gamma=0.88, colour=(1.1, 0.97, 0.82), noise=4.0)
MORNING = Lighting(gain=1.15, gamma=0.75, colour=(0.9, 1.0, 1.08), noise=3.0)


class Exposure:
    """A lighting ready for use: a tone table, and one field of noise that each image shifts anew."""

    def __init__(self, lighting: Lighting, seed: int) -> None:
        level = (np.arange(256) / 255.0) ** lighting.gamma
        tones = 255.0 * lighting.gain * level[:, None] * np.array(lighting.colour)  # [256, 3]
        self._table = np.clip(np.rint(tones), 0, 255).astype(np.uint8)[None]  # [1, 256, 3]
        rng = np.random.default_rng(seed)
        height, width = HEIGHT + NOISE_SHIFT, WIDTH + NOISE_SHIFT
        field = rng.standard_normal((height, width, 3), np.float32)
        self._noise = np.rint(lighting.noise * field).astype(np.int16)
        self._seed = seed

    def apply(self, image: Image, index: int) -> Image:
        """The image, RGB uint8 [480, 640, 3], under this lighting, with the noise of frame number `index`."""
        down, right = np.random.default_rng([self._seed, index]).integers(0, NOISE_SHIFT, 2)
        noise = self._noise[down : down + HEIGHT, right : right + WIDTH]
        lit = cv2.add(cv2.LUT(image, self._table), noise, dtype=cv2.CV_8U)
        return np.asarray(lit, np.uint8)
