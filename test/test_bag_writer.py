"""Bags from images: whole or not at all, and the same bag from the same images."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from tscm_core.datasets.bag_writer import FIRST_STAMP_NS, bag_from_images, fresh_bag
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import BagError, DatasetError, ImageError
from tscm_core.recognition.poses import pose_from_yaw

STORAGES = pytest.mark.parametrize("storage", ["mcap", "sqlite3"])


def colour(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 17, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    for number in range(4):
        cv2.imwrite(str(made / f"{number}.png"), colour(number))
    return made


def write(*arguments, **options):
    return list(bag_from_images(*arguments, **options))


def files(path):
    return {item.name: item.read_bytes() for item in path.iterdir()}


def frames(path):
    with DriveBag(path) as bag:
        return list(bag.frames())


@STORAGES
def test_images_become_frames_at_the_asked_rate(folder, tmp_path, storage):
    assert write(folder, tmp_path / "bag", 3.0, storage=storage) == [1, 2, 3, 4]
    got = frames(tmp_path / "bag")
    assert [item.stamp_ns - FIRST_STAMP_NS for item in got] == [0, 333_333_333, 666_666_667, 1_000_000_000]
    for number, item in enumerate(got):
        assert np.array_equal(item.image, colour(number)[:, :, ::-1])
        assert (item.pose, item.camera_frame) == (None, "camera")


def test_grey_images_stay_grey_in_the_bag(tmp_path, folder):
    cv2.imwrite(str(folder / "1.png"), colour(1)[:, :, 0])
    write(folder, tmp_path / "bag", 1.0)
    with AnyReader([tmp_path / "bag"], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as reader:
        messages = [reader.deserialize(raw, at.msgtype) for at, _, raw in reader.messages()]
    assert [(item.encoding, item.step, item.height, item.width) for item in messages[:2]] == [
        ("bgr8", 51, 12, 17), ("mono8", 17, 12, 17),
    ]  # fmt: skip
    assert np.array_equal(frames(tmp_path / "bag")[1].image, np.repeat(colour(1)[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("place", ["inside", "beside", "named"])
def test_positions_become_odometry(folder, tmp_path, place):
    source = tmp_path if place == "beside" else folder  # beside: the folder given is the one around images/
    table = {"inside": folder, "beside": tmp_path, "named": tmp_path / "elsewhere"}[place] / "positions.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("image,x,y,yaw\n" + "".join(f"{number}.png,{number},-1,90\n" for number in range(4)))
    write(source, tmp_path / "bag", 1.0, table if place == "named" else None)
    assert [item.pose for item in frames(tmp_path / "bag")] == [
        pose_from_yaw(number, -1.0, np.pi / 2) for number in range(4)
    ]


def test_the_same_images_make_the_same_bag(folder, tmp_path):
    for name in ("a", "b"):
        write(folder, tmp_path / name, 2.0)
    first, second = (files(tmp_path / name) for name in ("a", "b"))
    assert first["a.mcap"].replace(b"a.mcap", b"b.mcap") == second["b.mcap"]


def test_a_drive_that_fails_leaves_no_bag(folder, tmp_path):
    (folder / "2.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"2\.png cannot be decoded"):
        write(folder, tmp_path / "bag", 1.0)
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize(("name", "error"), [("camera.yaml", DatasetError), ("depth/2.png", ImageError)])
def test_broken_company_of_the_images_leaves_no_bag(folder, tmp_path, name, error):
    (folder / "depth").mkdir()
    (folder / name).write_text("a: [")
    with pytest.raises(error, match=name):
        write(folder, tmp_path / "bag", 1.0)
    assert not (tmp_path / "bag").exists()


def test_a_jpeg_that_is_cut_off_does_not_become_a_grey_image(folder, tmp_path):
    cv2.imwrite(str(folder / "4.jpg"), colour())
    (folder / "4.jpg").write_bytes((folder / "4.jpg").read_bytes()[:-20])
    with pytest.raises(DatasetError, match=r"4\.jpg cannot be decoded, as it is cut off"):
        write(folder, tmp_path / "bag", 1.0)


def test_a_drive_that_nobody_finishes_leaves_no_bag(folder, tmp_path):
    steps = bag_from_images(folder, tmp_path / "bag", 1.0)
    next(steps)
    steps.close()
    assert not (tmp_path / "bag").exists()


def test_what_is_there_is_not_written_over(folder, tmp_path):
    write(folder, tmp_path / "bag", 1.0)
    before = files(tmp_path / "bag")
    with pytest.raises(BagError, match="cannot be written"):
        write(folder, tmp_path / "bag", 1.0)
    assert files(tmp_path / "bag") == before
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "bag"):
        with pytest.raises(BagError, match="cannot be written"):
            write(folder, path, 1.0)
    assert (tmp_path / "file").read_text() == "x"


def test_a_full_disk_is_a_sentence_and_leaves_no_bag(folder, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tscm_core.datasets.bag_writer.Writer.write", full)
    with pytest.raises(BagError, match="cannot be written: No space left on device"):
        write(folder, tmp_path / "bag", 1.0)
    assert not (tmp_path / "bag").exists()


# ---------------------------------------------------------------------------------------------- making room


def test_a_new_place_is_given_as_it_is(tmp_path):
    with fresh_bag(tmp_path / "bag", overwrite=False) as path:
        assert path == tmp_path / "bag"


def test_an_old_bag_gives_way_once_the_new_one_is_complete(folder, tmp_path):
    write(folder, tmp_path / "bag", 1.0)
    before = files(tmp_path / "bag")
    shutil.copytree(tmp_path / "bag", tmp_path / ".bag.new" / "bag")  # left by a killed process
    with fresh_bag(tmp_path / "bag", overwrite=True) as path:
        (folder / "0.png").unlink()
        write(folder, path, 1.0)
        assert files(tmp_path / "bag") == before
    assert len(frames(tmp_path / "bag")) == 3
    assert files(tmp_path / "bag").keys() == before.keys()
    assert not (tmp_path / ".bag.new").exists()


def test_an_old_bag_stays_if_the_new_one_fails(folder, tmp_path):
    write(folder, tmp_path / "bag", 1.0)
    before = files(tmp_path / "bag")
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(DatasetError), fresh_bag(tmp_path / "bag", overwrite=True) as path:
        write(folder, path, 1.0)
    assert files(tmp_path / "bag") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "images"]


def test_only_bags_are_replaced_and_only_when_asked(folder, tmp_path):
    write(folder, tmp_path / "bag", 1.0)
    with pytest.raises(BagError, match=r"exists already: .*--overwrite"), fresh_bag(tmp_path / "bag", overwrite=False):
        pass
    with pytest.raises(BagError, match="is not a bag: it is left alone"), fresh_bag(folder, overwrite=True):
        pass
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_ending_of_ros_1_bags_is_refused(tmp_path, overwrite):
    with pytest.raises(BagError, match="leave the ending out"), fresh_bag(tmp_path / "drive.bag", overwrite):
        pass
