"""A describer of ten lines, and frames for it: which place a picture shows stands in its first pixel."""

from __future__ import annotations

import numpy as np

from tscm_core.recognition.image import check_rgb
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Frame, Keyframe
from tscm_core.recognition.two_view import TwoView

SECOND = 1_000_000_000
LOOKS_ALONE = {"geometry.enabled": False, "odometry.enabled": False, "temporal.enabled": False}
"""Settings with which appearance alone decides."""
WIDTH, HEIGHT, DIM = 32, 24, 64


class ToyDescriber:
    """Every place has a random direction of its own; ``change`` turns it by a known angle."""

    dim = DIM
    input_size = (WIDTH, HEIGHT)

    def __init__(self, model_id="toy"):
        self.model_id = model_id

    def describe(self, images):
        return np.stack([direction(int(red) + 256 * int(green), int(blue)) for red, green, blue in map(corner, images)])


class ToyMatcher:
    """Pictures of one place share as many features as ``inliers`` says of that place; those of two share none."""

    def __init__(self, inliers):
        self.inliers = inliers
        self.asked = []

    def extract(self, frame, rule):
        red, green, _ = map(int, corner(frame.image))
        descriptors = np.full((1, 32), 0, np.uint8)
        descriptors[0, :2] = red, green
        return LocalFeatures(np.zeros((1, 2), np.float32), descriptors, np.full(1, np.nan, np.float32), WIDTH, HEIGHT)

    def verify(self, query, match, rule):
        place, other = (int(item.descriptors[0, 0]) + 256 * int(item.descriptors[0, 1]) for item in (query, match))
        self.asked.append((place, other))
        count = self.inliers(place, other)
        pairs = np.zeros((200, 2), np.int64)
        return TwoView(pairs, np.arange(200) < count, None)


def corner(image):
    check_rgb(image)
    return image[0, 0]


def unit(seed, dim=DIM):
    vector = np.random.default_rng(seed).normal(size=dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def direction(place, change=0):
    """The descriptor: ``unit(place)``, and with ``change`` c of similarity 1 / √(1 + (c/100)²) to that."""
    base = unit(place)
    if not change:
        return base
    aside = unit((place, change))
    aside -= (aside @ base) * base
    mixed = base + change / 100 * aside / np.linalg.norm(aside)
    return mixed / np.linalg.norm(mixed)


def picture(place, change=0):
    image = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image[0, 0] = place % 256, place // 256, change
    return image


def textured(place, change=0, corners=0):
    """A picture large enough for real corners: random rectangles, the same for the same place and ``corners``."""
    rng = np.random.default_rng((place, corners))
    image = np.full((240, 320, 3), 90, np.uint8)
    for x, y, w, h in rng.integers((0, 0, 6, 6), (310, 230, 50, 50), (150, 4)):
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    image[0, 0] = place % 256, place // 256, change
    return image


def blank(place=0):
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[0, 0] = place % 256, place // 256, 0
    return image


def frame(second, place, change=0, x=None, y=0.0, yaw=0.0, frame_id="odom"):
    pose = None if x is None else pose_from_yaw(x, y, yaw, frame_id)
    return Frame(round(second * SECOND), picture(place, change), pose, "camera")


def keyframe(number, vector, session="a", second=None, pose=None, travelled_m=0.0):
    stamp = round((number if second is None else second) * SECOND)
    return Keyframe(number, session, stamp, pose, travelled_m, vector, b"")


def without_times(observation):
    """An observation as comparable values: all but what the clock measured."""
    seen = observation
    kept = seen.keyframe and (
        seen.keyframe.id,
        seen.keyframe.session,
        seen.keyframe.stamp_ns,
        seen.keyframe.pose,
        seen.keyframe.travelled_m,
        seen.keyframe.descriptor.tobytes(),
        seen.keyframe.thumbnail_jpeg,
    )
    figures = (seen.stamp_ns, seen.session, seen.status, seen.reason, seen.map_size, seen.searched)
    return (*figures, kept, seen.candidates, seen.stages, tuple(item.stage for item in seen.stage_times))
