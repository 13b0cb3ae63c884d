"""positions.csv and folders of images: what is read, and what is refused with the line that is wrong."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from tscm_core.datasets.positions import Position, list_images, match_positions, read_image, read_positions
from tscm_core.errors import DatasetError
from tscm_core.recognition.poses import yaw_rad


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "positions.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_positions_are_read_with_and_without_yaw(csv):
    assert read_positions(csv("image,x,y\na.jpg,1,-2.5\nb.jpg,3e2,0\n")) == {
        "a.jpg": Position("a.jpg", 1.0, -2.5, None),
        "b.jpg": Position("b.jpg", 300.0, 0.0, None),
    }
    read = read_positions(csv("yaw,y,x,image,note\n90,2,1,a.jpg,hello\n,2,1,b.jpg,\n0,2,1,c.jpg,\n"))
    assert read["a.jpg"] == Position("a.jpg", 1.0, 2.0, 90.0)
    assert (read["b.jpg"].yaw_deg, read["c.jpg"].yaw_deg) == (None, 0.0)


def test_spreadsheets_write_marks_and_line_ends_of_their_own(csv):
    expected = {"ä.jpg": Position("ä.jpg", 1.0, 2.0, None)}
    assert read_positions(csv("\ufeffimage,x,y\r\nä.jpg,1,2\r\n")) == expected
    assert read_positions(csv('image,x,y\n"ä.jpg","1"," 2 "\n')) == expected


def test_poses_are_on_the_ground_in_degrees():
    pose = Position("a", 1.0, 2.0, 90.0).pose
    assert (pose.position, yaw_rad(pose)) == ((1.0, 2.0, 0.0), pytest.approx(math.pi / 2))
    assert yaw_rad(Position("a", 1.0, 2.0, None).pose) == 0.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must have a first line"),
        ("image,x,y\n", "lines below it"),
        ("a.jpg,1,2\nb.jpg,1,2\n", "must have a first line"),
        ("image,x\na.jpg,1\n", "must have a first line"),
        ("image;x;y\na.jpg;1;2\n", "must have a first line"),
        ("image,x,y\na.jpg,1,2\nb.jpg,1,two\n", "line 3: could not convert string to float: 'two'"),
        ("image,x,y\na.jpg,1\n", "line 2: could not convert"),
        ("image,x,y\na.jpg,,1\n", "line 2: could not convert"),
        ("image,x,y\na.jpg,inf,1\n", "line 2: x, y and yaw must be finite"),
        ("image,x,y\na.jpg,1,nan\n", "line 2: x, y and yaw must be finite"),
        ("image,x,y,yaw\na.jpg,1,1,-inf\n", "line 2: x, y and yaw must be finite"),
        ("image,x,y,yaw\na.jpg,1,1,north\n", "line 2: could not convert"),
        (b"image,x,y\n\xff\xfe,1,2\n", "cannot be read"),
        ("image,x,y\n" + "a" * 200_000 + ",1,2\n", "cannot be read: field larger than field limit"),
    ],
)
def test_unfit_files_name_the_line(csv, text, problem):
    path = csv(text)
    with pytest.raises(DatasetError) as caught:
        read_positions(path)
    assert str(caught.value).startswith(f"positions {path}")
    assert problem in str(caught.value)


def test_missing_files_and_folders_say_so(tmp_path):
    with pytest.raises(DatasetError, match="No such file"):
        read_positions(tmp_path / "absent.csv")
    with pytest.raises(DatasetError, match="Is a directory"):
        read_positions(tmp_path)


def test_every_image_needs_a_position_and_the_missing_are_counted(tmp_path):
    images = [tmp_path / f"{number}.jpg" for number in range(9)]
    positions = {path.name: Position(path.name, float(n), 0.0, None) for n, path in enumerate(images)}
    assert [place.x for place in match_positions(images[::-1], positions, tmp_path)] == list(range(8, -1, -1))
    some = {name: positions[name] for name in ("0.jpg", "5.jpg")}
    with pytest.raises(DatasetError, match=r"lacks 7 of 9 images: 1\.jpg, 2\.jpg, 3\.jpg, 4\.jpg, 6\.jpg$"):
        match_positions(images, some, tmp_path)


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_images_come_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", "c.jpeg", "d.txt", "e.webp", "f.bmp", "g.tif", "positions.csv", "h.npy")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.jpeg", "e.webp", "f.bmp", "g.tif"]


def test_images_may_be_in_a_folder_of_that_name(tmp_path):
    touch(tmp_path, "positions.csv")
    touch(tmp_path / "images", "1.jpg")
    assert list_images(tmp_path) == [tmp_path / "images" / "1.jpg"]
    touch(tmp_path, "0.jpg")
    assert list_images(tmp_path) == [tmp_path / "0.jpg"]


def test_folders_without_images_are_refused(tmp_path):
    touch(tmp_path, "notes.txt")
    touch(tmp_path / "images", "notes.txt")
    with pytest.raises(DatasetError, match=r"holds no images \(.jpg, .*nor does a folder images in it"):
        list_images(tmp_path)
    for path in (tmp_path / "absent", tmp_path / "notes.txt"):
        with pytest.raises(DatasetError, match="is not a folder"):
            list_images(path)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_pictures_that_are_cut_off_are_refused_and_not_filled_with_grey(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    path = tmp_path / f"a{kind}"
    cv2.imwrite(str(path), pixels)
    whole = path.read_bytes()
    assert np.array_equal(read_image(path, cv2.IMREAD_COLOR), cv2.imread(str(path), cv2.IMREAD_COLOR))
    for length in range(20, len(whole) - 1, 397):
        path.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match="cannot be decoded, as it is cut off: replace it or take it out"):
            read_image(path, cv2.IMREAD_COLOR)
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match="cannot be decoded: replace"):
        read_image(path, cv2.IMREAD_COLOR)


def test_pixels_are_read_or_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert np.array_equal(read_image(tmp_path / "a.png", cv2.IMREAD_COLOR), pixels)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    with pytest.raises(DatasetError, match=r"b\.png cannot be decoded"):
        read_image(tmp_path / "b.png", cv2.IMREAD_COLOR)
    with pytest.raises(DatasetError, match=r"c\.png does not exist"):
        read_image(tmp_path / "c.png", cv2.IMREAD_COLOR)
