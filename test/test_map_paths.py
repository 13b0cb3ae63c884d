"""Paths from a caller: none leads out of the folder, whatever is written in it, and none to a trap."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tscm_core.errors import MapFileError
from tscm_core.maps.map_paths import given_path, refuse_trap

PART = st.sampled_from(
    ["", ".", "..", "~", "~nobody-of-this-name", "a", "inside", "out", "back", "file", "a\0b", "\udcff"]
)
NAME = PART | st.text(max_size=6)


@pytest.fixture
def maps(tmp_path):
    """A folder of maps with a folder, a file and links in it, beside something secret."""
    folder = tmp_path / "maps"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "map.tscm").write_bytes(b"x")
    (folder / "file").write_bytes(b"x")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "back").symlink_to(folder / "inside")
    (folder / "inside" / "link.tscm").symlink_to(tmp_path / "secret" / "map.tscm")
    (folder / "inside" / "dangling.tscm").symlink_to(tmp_path / "nothing yet")
    return folder


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(NAME, max_size=5), rooted=st.sampled_from(["", "/", "//", "FOLDER/", "FOLDER/../", "FOLDERx/"]))
def test_whatever_is_asked_for_is_below_the_folder_or_refused(maps, parts, rooted):
    text = rooted.replace("FOLDER", str(maps)) + "/".join(parts)
    try:
        path = given_path(text, str(maps))
    except MapFileError:
        return
    real = Path(os.path.realpath(path))
    assert real == path
    assert real.is_relative_to(maps.resolve())
    assert real != maps.resolve()
    assert not real.exists() or real.is_file()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(NAME, min_size=1, max_size=5))
def test_without_a_folder_any_path_is_absolute_or_refused_with_a_sentence(maps, parts):
    text = "/".join([str(maps), *parts])
    with contextlib.suppress(MapFileError):
        assert given_path(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("../secret/map.tscm", "goes up by '..'"),
        ("inside/../file", "goes up by '..'"),
        ("/etc/passwd", "is outside"),
        ("~/map.tscm", "is outside"),
        ("~nobody-of-this-name/map.tscm", "home of a user who is not here"),
        ("out/map.tscm", "goes through 'out', a link"),
        ("back/map.tscm", "goes through 'back', a link"),
        ("inside/link.tscm", "goes through 'link.tscm', a link"),
        ("inside/dangling.tscm", "goes through 'dangling.tscm', a link"),
        ("file/map.tscm", "as if it were a folder"),
        ("inside", "is a folder"),
        ("inside/map.tscm-wal", "beside a map"),
        ("inside/map.tscm.lock", "beside a map"),
        (".", "is the folder of the maps itself"),
        ("a\0b", "characters that no file name can have"),
        ("x" * 300, "File name too long"),
        ("  ", "names no file"),
    ],
)
def test_each_way_out_is_refused_with_its_reason(maps, text, said):
    with pytest.raises(MapFileError, match=said) as refused:
        given_path(text, str(maps))
    assert "secret" not in str(refused.value).replace(text, "")  # where a link leads is nobody's business


def test_good_paths_are_taken_below_the_folder(maps, monkeypatch):
    monkeypatch.setenv("HOME", str(maps.parent))
    here = maps.resolve()
    assert given_path("new/er/map.tscm", str(maps)) == here / "new/er/map.tscm"
    assert given_path(f"{maps}/map.tscm", str(maps)) == here / "map.tscm"
    assert given_path("~/maps/map.tscm", "~/maps") == here / "map.tscm"
    assert given_path("map.tscm", str(maps / "not made yet")) == here / "not made yet" / "map.tscm"
    link = maps.parent / "link to maps"
    link.symlink_to(maps)
    assert given_path("map.tscm", str(link)) == here / "map.tscm"  # the folder itself may be named by a link
    assert given_path(f"{link}/map.tscm", str(link)) == here / "map.tscm"
    assert given_path(f"{maps}/map.tscm", str(link)) == here / "map.tscm"


def test_a_folder_of_maps_that_is_a_file_is_refused_with_a_sentence(maps):
    with pytest.raises(MapFileError, match="as if it were a folder"):
        given_path("map.tscm", str(maps / "file"))


@pytest.mark.parametrize("directory", ["", "folder"])
@pytest.mark.parametrize("trap", ["pipe", "device", "socket", "hole", "lock", "log"])
def test_nothing_that_hangs_or_fills_the_disk_is_a_map(maps, directory, trap):
    path = maps / "trap"
    if trap == "pipe":
        os.mkfifo(path)
    elif trap == "device":
        path.symlink_to("/dev/zero")
    elif trap == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif trap == "hole":
        path.write_bytes(b"SQLite format 3\0" + bytes(4080))
        os.truncate(path, 2**40)
    else:
        path.write_bytes(b"x")
        os.mkfifo(f"{path}.lock") if trap == "lock" else Path(f"{path}-wal").symlink_to("/dev/zero")
    with pytest.raises(MapFileError, match=r"regular file|a link|on the disk"):
        given_path(str(path), str(maps) if directory else "")


def test_a_plain_file_and_a_missing_one_are_no_traps(tmp_path):
    large = tmp_path / "map.tscm"
    with large.open("wb") as file:
        file.truncate(2**20)  # SQLite leaves small holes
    refuse_trap(large)
    refuse_trap(tmp_path / "nothing" / "here")
