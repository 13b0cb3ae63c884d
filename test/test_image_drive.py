"""A folder of images as a drive: the very frames that a bag made from it gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tscm_core.datasets.bag_writer import FIRST_STAMP_NS, bag_from_images
from tscm_core.datasets.camera_files import write_camera_file
from tscm_core.datasets.depth_messages import write_depth
from tscm_core.datasets.image_drive import ImageDrive
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import DatasetError, ImageError
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Intrinsics

COUNT = 4
CAMERA = Intrinsics(17, 12, 20.0, 21.0, 8.5, 6.5, (0.1, -0.05, 0.001, 0.002, 0.0), "plumb_bob")


def pixels_of(number):
    return np.random.default_rng(number).integers(0, 256, (12, 17, 3), np.uint8)


def depth_of(number):
    return np.random.default_rng(100 + number).uniform(0.3, 60.0, (6, 8)).astype(np.float32)


@pytest.fixture
def drive(tmp_path):
    """Colour, grey, jpeg and png; one image has no depth."""
    made = tmp_path / "drive"
    (made / "images").mkdir(parents=True)
    (made / "depth").mkdir()
    for number in range(COUNT):
        pixels = pixels_of(number)[:, :, 0] if number == 1 else pixels_of(number)
        cv2.imwrite(str(made / "images" / f"{number}.{'jpg' if number == 2 else 'png'}"), pixels)
        if number != 3:
            write_depth(made / "depth" / f"{number}.png", depth_of(number))
    rows = (
        f"{number}.{'jpg' if number == 2 else 'png'},{1.1 * number},-{number},{30 * number}" for number in range(COUNT)
    )
    (made / "positions.csv").write_text("image,x,y,yaw\n" + "\n".join(rows) + "\n")
    write_camera_file(made / "camera.yaml", CAMERA)
    return made


def read(path, *arguments):
    with ImageDrive(path, *arguments) as source:
        assert source.image_count == COUNT
        return list(source.frames())


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("rate", [2.0, 3.0])
def test_a_bag_made_of_the_folder_has_the_same_frames(drive, tmp_path, storage, rate):
    assert list(bag_from_images(drive, tmp_path / "bag", rate, storage=storage)) == [1, 2, 3, 4]
    with DriveBag(tmp_path / "bag") as bag:
        theirs = list(bag.frames())
    ours = read(drive, rate)
    assert len(theirs) == len(ours) == COUNT
    for a, b in zip(ours, theirs, strict=True):
        assert (a.stamp_ns, a.pose, a.camera_frame, a.intrinsics) == (b.stamp_ns, b.pose, b.camera_frame, b.intrinsics)
        assert np.array_equal(a.image, b.image)
        assert (a.depth is None) == (b.depth is None)
        assert a.depth is None or (np.array_equal(a.depth, b.depth) and a.depth.dtype == b.depth.dtype)


def test_frames_are_what_lies_in_the_folder(drive):
    frames = read(drive, 3.0)
    assert [frame.stamp_ns - FIRST_STAMP_NS for frame in frames] == [0, 333_333_333, 666_666_667, 1_000_000_000]
    assert np.array_equal(frames[0].image, pixels_of(0)[:, :, ::-1])
    assert np.array_equal(frames[1].image, np.repeat(pixels_of(1)[:, :, :1], 3, axis=2))
    assert [frame.pose for frame in frames] == [
        pose_from_yaw(1.1 * number, -float(number), np.pi * number / 6) for number in range(COUNT)
    ]
    assert all(frame.intrinsics == CAMERA for frame in frames)
    for number in range(3):
        assert frames[number].depth == pytest.approx(depth_of(number), abs=0.00051)
    assert frames[3].depth is None


def test_the_images_may_be_named_and_what_goes_with_them_lies_beside(drive):
    for a, b in zip(read(drive), read(drive / "images"), strict=True):
        assert (a.pose, a.intrinsics, a.stamp_ns) == (b.pose, b.intrinsics, b.stamp_ns)
        assert (a.depth is None) == (b.depth is None)


def test_an_image_without_a_position_has_no_pose_and_without_the_files_there_is_none(drive):
    table = drive / "positions.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:2] + lines[3:]))
    assert [frame.pose is None for frame in read(drive)] == [False, True, False, False]
    table.unlink()
    (drive / "camera.yaml").unlink()
    for file in (drive / "depth").iterdir():
        file.unlink()
    assert [(frame.pose, frame.intrinsics, frame.depth) for frame in read(drive)] == [(None, None, None)] * COUNT


@pytest.mark.parametrize("file", ["images/2.jpg", "images/1.png", "depth/1.png"])
def test_a_cut_picture_is_told_or_ends_the_reading(drive, file):
    raw = (drive / file).read_bytes()
    (drive / file).write_bytes(raw[:-30])
    with pytest.raises(ImageError, match="cut off"):
        read(drive)
    told = []
    with ImageDrive(drive) as source:
        assert len(list(source.frames(lambda *what: told.append(what)))) == COUNT - 1
        assert len(list(source.frames(lambda *what: None))) == COUNT - 1  # and once more
    (stamp, error), number = told[0], int(file[-5])
    assert (stamp, type(error)) == (FIRST_STAMP_NS + number * 500_000_000, ImageError)
    assert file in str(error)


@pytest.mark.parametrize(("name", "content"), [("camera.yaml", "a: ["), ("positions.csv", "image,x\n1,2\n")])
def test_damaged_company_is_a_sentence(drive, name, content):
    (drive / name).write_text(content)
    with pytest.raises(DatasetError, match=name):
        read(drive)
