"""Every encoding is built here by plain NumPy from a known picture, and must come back as that picture."""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
import tracemalloc
import zlib
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tscm_core.datasets.image_messages import ENCODINGS, compressed_to_rgb, from_rgb, to_rgb
from tscm_core.errors import ImageError, TscmError

HEIGHT, WIDTH = 48, 64
SIXTEEN_BITS = tuple(name for name in ENCODINGS if name.endswith("16") or name == "16UC1")
GREY = ("mono8", "mono16", "8UC1", "16UC1")
BAYER = tuple(name for name in ENCODINGS if name.startswith("bayer_"))
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21", "nv24")
COLOUR = tuple(name for name in ENCODINGS if name not in GREY)
CHANNEL_ORDER = {"rgb": "rgb", "bgr": "bgr", "rgba": "rgba", "bgra": "bgra", "8UC3": "bgr", "8UC4": "bgra"}


def smooth_picture() -> NDArray[np.uint8]:
    """RGB uint8 [48, 64, 3]; the three channels rise and fall differently, so none can stand for another."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 2 * x, 40 + 2 * y, 200 - x - y], axis=-1).astype(np.uint8)


def patches() -> NDArray[np.uint8]:
    """Saturated red, green and blue, side by side: RGB uint8 [12, 36, 3]."""
    return np.repeat(np.eye(3, dtype=np.uint8) * 255, 12, axis=0)[None].repeat(12, axis=0)


# --- the independent encoder: picture -> planes of samples -> bytes


def bt601(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Y in 16..235, Cb and Cr in 16..240, from Kr = 0.299 and Kb = 0.114 (ITU-R BT.601, section 2.5)."""
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return 16 + 219 * luma, 128 + 224 * (blue - luma) / 1.772, 128 + 224 * (red - luma) / 1.402


def rgb_of_bt601(luma: Any, blue_chroma: Any, red_chroma: Any) -> NDArray[np.float64]:
    """The inverse, in floating point, with luma below black taken as black: [H, W, 3] in 0..255."""
    light = (np.maximum(luma, 16.0) - 16) / 219
    red = light + 1.402 * (red_chroma - 128.0) / 224
    blue = light + 1.772 * (blue_chroma - 128.0) / 224
    green = (light - 0.299 * red - 0.114 * blue) / 0.587
    return np.stack([red, green, blue], axis=-1).clip(0, 1) * 255


def halved(plane: NDArray[np.float64], vertically: bool) -> NDArray[np.float64]:
    plane = (plane[:, 0::2] + plane[:, 1::2]) / 2
    return (plane[0::2] + plane[1::2]) / 2 if vertically else plane


