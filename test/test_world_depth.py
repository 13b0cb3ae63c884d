"""Depth of rendered worlds in metres: against the exact geometry of a room made by hand, and on disk."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml
from toy_level import write_toy

from tscm_core.datasets.camera_files import write_camera_file
from tscm_core.datasets.depth_messages import write_depth
from tscm_core.datasets.synthetic_drive import CAMERA, running_game
from tscm_core.datasets.world_camera import EYE_UNITS, WorldCamera, scaled_camera
from tscm_core.datasets.world_depth import FARTHEST_M, STEP_M, depth_from_buffer
from tscm_core.errors import DatasetError

M = 1 / 32
ROOM_UNITS = 512  # of room A: a square with a corner at (0, 0)


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """Gives the depth [480, 640] and the pose (x, y in units, yaw in rad) of a camera in room A."""
    pytest.importorskip("vizdoom")
    folder = tmp_path_factory.mktemp("depth")
    toy = write_toy(folder / "toy.wad")
    with running_game("freedoom2.wad", "MAP01", 0, folder, patch=toy, camera_height=True, depth=True) as game:
        camera = WorldCamera(game)

        def shoot(x, y, degrees):
            shot = camera.shoot(np.array([x * M, y * M, np.radians(degrees)]))
            assert shot is not None
            return depth_from_buffer(shot.buffer, (640, 480)), (shot.x / M, shot.y / M, np.radians(shot.yaw))

        yield shoot


def wall_depth(pose, columns):
    """Along the optical axis, in m, of what the horizon row shows of room A's four walls, by the pinhole model."""
    x, y, yaw = pose
    right = (columns - CAMERA.cx) / CAMERA.fx
    way_x, way_y = np.cos(yaw) + right * np.sin(yaw), np.sin(yaw) - right * np.cos(yaw)
    with np.errstate(divide="ignore"):
        to_x = np.where(way_x > 0, (ROOM_UNITS - x) / way_x, -x / way_x)
        to_y = np.where(way_y > 0, (ROOM_UNITS - y) / way_y, -y / way_y)
    return np.minimum(to_x, to_y) * M


@pytest.mark.parametrize(
    ("x", "y", "degrees"), [(416, 96, 0), (420, 430, -90), (100, 80, 20), (60, 440, -25), (96, 96, 5)]
)
def test_walls_lie_where_they_are_straight_ahead_and_aslant(look, x, y, degrees):
    """Half a step off at most, and never by the slant: the depth is not the length of the ray."""
    depth, pose = look(x, y, degrees)
    columns = np.arange(20, 620)
    row = depth[int(CAMERA.cy) - 1, columns]
    true = wall_depth(pose, columns)
    flat = np.abs(np.gradient(true)) < 0.05  # not beside a corner, and not so oblique that a column spans steps
    seen = flat & (np.abs(row - true) < 1.0)  # the pillar hides some of it
    assert seen.sum() > 300
    error = row[seen] - true[seen]
    assert np.quantile(np.abs(error), 0.98) <= STEP_M / 2 + 0.02
    if len(np.unique(row[seen])) > 5:  # else the error of one step is that of all
        assert abs(error.mean()) < 0.02


def test_the_floor_lies_where_the_eye_height_says(look):
    depth, _ = look(100, 80, 20)
    rows = np.arange(330, 470)
    true = EYE_UNITS * M * CAMERA.fy / (rows + 0.5 - CAMERA.cy)
    error = depth[rows, 300] - true
    assert np.abs(error).max() < STEP_M / 2 + 0.03


def test_a_wall_too_near_is_unknown_and_the_values_are_whole_steps(look):
    near, _ = look(495, 96, 0)
    assert not near.any()  # 17 units away
    known = np.unique(look(100, 80, 20)[0])[1:]
    steps = np.diff(known) / STEP_M
    assert np.abs(steps - np.rint(steps)).max() < 1e-3
    assert steps.min() == pytest.approx(1.0, rel=1e-3)


def test_a_buffer_becomes_metres_and_its_ends_are_unknown():
    depth = depth_from_buffer(np.arange(256, dtype=np.uint8)[None], (256, 1))[0]
    assert depth[0] == depth[255] == 0.0
    assert (np.diff(depth[1:255]) > 0).all()
    assert depth[1:255].max() < FARTHEST_M
    assert depth[100] == pytest.approx((10.88 + 7.138 * 100.5) / 32)  # as it was fitted


def test_a_smaller_depth_image_takes_values_and_mixes_none():
    buffer = np.zeros((480, 640), np.uint8)
    buffer[:, :320], buffer[:, 320:] = 10, 200
    small = depth_from_buffer(buffer, (96, 72))
    near, far = depth_from_buffer(np.array([[10, 200]], np.uint8), (2, 1))[0]
    assert small.shape == (72, 96)
    assert (small[:, :48] == near).all()
    assert (small[:, 48:] == far).all()


def test_depth_on_disk_is_millimetres(tmp_path):
    depth = np.array([[0.0, 1.2344, 57.2]], np.float32)
    write_depth(tmp_path / "one.png", depth)
    read = cv2.imread(str(tmp_path / "one.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    assert read.tolist() == [[0, 1234, 57200]]
    with pytest.raises(DatasetError, match=r"depth image .*none.*one\.png cannot be written"):
        write_depth(tmp_path / "none" / "one.png", depth)


def test_the_camera_file_scales_with_the_images(tmp_path):
    write_camera_file(tmp_path / "camera.yaml", scaled_camera((480, 240)))
    known = yaml.safe_load((tmp_path / "camera.yaml").read_text())
    assert (known["image_width"], known["image_height"]) == (480, 240)
    matrix = np.array(known["camera_matrix"]["data"]).reshape(3, 3)
    # A point at the right edge of the view and one at its lower edge stay there: half the width is 45 degrees.
    assert (matrix @ [1.0, 0.625, 1.0]).tolist() == pytest.approx([480.0, 240.0, 1.0])
    assert (matrix @ [0.0, 0.0, 1.0]).tolist() == pytest.approx([240.0, 120.0, 1.0])
    assert known["distortion_model"] == "plumb_bob"
    assert known["distortion_coefficients"] == {"rows": 1, "cols": 5, "data": [0.0] * 5}
    projection = np.array(known["projection_matrix"]["data"]).reshape(3, 4)
    assert (projection[:, :3] == matrix).all()
    assert not projection[:, 3].any()
