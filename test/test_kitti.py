"""KITTI odometry sequences in miniature: times, calibration and ground truth in our axes."""

from __future__ import annotations

import math
import shutil

import cv2
import numpy as np
import pytest

from tscm_core.datasets.image_folder import FIRST_STAMP_NS
from tscm_core.datasets.kitti import KittiSequence, is_kitti_sequence, pose_from_camera_axes
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.poses import yaw_rad
from tscm_core.recognition.records import Intrinsics

COUNT = 5
P0 = "P0: 718.856 0 607.1928 0 0 718.856 185.2157 0 0 0 1 0"
P2 = "P2: 700.5 0 601.5 45.38 0 701.5 183.5 -0.11 0 0 1 0.0037"


def colour(seed):
    return np.random.default_rng(seed).integers(0, 256, (12, 17, 3), np.uint8)


def camera_pose(number):
    """Ahead 2 m an image, and turning left by 10 degrees each: about the axis that points up, which is -y."""
    angle = math.radians(10 * number)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    return np.column_stack([turn, [-0.5 * number, -0.1 * number, 2.0 * number]])


@pytest.fixture
def sequence(tmp_path):
    made = tmp_path / "dataset" / "sequences" / "07"
    for camera in ("image_0", "image_2"):
        (made / camera).mkdir(parents=True)
        for number in range(COUNT):
            pixels = colour(number)
            cv2.imwrite(str(made / camera / f"{number:06}.png"), pixels if camera == "image_2" else pixels[:, :, 0])
    (made / "times.txt").write_text("".join(f"{0.1037 * number:e}\n" for number in range(COUNT)))
    (made / "calib.txt").write_text(f"{P0}\n{P0.replace('P0', 'P1')}\n{P2}\n")
    poses = tmp_path / "dataset" / "poses" / "07.txt"
    poses.parent.mkdir()
    rows = (" ".join(f"{value:e}" for value in camera_pose(number).ravel()) for number in range(COUNT))
    poses.write_text("\n".join(rows) + "\n")
    return made


def read(path):
    with KittiSequence(path) as drive:
        return list(drive.frames())


def test_frames_have_time_pose_and_the_chosen_cameras_intrinsics(sequence):
    frames = read(sequence)
    assert [frame.stamp_ns - FIRST_STAMP_NS for frame in frames] == [103_700_000 * n for n in range(COUNT)]
    for number, frame in enumerate(frames):
        assert np.array_equal(frame.image, colour(number)[:, :, ::-1])
        assert frame.intrinsics == Intrinsics(17, 12, 700.5, 701.5, 601.5, 183.5)
        assert frame.pose.position == pytest.approx((2.0 * number, 0.5 * number, 0.1 * number), abs=1e-5)
        assert math.degrees(yaw_rad(frame.pose)) == pytest.approx(10.0 * number, abs=1e-3)
    with KittiSequence(sequence) as drive:
        assert (drive.image_count, drive.path) == (COUNT, sequence)
        assert drive.pose_source.endswith("poses/07.txt")


def test_any_rotation_is_the_same_rotation_in_our_axes():
    """A point seen by the camera is where it was, once its coordinates are written in our axes."""
    axes = {"x": lambda p: p[2], "y": lambda p: -p[0], "z": lambda p: -p[1]}
    rng = np.random.default_rng(0)
    for _ in range(20):
        turn, _ = cv2.Rodrigues(rng.normal(size=3))
        place, point = rng.normal(size=3), rng.normal(size=3)
        pose = pose_from_camera_axes(np.column_stack([turn, place]))
        x, y, z, w = pose.orientation
        ours = np.array([axis(point) for axis in axes.values()])
        v = np.array([x, y, z])
        turned = ours + 2 * np.cross(v, np.cross(v, ours) + w * ours)
        expected = turn @ point + place
        assert turned + pose.position == pytest.approx([axis(expected) for axis in axes.values()])


def test_the_grey_camera_serves_where_there_is_no_other(sequence):
    shutil.rmtree(sequence / "image_2")
    frames = read(sequence)
    assert np.array_equal(frames[1].image, np.repeat(colour(1)[:, :, :1], 3, axis=2))
    assert frames[0].intrinsics == Intrinsics(17, 12, 718.856, 718.856, 607.1928, 185.2157)


def test_poses_may_lie_in_the_sequence_or_nowhere(sequence):
    table = sequence.parent.parent / "poses" / "07.txt"
    expected = [frame.pose for frame in read(sequence)]
    table.rename(sequence / "poses.txt")
    assert [frame.pose for frame in read(sequence)] == expected
    (sequence / "poses.txt").unlink()
    assert [frame.pose for frame in read(sequence)] == [None] * COUNT


def test_without_times_it_is_ten_images_a_second_and_without_calibration_no_intrinsics(sequence):
    (sequence / "times.txt").unlink()
    assert [frame.stamp_ns - FIRST_STAMP_NS for frame in read(sequence)] == [n * 10**8 for n in range(COUNT)]
    (sequence / "times.txt").write_text("0\n" * COUNT)
    (sequence / "calib.txt").unlink()
    assert read(sequence)[0].intrinsics is None


def test_an_image_that_was_left_out_takes_its_line_along(sequence):
    expected = read(sequence)
    (sequence / "image_2" / "000001.png").unlink()
    got = read(sequence)
    assert [frame.stamp_ns for frame in got] == [expected[n].stamp_ns for n in (0, 2, 3, 4)]
    assert [frame.pose for frame in got] == [expected[n].pose for n in (0, 2, 3, 4)]


def test_a_cut_image_is_told_or_ends_the_reading(sequence):
    file = sequence / "image_2" / "000002.png"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ImageError, match=r"000002\.png cannot be decoded, as it is cut off"):
        read(sequence)
    told = []
    with KittiSequence(sequence) as drive:
        assert len(list(drive.frames(lambda *what: told.append(what)))) == COUNT - 1
    assert [stamp - FIRST_STAMP_NS for stamp, _ in told] == [207_400_000]


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("times.txt", "0\n0.1\n", "has 2 lines, none of them for image 000002.png"),
        ("times.txt", "", "is empty"),
        ("times.txt", "0\nlate\n", "line 2: could not convert"),
        ("times.txt", b"\xff\xfe\n", "cannot be read"),
        ("poses.txt", "1 2 3\n", "line 1 must hold 12 finite numbers, not 3"),
        ("poses.txt", "nan " * 12 + "\n", "line 1 must hold 12 finite numbers"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", "has 1 lines, none of them for image 000001.png"),
        ("calib.txt", P0, "has no line P2:"),
        ("calib.txt", "P2: 1 2", "must hold 12 finite numbers, not 2"),
        ("image_2/left.png", "", r"left.png must be called by its number"),
    ],
)
def test_damaged_text_is_a_sentence(sequence, file, content, problem):
    (sequence.parent.parent / "poses" / "07.txt").unlink()
    (sequence / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError) as caught:
        read(sequence)
    assert problem in str(caught.value)
    assert str(sequence / file) in str(caught.value)


def test_what_is_a_sequence(sequence, tmp_path):
    assert is_kitti_sequence(sequence)
    assert not is_kitti_sequence(tmp_path)
    assert not is_kitti_sequence(sequence / "image_2")
    for name in ("times.txt", "calib.txt"):
        (sequence / name).unlink()
    assert not is_kitti_sequence(sequence)
