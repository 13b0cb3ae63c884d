"""Light, exposure and sensor noise of a rendered drive, applied to finished images."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SIZE = (640, 480)
NOISE_SHIFT = 64
GREY_WEIGHTS = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Lighting:
    """Channels become `255 * gain * colour * (value / 255) ** gamma`, plus noise (sigma, 8-bit levels).

    After that, `saturation` mixes with grey (0) or not (1), `haze` with a flat grey sky (1) or not (0). `headlight`
    is added to the gain in a bright spot a little below the middle of the image.
    """

    gain: float = 1.0
    gamma: float = 1.0
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.0
    saturation: float = 1.0
    haze: float = 0.0
    headlight: float = 0.0


# The levels are dark: even by day the exposure is lifted (gamma below one).
DAY = Lighting(gamma=0.7, noise=2.0)
EVENING = Lighting(gain=0.75, gamma=0.88, colour=(1.1, 0.97, 0.82), noise=4.0)
MORNING = Lighting(gain=1.15, gamma=0.75, colour=(0.9, 1.0, 1.08), noise=3.0)
LIGHTINGS = {
    "noon": Lighting(gain=1.15, gamma=0.55, noise=2.0),
    "day": DAY,
    "morning": MORNING,
    "evening": EVENING,
    "overcast": Lighting(gain=0.95, gamma=0.5, colour=(0.96, 1.0, 1.03), noise=3.0, saturation=0.45, haze=0.15),
    "dusk": Lighting(gain=0.55, gamma=0.65, colour=(0.92, 0.88, 1.2), noise=5.0, saturation=0.7),
    "lamps": Lighting(gain=0.7, gamma=0.65, colour=(1.25, 0.95, 0.6), noise=5.0, headlight=0.25),
    "night": Lighting(gain=0.16, gamma=0.6, colour=(0.85, 0.95, 1.1), noise=6.0, saturation=0.6, headlight=0.8),
}
"""By name, for `tscm render --lighting`."""


class Exposure:
    """A lighting ready for use: a tone table, and one field of noise that each image shifts anew.

    `size` is width and height of the images.
    """

    def __init__(self, lighting: Lighting, seed: int, size: tuple[int, int] = SIZE) -> None:
        self._lighting, self._seed, (self._width, self._height) = lighting, seed, size
        level = (np.arange(256) / 255.0) ** lighting.gamma
        tones = 255.0 * lighting.gain * level[:, None] * np.array(lighting.colour)  # [256, 3]
        self._table = np.clip(np.rint(tones), 0, 255).astype(np.uint8)[None]  # [1, 256, 3]
        self._spot = 1.0 + lighting.headlight / lighting.gain * _spot(size) if lighting.headlight else None
        self._fine = (tones / 255.0).astype(np.float32)  # [256, 3]
        rng = np.random.default_rng(seed)
        field = rng.standard_normal((self._height + NOISE_SHIFT, self._width + NOISE_SHIFT, 3), np.float32)
        self._noise = np.rint(lighting.noise * field).astype(np.int16)

    def apply(self, image: Image, index: int) -> Image:
        """The image, RGB uint8 [H, W, 3], under this lighting, with the noise of frame number `index`."""
        down, right = np.random.default_rng([self._seed, index]).integers(0, NOISE_SHIFT, 2)
        noise = self._noise[down : down + self._height, right : right + self._width]
        return np.asarray(cv2.add(self._light(image), noise, dtype=cv2.CV_8U), np.uint8)

    def _light(self, image: Image) -> Image:
        lighting = self._lighting
        if lighting.saturation == 1.0 and not lighting.haze and self._spot is None:
            return np.asarray(cv2.LUT(image, self._table), np.uint8)
        lit = np.asarray(cv2.LUT(image, self._fine[None]), np.float32)  # [H, W, 3], 1 is white
        if self._spot is not None:
            lit = lit * self._spot
        grey = lit @ np.array(GREY_WEIGHTS, np.float32)
        lit = lighting.saturation * lit + (1.0 - lighting.saturation) * grey[..., None]
        lit = (1.0 - lighting.haze) * lit + lighting.haze * lighting.gain * 0.6
        return np.asarray(np.clip(np.rint(255.0 * lit), 0, 255), np.uint8)


def _spot(size: tuple[int, int]) -> NDArray[np.float32]:
    """Light of a headlight, 0 to 1, float32 [H, W, 1]."""
    across = (np.arange(size[0]) / size[0] - 0.5) / 0.3
    down = (np.arange(size[1]) / size[1] - 0.6) / 0.3
    return np.exp(-0.5 * (across**2 + down[:, None] ** 2)).astype(np.float32)[..., None]
