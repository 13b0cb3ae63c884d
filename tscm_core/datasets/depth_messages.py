"""Depth images of messages and files, as metres: ``sensor_msgs/Image``, ``compressedDepth`` and 16-bit png.

Whole numbers are millimetres, as everywhere in ROS (REP 118), and 0 is unknown. Of floating point numbers, which are
metres, those that are negative or not finite become 0: unknown has one face inside.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.encoded_images import PNG_START, decode
from tscm_core.datasets.image_messages import bytes_of, padded_rows
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.records import Depth

DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
"""Encodings that hold depth, and what a number is in memory."""

MOST_METRES = 65.535
"""The farthest that 16 bits of millimetres can say."""

_CONFIG = struct.Struct("<iff")  # what compressed_depth_image_transport puts before the png


def depth_from_message(message: Any) -> Depth:
    """The depth in a ``sensor_msgs/Image`` (16UC1, mono16, 32FC1) or ``CompressedImage`` (compressedDepth, png).

    Args:
        message: a message of either type; padded rows and big-endian numbers are read as it says.

    Returns:
        Metres, float32 [H, W], in memory of its own, 0 where unknown.

    Raises:
        ImageError: another encoding; no pixels; data that do not bear out the size; a png that cannot be decoded.
    """
    return _raw_depth(message) if hasattr(message, "encoding") else _compressed_depth(message)


def depth_from_millimetres(millimetres: NDArray[np.uint16]) -> Depth:
    """Metres [H, W] from millimetres [H, W]; 0 stays 0."""
    return np.asarray(millimetres / np.float32(1000.0), np.float32)


def millimetres_from_depth(depth: Depth) -> NDArray[np.uint16]:
    """Millimetres [H, W], rounded; unknown, not finite, negative and beyond ``MOST_METRES`` become 0."""
    known = np.where(np.isfinite(depth) & (depth > 0.0) & (depth <= MOST_METRES), depth, 0.0)
    return np.rint(known.astype(np.float64) * 1000.0).astype(np.uint16)


def write_depth(path: Path, depth: Depth) -> None:
    """Write metres [H, W] as a 16-bit png of millimetres.

    Raises:
        DatasetError: the file cannot be written.
    """
    _, data = cv2.imencode(".png", millimetres_from_depth(depth))
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise DatasetError(f"depth image {path} cannot be written: {error.strerror}") from error


def read_depth(path: Path) -> Depth:
    """Metres [H, W] from a 16-bit png of millimetres, 0 where unknown.

    Raises:
        ImageError: the file cannot be read or decoded, is cut off, or is not of 16 bits and one channel.
    """
    try:
        pixels = decode(path.read_bytes())
    except OSError as error:
        raise ImageError(f"depth image {path} cannot be read: {error.strerror}") from error
    except ImageError as error:
        raise ImageError(f"depth image {path}: {error}") from error
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError(f"depth image {path} must be a png of 16 bits and one channel, millimetres")
    return depth_from_millimetres(pixels)


def _raw_depth(message: Any) -> Depth:
    if message.encoding not in DEPTH_ENCODINGS:
        raise ImageError(f'encoding "{message.encoding}" holds no depth; supported are {", ".join(DEPTH_ENCODINGS)}')
    if min(message.width, message.height) < 1:
        raise ImageError(f"depth image of {message.width} x {message.height} pixels: it is empty")
    kind = np.dtype((">" if message.is_bigendian else "<") + DEPTH_ENCODINGS[message.encoding])
    row_bytes = message.width * kind.itemsize
    rows = padded_rows(message, row_bytes, message.height)
    values = np.ascontiguousarray(rows[:, :row_bytes]).view(kind)
    return depth_from_millimetres(values) if kind.kind == "u" else _known(values.astype(np.float32))


def _compressed_depth(message: Any) -> Depth:
    """After a header of 12 bytes a png: millimetres, or for 32FC1 inverse depth between two numbers of the header."""
    data = bytes_of(message.data).tobytes()
    encoding, name = message.format.split(";")[0].strip(), f"compressed depth image of {len(data)} bytes"
    if encoding not in DEPTH_ENCODINGS:
        raise ImageError(
            f'{name}: format "{message.format}" holds no depth; supported are {", ".join(DEPTH_ENCODINGS)}'
        )
    body = data if data.startswith(PNG_START) else data[_CONFIG.size :]
    if not body.startswith(PNG_START):
        raise ImageError(f"{name}: there is no png in it, and of compressed depth only png is supported")
    pixels = decode(body)
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ImageError(f"{name}: its png is not of 16 bits and one channel")
    if DEPTH_ENCODINGS[encoding] == "u2":
        return depth_from_millimetres(pixels)
    if len(body) == len(data):
        raise ImageError(f"{name}: the header that says how its 32FC1 are packed is missing")
    _, scale, offset = _CONFIG.unpack_from(data)
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.float32(scale) / (pixels.astype(np.float32) - np.float32(offset))
    return _known(np.where(pixels == 0, np.float32(0.0), metres))


def _known(metres: Depth) -> Depth:
    metres[~(np.isfinite(metres) & (metres > 0.0))] = 0.0
    return metres
