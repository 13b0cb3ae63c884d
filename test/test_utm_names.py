"""Positions in file names: the short form, and the form of the collected VPR data sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.datasets.place_sources import open_places
from tscm_core.datasets.positions import Position
from tscm_core.datasets.utm_names import parse_utm_name
from tscm_core.errors import DatasetError

COMMON = "@0584815.50@4477021.25@17@T@040.44@-079.99@pano@01@{heading}@@@@202108@note@.jpg"


@pytest.mark.parametrize(("heading", "yaw"), [("0", 90.0), ("90", 0.0), ("180", 270.0), ("", None)])
def test_headings_turn_the_other_way_from_north(heading, yaw):
    name = COMMON.format(heading=heading)
    assert parse_utm_name(name) == Position(name, 584815.5, 4477021.25, yaw)


@settings(deadline=None)
@given(st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_the_short_form(east, north):
    for name in (f"@{east!r}@{north!r}@.jpg", f"@{east!r}@{north!r}@anything@more@.png", f"@{east!r}@{north!r}.jpg"):
        assert parse_utm_name(name) == Position(name, east, north, None)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "@1@.jpg", "x@1@2@.jpg", "@east@2@.jpg", "@nan@2@.jpg", "@1@inf@.jpg", "@@@.jpg",
     COMMON.format(heading="north")],
)  # fmt: skip
def test_names_without_a_position_are_refused(name):
    with pytest.raises(DatasetError, match="holds no UTM position"):
        parse_utm_name(name)


def test_folders_of_database_and_queries_are_what_they_are_called(tmp_path):
    for name in ("database/@0@0@.jpg", "database/deep/@100@0@.jpg", "queries/@3@4@.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "database" / "notes.txt").touch()
    s = open_places({"kind": "utm_names", "folder": tmp_path, "positive_radius": 5})
    assert s.positions.tolist() == [[0, 0], [100, 0], [3, 4]]
    assert (s.queries.tolist(), s.database.tolist()) == ([2], [0, 1])
    assert s.positives(2).tolist() == [0]
    assert np.flatnonzero(s.negatives_mask(2)).tolist() == [1]
    s = open_places({"kind": "utm_names", "folder": tmp_path / "database", "role": "database"})
    assert (s.queries.tolist(), s.database.tolist()) == ([], [0, 1])


def test_unfit_folders_are_named(tmp_path):
    source = {"kind": "utm_names", "folder": tmp_path}
    with pytest.raises(DatasetError, match="holds no images"):
        open_places(source)
    (tmp_path / "@1@2@.jpg").touch()
    with pytest.raises(DatasetError, match="hold no headings, but max_yaw_deg is 30"):
        open_places(source | {"max_yaw_deg": 30})
    (tmp_path / "@1@.jpg").touch()
    with pytest.raises(DatasetError, match=r"image name @1@.jpg"):
        open_places(source)
    with pytest.raises(DatasetError, match="is not a folder"):
        open_places(source | {"folder": tmp_path / "absent"})
