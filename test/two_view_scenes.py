"""Made-up rigid scenes seen by two cameras, with descriptors made by hand: the truth is known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.records import Intrinsics

CAMERA = Intrinsics(640, 480, 400.0, 410.0, 322.0, 238.0)


@dataclass
class Scene:
    """Features of the query and of the match, and the truth: ``x_m = R x_q + t``, in metres."""

    query: LocalFeatures
    match: LocalFeatures
    turn: np.ndarray
    shift: np.ndarray


def rotation(x=0.0, y=0.0, z=0.0):
    """A turn by the angles about the axes x, then y, then z, in degrees, written out."""
    a, b, c = np.radians([x, y, z])
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def from_quaternion(x, y, z, w):
    """The rotation matrix of a quaternion, by the formula."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def small_turn(turn):
    """Axis times angle of a rotation matrix, for angles below 180 degrees."""
    skew = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine, cosine = np.linalg.norm(skew), (np.trace(turn) - 1) / 2
    angle = math.atan2(sine, cosine)
    return skew * (angle / sine) if sine > 1e-12 else np.zeros(3)


def project(points, camera=CAMERA):
    """Pixels [N, 2] where a camera sees points [N, 3], by OpenCV where the lens bends."""
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1.0]])
    none, bend = np.zeros(3), np.array(camera.distortion)
    if camera.distortion_model == "equidistant":
        return cv2.fisheye.projectPoints(points[:, None].copy(), none, none, matrix, bend)[0].reshape(-1, 2)
    if camera.distortion_model:
        return cv2.projectPoints(points[:, None].copy(), none, none, matrix, bend)[0].reshape(-1, 2)
    return points[:, :2] / points[:, 2:] * (camera.fx, camera.fy) + (camera.cx, camera.cy)


def descriptors(count, rng):
    """Random ones, 256 bits each: two of them differ in about 128 bits."""
    return rng.integers(0, 256, (count, 32), np.uint8)


def flipped(values, bits, rng):
    """The same with so many random bits changed."""
    chosen = rng.random((len(values), 256)).argsort(axis=1) < bits
    return values ^ np.packbits(chosen, axis=1)


def features(points, values, depths=None, camera=CAMERA, width=640, height=480):
    depths = np.full(len(points), np.nan) if depths is None else depths
    return LocalFeatures(
        np.asarray(points, np.float32),
        np.asarray(values, np.uint8),
        np.asarray(depths, np.float32),
        width,
        height,
        camera,
    )


def scene(
    rng, turn=None, shift=(0.6, 0.1, 0.3), count=200, noise=0.3, outliers=0.0, camera=CAMERA, depth="none", world=None
):
    """Two views of random points before both cameras; a share of the matches leads to a random place instead.

    ``depth`` says which image knows its depths: query, match, both or none.
    """
    turn = rotation(4.0, -12.0, 3.0) if turn is None else turn
    shift = np.asarray(shift, float)
    if world is None:
        ray = rng.uniform((-0.6, -0.45), (0.6, 0.45), (6 * count, 2))
        z = rng.uniform(2.0, 9.0, (6 * count, 1))
        world = np.concatenate([ray * z, z], axis=1)  # in the frame of the query camera
    there = world @ turn.T + shift
    pixels_q, pixels_m = project(world, camera), project(there, camera)
    size = np.array([camera.width, camera.height])
    inside = ((pixels_q > 0) & (pixels_q < size) & (pixels_m > 0) & (pixels_m < size)).all(axis=1)
    chosen = np.flatnonzero(inside & (world[:, 2] > 0.3) & (there[:, 2] > 0.3))[:count]
    pixels_q, pixels_m = (p[chosen] + rng.normal(0.0, noise, (len(chosen), 2)) for p in (pixels_q, pixels_m))
    wrong = rng.permutation(len(chosen))[: round(outliers * len(chosen))]
    pixels_m[wrong] = rng.uniform((0, 0), size, (len(wrong), 2))
    values = descriptors(len(chosen), rng)
    shuffled = rng.permutation(len(chosen))
    depth_q = world[chosen, 2] if depth in ("query", "both") else None
    depth_m = there[chosen, 2][shuffled] if depth in ("match", "both") else None
    shape = {"camera": camera, "width": camera.width, "height": camera.height}
    query = features(pixels_q, values, depth_q, **shape)
    match = features(pixels_m[shuffled], flipped(values, 12, rng)[shuffled], depth_m, **shape)
    return Scene(query, match, turn, shift)


def without_camera(item):
    return replace(item, camera=None)


def angle_deg(a, b):
    """Between two vectors."""
    cosine = np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))
    return math.degrees(math.acos(np.clip(cosine, -1.0, 1.0)))
