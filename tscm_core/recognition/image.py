"""Images as the network and the map want them."""

from __future__ import annotations

import cv2
import numpy as np

from tscm_core.errors import ImageError
from tscm_core.recognition.records import Rgb

MOST_SIDE = 65500
"""Of a jpeg, as which the thumbnail of a narrow image is kept; local features end at 65535."""
_EDGE_LEVELS = 4.0
"""Brightness change per pixel, in grey levels, from which a pixel shows structure: above noise and slow shading."""


def check_rgb(image: Rgb) -> None:
    """Refuse what is not an RGB image ``uint8 [H, W, 3]`` with at least one pixel, and none too long to be kept.

    Raises:
        ImageError: it is not.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    if image.size == 0:
        raise ImageError(f"the image is empty: {image.shape[1]} x {image.shape[0]} pixels")
    if max(image.shape) > MOST_SIDE:
        raise ImageError(f"an image of {image.shape[1]} x {image.shape[0]} pixels: no side may exceed {MOST_SIDE}")


def resize(image: Rgb, size: tuple[int, int]) -> Rgb:
    """``image`` stretched to ``size`` = (width, height): area average when shrinking, bilinear when growing.

    Returns the same array when the size is right already.
    """
    check_rgb(image)
    height, width = image.shape[:2]
    if (width, height) == size:
        return image
    shrinks = width >= size[0] and height >= size[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def texture(image: Rgb) -> float:
    """Share of pixels, 0 to 1, where brightness changes by more than four grey levels a pixel.

    A wall or a covered lens is near 0; there is nothing in it by which a place could be told from another.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    horizontal, vertical = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return float(np.mean(cv2.magnitude(horizontal, vertical) > _EDGE_LEVELS))


def thumbnail_jpeg(image: Rgb, width: int) -> bytes:
    """``image`` at most ``width`` pixels wide, in its own proportions, as JPEG."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    small = resize(image, (width, height)) if image.shape[1] > width else image
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return encoded.tobytes()
