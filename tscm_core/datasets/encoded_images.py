"""Jpeg and png pictures as bytes, of a message or of a file: whole, or refused.

OpenCV fills the missing part of a jpeg with grey and says nothing, so the end is looked for here.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.errors import ImageError

MAX_COMPRESSED_PIXELS = 100_000_000
"""A jpeg or png whose header declares more pixels is refused before anything is allocated for it."""

_BARE = {0x00, 0x01, *range(0xD0, 0xDA)}
"""Markers without a length. None belongs before the frame header, and OpenCV's decoder does not skip what would follow
the length: a second frame header, of any size, could hide there."""

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"


def decode(data: bytes, most_pixels: int = MAX_COMPRESSED_PIXELS, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """The pixels as OpenCV has them, uint8 or uint16: [H, W] grey, [H, W, 3] BGR or [H, W, 4] BGRA.

    Args:
        data: a whole jpeg or png.
        most_pixels: how many its header may declare.
        flags: OpenCV's, of how to read it.

    Raises:
        ImageError: neither jpeg nor png, cut off, too large, or not to be decoded.
    """
    height, width = declared_size(data)
    if height * width > most_pixels:
        raise ImageError(f"compressed image of {width} x {height} pixels: that is too large to decode")
    try:
        readable = height * width > 0
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if readable else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageError(f"compressed image of {len(data)} bytes: it is damaged, OpenCV cannot decode it")
    return pixels


def declared_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header of a complete jpeg or png.

    Raises:
        ImageError: neither jpeg nor png, or cut off.
    """
    if not data.startswith((PNG_START, JPEG_START)):
        raise ImageError(f"compressed image of {len(data)} bytes: it is neither jpeg nor png")
    if is_cut_off(data):
        raise ImageError(f"compressed image of {len(data)} bytes: it is cut off, its end marker is missing")
    if data.startswith(PNG_START):
        first = data[12:16] == b"IHDR"
        return (int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")) if first else (0, 0)
    return _jpeg_size(data)


def is_cut_off(data: bytes) -> bool:
    """Whether a jpeg or png lacks its end marker; of other formats nothing is known, and the answer is no."""
    if data.startswith(PNG_START):
        return not _has_all_chunks(data)
    if data.startswith(JPEG_START):
        # A thumbnail in the header has an end marker too: the picture's comes after the last start of scan.
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    return False


def _has_all_chunks(data: bytes) -> bool:
    """Whether a png goes on to its end chunk: OpenCV allocates what a chunk declares before it looks for it."""
    at = len(PNG_START)
    while data[at + 4 : at + 8] != b"IEND":
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at + 12 > len(data):
            return False
    return data[at : at + 12] == _PNG_END


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width in a jpeg's frame header; (0, 0) where there is none."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _BARE:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0
