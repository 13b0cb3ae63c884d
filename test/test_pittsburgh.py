"""Pittsburgh structs, written here with the nesting of the released files and read back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from tscm_core.datasets.pittsburgh import SPLITS, read_struct
from tscm_core.datasets.place_sources import open_places
from tscm_core.errors import ConfigError, DatasetError

DATABASE = ["000/000000_pitch1_yaw1.jpg", "000/000000_pitch1_yaw2.jpg", "001/001000_pitch1_yaw1.jpg"]
QUERIES = ["000/000003_pitch2_yaw7.jpg", "010/010001_pitch1_yaw12.jpg"]


def cells(names):
    column = np.empty((len(names), 1), object)
    column[:, 0] = names
    return column


def struct(**changes):
    return {
        "whichSet": "test",
        "dbImageFns": cells(DATABASE),
        "utmDb": np.array([[585000.0, 585000.0, 585100.0], [4477000.0, 4477000.0, 4477000.0]]),
        "qImageFns": cells(QUERIES),
        "utmQ": np.array([[585012.0, 585100.0], [4477000.0, 4477030.0]]),
        "numImages": float(len(DATABASE)),
        "numQueries": float(len(QUERIES)),
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
        "nonTrivPosDistSqThr": 100.0,
    } | changes


@pytest.fixture
def city(tmp_path):
    def write(split="pitts30k_test", **changes):
        (tmp_path / "datasets").mkdir(exist_ok=True)
        savemat(tmp_path / "datasets" / f"{split}.mat", {"dbStruct": struct(**changes)})
        return tmp_path

    return write


def opened(folder, split="pitts30k_test", **settings):
    return open_places({"kind": "pittsburgh", "folder": folder, "split": split} | settings)


def test_the_struct_is_nested_as_in_the_released_files(city):
    from scipy.io import loadmat

    content = loadmat(city() / "datasets" / "pitts30k_test.mat")["dbStruct"]
    assert content.shape == (1, 1)
    assert content[0, 0]["dbImageFns"].shape == (3, 1)
    assert content[0, 0]["dbImageFns"][0, 0].tolist() == [DATABASE[0]]
    assert content[0, 0]["utmDb"].shape == (2, 3)


def test_a_struct_is_read(city):
    read = read_struct(city() / "datasets" / "pitts30k_test.mat")
    assert (read.which_set, read.database, read.queries) == ("test", tuple(DATABASE), tuple(QUERIES))
    assert read.database_utm[2].tolist() == [585100, 4477000]
    assert read.queries_utm[1].tolist() == [585100, 4477030]
    assert read.non_trivial_radius == 10


def test_places_of_a_test_set(city):
    folder = city()
    s = opened(folder)
    assert s.images[0] == folder / DATABASE[0]
    assert s.images[3] == folder / "queries_real" / QUERIES[0]
    assert (s.database.tolist(), s.queries.tolist()) == ([0, 1, 2], [3, 4])
    assert [s.positives(i).tolist() for i in (3, 4)] == [[0, 1], []]  # 12 m; 30 m
    assert s.positives_within(4, 30).tolist() == [2]
    assert np.flatnonzero(s.negatives_mask(3)).tolist() == [2]
    with pytest.raises(DatasetError, match="pitts30k_test: 5 of 5 images are missing"):
        s.check_images()


def test_training_takes_nearer_positives_unless_it_is_told_otherwise(city):
    folder = city("pitts250k_train")
    s = opened(folder, "pitts250k_train")
    assert (s.positive_radius, s.negative_radius) == (10, 25)
    assert len(s.positives(3)) == 0
    assert opened(folder, "pitts250k_train", positive_radius=12).positives(3).tolist() == [0, 1]
    assert opened(folder, "pitts250k_train", positive_radius=0).positive_radius == 0
    assert opened(folder, "pitts250k_train", positive_radius=30).negative_radius == 30
    with pytest.raises(DatasetError, match="the negative radius 5 must not be less than the positive radius 10"):
        opened(folder, "pitts250k_train", negative_radius=5)
    mat = folder / "datasets" / "pitts250k_train.mat"
    assert opened(folder, mat=mat).positive_radius == 25


def test_every_split_has_a_name_and_no_other():
    assert len(SPLITS) == 6
    with pytest.raises(ConfigError, match=r"pittsburgh.split must be one of pitts30k_train, .*, not 'train'"):
        opened("x", "train")


def test_a_missing_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(DatasetError, match=r"pitts30k_test.mat does not exist: .* on request by the authors"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"numImages": 4.0}, r"says \(4, 2\) images and queries, but names \(3, 2\)"),
        ({"utmQ": np.zeros((2, 1))}, "is damaged"),
        ({"utmDb": np.zeros((3, 2))}, "UTM must be 2 x N"),
        ({"dbImageFns": 3.0}, "says|damaged|no Pittsburgh struct"),
        ({"utmDb": np.full((2, 3), np.nan)}, "3 positions are not finite"),
    ],
)
def test_damaged_structs_are_refused(city, changes, problem):
    with pytest.raises(DatasetError, match=problem):
        opened(city(**changes))


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "pitts30k_test.mat"
    savemat(path, {"other": 1.0})
    with pytest.raises(DatasetError, match=r"no Pittsburgh struct \(KeyError: 'dbStruct'\)"):
        opened(tmp_path)
    savemat(path, {"dbStruct": {"whichSet": "test"}})
    with pytest.raises(DatasetError, match="no Pittsburgh struct"):
        opened(tmp_path)
    for content in (b"", b"MATLAB 7.3 MAT-file", bytes(200), b"\x89HDF\r\n" + bytes(300)):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="no Pittsburgh struct"):
            opened(tmp_path)
