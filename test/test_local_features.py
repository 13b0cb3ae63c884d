"""Local features: what is stored is what is used, damage is noticed, and every image is survived."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shared_data import shared

from tscm_core.config import GeometryConfig
from tscm_core.errors import FeatureError
from tscm_core.recognition.local_features import LocalFeatures, decode_features, encode_features, extract, scaled
from tscm_core.recognition.records import Frame, Intrinsics

RULE = GeometryConfig()
CAMERA = Intrinsics(640, 480, 400.0, 410.0, 322.0, 238.0, (0.1, -0.2, 0.001, 0.002, 0.3), "plumb_bob")


def same(a, b):
    assert a.points.tobytes() == b.points.tobytes()
    assert a.descriptors.tobytes() == b.descriptors.tobytes()
    assert a.depths.tobytes() == b.depths.tobytes()
    assert (a.width, a.height, a.camera) == (b.width, b.height, b.camera)


def scene_image(width=640, height=480, seed=0, rectangles=300):
    """Random rectangles everywhere: corners at all scales."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 90, np.uint8)
    for x, y, w, h in rng.random((rectangles, 4)):
        left, top = int(x * width), int(y * height)
        right, bottom = left + 4 + int(w * width / 10), top + 4 + int(h * height / 10)
        image[top:bottom, left:right] = rng.integers(0, 256, 3)
    return image


def seen_in(image, rule=RULE, **about):
    return extract(Frame(0, image, **about), rule)


# ------------------------------------------------------------------------------------------------ storing


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CAMERAS = st.builds(
    lambda width, height, numbers, bend: Intrinsics(width, height, *numbers, *bend),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.tuples(*[NUMBERS] * 4),
    st.one_of(
        st.just(((), "")),
        st.tuples(st.tuples(*[NUMBERS] * 5), st.just("plumb_bob")),
        st.tuples(st.tuples(*[NUMBERS] * 8), st.just("rational_polynomial")),
        st.tuples(st.tuples(*[NUMBERS] * 4), st.just("equidistant")),
    ),
)


@st.composite
def some_features(draw):
    count, width, height = draw(st.integers(0, 20)), draw(st.integers(0, 4000)), draw(st.integers(0, 4000))
    unit = hnp.arrays(np.float32, (count, 2), elements=st.floats(0, 1, width=32))
    depth = st.one_of(st.just(float("nan")), st.just(float("inf")), st.floats(0, 2.0**20, width=32))
    return LocalFeatures(
        draw(unit) * np.float32([width, height]),
        draw(hnp.arrays(np.uint8, (count, 32))),
        draw(hnp.arrays(np.float32, count, elements=depth)),
        width,
        height,
        draw(st.one_of(st.none(), CAMERAS)),
    )


@settings(deadline=None, max_examples=150)
@given(some_features())
def test_what_was_stored_once_is_stored_and_read_without_change(features):
    first = decode_features(encode_features(features))
    same(first, decode_features(encode_features(first)))
    assert np.abs(first.points - features.points).max(initial=0.0) <= max(features.width, features.height) / 65535
    assert np.array_equal(first.descriptors, features.descriptors)
    assert (first.width, first.height, first.camera) == (features.width, features.height, features.camera)
    known = np.isfinite(features.depths) & (features.depths > 1e-4) & (features.depths < 65504)
    assert first.depths[known] == pytest.approx(features.depths[known], rel=1e-3)
    assert np.isnan(first.depths[~np.isfinite(features.depths) | (features.depths == 0)]).all()
    assert not np.isinf(first.depths).any()


def stored(count=5, depth=True, camera=CAMERA):
    rng = np.random.default_rng(0)
    depths = rng.uniform(1, 9, count) if depth else np.full(count, np.nan)
    points = rng.uniform(0, 480, (count, 2))
    descriptors = rng.integers(0, 256, (count, 32), np.uint8)
    return encode_features(
        LocalFeatures(points.astype(np.float32), descriptors, depths.astype(np.float32), 640, 480, camera)
    )


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("camera", [CAMERA, None])
def test_what_is_cut_off_or_too_long_is_refused(depth, camera):
    blob = stored(depth=depth, camera=camera)
    for length in range(len(blob)):
        with pytest.raises(FeatureError):
            decode_features(blob[:length])
    with pytest.raises(FeatureError, match=f"have {len(blob) + 1} bytes instead of {len(blob)}"):
        decode_features(blob + b"\0")


@pytest.mark.parametrize("at", range(4))
def test_another_version_is_refused_by_name(at):
    blob = bytearray(stored())
    blob[at] ^= 0xFF
    with pytest.raises(FeatureError, match="another version made them"):
        decode_features(bytes(blob))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 79), st.integers(0, 255))
def test_a_damaged_head_raises_nothing_but_its_own_error(at, value):
    blob = bytearray(stored())
    blob[at] = value
    with contextlib.suppress(FeatureError):
        features = decode_features(bytes(blob))
        assert features.points.shape == (len(features), 2)


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for length in (0, 1, 11, 12, 100, 5000):
        with pytest.raises(FeatureError):
            decode_features(rng.bytes(length))


def test_an_image_too_large_for_the_layout_is_refused():
    nothing = LocalFeatures(
        np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8), np.zeros(0, np.float32), 65536, 9
    )
    with pytest.raises(FeatureError, match="65536 x 9 pixels is too large"):
        encode_features(nothing)


@pytest.mark.parametrize(("count", "most"), [(600, 25_000), (1200, 60_000)])
def test_a_keyframe_has_at_most_sixty_kilobytes(count, most):
    depth = np.full((480, 640), 3.0, np.float32)
    rule = replace(RULE, features=count)
    features = seen_in(scene_image(rectangles=2000), rule, intrinsics=CAMERA, depth=depth)
    assert len(features) == count
    assert len(encode_features(features)) <= most <= 60_000


