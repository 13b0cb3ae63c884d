"""Calibration files: those of the ROS calibrator are read, ours are such, and a broken one is a sentence."""

from __future__ import annotations

import pytest
import yaml

from tscm_core.datasets.camera_files import read_camera_file, write_camera_file
from tscm_core.errors import DatasetError
from tscm_core.recognition.records import Intrinsics

OF_THE_CALIBRATOR = """image_width: 640
image_height: 480
camera_name: narrow_stereo
camera_matrix:
  rows: 3
  cols: 3
  data: [438.783367, 0.000000, 305.593336, 0.000000, 437.302876, 243.738352, 0.000000, 0.000000, 1.000000]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.361976, 0.110510, 0.001014, 0.000505, 0.000000]
rectification_matrix:
  rows: 3
  cols: 3
  data: [0.999978, 0.002789, -0.006046, -0.002816, 0.999986, -0.004401, 0.006034, 0.004417, 0.999972]
projection_matrix:
  rows: 3
  cols: 4
  data: [393.653800, 0.000000, 322.797939, 0.000000, 0.000000, 393.653800, 241.090902, 0.0, 0.0, 0.0, 1.0, 0.0]
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "camera.yaml"


def test_a_file_of_the_calibrator_is_read(path):
    path.write_text(OF_THE_CALIBRATOR)
    assert read_camera_file(path) == Intrinsics(
        640, 480, 438.783367, 437.302876, 305.593336, 243.738352,
        (-0.361976, 0.110510, 0.001014, 0.000505, 0.0), "plumb_bob",
    )  # fmt: skip


@pytest.mark.parametrize(
    "camera",
    [
        Intrinsics(480, 360, 300.5, 301.25, 239.5, 179.5),
        Intrinsics(480, 360, 1 / 3, 0.1 + 0.2, 239.5, 179.5, (0.1, -0.2, 1e-9, 0.0, 7.0), "plumb_bob"),
        Intrinsics(48, 36, 30.0, 30.0, 24.0, 18.0, (0.1, 0.2, 0.3, 0.4), "equidistant"),
        Intrinsics(48, 36, 30.0, 30.0, 24.0, 18.0, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0), "rational_polynomial"),
    ],
)
def test_what_was_written_comes_back_to_the_last_bit(path, camera):
    write_camera_file(path, camera)
    assert read_camera_file(path) == camera
    assert [item.name for item in path.parent.iterdir()] == ["camera.yaml"]
    tree, theirs = yaml.safe_load(path.read_text()), yaml.safe_load(OF_THE_CALIBRATOR)
    assert tree.keys() == theirs.keys()
    assert tree["camera_matrix"].keys() == theirs["camera_matrix"].keys()
    assert len(tree["projection_matrix"]["data"]) == 12


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("image_width: 640", "", "image_width must be a finite number"),
        ("image_width: 640", "image_width: wide", "image_width must be a finite number"),
        ("image_height: 480", "image_height: 0", "must be positive"),
        ("data: [438.783367, 0.0", "data: [0.0, 0.0", "must be positive"),
        ("data: [438.783367, ", "data: [", "camera_matrix.data must be 9 finite numbers"),
        ("data: [438.783367, ", "data: [.nan, ", "camera_matrix.data must be 9 finite numbers"),
        ("[438.783367", "[1" + "0" * 400, "camera_matrix.data must be 9 finite numbers"),
        ("camera_matrix:", "matrix:", "camera_matrix.data must be 9 finite numbers"),
        ("plumb_bob", "polynomial", 'model "polynomial" with 5 coefficients is unknown: known are plumb_bob (5), rat'),
        ("-0.361976, 0.110510", "-0.361976", None),  # four coefficients are five with k3 of 0
        ("[-0.361976, 0.110510, 0.001014", "[0.001014", "with 3 coefficients is unknown"),
        ("-0.361976", "[1]", "distortion_coefficients.data must be finite numbers"),
        (OF_THE_CALIBRATOR, "", "holds no calibration"),
        (OF_THE_CALIBRATOR, "a: [", "is not YAML"),
        (OF_THE_CALIBRATOR, "- 1", "holds no calibration"),
    ],
)
def test_a_broken_file_is_a_sentence(path, old, new, problem):
    assert old in OF_THE_CALIBRATOR
    path.write_text(OF_THE_CALIBRATOR.replace(old, new))
    if problem is None:
        assert read_camera_file(path).distortion == (-0.361976, 0.001014, 0.000505, 0.0, 0.0)
        return
    with pytest.raises(DatasetError) as caught:
        read_camera_file(path)
    assert str(caught.value).startswith(f"camera file {path}")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_sentence(path):
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_camera_file(path)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_camera_file(path / "camera.yaml", Intrinsics(1, 1, 1.0, 1.0, 0.0, 0.0))
