"""Callers of save_map and load_map are held to one folder, and a trap there hangs nobody."""

from __future__ import annotations

import os

import pytest
from ros_helpers import EASY, running_node

from tscm_core.maps.map_reader import check, inspect
from tscm_msgs.srv import LoadMap, SaveMap


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A node with a map of two keyframes; what callers name stays in the folder maps."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "maps").mkdir()
    (folder / "secret").mkdir()
    (folder / "maps" / "out").symlink_to(folder / "secret")
    (folder / "maps" / "map.tscm").symlink_to(folder / "secret" / "map.tscm")
    with running_node(folder, {**EASY, "map_directory": folder / "maps"}) as rig:
        rig.show(1, 2)
        yield rig


def save(rig, path):
    return rig.robot.call(SaveMap, "save_map", SaveMap.Request(path=str(path)))


def load(rig, path):
    return rig.robot.call(LoadMap, "load_map", LoadMap.Request(path=str(path)))


def test_a_relative_path_is_taken_below_the_folder(rig):
    maps = rig.map_path.parent / "maps"
    answer = save(rig, "monday/lap.tscm")
    assert answer.success, answer.message
    assert answer.path == str(maps / "monday" / "lap.tscm")
    assert check(maps / "monday" / "lap.tscm") == []
    assert load(rig, maps / "monday" / "lap.tscm").success
    assert load(rig, "monday/lap.tscm").keyframes == 2


@pytest.mark.parametrize(
    "path", ["../secret/new.tscm", "/tmp/new.tscm", "out/new.tscm", "map.tscm", "~nobody/new.tscm"]
)
def test_no_path_leads_out_and_the_refusal_is_one_sentence(rig, path):
    for call in (save, load):
        answer = call(rig, path)
        assert not answer.success
        assert answer.message.startswith(f"map {path}: ")
        assert "internal error" not in answer.message
        assert "\n" not in answer.message
        assert answer.path == path
    assert answer.keyframes == inspect(rig.map_path.with_name(f"{rig.map_path.name}.live")).keyframes
    assert not list((rig.map_path.parent / "secret").iterdir())


def test_a_pipe_is_refused_at_once_and_images_go_on(rig):
    os.mkfifo(rig.map_path.parent / "maps" / "pipe.tscm")
    for call in (save, load):
        assert "is not a regular file" in call(rig, "pipe.tscm").message
    assert save(rig, "now.tscm").success  # waits until the file of a map that was loaded is tidied up
    size = rig.robot.statuses[-1].map_size
    assert rig.show(3)[0].map_size == size + 1


def test_the_parameter_itself_is_not_held_to_the_folder(rig):
    answer = save(rig, "")
    assert answer.success, answer.message
    assert answer.path == str(rig.map_path)