@pytest.mark.shared_data
def test_a_real_image_has_its_features_in_the_budget():
    path = sorted(shared("corridor_two_laps").rglob("*.jpg"))[40]
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    features = seen_in(image, depth=np.full((height, width), 2.0, np.float32))
    assert 200 < len(features) <= 600
    assert len(encode_features(features)) <= 60_000
    same(features, seen_in(image, depth=np.full((height, width), 2.0, np.float32)))


# ------------------------------------------------------------------------------------------------ finding


def test_features_are_those_that_a_map_gives_back():
    features = seen_in(scene_image(), intrinsics=CAMERA)
    same(features, decode_features(encode_features(features)))


def test_the_same_image_has_the_same_features_whatever_came_before():
    first = seen_in(scene_image(seed=1))
    seen_in(scene_image(seed=2))
    same(first, seen_in(scene_image(seed=1)))


def test_features_are_spread_over_the_image():
    """A poster with far stronger corners than the rest does not take them all, as it does with plain ORB."""
    image = scene_image()
    image = (90 + (image.astype(int) - 90) // 3).astype(np.uint8)  # faint everywhere
    poster = np.random.default_rng(3).integers(0, 2, (9, 9), np.uint8) * 255
    image[100:208, 100:208] = np.kron(poster, np.ones((12, 12), np.uint8))[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    plain = np.array([corner.pt for corner in cv2.ORB_create(300).detect(grey)])
    spread = seen_in(image, replace(RULE, features=300)).points
    shares = [((points > 95) & (points < 213)).all(axis=1).mean() for points in (plain, spread)]
    assert shares[0] > 0.7
    assert shares[1] < 0.85 * shares[0]
    cells = [{(int(x // 64), int(y // 60)) for x, y in points} for points in (plain, spread)]
    assert len(cells[1]) > 1.5 * len(cells[0])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (62, 62), (640, 20), (20, 480), (63, 63), (64, 100)])
def test_tiny_images_are_survived(size):
    width, height = size
    features = seen_in(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    assert (features.width, features.height) == size
    assert len(features) == 0 or min(size) >= 63


@pytest.mark.parametrize("value", [0, 90, 255])
def test_blank_images_have_no_features(value):
    features = seen_in(np.full((480, 640, 3), value, np.uint8), depth=np.full((48, 64), 1.0, np.float32))
    assert len(features) == 0
    assert decode_features(encode_features(features)).points.shape == (0, 2)


def test_noise_has_no_more_features_than_asked_for():
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    assert len(seen_in(image, replace(RULE, features=1200))) == 1200
    assert len(seen_in(image, replace(RULE, features=50))) == 50


def test_a_huge_image_is_reduced_and_its_points_are_in_its_own_pixels():
    """The same picture three times as large: nearly the same corners, at three times the place."""
    small = scene_image()
    large = cv2.resize(small, (1920, 1440), interpolation=cv2.INTER_NEAREST)
    near, far = seen_in(small), seen_in(large)
    assert (far.width, far.height) == (1920, 1440)
    expected = (near.points + 0.5) * 3 - 0.5  # the centre of the first pixel is at 0
    gaps = np.array([np.abs(far.points - point).max(axis=1).min() for point in expected])
    assert np.quantile(gaps, 0.9) < 0.1
    tall = seen_in(np.random.default_rng(0).integers(0, 256, (6000, 700, 3), np.uint8))
    assert tall.points[:, 1].max() > 5000


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (1280, 960), (64, 48)])
def test_depth_of_another_size_is_read_at_the_same_place(size):
    """A depth image that says where it was read: 1 m and more from left to right, 100 m from top to bottom."""
    width, height = size
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    for which, side in ((across, 640), (down, 480)):
        features = seen_in(scene_image(), depth=(1 + which).astype(np.float32))
        where = (features.points[:, 0 if side == 640 else 1] + 0.5) / side
        step = 1 / (width if side == 640 else height)
        assert np.abs(features.depths - 1 - where).max() < step / 2 + 2e-3


def test_unknown_depth_is_unknown():
    depth = np.full((480, 640), 2.0, np.float32)
    depth[:, :160], depth[:, 160:320], depth[:, 320:400] = 0.0, np.nan, np.inf
    depth[:, 400:440] = -1.0
    features = seen_in(scene_image(), depth=depth)
    known = features.points[:, 0] + 0.5 >= 440
    assert known.any()
    assert (features.depths[known] == 2.0).all()
    assert np.isnan(features.depths[~known]).all()
    assert np.isnan(seen_in(scene_image()).depths).all()


# ------------------------------------------------------------------------------------------------ intrinsics


def test_intrinsics_are_scaled_to_the_image():
    half = scaled(CAMERA, 320, 240)
    assert (half.width, half.height, half.fx, half.fy, half.cx, half.cy) == (320, 240, 200, 205, 161, 119)
    assert (half.distortion, half.distortion_model) == (CAMERA.distortion, CAMERA.distortion_model)
    assert scaled(CAMERA, 640, 480) is CAMERA
    assert scaled(None, 640, 480) is None
    assert scaled(CAMERA, 640, 360) is None  # cropped, and nobody knows where
    unnamed = scaled(replace(CAMERA, width=0, height=0), 800, 600)
    assert (unnamed.width, unnamed.height, unnamed.fx, unnamed.cx) == (800, 600, CAMERA.fx, CAMERA.cx)


def test_features_carry_the_camera_of_their_image():
    features = seen_in(scene_image(320, 240), intrinsics=CAMERA)
    assert features.camera == scaled(CAMERA, 320, 240)
    assert math.isclose(features.camera.fx, 200.0)