def interleaved(*columns: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Planes [H, W] to rows [H, W * n] a0 b0 a1 b1 ..."""
    stacked = np.stack(columns, axis=-1).round().astype(np.uint8)
    return stacked.reshape(len(stacked), -1)


def yuv_planes(encoding: str, rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    luma, cb, cr = bt601(rgb)
    if encoding == "nv24":
        return [interleaved(luma), interleaved(cb, cr)]
    if encoding in ("nv12", "nv21"):
        cb, cr = halved(cb, vertically=True), halved(cr, vertically=True)
        return [interleaved(luma), interleaved(cb, cr) if encoding == "nv12" else interleaved(cr, cb)]
    cb, cr = halved(cb, vertically=False), halved(cr, vertically=False)
    even, odd = luma[:, 0::2], luma[:, 1::2]
    return [interleaved(cb, even, cr, odd) if encoding in ("yuv422", "uyvy") else interleaved(even, cb, odd, cr)]


def mosaic(pattern: str, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One colour per pixel; `pattern` names the top-left two by two pixels, row by row."""
    rows = np.empty(rgb.shape[:2], np.uint8)
    for corner, colour in enumerate(pattern):
        y, x = divmod(corner, 2)
        rows[y::2, x::2] = rgb[y::2, x::2, "rgb".index(colour)]
    return rows


def planes_of(encoding: str, rgb: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Planes of 8-bit samples, [rows, samples per row] each; a grey encoding gets the green channel."""
    if encoding in YUV:
        return yuv_planes(encoding, rgb)
    if encoding in BAYER:
        return [mosaic(encoding[6:10], rgb)]
    if encoding in GREY:
        return [rgb[..., 1]]
    order = CHANNEL_ORDER[encoding if encoding in CHANNEL_ORDER else encoding.rstrip("0123456789")]
    alpha = np.random.default_rng(1).integers(0, 256, (*rgb.shape[:2], 1), np.uint8)
    rows = np.concatenate([rgb, alpha], axis=-1)[..., ["rgba".index(letter) for letter in order]]
    return [rows.reshape(len(rows), -1)]


def sample_bytes(encoding: str, plane: NDArray[np.uint8], big: bool) -> NDArray[np.uint8]:
    if encoding not in SIXTEEN_BITS:
        return plane
    low_bits = np.random.default_rng(2).integers(-128, 129, plane.shape)  # must be rounded away
    wide = (plane.astype(np.int64) * 257 + low_bits).clip(0, 65535)
    return wide.astype(">u2" if big else "<u2").view(np.uint8)


def encode(encoding: str, rgb: NDArray[np.uint8], padding: int = 0, big: bool = False) -> SimpleNamespace:
    """A message of `rgb`; `padding` bytes of noise end each row (twice as many a row of nv24's chroma)."""
    noise = np.random.default_rng(3)
    planes = [sample_bytes(encoding, plane, big) for plane in planes_of(encoding, rgb)]
    step = planes[0].shape[1] + padding
    data = b""
    for plane in planes:
        length = 2 * step if plane.shape[1] == 2 * planes[0].shape[1] else step
        padded = noise.integers(0, 256, (len(plane), length), np.uint8)
        padded[:, : plane.shape[1]] = plane
        data += padded.tobytes()
    height, width = rgb.shape[:2]
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=int(big), step=step, data=array("B", data)
    )


def assert_picture(picture: NDArray[np.uint8], expected: NDArray[Any], tolerance: float) -> None:
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape
    assert picture.flags.c_contiguous
    assert picture.flags.owndata
    assert np.abs(picture.astype(float) - expected).max() <= tolerance


# --- raw images


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_gives_the_picture_back(encoding: str, padding: int, big: bool) -> None:
    rgb = smooth_picture()
    picture = to_rgb(encode(encoding, rgb, padding, big))
    expected = rgb if encoding in COLOUR else rgb[..., [1, 1, 1]]
    if encoding in BAYER:  # a border pixel has no neighbours to interpolate from
        assert picture.shape == rgb.shape
        picture, expected = picture[1:-1, 1:-1].copy(), expected[1:-1, 1:-1]
    assert_picture(picture, expected, 3 if encoding in YUV else 1 if encoding in BAYER else 0)


@pytest.mark.parametrize("encoding", COLOUR)
def test_red_green_and_blue_stay_what_they_are(encoding: str) -> None:
    picture = to_rgb(encode(encoding, patches()))
    middles = picture[6, [5, 17, 29]].astype(int)
    assert np.abs(middles - 255 * np.eye(3, dtype=int)).max() <= 2


@pytest.mark.parametrize("side", ["odd", "even"])
@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name not in YUV or name == "nv24"])
def test_odd_sizes_are_read_where_the_encoding_has_them(encoding: str, side: str) -> None:
    rgb = smooth_picture()[: 7 if side == "odd" else 8, :9]
    assert to_rgb(encode(encoding, rgb, padding=3)).shape == rgb.shape


def test_sixteen_bits_become_eight_by_one_rule_whatever_the_picture() -> None:
    values = np.arange(65536, dtype="<u2").reshape(256, 256)
    message = SimpleNamespace(height=256, width=256, encoding="mono16", is_bigendian=0, step=512, data=values.tobytes())
    expected = np.floor(values / 257 + 0.5)
    assert_picture(to_rgb(message), expected[..., None].repeat(3, axis=-1), 0)


