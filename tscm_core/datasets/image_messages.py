"""Camera messages to RGB pictures and back, with NumPy and OpenCV only.

Neither rclpy, message packages nor cv_bridge are imported: whatever has the fields of `sensor_msgs/Image` is
good, so that replay without ROS reads the very same pixels as the node. What becomes of what cameras send:

- 16 bits become 8 by `round(value / 257)`, as in cv_bridge: 0 stays 0, 65535 becomes 255. The rule does not
  look at the picture, so brightness cannot flicker; 10 or 12 bits left in the low end give a dark picture.
- YUV is BT.601 limited range (luma 16 to 235), as in OpenCV. `8UC3` and `8UC4` are blue first, as in OpenCV.
- ROS names a Bayer pattern by its first two rows, OpenCV by the second and third pixel of the second and the
  third row: ROS `rggb` is OpenCV's `BayerBG`. Demosaicing is bilinear.
- `nv12`, `nv21`, `nv24`: `step` is a row of luma; a row of chroma is as long, but twice as long in nv24.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.encoded_images import decode
from tscm_core.errors import ImageError


class ImageMessage(Protocol):
    """The part of `sensor_msgs/Image` that matters; `data` is one block of bytes, be it array or ndarray."""

    height: int
    width: int
    encoding: str
    is_bigendian: Any
    step: int
    data: Any


_Message = TypeVar("_Message", bound=ImageMessage)


class CompressedImageMessage(Protocol):
    """The part of `sensor_msgs/CompressedImage` that matters; `data` as in `ImageMessage`."""

    format: str
    data: Any


@dataclass(frozen=True)
class _Layout:
    """How an encoding lies in memory, and OpenCV's conversion of it to RGB (None: it is RGB)."""

    channels: int  # samples per pixel in a row of `step` bytes
    conversion: int | None
    sample_bytes: int = 1
    half_rows: int = 2  # rows of `step` bytes per two rows of the picture: nv12 has three
    even: tuple[str, ...] = ()
    least_side: int = 1  # OpenCV answers a smaller Bayer mosaic with black, and no error


_BOTH_DEPTHS = {
    "mono": _Layout(1, cv2.COLOR_GRAY2RGB),
    "rgb": _Layout(3, None),
    "bgr": _Layout(3, cv2.COLOR_BGR2RGB),
    "rgba": _Layout(4, cv2.COLOR_RGBA2RGB),
    "bgra": _Layout(4, cv2.COLOR_BGRA2RGB),
    "bayer_rggb": _Layout(1, cv2.COLOR_BayerBG2RGB, least_side=3),
    "bayer_bggr": _Layout(1, cv2.COLOR_BayerRG2RGB, least_side=3),
    "bayer_gbrg": _Layout(1, cv2.COLOR_BayerGR2RGB, least_side=3),
    "bayer_grbg": _Layout(1, cv2.COLOR_BayerGB2RGB, least_side=3),
}
_LAYOUTS = {
    **{f"{name}{8 * n}": replace(how, sample_bytes=n) for n in (1, 2) for name, how in _BOTH_DEPTHS.items()},
    "8UC1": _Layout(1, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, cv2.COLOR_BGR2RGB),
    "8UC4": _Layout(4, cv2.COLOR_BGRA2RGB),
    "16UC1": _Layout(1, cv2.COLOR_GRAY2RGB, sample_bytes=2),
    **dict.fromkeys(("yuv422", "uyvy"), _Layout(2, cv2.COLOR_YUV2RGB_UYVY, even=("width",))),
    **dict.fromkeys(("yuv422_yuy2", "yuyv"), _Layout(2, cv2.COLOR_YUV2RGB_YUY2, even=("width",))),
    "nv12": _Layout(1, cv2.COLOR_YUV2RGB_NV12, half_rows=3, even=("width", "height")),
    "nv21": _Layout(1, cv2.COLOR_YUV2RGB_NV21, half_rows=3, even=("width", "height")),
    "nv24": _Layout(1, None, half_rows=6),
}
# BT.601 limited range from Y, Cb, Cr: the numbers that OpenCV uses for the other YUV encodings.
_SCALES = np.array([[1.164384, 0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0]])
_RGB_FROM_YUV = np.column_stack([_SCALES, -_SCALES @ [16, 128, 128]])

ENCODINGS = tuple(_LAYOUTS)
"""Every encoding that `to_rgb` reads."""


def to_rgb(message: ImageMessage) -> NDArray[np.uint8]:
    """The picture in a `sensor_msgs/Image`: RGB uint8 [H, W, 3], C-contiguous, in memory of its own.

    Padding (`step` longer than a row of pixels) and big-endian samples are read as the message says.
    Alpha is dropped. Raises ImageError: encoding unknown or of depth; no pixels; `step` shorter than a row;
    data not as long as its rows; odd width in YUV 4:2:2 or 4:2:0, odd height in 4:2:0; Bayer under 3 x 3.
    """
    layout = _layout_of(message.encoding)
    rows = _rows_of(message, layout)
    if message.encoding == "nv24":
        return _full_chroma_to_rgb(rows, message.width)
    return _samples_to_rgb(_samples(rows, message, layout), layout.conversion)


