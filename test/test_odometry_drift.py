"""Odometry made from true poses: how far it drifts, what it keeps, and that the true poses stay known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys import SECOND, frame

from tscm_core.datasets.odometry_drift import OdometryDrive, drifted
from tscm_core.recognition.poses import pose_from_yaw, yaw_rad
from tscm_core.recognition.records import Pose


def straight(metres=100, step=0.5):
    return [pose_from_yaw(0.6 * step * n, 0.8 * step * n, 1.0) for n in range(round(metres / step) + 1)]


def hilly(count=200, seed=3):
    """A way that climbs and turns, the camera tilted and rolled at will."""
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.normal(0.0, 0.5, (count, 3)), axis=0) + np.array((40.0, -7.0, 3.0))
    turns = rng.normal(size=(count, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    return [Pose(tuple(place), tuple(turn), "map") for place, turn in zip(places.tolist(), turns.tolist(), strict=True)]


def matrix(pose):
    x, y, z, w = pose.orientation
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def array(poses):
    return np.array([pose.position for pose in poses])


def test_no_drift_gives_the_poses_back():
    for told, true in zip(drifted(hilly(), 0.0), hilly(), strict=True):
        assert told.position == pytest.approx(true.position, abs=1e-9)
        assert told.orientation == true.orientation
        assert told.frame_id == "map"


@pytest.mark.parametrize("percent", [1.0, 5.0])
def test_after_a_hundred_metres_it_is_off_by_so_many_per_cent(percent):
    """The constant errors alone are ``percent`` m lengthwise and 0.873 of that aside; the others add a little."""
    along, aside, turned = [], [], []
    for seed in range(300):
        *_, last = drifted(straight(), percent, seed)
        x, y, _ = last.position
        along.append(0.6 * x + 0.8 * y - 100.0)
        aside.append(0.6 * y - 0.8 * x)
        turned.append(math.degrees(yaw_rad(last) - 1.0))
    spread = [float(np.sqrt(np.mean(np.square(values)))) for values in (along, aside, turned)]
    assert spread == pytest.approx((1.1 * percent, 0.95 * percent, 1.1 * percent), rel=0.15)
    for values in (along, aside, turned):
        assert abs(np.mean(values)) < 0.25 * percent
    assert min(map(abs, along)) < np.median(np.abs(along))


def test_each_step_is_the_true_one_turned_and_stretched():
    true, told = hilly(), list(drifted(hilly(), 3.0, seed=1))
    steps, measured = np.diff(array(true), axis=0), np.diff(array(told), axis=0)
    scale = np.linalg.norm(measured, axis=1) / np.linalg.norm(steps, axis=1)
    assert np.abs(scale - 1.0).max() < 0.03 * 6
    assert np.std(scale) > 0.01
    assert measured[:, 2] == pytest.approx(scale * steps[:, 2])
    turns = [matrix(ours) @ matrix(theirs).T for ours, theirs in zip(told, true, strict=True)]
    for turn in turns:  # about the vertical and nothing else
        assert turn[2] == pytest.approx((0.0, 0.0, 1.0), abs=1e-9)
    off = np.unwrap([math.atan2(turn[1, 0], turn[0, 0]) for turn in turns])
    assert abs(off[-1]) > math.radians(0.5)
    middle = (off[1:] + off[:-1]) / 2
    expected = np.exp(1j * middle) * (steps[:, 0] + 1j * steps[:, 1]) * scale
    assert measured[:, 0] + 1j * measured[:, 1] == pytest.approx(expected)


def test_it_is_the_same_again_and_another_with_another_seed():
    first, again, other = (array(drifted(straight(), 2.0, seed)) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert np.abs(first[-1] - other[-1]).max() > 0.1


def test_unknown_poses_stay_unknown_and_the_way_goes_on_after_them():
    true = [None, *straight(20)]
    true[10:14] = [None] * 4
    told = list(drifted(true, 1.0))
    assert [pose is None for pose in told] == [pose is None for pose in true]
    assert told[1] == true[1]
    for ours, theirs in zip(told, true, strict=True):
        assert theirs is None or math.dist(ours.position, theirs.position) < 1.0


def test_it_needs_no_pose_that_is_still_to_come():
    endless = drifted((pose_from_yaw(float(n), 0.0, 0.0) for n in itertools.count()), 1.0)
    assert len(list(itertools.islice(endless, 50))) == 50


class Source:
    """A drive in memory that notes which stamps it decoded."""

    path = Path("drive")
    image_count = 6

    def __init__(self):
        self.decoded, self.open = [], False
        self.seen = [frame(n, n, 0, 10.0 * n if n != 3 else None, yaw=0.1 * n) for n in range(1, 7)]

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, kind, value, trace):
        self.open = False

    def frames(self, refuse=None, wanted=None):
        for one in self.seen:
            if wanted is None or one.stamp_ns in wanted:
                self.decoded.append(one.stamp_ns // SECOND)
                yield one
        if refuse is not None:
            refuse(9 * SECOND, "dark")


def as_values(frames):
    return [(one.stamp_ns, one.pose, one.camera_frame, one.image.tobytes()) for one in frames]


@pytest.mark.parametrize(("percent", "name"), [(5.0, "drift 5 %"), (0.5, "drift 0.5 %"), (None, "none")])
def test_a_drive_tells_other_poses_and_keeps_the_true_ones(percent, name):
    source, refused = Source(), []
    with OdometryDrive(source, percent, seed=2) as drive:
        assert source.open
        told = list(drive.frames(lambda *what: refused.append(what)))
        assert (drive.path, drive.image_count, drive.odometry) == (source.path, 6, name)
    assert not source.open
    assert refused == [(9 * SECOND, "dark")]
    assert drive.true_poses == {one.stamp_ns: one.pose for one in source.seen}
    true = [one.pose for one in source.seen]
    expected = [None] * 6 if percent is None else list(drifted(true, percent, 2))
    assert as_values(told) == as_values(
        replace(one, pose=pose) for one, pose in zip(source.seen, expected, strict=True)
    )


@pytest.mark.parametrize("percent", [5.0, None])
def test_some_frames_are_the_same_as_among_all(percent):
    source, wanted = Source(), {3 * SECOND, 5 * SECOND}
    drive = OdometryDrive(source, percent)
    unread = as_values(drive.frames(wanted=wanted))
    everything = as_values(drive.frames())
    source.decoded.clear()
    assert as_values(drive.frames(wanted=wanted)) == unread == [everything[2], everything[4]]
    assert source.decoded == [3, 5]
