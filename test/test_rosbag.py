"""Bags: what was written comes back, and whatever else is called a bag is refused in a sentence."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from bag_messages import IMAGE, SECOND, image_message, write_messages

from tscm_core.datasets.bag_writer import DriveWriter
from tscm_core.datasets.rosbag import BagTopics, DriveBag
from tscm_core.errors import BagError, ImageError, TscmError
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Intrinsics

STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
CAMERA = Intrinsics(17, 12, 20.0, 21.0, 8.5, 6.5)


def colour(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 17, 3), np.uint8)


def drive(path, storage="mcap", count=5):
    with DriveWriter(path, storage) as bag:
        bag.camera_info(0, CAMERA)
        for number in range(count):
            bag.odometry(number * SECOND, pose_from_yaw(float(number), 0.5, 0.25 * number, "odom"))
            bag.image(number * SECOND + SECOND // 4, colour(number), "rgb8", "front")
    return path


def read(path, *arguments):
    with DriveBag(path, *arguments) as bag:
        return list(bag.frames())


def test_two_cameras_need_a_choice(tmp_path):
    messages = [(topic, IMAGE, n, image_message(n + 1, colour(n))) for n, topic in enumerate(["/left", "/right"])]
    write_messages(tmp_path / "bag", messages)
    with pytest.raises(BagError, match="several image topics, choose one with --image-topic: /left, /right"):
        read(tmp_path / "bag")
    assert np.array_equal(read(tmp_path / "bag", BagTopics(image="/right"))[0].image, colour(1))
    with pytest.raises(BagError, match="has no image topic /front: there is /left, /right"):
        read(tmp_path / "bag", BagTopics(image="/front"))
    with pytest.raises(BagError, match="has no odometry topic /odom: there is none"):
        read(tmp_path / "bag", BagTopics(image="/right", odometry="/odom"))


@STORAGES
def test_a_drive_comes_back(tmp_path, storage):
    frames = read(drive(tmp_path / "bag", storage), None, 1.0)
    assert len(frames) == 5
    for number, frame in enumerate(frames):
        assert frame.stamp_ns == number * SECOND + SECOND // 4
        assert np.array_equal(frame.image, colour(number))
        assert frame.intrinsics == CAMERA
        assert (frame.camera_frame, frame.pose.frame_id) == ("front", "odom")
    assert [frame.pose.position[0] for frame in frames] == pytest.approx([0.25, 1.25, 2.25, 3.25, 4.0])
    with DriveBag(tmp_path / "bag") as bag:
        assert (bag.image_count, bag.topics.image.name, bag.pose_source) == (
            5, "/camera/image_raw", "/odometry (odometry)",
        )  # fmt: skip


@STORAGES
def test_the_file_inside_a_bag_is_a_bag_too(tmp_path, storage):
    drive(tmp_path / "bag", storage)
    file = next(path for path in (tmp_path / "bag").iterdir() if path.suffix != ".yaml")
    moved = file.rename(tmp_path / file.name)
    assert [frame.stamp_ns for frame in read(moved)] == [n * SECOND + SECOND // 4 for n in range(5)]


@pytest.mark.parametrize(
    ("pixels", "encoding", "expected"),
    [
        (colour(1), "bgr8", colour(1)[:, :, ::-1]),
        (colour(1), "rgb8", colour(1)),
        (colour(1)[:, :, 0], "mono8", np.repeat(colour(1)[:, :, :1], 3, axis=2)),
        (colour(1)[::2, ::-1], "rgb8", colour(1)[::2, ::-1]),
    ],
    ids=["bgr8", "rgb8", "mono8", "view"],
)
def test_encodings_come_back_as_rgb(tmp_path, pixels, encoding, expected):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.image(SECOND, pixels, encoding)
    assert np.array_equal(read(tmp_path / "bag")[0].image, expected)


def test_odometry_too_far_from_the_image_is_not_used(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.odometry(SECOND, pose_from_yaw(1.0, 0.0, 0.0))
        for tenths in (8, 13, 19):
            bag.image(tenths * SECOND // 10, colour(), "rgb8")
    assert [frame.pose is not None for frame in read(tmp_path / "bag")] == [True, True, False]
    assert [frame.pose is not None for frame in read(tmp_path / "bag", None, 0.25)] == [True, False, False]
    assert [frame.pose is not None for frame in read(tmp_path / "bag", None, 9.0)] == [True, True, True]


def test_odometry_that_is_not_finite_is_left_out(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.odometry(0, pose_from_yaw(1.0, 0.0, 0.0))
        bag.odometry(1, replace(pose_from_yaw(1.0, 0.0, 0.0), position=(math.nan, 0.0, 0.0)))
        bag.odometry(2, replace(pose_from_yaw(1.0, 0.0, 0.0), orientation=(0.0, 0.0, math.inf, 1.0)))
        bag.image(2, colour(), "rgb8")
    assert read(tmp_path / "bag")[0].pose.position == (1.0, 0.0, 0.0)


def test_a_message_without_a_stamp_has_that_of_its_arrival(tmp_path):
    write_messages(tmp_path / "bag", [("/image", IMAGE, 7 * SECOND, image_message(0, colour()))])
    assert read(tmp_path / "bag")[0].stamp_ns == 7 * SECOND


def test_bad_images_are_told_and_left_out_or_end_the_reading(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        for number, encoding in enumerate(["rgb8", "wrong8", "rgb8"]):
            bag.image((1 + number) * SECOND, colour(number), encoding)
    with pytest.raises(ImageError, match="wrong8"):
        read(tmp_path / "bag")
    refused = []
    with DriveBag(tmp_path / "bag") as bag:
        stamps = [frame.stamp_ns for frame in bag.frames(lambda *what: refused.append(what))]
    assert stamps == [SECOND, 3 * SECOND]
    assert [(stamp, type(error)) for stamp, error in refused] == [(2 * SECOND, ImageError)]


# ---------------------------------------------------------------------------------------------- what is no drive


def test_a_bag_without_images_says_what_it_holds(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.odometry(0, pose_from_yaw(0.0, 0.0, 0.0))
    with pytest.raises(BagError, match="has no images: it holds nav_msgs/msg/Odometry"):
        read(tmp_path / "bag")
    write_messages(tmp_path / "empty", [])
    with pytest.raises(BagError, match="has no images: it holds nothing"):
        read(tmp_path / "empty")


@pytest.mark.parametrize("kind", ["absent", "absent.mcap", "folder", "text.mcap", "text.db3", "empty.mcap", "metadata"])
def test_what_is_no_bag_is_refused(tmp_path, kind):
    path = tmp_path / kind
    if kind in ("folder", "metadata"):
        path.mkdir()
    if kind == "metadata":
        (path / "metadata.yaml").write_text("a: [")
    if kind.startswith(("text", "empty")):
        path.write_text("no bag at all" if kind.startswith("text") else "")
    with pytest.raises(BagError) as caught:
        read(path)
    assert str(caught.value).startswith(f"bag {path}: ")
    assert "\n" not in str(caught.value)


@STORAGES
@pytest.mark.parametrize("whole", [True, False])
def test_cut_and_damaged_bags_are_read_or_refused_and_never_a_traceback(tmp_path, storage, whole):
    """The one file of a bag, alone or with its metadata, cut off and overwritten at random places."""
    bag, rng, answers = drive(tmp_path / "bag", storage), random.Random(1), set()
    file = next(path for path in bag.iterdir() if path.suffix != ".yaml")
    raw = file.read_bytes()
    target = file if whole else tmp_path / file.name
    for number in range(60):
        damaged = bytearray(raw)
        if number % 2:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.randrange(12) if number % 2 else rng.randrange(1, 40)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        target.write_bytes(damaged)
        try:
            answers.add(len(read(bag if whole else target)) <= 5)
        except TscmError as error:
            answers.add("refused" if "\n" not in str(error) else "more than one line")
    assert {"refused"} <= answers <= {"refused", True}


# ---------------------------------------------------------------------------------------------- poses and cameras


@pytest.mark.parametrize(("fx", "fy"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_a_camera_that_was_never_calibrated_has_no_intrinsics(tmp_path, fx, fy):
    with DriveWriter(tmp_path / "bag") as bag:
        bag.camera_info(0, replace(CAMERA, fx=fx, fy=fy))
        bag.image(0, colour(), "rgb8")
    assert read(tmp_path / "bag")[0].intrinsics is None


def test_odometry_that_comes_late_is_put_in_its_place(tmp_path):
    with DriveWriter(tmp_path / "bag") as bag:
        for seconds in (0, 2, 1, 3, 4):  # recorded out of order
            bag.odometry(seconds * SECOND, pose_from_yaw(float(seconds), 0.0, 0.0, "odom"))
        for seconds in range(5):
            bag.image(seconds * SECOND, colour(seconds), "rgb8", "front")
    assert [frame.pose.position[0] for frame in read(tmp_path / "bag")] == [0.0, 1.0, 2.0, 3.0, 4.0]
