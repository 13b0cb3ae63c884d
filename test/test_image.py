"""Images as the network and the map want them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tscm_core.errors import ImageError
from tscm_core.recognition.image import check_rgb, resize, texture, thumbnail_jpeg


def noise(height, width, seed=0, spread=256):
    return np.random.default_rng(seed).integers(0, spread, (height, width, 3), np.uint8)


def scene(light=1.0):
    """A corridor of rectangles with some sensor noise."""
    image = np.full((240, 320, 3), 90.0)
    for number in range(8):
        image[15 * number : 240 - 15 * number, 20 * number : 320 - 20 * number] += 12 * (-1) ** number + 6
        image[10 * number : 10 * number + 5, ::7] += 40
    return np.clip(image * light + np.random.default_rng(0).normal(0, 1, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((4, 4), np.uint8), r"must be uint8 \[H, W, 3\], not uint8 \[4, 4\]"),
        (np.zeros((4, 4, 1), np.uint8), r"not uint8 \[4, 4, 1\]"),
        (np.zeros((4, 4, 4), np.uint8), r"not uint8 \[4, 4, 4\]"),
        (np.zeros((4, 4, 3), np.uint16), r"not uint16 \[4, 4, 3\]"),
        (np.zeros((4, 4, 3), np.float32), r"not float32 \[4, 4, 3\]"),
        (np.zeros((0, 4, 3), np.uint8), "empty: 4 x 0 pixels"),
        (np.zeros((4, 0, 3), np.uint8), "empty: 0 x 4 pixels"),
    ],
)
def test_what_is_no_image_is_refused(image, problem):
    for take in (check_rgb, lambda given: resize(given, (2, 2))):
        with pytest.raises(ImageError, match=problem):
            take(image)


def test_the_right_size_is_left_alone():
    image = noise(24, 32)
    assert resize(image, (32, 24)) is image


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks(factor):
    image = noise(6 * factor, 8 * factor)
    blocks = image.reshape(6, factor, 8, factor, 3).mean(axis=(1, 3))
    assert np.abs(resize(image, (8, 6)) - blocks).max() <= 0.5 + 1e-6


def test_shrinking_by_a_fraction_keeps_the_mean_and_does_not_alias():
    stripes = np.zeros((100, 300, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize(stripes, (70, 40))
    assert small.shape == (40, 70, 3)
    assert np.abs(small.astype(int) - 100).max() <= 25


def test_growing_is_smooth():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 200
    row = resize(image, (20, 10))[5, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 200)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() <= 25


def test_strides_and_views_are_no_matter():
    image = noise(48, 64)
    assert np.array_equal(resize(image[::2, ::-1], (16, 12)), resize(np.ascontiguousarray(image[::2, ::-1]), (16, 12)))


@pytest.mark.parametrize("level", [0, 90, 255])
def test_blank_images_have_no_texture(level):
    assert texture(np.full((240, 320, 3), level, np.uint8)) == 0.0


def test_noise_on_a_wall_and_slow_shading_are_no_texture():
    wall = np.clip(np.random.default_rng(1).normal(120, 3, (240, 320, 3)), 0, 255).astype(np.uint8)
    shade = np.broadcast_to(np.linspace(0, 255, 320)[None, :, None], (240, 320, 3)).astype(np.uint8)
    assert texture(wall) < 0.02
    assert texture(shade) == 0.0


def test_scenes_have_texture_also_when_dim():
    assert texture(noise(240, 320)) > 0.9
    bright, dim, dark = texture(scene()), texture(scene(0.5)), texture(scene(0.01))
    assert bright > 0.1
    assert bright >= dim > 0.02
    assert dark < 0.02


def test_texture_counts_pixels_by_the_slope_of_brightness():
    """A step of 2 x 4 x h grey levels over two pixels: slope 4 h to either side of the edge."""
    for step, share in ((7, 0.0), (9, 2 / 100)):
        image = np.full((50, 100, 3), 100, np.uint8)
        image[:, 50:] += step
        assert texture(image) == pytest.approx(share)


@pytest.mark.parametrize("axis", [0, 1])
def test_edges_count_in_both_directions(axis):
    image = np.zeros((50, 50, 3), np.uint8)
    image[(slice(25, None), slice(None)) if axis == 0 else (slice(None), slice(25, None))] = 200
    assert texture(image) == pytest.approx(2 / 50)


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [
        ((480, 640), 160, (120, 160)),
        ((100, 50), 160, (100, 50)),
        ((4, 1000), 100, (1, 100)),
        ((1000, 500), 20, (40, 20)),
    ],
)
def test_thumbnails_keep_their_proportions_and_never_grow(size, width, expected):
    decoded = cv2.imdecode(np.frombuffer(thumbnail_jpeg(noise(*size), width), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[:2] == expected


def test_thumbnails_keep_their_colours():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:] = 200, 100, 20
    decoded = cv2.imdecode(np.frombuffer(thumbnail_jpeg(image, 32), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(int) - (200, 100, 20)).max() <= 3
