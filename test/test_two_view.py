"""Two views of made-up scenes: the pose that comes out is the one that went in, and nonsense comes out as nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from two_view_scenes import (
    CAMERA,
    angle_deg,
    descriptors,
    features,
    flipped,
    from_quaternion,
    project,
    rotation,
    scene,
    small_turn,
    without_camera,
)

from tscm_core.config import GeometryConfig
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.records import Intrinsics
from tscm_core.recognition.two_view import match_features, rays, verify

RULE = GeometryConfig()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the program: many threads that wait for each other take longer than one for a few hundred features."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


BENT = {
    "plumb_bob": (-0.28, 0.09, 0.001, -0.0006, -0.01),
    "rational_polynomial": (0.4, -0.1, 0.0005, 0.001, 0.02, 0.7, -0.05, 0.01),
    "equidistant": (-0.02, 0.008, -0.003, 0.0005),
}


def bent(model):
    return replace(CAMERA, distortion=BENT[model], distortion_model=model)


def found(made, rule=RULE):
    return verify(made.query, made.match, rule)


def turn_error_deg(pose, made):
    return math.degrees(np.linalg.norm(small_turn(from_quaternion(*pose.orientation) @ made.turn.T)))


def check_sound(seen):
    """What holds of every answer."""
    assert seen.pairs.dtype == np.int64
    assert seen.inliers.shape == (len(seen.pairs),)
    pose = seen.relative_pose
    if pose is None:
        return
    numbers = np.array([*pose.translation, *pose.orientation, *pose.covariance])
    assert np.isfinite(numbers).all()
    assert np.linalg.norm(pose.orientation) == pytest.approx(1.0, abs=1e-9)
    if not pose.metric_scale:
        assert np.linalg.norm(pose.translation) == pytest.approx(1.0, abs=1e-9)
    covariance = numbers[7:].reshape(6, 6)
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() >= -1e-9 * np.abs(covariance).max()


# ------------------------------------------------------------------------------------------------ matches


def plain_matches(query, match, ratio):
    """Every pair of descriptors compared, one by one."""
    bits = [
        [sum(bin(a ^ b).count("1") for a, b in zip(p, q, strict=True)) for q in match.tolist()] for p in query.tolist()
    ]
    pairs = []
    for number, row in enumerate(bits if len(match) > 1 and len(query) > 1 else []):
        best, second = sorted(row)[:2]
        nearest = row.index(best)
        column = [other[nearest] for other in bits]
        if column.index(min(column)) == number and best <= ratio * second and best <= 64:
            pairs.append((number, nearest))
    return pairs


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 14), st.integers(0, 14), st.sampled_from([0.5, 0.8, 0.9]))
def test_matches_are_those_of_a_plain_loop(seed, count_q, count_m, ratio):
    rng = np.random.default_rng(seed)
    base = descriptors(16, rng)
    query = flipped(base[rng.integers(0, 16, count_q)], int(rng.integers(0, 80)), rng)
    match = flipped(base[rng.integers(0, 16, count_m)], int(rng.integers(0, 80)), rng)
    assert [tuple(pair) for pair in match_features(query, match, ratio).tolist()] == plain_matches(query, match, ratio)


def test_features_that_look_like_each_other_match_nothing():
    same = np.zeros((30, 32), np.uint8)
    assert len(match_features(same, descriptors(30, np.random.default_rng(0)), 0.9)) == 0
    assert {tuple(pair) for pair in match_features(same, same, 0.9).tolist()} <= {(0, 0)}


# ------------------------------------------------------------------------------------------------ rays


@pytest.mark.parametrize("model", ["", *BENT])
def test_rays_are_the_opposite_of_projecting(model):
    camera = bent(model) if model else CAMERA
    ray = np.random.default_rng(1).uniform((-0.6, -0.45), (0.6, 0.45), (300, 2))
    pixels = project(np.concatenate([ray, np.ones((300, 1))], axis=1) * 3.0, camera)
    assert np.abs(rays(pixels, camera) - ray).max() < (2e-3 if model else 1e-12)
    assert np.median(np.abs(rays(pixels, camera) - ray)) < 1e-5


# ------------------------------------------------------------------------------------------------ poses


@pytest.mark.parametrize("depth", ["none", "query", "match", "both"])
@pytest.mark.parametrize(
    ("turn", "shift"),
    [
        (rotation(0, 0, 0), (0.8, 0.0, 0.0)),
        (rotation(4, -12, 3), (0.6, 0.1, 0.3)),
        (rotation(-3, 20, 0), (-1.5, 0.2, 0.4)),
        (rotation(0, 5, 20), (0.1, -0.5, 1.2)),
    ],
)
def test_the_pose_takes_points_of_the_query_camera_to_the_matched_one(turn, shift, depth):
    made = scene(np.random.default_rng(3), turn, shift, depth=depth)
    seen = found(made)
    check_sound(seen)
    assert seen.inlier_count >= 0.95 * len(made.query)
    matched = made.query.descriptors[seen.pairs[:, 0]] ^ made.match.descriptors[seen.pairs[:, 1]]
    assert np.unpackbits(matched, axis=1).sum(axis=1).max() == 12
    pose = seen.relative_pose
    assert turn_error_deg(pose, made) < 0.4
    assert pose.metric_scale == (depth != "none")
    if depth == "none":
        assert angle_deg(pose.translation, made.shift) < 4.0
    else:
        assert np.linalg.norm(np.array(pose.translation) - made.shift) < 0.04


def test_a_camera_a_metre_ahead_is_a_metre_ahead_in_the_optical_frame():
    """In words: the query was taken 1 m further on, and turned right by 10 degrees: z forward, y down."""
    made = scene(np.random.default_rng(0), rotation(0, 10, 0), (0.0, 0.0, 1.0), depth="match")
    pose = found(made).relative_pose
    assert pose.translation == pytest.approx((0.0, 0.0, 1.0), abs=0.03)
    forward = from_quaternion(*pose.orientation) @ (0.0, 0.0, 1.0)
    assert math.degrees(math.atan2(forward[0], forward[2])) == pytest.approx(10.0, abs=0.3)


@pytest.mark.parametrize("outliers", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("depth", ["none", "both"])
def test_wrong_matches_do_not_disturb_it(outliers, depth):
    made = scene(np.random.default_rng(5), count=400, outliers=outliers, depth=depth)
    seen = found(made)
    check_sound(seen)
    assert 0.9 * (1 - outliers) * 400 <= seen.inlier_count <= (1 - outliers) * 400 + 25
    assert turn_error_deg(seen.relative_pose, made) < 0.6
    if depth == "none":
        assert angle_deg(seen.relative_pose.translation, made.shift) < 5.0
    else:
        assert np.linalg.norm(np.array(seen.relative_pose.translation) - made.shift) < 0.05


@pytest.mark.parametrize("model", BENT)
@pytest.mark.parametrize("depth", ["none", "both"])
def test_lenses_may_bend(model, depth):
    made = scene(np.random.default_rng(6), camera=bent(model), depth=depth)
    seen = found(made)
    assert seen.inlier_count >= 0.95 * len(made.query)
    assert turn_error_deg(seen.relative_pose, made) < 0.4
    straight = found(replace(made, query=replace(made.query, camera=CAMERA), match=replace(made.match, camera=CAMERA)))
    assert straight.inlier_count < seen.inlier_count  # the lens is not taken for a pinhole
    if depth == "both":
        assert np.linalg.norm(np.array(seen.relative_pose.translation) - made.shift) < 0.04


def test_the_two_cameras_may_differ():
    rng = np.random.default_rng(8)
    made = scene(rng, depth="match")
    wide = Intrinsics(1280, 960, 640.0, 640.0, 640.0, 480.0)
    ray = rays(made.query.points.astype(float), CAMERA)
    pixels = ray * (wide.fx, wide.fy) + (wide.cx, wide.cy)
    query = features(pixels, made.query.descriptors, None, wide, 1280, 960)
    seen = verify(query, made.match, RULE)
    assert turn_error_deg(seen.relative_pose, made) < 0.4
    assert np.linalg.norm(np.array(seen.relative_pose.translation) - made.shift) < 0.05


@pytest.mark.parametrize("outliers", [0.0, 0.5])
@pytest.mark.parametrize("missing", ["query", "match", "both"])
def test_without_intrinsics_there_are_inliers_and_no_pose(outliers, missing):
    made = scene(np.random.default_rng(9), outliers=outliers, depth="both")
    query = without_camera(made.query) if missing != "match" else made.query
    match = without_camera(made.match) if missing != "query" else made.match
    seen = verify(query, match, RULE)
    assert seen.relative_pose is None
    assert seen.inlier_count >= 0.85 * (1 - outliers) * len(made.query)


def test_a_large_image_may_be_as_many_times_less_exact():
    """Corners of a 1920 px image were found in one of 640: three times the noise, three times the error allowed."""
    large = Intrinsics(1920, 1440, 1200.0, 1230.0, 966.0, 714.0)
    made = scene(np.random.default_rng(10), camera=large, noise=1.2, depth="both")
    seen = found(made)
    assert seen.inlier_count >= 0.9 * len(made.query)
    assert turn_error_deg(seen.relative_pose, made) < 0.5
    assert np.linalg.norm(np.array(seen.relative_pose.translation) - made.shift) < 0.05
    assert found(made, replace(RULE, image_width=1920)).inlier_count < seen.inlier_count


def test_two_other_places_have_nothing_in_common():
    one, other = scene(np.random.default_rng(1)), scene(np.random.default_rng(2))
    assert verify(one.query, other.match, RULE).inlier_count < 8
    random = scene(np.random.default_rng(3), outliers=1.0)
    assert found(random).inlier_count < RULE.min_inliers
    assert found(random).relative_pose is None


@pytest.mark.parametrize("depth", ["none", "both"])
def test_the_same_again_whatever_came_before(depth):
    first, second = (scene(np.random.default_rng(n), outliers=0.4, depth=depth) for n in (11, 12))
    answers = [found(item) for item in (first, second, first, first, second)]
    for a, b in ((0, 2), (0, 3), (1, 4)):
        assert np.array_equal(answers[a].pairs, answers[b].pairs)
        assert np.array_equal(answers[a].inliers, answers[b].inliers)
        assert answers[a].relative_pose == answers[b].relative_pose


# ------------------------------------------------------------------------------------------------ nonsense


def by_hand(points_q, points_m, camera=CAMERA, depths=None):
    values = descriptors(len(points_q), np.random.default_rng(0))
    return verify(features(points_q, values, depths, camera), features(points_m, values, depths, camera), RULE)


LINE = np.linspace(0, 400, 60)
SHAPES = {
    "one point": (np.full((60, 2), 100.0), np.full((60, 2), 120.0)),
    "one point against many": (np.full((60, 2), 100.0), np.random.default_rng(0).uniform(0, 480, (60, 2))),
    "a line": (np.stack([LINE, LINE], 1), np.stack([LINE + 20, LINE], 1)),
    "a row": (np.stack([LINE, 0 * LINE + 240], 1), np.stack([LINE + 20, 0 * LINE + 240], 1)),
    "two points": (np.repeat([[10.0, 20.0], [300.0, 200.0]], 30, 0), np.repeat([[40.0, 20.0], [300.0, 220.0]], 30, 0)),
    "the principal point": (np.full((60, 2), (322.0, 238.0)), np.full((60, 2), (322.0, 238.0))),
}


@pytest.mark.parametrize("camera", [CAMERA, None])
@pytest.mark.parametrize("depths", [None, np.full(60, 3.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_degenerate_points_raise_nothing(shape, depths, camera):
    check_sound(by_hand(*SHAPES[shape], camera, depths))


@pytest.mark.parametrize("depth", ["none", "query", "both"])
def test_identical_images_are_at_the_same_place(depth):
    made = scene(np.random.default_rng(13), rotation(), (0.0, 0.0, 0.0), noise=0.0, depth=depth)
    seen = found(made)
    check_sound(seen)
    assert seen.inlier_count >= 8
    if depth != "none":
        assert np.linalg.norm(seen.relative_pose.translation) < 0.01
        assert turn_error_deg(seen.relative_pose, made) < 0.05


@pytest.mark.parametrize("depth", ["none", "both"])
def test_pure_rotation_gives_the_rotation(depth):
    made = scene(np.random.default_rng(14), rotation(2, 15, -4), (0.0, 0.0, 0.0), depth=depth)
    seen = found(made)
    check_sound(seen)
    assert seen.inlier_count >= 0.8 * len(made.query)
    assert turn_error_deg(seen.relative_pose, made) < (0.3 if depth == "both" else 4.0)


@pytest.mark.parametrize("depth", ["none", "both"])
def test_a_wall_is_a_rigid_scene_too(depth):
    rng = np.random.default_rng(15)
    wall = np.concatenate([rng.uniform((-3, -2), (3, 2), (800, 2)), np.full((800, 1), 5.0)], axis=1)
    made = scene(rng, rotation(0, 10, 0), (0.7, 0.0, 0.2), depth=depth, world=wall)
    seen = found(made)
    check_sound(seen)
    assert seen.inlier_count >= 0.8 * len(made.query)
    if depth == "both":
        assert np.linalg.norm(np.array(seen.relative_pose.translation) - made.shift) < 0.06


def test_a_mirrored_image_raises_nothing():
    made = scene(np.random.default_rng(16), depth="both")
    mirrored = made.match.points.copy()
    mirrored[:, 0] = 640 - mirrored[:, 0]
    check_sound(verify(made.query, replace(made.match, points=mirrored), RULE))


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("camera", [CAMERA, None])
def test_a_handful_of_matches_is_no_evidence(count, camera):
    made = scene(np.random.default_rng(17), count=count, noise=0.0, depth="both", camera=CAMERA)
    seen = verify(replace(made.query, camera=camera), replace(made.match, camera=camera), RULE)
    check_sound(seen)
    assert len(seen.pairs) == (count if count > 1 else 0)
    assert seen.inlier_count in (0, 8)
    assert seen.relative_pose is None


NUMBERS = st.one_of(st.floats(0, 640, width=32), st.sampled_from([0.0, 320.0, 640.0]))
DEPTHS = st.one_of(st.floats(2.0**-10, 65504, width=32), st.sampled_from([float("nan"), 1.0, 65504.0]))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 40).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.float32, (n, 2), elements=NUMBERS),
            hnp.arrays(np.float32, (n, 2), elements=NUMBERS),
            hnp.arrays(np.float32, n, elements=DEPTHS),
        )
    ),
    st.sampled_from([None, CAMERA, bent("plumb_bob"), bent("equidistant"), replace(CAMERA, fx=1e-3, fy=1e6)]),
)
def test_garbage_raises_nothing(garbage, camera):
    points_q, points_m, depths = garbage
    values = descriptors(len(points_q), np.random.default_rng(0))
    rule = GeometryConfig(min_inliers=8)
    query, match = features(points_q, values, depths, camera), features(points_m, values, depths, camera)
    check_sound(verify(query, match, rule))


@pytest.mark.parametrize("camera", [None, Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0)])
def test_one_image_twice_shows_one_scene(camera):
    """Without any motion there is no essential matrix to be found: a robot that stands would never close a loop."""
    rng = np.random.default_rng(4)
    features = LocalFeatures(
        rng.uniform((0.0, 0.0), (640.0, 480.0), (300, 2)).astype(np.float32),
        rng.integers(0, 256, (300, 32), dtype=np.uint8), np.full(300, np.nan, np.float32), 640, 480, camera,
    )  # fmt: skip
    seen = verify(features, features, GeometryConfig())
    assert seen.inlier_count == len(seen.pairs) >= 290
    if camera is not None:
        assert abs(seen.relative_pose.orientation[3]) == pytest.approx(1.0, abs=1e-9)
        covariance = np.array(seen.relative_pose.covariance).reshape(6, 6)
        assert np.sqrt(np.diag(covariance)[:2]).max() > 0.5  # any direction is as good as this one


def test_comparing_features_leaves_the_threads_of_others_alone():
    rng = np.random.default_rng(5)
    descriptors = rng.integers(0, 256, (50, 32), dtype=np.uint8)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        match_features(descriptors, descriptors, 0.9)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