@pytest.mark.parametrize("encoding", YUV)
def test_yuv_is_limited_range_bt601_over_all_bytes(encoding: str) -> None:
    noise = np.random.default_rng(4)
    luma = noise.integers(0, 256, (32, 32)).astype(float)
    chroma = noise.integers(0, 256, (2, 16, 16)).astype(float).repeat(2, axis=1).repeat(2, axis=2)
    cb, cr = chroma
    even, odd, cb2, cr2 = luma[:, 0::2], luma[:, 1::2], cb[:, 0::2], cr[:, 0::2]
    planes = {
        "nv12": [interleaved(luma), interleaved(cb2[0::2], cr2[0::2])],
        "nv21": [interleaved(luma), interleaved(cr2[0::2], cb2[0::2])],
        "nv24": [interleaved(luma), interleaved(cb, cr)],
    }
    packed = {"u": [interleaved(cb2, even, cr2, odd)], "y": [interleaved(even, cb2, odd, cr2)]}
    rows = planes.get(encoding) or packed["u" if encoding in ("yuv422", "uyvy") else "y"]
    message = SimpleNamespace(
        height=32,
        width=32,
        encoding=encoding,
        is_bigendian=0,
        step=rows[0].shape[1],
        data=b"".join(plane.tobytes() for plane in rows),
    )
    assert_picture(to_rgb(message), rgb_of_bt601(luma, cb, cr), 1.01)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono16", "nv12"])
def test_data_may_be_any_block_of_bytes(encoding: str, kind: Any) -> None:
    message = encode(encoding, smooth_picture())
    expected = to_rgb(message)
    message.data = kind(message.data.tobytes())
    assert_picture(to_rgb(message), expected, 0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_picture_is_not_the_messages_memory(encoding: str) -> None:
    message = encode(encoding, smooth_picture())
    before = message.data.tobytes()
    picture = to_rgb(message)
    copy = picture.copy()
    picture[:] = 0
    assert message.data.tobytes() == before
    np.testing.assert_array_equal(to_rgb(message), copy)


def test_sixteen_bits_at_an_odd_address() -> None:
    message = encode("rgb16", smooth_picture())
    expected = to_rgb(message)
    message.data = memoryview(b"?" + message.data.tobytes())[1:]
    np.testing.assert_array_equal(to_rgb(message), expected)


# --- raw images that cannot be pictures


REFUSALS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("rgb8", {"width": 0}, ["rgb8", "0 x 48 pixels"]),
    ("nv12", {"height": 0}, ["nv12", "64 x 0 pixels"]),
    ("bgr8", {"step": 191}, ["bgr8", "64 x 48", "step is 191 bytes", "one row takes 192"]),
    ("rgba16", {"step": 511}, ["step is 511 bytes", "one row takes 512"]),
    ("yuyv", {"step": 64}, ["step is 64 bytes", "one row takes 128"]),
    ("mono8", {"data": b"123"}, ["mono8", "48 rows of step 64", "3 bytes"]),
    ("mono8", {"data": b""}, ["48 rows of step 64", "0 bytes"]),
    ("mono8", {"height": 47}, ["47 rows of step 64", "3072 bytes"]),
    ("nv12", {"height": 72}, ["108 rows of step 64", "4608 bytes"]),
    ("nv24", {"data": bytes(48 * 64 * 2)}, ["144 rows of step 64", "6144 bytes"]),
    ("yuv422", {"width": 63}, ["yuv422", "63 x 48", "even width"]),
    ("yuv422_yuy2", {"width": 63}, ["yuv422_yuy2", "even width"]),
    ("nv12", {"width": 63}, ["nv12", "even width"]),
    ("nv21", {"height": 47}, ["nv21", "64 x 47", "even height"]),
    ("bayer_rggb8", {"width": 2}, ["bayer_rggb8", "2 x 48", "3 x 3"]),
    ("bayer_gbrg16", {"height": 1}, ["64 x 1", "3 x 3"]),
    ("mono8", {"encoding": "h264"}, ['"h264" is not supported', "mono8", "bayer_rggb16", "nv24"]),
    ("mono8", {"encoding": ""}, ['"" is not supported']),
    ("mono8", {"encoding": "RGB8"}, ['"RGB8" is not supported']),
    ("mono8", {"encoding": "8UC2"}, ['"8UC2" is not supported']),
    ("mono8", {"encoding": "32FC1"}, ["32FC1 is a depth image, not a picture"]),
    ("mono8", {"encoding": "64FC3"}, ["64FC3 is a depth image, not a picture"]),
    ("mono8", {"data": [1, 2, 3]}, ["list", "not one block of bytes"]),
    ("mono8", {"data": np.zeros((96, 64), np.uint8)[::2]}, ["ndarray", "not one block of bytes"]),
    ("mono8", {"height": 2**32 - 1, "width": 2**32 - 1, "step": 2**32 - 1}, ["4294967295", "3072 bytes"]),
]