def compressed_to_rgb(message: CompressedImageMessage) -> NDArray[np.uint8]:
    """The picture in a `sensor_msgs/CompressedImage`, jpeg or png of 8 or 16 bits: RGB uint8 [H, W, 3].

    Pixels stay as the sensor saw them, without EXIF rotation; alpha is dropped. If `format` begins with a
    Bayer encoding, a grey picture is the mosaic itself and is demosaiced. Raises ImageError: neither jpeg nor
    png; cut off before its end, where OpenCV would fill a jpeg with grey; more than encoded_images allows; a
    depth image (`compressedDepth`); whatever else OpenCV cannot decode.
    """
    if "compressedDepth" in message.format:
        raise _depth_error(message.format)
    pixels = decode(bytes_of(message.data).tobytes())
    source = message.format.split(";")[0].strip()
    grey = source if source.startswith("bayer_") else "mono8"
    encoding = grey if pixels.ndim == 2 else {3: "bgr8", 4: "bgra8"}[pixels.shape[2]]
    layout = _layout_of(encoding)
    _check_size(encoding, pixels.shape[1], pixels.shape[0], layout)
    return _samples_to_rgb(pixels, layout.conversion)


def rgb_from_message(message: Any) -> NDArray[np.uint8]:
    """The picture in a `sensor_msgs/Image` or `CompressedImage`: RGB uint8 [H, W, 3]. Raises ImageError as they do."""
    return to_rgb(message) if hasattr(message, "encoding") else compressed_to_rgb(message)


def from_rgb(image: NDArray[np.uint8], message: _Message) -> _Message:
    """Fill a `sensor_msgs/Image`, but for its header, with an RGB uint8 [H, W, 3] picture, and return it.

    The encoding is `rgb8`, without padding. `data` is an `array` and is assigned, the one way in which rclpy
    neither copies nor checks it number by number. Raises ImageError: another shape or type, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(f"a picture to publish is uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    message.height, message.width = image.shape[:2]
    message.encoding, message.is_bigendian, message.step = "rgb8", 0, 3 * message.width
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


def _depth_error(name: str) -> ImageError:
    return ImageError(f"{name} is a depth image, not a picture: choose the topic of the camera's picture")


def _layout_of(encoding: str) -> _Layout:
    if encoding in _LAYOUTS:
        return _LAYOUTS[encoding]
    if encoding.startswith(("32FC", "64FC")):
        raise _depth_error(encoding)
    raise ImageError(f'image encoding "{encoding}" is not supported; supported are {", ".join(ENCODINGS)}')


def _check_size(encoding: str, width: int, height: int, layout: _Layout) -> None:
    size = f"{encoding} image of {width} x {height} pixels"
    if min(width, height) < layout.least_side:
        raise ImageError(f"{size}: at least {layout.least_side} x {layout.least_side} are needed")
    for side, length in (("width", width), ("height", height)):
        if side in layout.even and length % 2:
            raise ImageError(f"{size}: this encoding needs an even {side}")


def _rows_of(message: ImageMessage, layout: _Layout) -> NDArray[np.uint8]:
    """The message's bytes as they lie, [rows, step]; a size is believed only when the data bear it out."""
    _check_size(message.encoding, message.width, message.height, layout)
    row_bytes = message.width * layout.channels * layout.sample_bytes
    return padded_rows(message, row_bytes, message.height * layout.half_rows // 2)


def padded_rows(message: ImageMessage, row_bytes: int, count: int) -> NDArray[np.uint8]:
    """The bytes of ``count`` rows as they lie, padding included: uint8 [count, step].

    Raises:
        ImageError: ``step`` is shorter than the ``row_bytes`` of a row of pixels, or the data are not as long as that.
    """
    name = f"{message.encoding} image of {message.width} x {message.height} pixels"
    if message.step < row_bytes:
        raise ImageError(f"{name}: its step is {message.step} bytes, but one row takes {row_bytes}")
    data = bytes_of(message.data)
    if data.size != count * message.step:
        raise ImageError(f"{name}: {count} rows of step {message.step} are due, not {data.size} bytes")
    return data.reshape(count, message.step)


def bytes_of(data: Any) -> NDArray[np.uint8]:
    """The data of a message, be it array, ndarray or bytes, without a copy; raises ImageError if it is not a block."""
    try:
        return np.frombuffer(data, np.uint8) if memoryview(data).nbytes else np.empty(0, np.uint8)
    except (TypeError, ValueError, BufferError):
        raise ImageError(f"the image's data are a {type(data).__name__}, not one block of bytes") from None


def _samples(rows: NDArray[np.uint8], message: ImageMessage, layout: _Layout) -> NDArray[Any]:
    """Rows without their padding, uint8 or native uint16 [rows, W, channels]; uint8 is not copied."""
    used = rows[:, : message.width * layout.channels * layout.sample_bytes]
    if layout.sample_bytes == 2:
        used = np.require(used.view(">u2" if message.is_bigendian else "<u2"), np.uint16, ["C", "A"])
    return used.reshape(len(rows), message.width, layout.channels)


def _samples_to_rgb(samples: NDArray[Any], conversion: int | None) -> NDArray[np.uint8]:
    picture = samples.copy() if conversion is None else cv2.cvtColor(samples, conversion)
    if picture.dtype == np.uint16:
        picture = cv2.convertScaleAbs(picture, alpha=255 / 65535)
    return np.asarray(picture, np.uint8)


def _full_chroma_to_rgb(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """nv24 [3H, step] to RGB [H, W, 3]; OpenCV has no conversion for it."""
    height, step = len(rows) // 3, rows.shape[1]
    chroma = rows[height:].reshape(height, 2 * step)[:, : 2 * width]
    luma = np.maximum(rows[:height, :width], 16)  # as OpenCV does in the other YUV encodings
    yuv = np.dstack([luma, chroma[:, 0::2], chroma[:, 1::2]])  # [H, W, 3]
    return np.asarray(cv2.transform(yuv, _RGB_FROM_YUV), np.uint8)
