"""Lighting on finished images: each part against its formula."""

from __future__ import annotations

import numpy as np
import pytest

from tscm_core.datasets.drive_lighting import GREY_WEIGHTS, LIGHTINGS, Exposure, Lighting

SIZE = (48, 36)


def lit(lighting, value):
    return Exposure(lighting, 0, SIZE).apply(np.full((36, 48, 3), value, np.uint8), 0).astype(float)


def test_saturation_and_haze_follow_their_formula():
    colour = np.array([200.0, 100.0, 50.0])
    grey = colour @ GREY_WEIGHTS
    assert lit(Lighting(saturation=0.3), colour)[5, 5] == pytest.approx(0.3 * colour + 0.7 * grey, abs=0.6)
    assert lit(Lighting(haze=0.2, gain=0.5), colour)[5, 5] == pytest.approx(
        0.4 * colour + 0.2 * 0.5 * 0.6 * 255, abs=0.6
    )


def test_a_headlight_adds_to_the_gain_in_its_spot():
    image = lit(Lighting(gain=0.2, headlight=0.6), 100)[..., 0]
    brightest = np.unravel_index(image.argmax(), image.shape)
    assert np.abs(np.array(brightest) - (0.6 * 36, 0.5 * 48)).max() <= 1
    assert image.max() == pytest.approx(80, abs=1)
    assert image[0, 0] < 40


def test_noise_is_new_for_each_image_and_the_same_for_each_seed():
    image = np.full((36, 48, 3), 100, np.uint8)
    first = Exposure(Lighting(noise=4.0), 3, SIZE)
    assert not np.array_equal(first.apply(image, 0), first.apply(image, 1))
    assert np.array_equal(first.apply(image, 1), Exposure(Lighting(noise=4.0), 3, SIZE).apply(image, 1))


def test_lightings_are_unlike_each_other():
    levels = {name: lit(lighting, [60, 60, 60]).mean(axis=(0, 1)) for name, lighting in LIGHTINGS.items()}
    means = {name: level.mean() for name, level in levels.items()}
    assert means["night"] < means["dusk"] < means["lamps"] < means["noon"]
    assert levels["lamps"][0] > 1.5 * levels["lamps"][2]
    assert levels["dusk"][2] > levels["dusk"][0]
