"""Frames of videos: what is chosen, what is known, and which lines are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shared_data import shared

from tscm_core.datasets.place_sources import open_places
from tscm_core.datasets.videos import read_frames
from tscm_core.errors import ConfigError, DatasetError

ROWS = [
    ("a1.jpg", "a", 1, "floor1", "gallery"),
    ("a2.jpg", "a", 2, "floor1", "query"),
    ("a9.jpg", "a", 9, "floor1", "gallery"),
    ("b1.jpg", "b", 1, "floor1", "gallery"),
    ("c1.jpg", "c", 1, "floor2", "gallery"),
    ("c3.jpg", "c", 3, "floor2", "query"),
]


@pytest.fixture
def tower(tmp_path):
    write(tmp_path, "image,video,frame,floor,split", *(",".join(map(str, row)) for row in ROWS))
    return tmp_path


def write(folder, *lines):
    (folder / "frames.csv").write_text("\n".join(lines) + "\n")


def opened(folder, **settings):
    return open_places({"kind": "frames", "folder": folder} | settings)


def names(s, numbers):
    return [s.images[i].name for i in np.arange(len(s))[numbers]]


def test_neighbours_are_positives_and_only_other_floors_are_negatives(tower):
    s = opened(tower)
    assert names(s, s.positives(0)) == ["a2.jpg"]
    assert names(s, s.negatives_mask(0)) == ["c1.jpg", "c3.jpg"]  # not a9, which may show the same, nor b1
    assert names(s, s.negatives_mask(4)) == ["a1.jpg", "a2.jpg", "a9.jpg", "b1.jpg"]
    assert math.isinf(s.negative_radius)
    known = opened(tower, negative_radius=5)
    assert names(known, known.negatives_mask(0)) == ["a9.jpg", "c1.jpg", "c3.jpg"]


def test_protocols(tower):
    s = opened(tower, protocol="held_out", positive_radius=8)
    assert s.is_query.all()
    assert s.is_database.all()
    assert [names(s, s.positives(i)) for i in (0, 1, 2)] == [["a9.jpg"], ["a9.jpg"], ["a1.jpg", "a2.jpg"]]
    assert names(s, s.unsearchable(0)) == ["a1.jpg", "a2.jpg"]
    s = opened(tower, protocol="split")
    assert names(s, s.is_query) == ["a2.jpg", "c3.jpg"]
    assert names(s, s.is_database) == ["a1.jpg", "a9.jpg", "b1.jpg", "c1.jpg"]
    assert names(s, s.positives(1)) == ["a1.jpg"]


def test_areas_and_videos_are_chosen_and_held_out(tower):
    def left(**settings):
        return "".join(image.stem[0] for image in opened(tower, **settings).images)

    assert left(areas=["floor1"]) == "aaab"
    assert left(areas_not=["floor1"]) == "cc"
    assert left(videos=["b", "c"]) == "bcc"
    assert left(videos_not=["a"], areas=["floor1"]) == "b"
    for key in ("areas", "areas_not"):
        with pytest.raises(ConfigError, match=f"frames.{key}: there is no 'flor1'; there are floor1, floor2"):
            opened(tower, **{key: ["flor1"]})
    with pytest.raises(ConfigError, match="videos: there is no 'z'"):
        opened(tower, videos=["z"])
    with pytest.raises(DatasetError, match="nothing is left"):
        opened(tower, videos=["a"], areas=["floor2"])


def test_without_floors_every_video_is_an_area_and_images_may_lie_in_their_folder(tmp_path):
    write(tmp_path, "video,frame,image", "a,1,a1.jpg", "b,1,b1.jpg")
    (tmp_path / "images").mkdir()
    s = opened(tmp_path)
    assert s.images[0] == tmp_path / "images" / "a1.jpg"
    assert s.negatives_mask(0).tolist() == [False, True]
    with pytest.raises(DatasetError, match="no split for every frame"):
        opened(tmp_path, protocol="split")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "must have a first line"),
        (["image,video", "a.jpg,a"], "must have a first line"),
        (["image,video,frame", "a.jpg,a,1", "b.jpg,a,two"], "line 3: the frame must be a whole number"),
        (["image,video,frame", "a.jpg,,1"], "line 2: image and video must be named"),
        (["image,video,frame,split", "a.jpg,a,1,train"], "line 2: the split must be one of query, gallery"),
    ],
)
def test_unfit_files_name_the_line(tmp_path, lines, problem):
    write(tmp_path, *lines)
    with pytest.raises(DatasetError, match=problem):
        read_frames(tmp_path / "frames.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"frames .*frames.csv cannot be read: No such file"):
        opened(tmp_path)


@pytest.mark.shared_data
def test_the_tower():
    folder = shared("tower_videos")
    held = ["floor10", "floor22"]
    train, test = opened(folder, areas_not=held), opened(folder, areas=held, protocol="held_out")
    train.check_images()
    assert len(train) + len(test) == 2877
    assert set(train.images).isdisjoint(test.images)
    for i in range(0, len(test), 7):
        video = test.images[i].name.split("_frame")[0]
        assert all(test.images[j].name.startswith(video) for j in test.positives(i))
        floor = video.split("_")[0]
        assert not any(test.images[j].name.startswith(f"{floor}_") for j in np.flatnonzero(test.negatives_mask(i)))