@pytest.mark.parametrize(("encoding", "changes", "facts"), REFUSALS)
def test_refusal_names_the_fact_in_one_sentence(encoding: str, changes: dict[str, Any], facts: list[str]) -> None:
    message = encode(encoding, smooth_picture())
    vars(message).update(changes)
    with pytest.raises(ImageError) as refusal:
        to_rgb(message)
    sentence = str(refusal.value)
    assert isinstance(refusal.value, TscmError)
    assert [fact for fact in facts if fact not in sentence] == []
    assert "\n" not in sentence


def test_no_memory_is_taken_on_the_word_of_a_header() -> None:
    message = SimpleNamespace(
        height=100_000, width=100_000, encoding="mono8", is_bigendian=0, step=100_000, data=b"tiny"
    )
    tracemalloc.start()
    try:
        with pytest.raises(ImageError):
            to_rgb(message)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


ROWS_PER_TWO = {"nv12": 3, "nv21": 3, "nv24": 6}


@st.composite
def arbitrary_messages(draw: st.DrawFn) -> SimpleNamespace:
    """Any header; half of the time with as many bytes as the header promises."""
    encoding = draw(st.sampled_from([*ENCODINGS, "32FC1", "16SC1", "yuv420", ""]) | st.text(max_size=8))
    side = st.integers(0, 20) | st.integers(0, 2**32 - 1)
    height, width, step = draw(side), draw(side), draw(st.integers(0, 200) | side)
    size = height * ROWS_PER_TWO.get(encoding, 2) // 2 * step
    lengths = st.sampled_from([size, max(size - 1, 0), size + 1]) if size < 20_000 else st.integers(0, 400)
    seed, length = draw(st.integers(0, 255)), draw(lengths | st.just(min(size, 400)))
    data = np.random.default_rng(seed).bytes(length)
    big = draw(st.integers(0, 255))
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=big, step=step, data=data)


@settings(max_examples=1000, deadline=None)
@given(arbitrary_messages())
def test_any_message_gives_a_picture_or_an_image_error(message: SimpleNamespace) -> None:
    try:
        picture = to_rgb(message)
    except ImageError:
        return
    assert picture.dtype == np.uint8
    assert picture.shape == (message.height, message.width, 3)
    assert picture.flags.c_contiguous


# --- compressed images


def compressed(data: bytes, format_: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=format_, data=array("B", data))


def file_of(kind: str, bgr: NDArray[Any], *options: int) -> bytes:
    done, data = cv2.imencode(f".{kind}", bgr, options)
    assert done
    return bytes(data.tobytes())


