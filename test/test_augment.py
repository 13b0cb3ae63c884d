"""Augmentation: an image of the same kind, from the generator alone, and what each part may and may not do."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.errors import ConfigError
from tscm_core.training import augment, augment_light
from tscm_core.training.augment import AugmentConfig, Augmenter

PARTS = (
    "exposure", "local_contrast", "shading", "darkness", "snow", "fog", "noise", "blur", "viewpoint", "occlusion",
    "jpeg",
)  # fmt: skip
NEVER = AugmentConfig(**dict.fromkeys(PARTS, 0.0))
ALWAYS = AugmentConfig(**dict.fromkeys(PARTS, 1.0))


def scene(height=60, width=80, seed=0):
    """A street-like image: bright above, structured below."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(20, 220, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
    image[: height // 4] = 220
    return image


def rng(seed=0):
    return np.random.default_rng(seed)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32), st.floats(0, 2))
def test_any_image_stays_an_image_of_its_size(height, width, seed, strength):
    image = scene(height, width)
    before = image.copy()
    changed = Augmenter(dataclasses.replace(ALWAYS, strength=strength))(image, rng(seed))
    assert (changed.dtype, changed.shape) == (np.uint8, image.shape)
    assert changed.flags.c_contiguous
    assert (image == before).all()
    assert not np.shares_memory(changed, image)


def test_the_generator_decides_and_nothing_else():
    augmenter, image = Augmenter(), scene()
    changed = [augmenter(image, rng(seed)) for seed in range(12)]
    threads = cv2.getNumThreads()
    try:
        for count in (1, 2):
            cv2.setNumThreads(count)
            cv2.setRNGSeed(count)
            again = [Augmenter()(image, rng(seed)) for seed in range(12)]
            assert all((a == b).all() for a, b in zip(changed, again, strict=True))
    finally:
        cv2.setNumThreads(threads)
    assert len({picture.tobytes() for picture in changed}) > 10


@pytest.mark.parametrize("config", [dataclasses.replace(ALWAYS, strength=0.0), NEVER])
def test_without_strength_or_probability_nothing_changes(config):
    image = scene()
    changed = Augmenter(config)(image, rng())
    assert (changed == image).all()
    assert not np.shares_memory(changed, image)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_acts_alone_and_less_with_less_strength(part):
    image = scene(120, 160)
    change = {}
    for strength in (0.1, 1.0):
        augmenter = Augmenter(dataclasses.replace(NEVER, strength=strength, **{part: 1.0}))
        changed = [augmenter(image, rng(seed)).astype(float) for seed in range(30)]
        change[strength] = np.mean([np.abs(picture - image).mean() for picture in changed])
    assert change[1.0] > 1
    assert change[0.1] < 0.75 * change[1.0]


def test_a_robot_that_comes_back_still_sees_something():
    """However the parts fall together, no image ends black, white or featureless."""
    image = scene(120, 160)
    changed = [Augmenter()(image, rng(seed)).astype(float) for seed in range(150)]
    assert min(picture.mean() for picture in changed) > 12
    assert max(picture.mean() for picture in changed) < 235
    assert np.mean([picture.mean(axis=2).std() > 10 for picture in changed]) > 0.95


def test_never_mirrored():
    """The left of the image stays on the left, whatever the viewpoint."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[:, :80] = 255
    for seed in range(60):
        seen = augment.viewpoint(image, rng(seed), AugmentConfig()).astype(float)
        assert seen[:, :40].mean() > seen[:, 120:].mean() + 100


def test_viewpoint_keeps_at_least_what_the_limits_say():
    """The middle of the image moves no further than crop, corners and rotation can take it."""
    image = np.zeros((120, 160, 3), np.uint8)
    cv2.circle(image, (80, 60), 3, (255, 255, 255), -1)
    moves = []
    for seed in range(60):
        y, x = np.nonzero(augment.viewpoint(image, rng(seed), AugmentConfig())[..., 0] > 60)
        moves.append(np.hypot(x.mean() - 80, y.mean() - 60))
    assert 3 < np.mean(moves) < 25
    assert max(moves) < 50


def test_occlusion_hides_at_most_its_share():
    image = scene(120, 160)
    hidden = []
    for seed in range(80):
        changed = augment.occlusion(image, rng(seed), AugmentConfig(max_occlusion=0.2))
        hidden.append(np.mean((changed != image).any(axis=2)))
    assert max(hidden) <= 0.2
    assert max(hidden) > 0.1


def test_night_is_dark_noisy_and_coloured():
    image = np.full((120, 160, 3), 160, np.float32)
    nights = [augment_light.darkness(image, rng(seed), 1.0) for seed in range(40)]
    assert np.mean([night.mean() for night in nights]) < 100
    tints = np.array([night[..., 2].mean() - night[..., 0].mean() for night in nights])
    assert (tints > 3).any()
    assert (tints < -3).any()
    grain = [np.std(night - cv2.GaussianBlur(night, (0, 0), 2)) for night in nights]
    assert min(grain) > 0.3


def test_the_sky_is_dark_at_night_and_the_street_is_not():
    image = np.full((120, 160, 3), 90, np.float32)
    image[:40] = 220
    image[100:, :40] = 220  # bright and low: a car
    night = augment_light._without_sky(image, 0.9)
    assert night[:20].max() < 40
    np.testing.assert_array_equal(night[40:], image[40:])


def test_grey_stays_grey_without_saturation_and_colours_keep_their_mean():
    image = np.random.default_rng(0).uniform(0, 255, (20, 30, 3)).astype(np.float32)
    grey = augment_light.saturation(image, 0.0)
    assert np.ptp(grey, axis=2).max() < 1e-3
    np.testing.assert_allclose(grey[..., 0], image.mean(axis=2), rtol=1e-5)
    np.testing.assert_allclose(augment_light.saturation(image, 1.0), image, rtol=1e-5)


def test_the_automatic_exposure_leaves_alone_what_it_would_not_change():
    dark, bright = np.full((9, 9, 3), 5, np.uint8), np.full((9, 9, 3), 250, np.uint8)
    for image in (dark, bright):
        np.testing.assert_array_equal(augment_light.metered(image.astype(np.float32), image), image)
    assert augment_light.metered(np.full((9, 9, 3), 2, np.float32), bright).mean() == pytest.approx(28)
    assert augment_light.metered(np.full((9, 9, 3), 240, np.float32), dark).mean() == pytest.approx(190)


@pytest.mark.parametrize(
    ("unfit", "problem"),
    [
        ({"strength": -0.1}, "augment.strength must be from 0 to 2, not -0.1"),
        ({"blur": 1.1}, "augment.blur must be from 0 to 1, not 1.1"),
        ({"blur": "often"}, "augment.blur must be from 0 to 1, not 'often'"),
        ({"blur": True}, "augment.blur"),
        ({"fog": float("nan")}, "augment.fog"),
        ({"min_crop": 0.1}, "augment.min_crop must be from 0.3 to 1"),
        ({"max_rotation_deg": 90.0}, "augment.max_rotation_deg must be from 0 to 45"),
    ],
)
def test_settings_out_of_range_are_refused(unfit, problem):
    with pytest.raises(ConfigError, match=problem):
        AugmentConfig(**unfit)
