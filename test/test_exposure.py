"""The light taken out of images: as a plain formula has it, one image at a time, and never more than there is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from toys import picture

from tscm_core.models.exposure import FLATTEST, MIDDLE, SPREAD, STEEPEST, ExposureNormalisation

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 58.0, 64.0)


def normalised(*images):
    """RGB uint8 [H, W, 3] to float32 [B, 3, H, W]."""
    pixels = (np.stack(images).astype(np.float32) - MEAN) / STD
    return torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)


def out(*images):
    with torch.inference_mode():
        return ExposureNormalisation(MEAN, STD)(normalised(*images)).numpy()


def scene(number, height=48, width=64):
    """Smooth, and with values all over the range."""
    coarse = np.random.default_rng(number).integers(30, 226, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def plain(image):
    """One image in float64: gamma that brings the mean to the middle, mean 0, standard deviation 0.47."""
    light = np.clip(image.astype(np.float64) / 255, 0.001, 1)
    gamma = np.log(MIDDLE) / np.log(np.clip(light.mean(), 0.02, 0.9))
    light **= min(max(gamma, FLATTEST), STEEPEST)
    light -= light.mean()
    return (light * SPREAD / max(light.std(), 0.05)).transpose(2, 0, 1)


def graded(image, gain, gamma):
    return np.clip(255 * gain * (image / 255.0) ** gamma, 0, 255).round().astype(np.uint8)


IMAGES = {
    "scene": scene(1),
    "dark": graded(scene(2), 0.15, 1.0),
    "bright": graded(scene(3), 1.0, 0.2),
    "noise": np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8),
    "faint": scene(4) // 100 + 100,
    "black": np.zeros((48, 64, 3), np.uint8),
    "white": np.full((48, 64, 3), 255, np.uint8),
}


@pytest.mark.parametrize("name", IMAGES)
def test_it_is_the_formula(name):
    assert out(IMAGES[name])[0] == pytest.approx(plain(IMAGES[name]), abs=2e-4)


def test_the_examples_reach_every_limit():
    """Else the test above says less than it seems to."""
    means = {name: image.mean() / 255 for name, image in IMAGES.items()}
    gammas = {name: np.log(MIDDLE) / np.log(np.clip(mean, 0.02, 0.9)) for name, mean in means.items()}
    assert gammas["dark"] < FLATTEST < gammas["scene"] < STEEPEST < gammas["bright"]
    assert IMAGES["faint"].std() / 255 < 0.04
    assert means["black"] < 0.02 < 0.9 < means["white"]


def test_each_image_is_by_itself():
    together = out(*IMAGES.values())
    for found, image in zip(together, IMAGES.values(), strict=True):
        assert found == pytest.approx(out(image)[0], abs=1e-5)


@pytest.mark.parametrize("name", ["scene", "dark", "bright", "noise"])
def test_mean_is_nought_and_contrast_ordinary(name):
    found = out(IMAGES[name])[0]
    assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-4), pytest.approx(SPREAD, abs=1e-3))


@pytest.mark.parametrize("value", [0, 7, 128, 255])
def test_nothing_to_see_stays_nothing(value):
    assert np.abs(out(np.full((20, 30, 3), value, np.uint8))).max() < 1e-3


@pytest.mark.parametrize(("gain", "gamma"), [(0.5, 1.0), (1.0, 1.8), (1.0, 0.6), (0.6, 1.4)])
def test_other_light_becomes_much_the_same(gain, gamma):
    image = scene(7)
    first, second = out(image, graded(image, gain, gamma))
    before = normalised(image, graded(image, gain, gamma)).numpy()
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.985
    apart, apart_before = ((x - y).std() / x.std() for x, y in ((first, second), before))
    mean_apart = abs(before[0].mean() - before[1].mean()) / before[0].std()
    assert apart < 0.6 * np.hypot(apart_before, mean_apart)


def test_colours_are_kept_apart_and_grey_stays_grey():
    grey = np.repeat(picture(3)[:, :, :1], 3, axis=2)
    red, green, blue = out(grey)[0]
    assert red == pytest.approx(green, abs=1e-5)
    assert red == pytest.approx(blue, abs=1e-5)
    rising = np.sort(np.random.default_rng(1).integers(0, 256, 300)).astype(np.uint8).reshape(10, 10, 3)
    assert (np.diff(out(rising)[0].transpose(1, 2, 0).ravel()) > -1e-5).all()  # one rising curve for all


def test_it_has_no_weights_and_gives_finite_gradients():
    layer = ExposureNormalisation(MEAN, STD)
    assert layer.state_dict() == {}
    assert list(layer.parameters()) == []
    images = normalised(*(image for image in IMAGES.values() if image.std() > 0)).requires_grad_()
    (layer(images) * torch.randn(images.shape)).sum().backward()
    assert torch.isfinite(images.grad).all()
