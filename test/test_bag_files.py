"""Bags that cannot be opened: what is wrong with the file, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
from bag_messages import IMAGE, SECOND, image_message, write_messages
from rosbags.rosbag2 import StoragePlugin

from tscm_core.datasets.rosbag import DriveBag
from tscm_core.errors import BagError

PLUGINS = {"mcap": StoragePlugin.MCAP, "db3": StoragePlugin.SQLITE3}


@pytest.fixture
def bag(tmp_path, request):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    messages = [("/image", IMAGE, n * SECOND, image_message(n * SECOND, pixels)) for n in range(1, 5)]
    return write_messages(tmp_path / "bag", messages, PLUGINS[request.param])


def problem(path):
    with pytest.raises(BagError) as caught, DriveBag(path) as bag:
        list(bag.frames())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bag", PLUGINS, indirect=True)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_a_bag_that_is_cut_off_says_so(bag, share):
    file = next(path for path in bag.iterdir() if path.suffix != ".yaml")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert f"is cut off: {file.name} (the recording or the copy was not ended)" in problem(bag)
    assert problem(file).startswith(f"bag {file}: is cut off (the recording")
    file.write_bytes(whole)
    with DriveBag(bag) as good:
        assert len(list(good.frames())) == 4


@pytest.mark.parametrize("bag", ["mcap"], indirect=True)
def test_a_bag_without_metadata_says_what_to_do(bag):
    (bag / "metadata.yaml").unlink()
    assert "has no metadata.yaml: name the .mcap or .db3 file in it, or make one with `ros2 bag reindex`" in problem(
        bag
    )


def test_other_files_are_not_called_cut_off(tmp_path):
    assert "does not exist" in problem(tmp_path / "absent.mcap")
    for name in ("text.mcap", "text.db3", "text"):
        (tmp_path / name).write_text("no bag at all")
        assert "cannot be read: " in problem(tmp_path / name)
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert "is a ROS 1 bag: convert it with rosbags-convert" in problem(tmp_path / "old.bag")