def wide(picture: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return picture.astype(np.uint16) * np.uint16(257)


def with_segment(jpeg: bytes, payload: bytes) -> bytes:
    """The jpeg with an APP1 segment after its start marker."""
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def quarter_turn() -> bytes:
    """EXIF with one entry: orientation 6, to be shown turned by 90 degrees."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", ["grey", "colour", "alpha"])
def test_png_comes_back_exactly(channels: str, depth: int) -> None:
    rgb = smooth_picture()
    pixels = {
        "grey": rgb[..., 1],
        "colour": rgb[..., ::-1],
        "alpha": np.dstack([rgb[..., ::-1], rgb[..., 0]]),
    }
    picture = np.ascontiguousarray(pixels[channels])
    message = compressed(file_of("png", wide(picture) if depth == 16 else picture), "png")
    assert_picture(compressed_to_rgb(message), rgb[..., [1, 1, 1]] if channels == "grey" else rgb, 0)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("channels", ["grey", "colour"])
def test_jpeg_comes_back(channels: str, progressive: int) -> None:
    rgb = smooth_picture()
    grey = channels == "grey"
    pixels = np.ascontiguousarray(rgb[..., 1] if grey else rgb[..., ::-1])
    options = (cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    message = compressed(file_of("jpg", pixels, *options), "rgb8; jpeg compressed bgr8")
    assert_picture(compressed_to_rgb(message), rgb[..., [1, 1, 1]] if grey else rgb, 6)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_compressed_colours_stay_what_they_are(kind: str) -> None:
    message = compressed(file_of(kind, np.ascontiguousarray(patches()[..., ::-1])))
    middles = compressed_to_rgb(message)[6, [5, 17, 29]].astype(int)
    assert np.abs(middles - 255 * np.eye(3, dtype=int)).max() <= 3


def test_exif_rotation_is_ignored() -> None:
    plain = file_of("jpg", smooth_picture())
    turned = with_segment(plain, quarter_turn())
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (WIDTH, HEIGHT, 3)
    picture = compressed_to_rgb(compressed(turned))
    np.testing.assert_array_equal(picture, compressed_to_rgb(compressed(plain)))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_compressed_mosaic_is_demosaiced(pattern: str, depth: int) -> None:
    rgb = smooth_picture()
    pixels = mosaic(pattern, rgb)
    data = file_of("png", wide(pixels) if depth == 16 else pixels)
    picture = compressed_to_rgb(compressed(data, f"bayer_{pattern}{depth}; png compressed "))
    assert np.abs(picture.astype(int) - rgb)[1:-1, 1:-1].max() <= 1


def test_a_mosaic_that_the_publisher_made_a_colour_picture_is_left_alone() -> None:
    data = file_of("png", np.ascontiguousarray(smooth_picture()[..., ::-1]))
    message = compressed(data, "bayer_rggb8; png compressed bgr8")
    np.testing.assert_array_equal(compressed_to_rgb(message), smooth_picture())


@pytest.mark.parametrize("padding", [b"\0" * 4096, b"\xff" * 7])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_buffer_longer_than_its_picture_is_read(kind: str, padding: bytes) -> None:
    data = file_of(kind, smooth_picture())
    expected = compressed_to_rgb(compressed(data))
    np.testing.assert_array_equal(compressed_to_rgb(compressed(data + padding)), expected)


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("thumbnail", [False, True], ids=["plain", "thumbnail"])
def test_a_jpeg_cut_off_anywhere_is_refused(thumbnail: bool, progressive: int) -> None:
    jpeg = file_of("jpg", smooth_picture(), cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    if thumbnail:
        jpeg = with_segment(jpeg, b"Exif\0\0" + file_of("jpg", smooth_picture()[::8, ::8].copy()))
    compressed_to_rgb(compressed(jpeg))
    for length in range(2, len(jpeg) - 1):
        with pytest.raises(ImageError, match=r"is cut off|is damaged"):
            compressed_to_rgb(compressed(jpeg[:length]))
    with pytest.raises(ImageError, match=r"cut off, its end marker is missing"):
        compressed_to_rgb(compressed(jpeg[:-100]))


def test_a_png_cut_off_anywhere_is_refused() -> None:
    png = file_of("png", np.random.default_rng(5).integers(0, 256, (9, 9, 3), np.uint8))
    for length in range(8, len(png)):
        with pytest.raises(ImageError, match="cut off, its end marker is missing"):
            compressed_to_rgb(compressed(png[:length], "png"))


def resized(data: bytes, height: int, width: int) -> bytes:
    """The jpeg or png with another size in its header and nothing else changed."""
    if data.startswith(b"\x89PNG"):
        header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


@pytest.mark.parametrize("fill", [b"", b"\xff\xff"], ids=["plain", "fill bytes"])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_header_that_promises_too_much_is_refused(kind: str, fill: bytes) -> None:
    data = resized(file_of(kind, smooth_picture()), 20_000, 30_000)
    if kind == "jpg":
        data = data[:2] + fill + data[2:]
    with pytest.raises(ImageError, match=r"30000 x 20000 pixels: that is too large"):
        compressed_to_rgb(compressed(data))


def test_a_jpeg_whose_size_cannot_be_found_is_refused() -> None:
    jpeg = file_of("jpg", smooth_picture())
    first_segment = 4 + int.from_bytes(jpeg[4:6], "big")
    data = jpeg[:first_segment] + b"junk" + jpeg[first_segment:]
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(ImageError, match="is damaged"):
        compressed_to_rgb(compressed(data))


def test_an_error_of_opencv_becomes_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("out of memory")

    message = compressed(file_of("png", smooth_picture()))
    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(ImageError, match="OpenCV cannot decode it"):
        compressed_to_rgb(message)


@pytest.mark.parametrize(
    ("format_", "data", "sentence"),
    [
        ("16UC1; compressedDepth png", b"", "16UC1; compressedDepth png is a depth image, not a picture"),
        ("jpeg", b"", "0 bytes: it is neither jpeg nor png"),
        ("jpeg", b"RIFF....WEBP", "12 bytes: it is neither jpeg nor png"),
        ("jpeg", b"\xff\xd8\xff\xd9", "4 bytes: it is damaged"),
        ("png", b"\x89PNG\r\n\x1a\n" + b"\0\0\0\0IEND\xaeB`\x82", "20 bytes: it is damaged"),
        ("bayer_rggb12; png", file_of("png", smooth_picture()[..., 0]), '"bayer_rggb12" is not supported'),
        ("bayer_rggb8; png", file_of("png", np.zeros((2, 9), np.uint8)), "9 x 2 pixels: at least 3 x 3"),
    ],
)
def test_compressed_refusals_name_the_fact(format_: str, data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as refusal:
        compressed_to_rgb(compressed(data, format_))
    assert sentence in str(refusal.value)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["jpg", "png"]),
    place=st.floats(0, 1, exclude_max=True),
    noise=st.binary(max_size=2),
    format_=st.sampled_from(["jpeg", "png", "", "mono16; png compressed ", "bayer_grbg8; jpeg compressed "]),
)
def test_any_damage_gives_a_picture_or_an_image_error(kind: str, place: float, noise: bytes, format_: str) -> None:
    data = file_of(kind, smooth_picture()[:16, :16, 0])
    at = int(place * len(data))
    try:
        picture = compressed_to_rgb(compressed(data[:at] + noise + data[at + len(noise) :], format_))
    except ImageError:
        return
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3


# --- pictures to publish


def test_a_published_picture_is_read_back() -> None:
    rgb = smooth_picture()
    message = from_rgb(rgb, SimpleNamespace())
    assert isinstance(message.data, array)
    assert message.data.typecode == "B"
    assert (message.height, message.width, message.encoding, message.step) == (
        HEIGHT,
        WIDTH,
        "rgb8",
        3 * WIDTH,
    )
    assert_picture(to_rgb(message), rgb, 0)


def test_a_view_is_published_as_it_looks() -> None:
    rgb = smooth_picture()[::2, ::-1]
    assert_picture(to_rgb(from_rgb(rgb, SimpleNamespace())), rgb, 0)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_only_rgb_pictures_are_published(image: NDArray[Any]) -> None:
    with pytest.raises(ImageError, match=r"uint8 \[H, W, 3\]"):
        from_rgb(image, SimpleNamespace())


def test_a_real_message_holds_what_was_published() -> None:
    messages = pytest.importorskip("sensor_msgs.msg")
    message = messages.Image()
    message.header.frame_id = "camera"
    assert from_rgb(smooth_picture(), message) is message
    assert message.header.frame_id == "camera"
    assert_picture(to_rgb(message), smooth_picture(), 0)


# --- company


def test_nothing_of_ros_is_imported() -> None:
    code = (
        "import sys, tscm_core.datasets.image_messages; "
        "print(sorted({'rclpy', 'sensor_msgs', 'cv_bridge', 'rosbags'} & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cv_bridge_has_the_same_pixels() -> None:
    """Without padding: cv_bridge shears rows whose `step` is not a whole number of pixels."""
    cv_bridge = pytest.importorskip("cv_bridge")
    if importlib.import_module("cv_bridge.boost.cv_bridge_boost").__file__.endswith(".py"):
        pytest.skip("this is PyPI's cv_bridge, which lacks most conversions, and not ROS's")
    compared = []
    for encoding in (name for name in ENCODINGS if not name.startswith(("8U", "16U", "nv"))):
        message = encode(encoding, smooth_picture())
        try:
            theirs = cv_bridge.CvBridge().imgmsg_to_cv2(message, "rgb8")
        except cv_bridge.CvBridgeError:
            continue  # older ones lack some: yuyv, uyvy
        np.testing.assert_array_equal(to_rgb(message), theirs, err_msg=encoding)
        compared.append(encoding)
    assert {"mono8", "mono16", "bgr8", "rgb16", "bayer_rggb8", "bayer_gbrg16", "yuv422"} <= set(compared)
