"""The picture of a match: both images whole, the lines where the points are, and nothing that makes it fail."""

from __future__ import annotations

import numpy as np
import pytest

from tscm_core.recognition.match_picture import MOST_INLIER_LINES, MOST_OUTLIER_LINES, draw_matches

EMPTY = np.zeros((0, 2), np.float32)
NONE = np.zeros(0, bool)
GAP = 6


def flat(height, width, grey):
    return np.full((height, width, 3), grey, np.uint8)


def changed(picture, grey):
    """Which pixels are no longer the flat grey of both images, without the gap between two images of one width."""
    half = (picture.shape[1] - GAP) // 2
    body = np.concatenate([picture[:, :half], picture[:, half + GAP :]], axis=1)
    return np.abs(body.astype(int) - grey).max(axis=2)


def test_without_points_both_images_stand_there_untouched():
    rng = np.random.default_rng(1)
    query, match = (rng.integers(0, 256, (40, 60, 3), np.uint8) for _ in range(2))
    picture = draw_matches(query, match, EMPTY, EMPTY, NONE)
    assert np.array_equal(picture[:, :60], query)
    assert np.array_equal(picture[:, 60 + GAP :], match)


def test_the_match_gets_the_height_of_the_query_and_its_points_move_along():
    picture = draw_matches(flat(100, 80, 128), flat(50, 60, 128), [[10.0, 50.0]], [[30.0, 25.0]], np.array([True]))
    assert picture.shape == (100, 80 + GAP + 120, 3)
    end = 80 + GAP + 60
    touched = np.abs(picture.astype(int) - 128).max(axis=2) > 40
    touched[:, 80 : 80 + GAP] = False
    assert touched[48:53, 8:13].any()
    assert touched[48:53, end - 2 : end + 3].any()
    assert touched[50, 20:75].all()  # the line between them is level
    assert not touched[:40].any()
    assert not touched[:, end + 10 :].any()


@pytest.mark.parametrize("grey", [0, 60, 128, 200, 255])
def test_inlier_lines_are_seen_on_dark_and_light_images(grey):
    line = ([[5.0, 30.0]], [[95.0, 30.0]])
    picture = draw_matches(flat(60, 100, grey), flat(60, 100, grey), *line, np.array([True]))
    column = changed(picture, grey)[:, 50]
    assert column.max() > 90
    faint = changed(draw_matches(flat(60, 100, grey), flat(60, 100, grey), *line, np.array([False])), grey)[:, 50]
    assert 10 < faint.max() < column.max() / 1.3


def test_of_many_matches_few_are_drawn():
    count = 1500
    rows = np.linspace(5, 3995, count)
    points = np.stack([np.full(count, 50.0), rows], axis=1)
    for inliers, most in ((np.ones(count, bool), MOST_INLIER_LINES), (np.zeros(count, bool), MOST_OUTLIER_LINES)):
        picture = draw_matches(flat(4000, 100, 100), flat(4000, 100, 100), points, points, inliers)
        column = changed(picture, 100)[:, 80] > 5
        assert np.count_nonzero(np.diff(column.astype(int)) == 1) == most
        assert column[:40].any()
        assert column[-40:].any()


def test_the_order_of_the_matches_changes_nothing_and_twice_is_the_same():
    rng = np.random.default_rng(3)
    query, match = (rng.integers(0, 256, (90, 120, 3), np.uint8) for _ in range(2))
    here, there = rng.uniform(0, 90, (2, 300, 2)).astype(np.float32)
    inliers = rng.random(300) < 0.5
    first = draw_matches(query, match, here, there, inliers, "caption")
    assert np.array_equal(first, draw_matches(query, match, here, there, inliers, "caption"))
    count = [int((draw_matches(query, match, here, there, kept) != first[:90]).sum()) for kept in (inliers, ~inliers)]
    assert count[0] == 0
    assert count[1] > 0


def test_points_outside_or_not_finite_do_no_harm():
    here = np.array([[np.nan, 3.0], [np.inf, 2.0], [-1e9, 1e12], [5.0, 5.0]])
    there = np.array([[1.0, 3.0], [1.0, 2.0], [1e15, -4.0], [np.nan, 5.0]])
    for inliers in (np.ones(4, bool), np.zeros(4, bool)):
        assert draw_matches(flat(20, 30, 9), flat(20, 30, 9), here, there, inliers).shape == (20, 30 + GAP + 30, 3)


def test_the_caption_stands_below_and_takes_the_lines_it_needs():
    images, nothing = (flat(40, 200, 10), flat(40, 200, 10)), (EMPTY, EMPTY, NONE)
    short = draw_matches(*images, *nothing, "similarity 0.9")
    long = draw_matches(*images, *nothing, "similarity 0.9, and " * 12 + "ö → ü")
    assert draw_matches(*images, *nothing).shape[0] == 40 < short.shape[0] < long.shape[0]
    assert np.array_equal(short[:40], draw_matches(*images, *nothing))
    assert (short[40:] < 90).any()
    assert (long[-20:] < 90).any()
    assert (long[40:, -4:] == 255).all()  # nothing runs over the edge


def test_pictures_of_one_pixel_are_drawn_too():
    picture = draw_matches(flat(1, 1, 5), flat(300, 7, 5), [[0.0, 0.0]], [[3.0, 150.0]], np.array([True]), "a caption")
    assert picture.shape[1] == 1 + GAP + 1
