"""Opening a drive without saying what it is kept in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tscm_core.datasets.bag_writer import DriveWriter, bag_from_images
from tscm_core.datasets.drive_source import open_drive
from tscm_core.datasets.image_drive import ImageDrive
from tscm_core.datasets.kitti import KittiSequence
from tscm_core.datasets.rosbag import BagTopics, DriveBag
from tscm_core.errors import BagError, DatasetError, ImageError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "folder"
    made.mkdir()
    for number in range(3):
        cv2.imwrite(str(made / f"{number:06}.png"), np.full((4, 4, 3), 50 * number, np.uint8))
    return made


@pytest.fixture
def bag(folder, tmp_path):
    list(bag_from_images(folder, tmp_path / "bag", 2.0))
    return tmp_path / "bag"


def kitti(folder):
    (folder / "image_0").mkdir()
    for file in sorted(folder.glob("*.png")):
        file.rename(folder / "image_0" / file.name)
    (folder / "times.txt").write_text("0\n0.1\n0.2\n")
    return folder


def stamps(source):
    with source as drive:
        assert drive.image_count == 3
        return [[frame.stamp_ns for frame in drive.frames()] for _ in range(2)]


def test_each_kind_is_known_for_what_it_is_and_read_twice_the_same(folder, bag):
    sources = [open_drive(bag), open_drive(next(bag.glob("*.mcap"))), open_drive(folder, rate_hz=4.0)]
    assert [type(source) for source in sources] == [DriveBag, DriveBag, ImageDrive]
    assert [source.path for source in sources] == [bag, next(bag.glob("*.mcap")), folder]
    for source, period_ns in zip(sources, (500_000_000, 500_000_000, 250_000_000), strict=True):
        first, second = stamps(source)
        assert first == second
        assert np.diff(first).tolist() == [period_ns, period_ns]
    sequence = open_drive(kitti(folder))
    assert type(sequence) is KittiSequence
    first, second = stamps(sequence)
    assert first == second
    assert np.diff(first).tolist() == [100_000_000, 100_000_000]


def test_topics_and_gap_reach_the_bag(bag):
    with pytest.raises(BagError, match="has no image topic /other"), open_drive(bag, BagTopics(image="/other")):
        pass


def test_a_drive_around_its_images_and_bags_beside_images_are_folders_of_images(folder, tmp_path, bag):
    folder.rename(tmp_path / "images")
    assert type(open_drive(tmp_path)) is ImageDrive
    next(bag.glob("*.mcap")).rename(tmp_path / "left_over.mcap")
    assert type(open_drive(tmp_path)) is ImageDrive


def test_a_bag_without_metadata_is_still_called_a_bag(bag):
    (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"has no metadata\.yaml"), open_drive(bag):
        pass


@pytest.mark.parametrize("kind", ["absent", "empty", "text.txt", "other"])
def test_what_is_none_of_them_is_a_sentence_that_names_the_three(tmp_path, kind):
    path = tmp_path / kind
    if kind in ("empty", "other"):
        path.mkdir()
    if kind == "other":
        (path / "times.txt").write_text("0\n")
    if kind == "text.txt":
        path.write_text("hello")
    with pytest.raises(DatasetError) as caught:
        open_drive(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} {'does not exist' if kind == 'absent' else 'is none of the drives'}")
    assert all(word in sentence for word in ("a ROS 2 bag", "a KITTI odometry sequence", "a folder of images"))
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["absent.mcap", "absent.db3"])
def test_files_that_are_called_bags_are_refused_as_such(tmp_path, name):
    with pytest.raises(BagError, match="does not exist"), open_drive(tmp_path / name):
        pass


def test_of_wanted_frames_nothing_else_is_decoded(folder, tmp_path):
    """The first image is damaged: whoever decodes it fails."""
    (folder / "000000.png").write_bytes(b"no image")
    with DriveWriter(tmp_path / "damaged") as bag:
        for number, encoding in enumerate(("wrong8", "rgb8", "rgb8")):
            bag.image(number + 1, np.full((4, 4, 3), 50 * number, np.uint8), encoding)
    for make in (lambda: folder, lambda: tmp_path / "damaged", lambda: kitti(folder)):
        with open_drive(make()) as drive:
            whole = list(drive.frames(lambda stamp_ns, error: None))
            assert [int(frame.image[0, 0, 0]) for frame in whole] == [50, 100]
            with pytest.raises(ImageError):
                list(drive.frames())
            (only,) = drive.frames(wanted={whole[1].stamp_ns})
            assert (only.stamp_ns, only.pose) == (whole[1].stamp_ns, whole[1].pose)
            assert np.array_equal(only.image, whole[1].image)
            assert list(drive.frames(wanted=())) == []
