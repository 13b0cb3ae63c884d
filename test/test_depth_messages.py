"""Depth images: the same metres from every way in which they are sent, and a sentence for what is no depth."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from bag_messages import compressed_message, image_message

from tscm_core.datasets.depth_messages import (
    depth_from_message,
    millimetres_from_depth,
    read_depth,
    write_depth,
)
from tscm_core.errors import DatasetError, ImageError

MILLIMETRES = np.random.default_rng(0).integers(0, 65536, (7, 9)).astype(np.uint16)
MILLIMETRES[0, :3] = 0, 1, 65535


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def same_as_plain_loop(metres, millimetres):
    """Every pixel is its number of millimetres divided by 1000."""
    assert metres.dtype == np.float32
    for row in range(millimetres.shape[0]):
        for column in range(millimetres.shape[1]):
            assert metres[row, column] == pytest.approx(int(millimetres[row, column]) / 1000, rel=1e-6)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("big", [False, True])
def test_millimetres_become_metres(encoding, big):
    same_as_plain_loop(depth_from_message(image_message(0, MILLIMETRES, encoding, big=big)), MILLIMETRES)


@pytest.mark.parametrize("big", [False, True])
def test_metres_stay_metres_and_unknown_is_0(big):
    metres = np.array([[0.5, np.nan, np.inf], [-np.inf, -1.0, 70.25]], np.float32)
    got = depth_from_message(image_message(0, metres, "32FC1", big=big))
    assert got.tolist() == [[0.5, 0.0, 0.0], [0.0, 0.0, 70.25]]


@pytest.mark.parametrize(("pixels", "encoding"), [(MILLIMETRES, "16UC1"), (MILLIMETRES / np.float32(1e3), "32FC1")])
def test_padding_is_not_depth(pixels, encoding):
    message = image_message(0, pixels, encoding)
    rows = message.data.reshape(7, -1)
    message.data = np.hstack([rows, np.full((7, 5), 255, np.uint8)]).reshape(-1)
    message.step += 5
    same_as_plain_loop(depth_from_message(message), MILLIMETRES)


def test_what_was_read_is_its_own():
    message = image_message(0, MILLIMETRES.astype(np.float32), "32FC1")
    got = depth_from_message(message)
    before = got.copy()
    message.data[:] = 0
    assert np.array_equal(got, before)


@pytest.mark.parametrize("head", [b"", struct.pack("<iff", 0, 0.0, 0.0)], ids=["png alone", "with header"])
def test_compressed_millimetres(head):
    message = compressed_message(0, head + png(MILLIMETRES), "16UC1; compressedDepth png")
    same_as_plain_loop(depth_from_message(message), MILLIMETRES)


def test_compressed_metres_are_inverse_between_two_numbers():
    """As compressed_depth_image_transport packs them: ``round(a / metres + b)``, 0 for unknown."""
    metres, a, b = np.array([[0.7, 2.0, 9.5]], np.float32), 10100.0, -100.0
    packed = np.rint(a / metres + b).astype(np.uint16)
    packed = np.hstack([packed, [[0]]]).astype(np.uint16)
    got = depth_from_message(
        compressed_message(0, struct.pack("<iff", 0, a, b) + png(packed), "32FC1; compressedDepth")
    )
    assert got[0, :3] == pytest.approx(metres[0], rel=1e-3)
    assert got[0, 3] == 0.0


def wrong_size():
    message = image_message(0, MILLIMETRES, "16UC1")
    message.height += 1
    return message


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (image_message(0, np.zeros((3, 3, 3), np.uint8), "rgb8"), '"rgb8" holds no depth; supported are 16UC1'),
        (wrong_size(), "8 rows of step 18 are due, not 126 bytes"),
        (image_message(0, MILLIMETRES, "32FC1"), "its step is 18 bytes, but one row takes 36"),
        (compressed_message(0, b"123", "16UC1; compressedDepth png"), "there is no png in it"),
        (compressed_message(0, b"123", "jpeg"), 'format "jpeg" holds no depth'),
        (compressed_message(0, png(MILLIMETRES)[:-20], "16UC1; compressedDepth"), "cut off"),
        (compressed_message(0, png(MILLIMETRES.astype(np.uint8)), "16UC1; compressedDepth"), "not of 16 bits"),
        (compressed_message(0, png(MILLIMETRES), "32FC1; compressedDepth"), "header that says how"),
    ],
)
def test_what_is_no_depth_is_refused(message, problem):
    with pytest.raises(ImageError) as caught:
        depth_from_message(message)
    assert problem in str(caught.value)


def test_an_empty_message_is_refused():
    message = image_message(0, MILLIMETRES, "16UC1")
    message.height, message.data = 0, np.empty(0, np.uint8)
    with pytest.raises(ImageError, match="9 x 0 pixels: it is empty"):
        depth_from_message(message)


def test_files_keep_whole_millimetres(tmp_path):
    metres = np.array([[0.0, 1.2344, 65.535, 65.536], [np.nan, np.inf, -1.0, 0.0004]], np.float32)
    assert millimetres_from_depth(metres).tolist() == [[0, 1234, 65535, 0], [0, 0, 0, 0]]
    write_depth(tmp_path / "a.png", metres)
    assert read_depth(tmp_path / "a.png").tolist() == [
        [0.0, pytest.approx(1.234), pytest.approx(65.535), 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert (stored.dtype, stored[0, 1]) == (np.uint16, 1234)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b"no png", "neither jpeg nor png"),
        (png(MILLIMETRES)[:-30], "cut off"),
        (png(MILLIMETRES.astype(np.uint8)), "must be a png of 16 bits and one channel"),
    ],
)
def test_files_that_hold_no_depth_are_refused(tmp_path, content, problem):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=problem) as caught:
        read_depth(path)
    assert str(path) in str(caught.value)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(DatasetError, match="cannot be written: No such file"):
        write_depth(tmp_path / "absent" / "a.png", np.ones((2, 2), np.float32))
