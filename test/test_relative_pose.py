"""Slopes against differences, and the covariance against the errors that are really made."""

from __future__ import annotations

import math

import cv2
import faiss
import numpy as np
import pytest
from two_view_scenes import angle_deg, from_quaternion, rotation, scene, small_turn

from tscm_core.config import GeometryConfig
from tscm_core.recognition import relative_pose
from tscm_core.recognition.relative_pose import quaternion, sampson, turn_alone
from tscm_core.recognition.two_view import verify

TRIALS = 100
RULE = GeometryConfig()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the program: many threads that wait for each other take longer than one for a few hundred features."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


def homogeneous(rays):
    return np.concatenate([rays, np.ones((len(rays), 1))], axis=1)


def cross(v):
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


def turned(turn, change):
    """A small turn about the axes of the matched camera, by the series of the exponential."""
    total, term = np.eye(3), np.eye(3)
    for order in range(1, 12):
        term = term @ cross(change) / order
        total = total + term
    return total @ turn


def a_motion(rng):
    shift = rng.normal(size=3)
    return rotation(*rng.uniform(-25, 25, 3)), shift / np.linalg.norm(shift)


# ------------------------------------------------------------------------------------------------ slopes


@pytest.mark.parametrize("seed", range(5))
def test_slopes_of_the_projection_are_those_of_differences(seed):
    rng = np.random.default_rng(seed)
    turn, shift = a_motion(rng)
    points = rng.uniform((-2, -2, 3), (2, 2, 8), (20, 3))
    seen = rng.uniform(-0.5, 0.5, (20, 2))
    left, slope = relative_pose._projection_residuals((turn, shift), points, seen)

    def plain(change):
        there = points @ turned(turn, change[3:]).T + shift + change[:3]
        return (there[:, :2] / there[:, 2:] - seen).T.reshape(-1)

    assert left == pytest.approx(plain(np.zeros(6)), abs=1e-12)
    for axis in range(6):
        change = np.eye(6)[axis] * 1e-6
        assert slope[:, axis] == pytest.approx((plain(change) - plain(-change)) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_slopes_of_the_epipolar_constraint_are_those_of_differences(seed):
    rng = np.random.default_rng(seed)
    turn, shift = a_motion(rng)
    q, m = rng.uniform(-0.6, 0.6, (2, 20, 2))
    hq, hm = homogeneous(q), homogeneous(m)
    left, slope = relative_pose._epipolar_residuals((turn, shift), hq, hm)
    essential = cross(shift) @ turn
    assert left == pytest.approx(sampson(essential, q, m), abs=1e-12)
    below = (hm * (hq @ essential.T)).sum(axis=1) / left  # held fixed, as the text says
    across = relative_pose._across(shift)
    assert across.T @ np.column_stack([across, shift]) == pytest.approx(np.eye(2, 3), abs=1e-12)

    def plain(change):
        moved = shift + across @ change[3:]
        e = cross(moved / np.linalg.norm(moved)) @ turned(turn, change[:3])
        return np.array([b @ e @ a for a, b in zip(hq, hm, strict=True)]) / below

    for axis in range(5):
        change = np.eye(5)[axis] * 1e-6
        assert slope[:, axis] == pytest.approx((plain(change) - plain(-change)) / 2e-6, abs=1e-5)


def test_sampson_is_the_distance_to_the_constraint_in_both_images():
    """For a sideways motion the constraint is y = y', and the nearest pair that fulfils it moves both by half."""
    q = np.array([[0.1, 0.20], [-0.3, 0.1]])
    m = np.array([[0.0, 0.21], [0.2, 0.1]])
    gap = np.abs(sampson(cross(np.array([1.0, 0, 0])), q, m))
    assert gap == pytest.approx([0.01 / math.sqrt(2), 0.0], abs=1e-12)


@pytest.mark.parametrize("angles", [(0, 0, 0), (10, 20, 30), (0, 179, 0), (0, 0, -179.9), (90, 0, 0), (-170, 5, 1)])
def test_quaternions_are_those_of_the_formula(angles):
    turn = rotation(*angles)
    value = quaternion(turn)
    assert value[3] >= 0
    assert np.linalg.norm(value) == pytest.approx(1.0)
    assert from_quaternion(*value) == pytest.approx(turn, abs=1e-9)


def test_inverting_turns_the_covariance_along():
    """Against thousands of poses drawn from the covariance, each inverted on its own."""
    rng = np.random.default_rng(0)
    turn, shift = rotation(10, -30, 20), np.array([0.5, -1.0, 2.0])
    root = rng.normal(size=(6, 6)) * 0.004
    spread = root @ root.T
    back, moved, inverted = relative_pose._inverted(turn, shift, spread)
    assert back == pytest.approx(np.linalg.inv(turn))
    assert moved == pytest.approx(-np.linalg.inv(turn) @ shift)
    errors = []
    for change in rng.normal(size=(4000, 6)) @ root.T:
        t, r = shift + change[:3], turned(turn, change[3:])
        errors.append(np.concatenate([-r.T @ t - moved, small_turn(r.T @ back.T)]))
    sampled = np.cov(np.array(errors).T)
    scale = np.sqrt(np.outer(np.diag(inverted), np.diag(inverted)))
    assert np.abs((sampled - inverted) / scale).max() < 0.1


# ------------------------------------------------------------------------------------------------ covariance


def errors_of(made, pose):
    """Error of the pose (shift, turn) about the axes of the matched camera."""
    turn = small_turn(from_quaternion(*pose.orientation) @ made.turn.T)
    true = made.shift if pose.metric_scale else made.shift / max(np.linalg.norm(made.shift), 1e-12)
    return np.concatenate([np.array(pose.translation) - true, turn])


def squared(error, covariance):
    """Squared error in units of the covariance, over the directions in which it says anything."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-12 * values.max()
    return float(((vectors[:, kept].T @ error) ** 2 / values[kept]).sum())


def trials(depth, noise, count=TRIALS, **given):
    for seed in range(count):
        rng = np.random.default_rng((seed, round(10 * noise)))
        shift = rng.normal(size=3)
        shift *= rng.uniform(0.5, 1.5) / np.linalg.norm(shift)
        settings = {"turn": rotation(*rng.uniform(-10, 10, 3)), "shift": shift, "outliers": 0.2} | given
        made = scene(rng, noise=noise, depth=depth, count=120, **settings)
        pose = verify(made.query, made.match, RULE).relative_pose
        assert pose is not None
        yield made, pose, np.array(pose.covariance).reshape(6, 6)


def honest(values, freedom):
    """The mean is that of a chi-square variable, to a factor of three, and no single one is beyond belief."""
    assert freedom / 3 < np.mean(values) < 3 * freedom, np.mean(values)
    assert np.quantile(values, 0.95) < 8 * freedom
    assert np.median(values) > freedom / 8


@pytest.mark.parametrize(("depth", "noise"), [("query", 0.5), ("match", 1.0)])
def test_the_covariance_of_a_metric_pose_is_that_of_its_errors(depth, noise):
    seen = [(errors_of(made, pose), covariance) for made, pose, covariance in trials(depth, noise)]
    honest([squared(error, covariance) for error, covariance in seen], 6)
    honest([squared(error[:3], covariance[:3, :3]) for error, covariance in seen], 3)
    honest([squared(error[3:], covariance[3:, 3:]) for error, covariance in seen], 3)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_the_covariance_of_a_direction_is_that_of_its_errors(noise):
    turns, directions = [], []
    for made, pose, covariance in trials("none", noise):
        error = errors_of(made, pose)
        if angle_deg(pose.translation, made.shift) < 60:  # beyond, the error is not small: counted below
            directions.append(squared(error[:3], covariance[:3, :3]))
            turns.append(squared(error[3:], covariance[3:, 3:]))
    assert len(turns) >= 0.97 * TRIALS
    honest(turns, 3)
    honest(directions, 2)


def test_a_direction_has_no_spread_along_itself():
    for _, pose, covariance in trials("none", 0.5, 5):
        along = np.array(pose.translation)
        assert along @ covariance[:3, :3] @ along < 1e-12
        assert np.trace(covariance[:3, :3]) > 1e-8


def test_the_direction_of_no_motion_at_all_is_not_trusted():
    spreads = []
    for made, pose, covariance in trials("none", 0.7, 30, shift=(0.0, 0.0, 0.0)):
        spreads.append(math.degrees(math.sqrt(np.trace(covariance[:3, :3]))))
        assert math.degrees(np.linalg.norm(errors_of(made, pose)[3:])) < 5
    assert np.median(spreads) > 25
    assert min(spreads) > 8


def test_more_noise_is_less_trusted():
    for depth in ("none", "both"):
        spread = [np.median([np.trace(c) for *_, c in trials(depth, noise, 12)]) for noise in (0.5, 1.2)]
        assert spread[1] > 1.3 * spread[0]


@pytest.mark.parametrize("axis_angle", [(0.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.1, -0.15, 0.3)])
def test_a_turn_alone_is_found_among_wrong_matches(axis_angle):
    rng = np.random.default_rng(6)
    turn = cv2.Rodrigues(np.array(axis_angle))[0]
    q = rng.uniform(-0.5, 0.5, (100, 2))
    m = np.concatenate([q, np.ones((100, 1))], axis=1) @ turn.T
    m = m[:, :2] / m[:, 2:]
    m[80:] += rng.uniform(0.02, 0.03, (20, 2)) * rng.choice((-1.0, 1.0), (20, 2))
    found, agreeing = turn_alone(q, m, 0.01)
    np.testing.assert_allclose(found, turn, atol=1e-6)
    assert agreeing.tolist() == [True] * 80 + [False] * 20
