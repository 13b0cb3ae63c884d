"""Tables of settings become place sets, and whatever is wrong in them is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shared_data import shared

from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.place_sources import KINDS, open_all, open_places, source_of
from tscm_core.errors import ConfigError, DatasetError


@pytest.fixture
def drive(tmp_path):
    """A folder of images with positions, made by its rows."""

    def make(name, rows, head="image,x,y,yaw"):
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        for row in rows:
            (folder / "images" / row.split(",")[0]).touch()
        (folder / "positions.csv").write_text("\n".join([head, *rows]) + "\n")
        return folder

    return make


def test_a_drive_is_read_with_its_headings(drive):
    s = open_places(
        {"kind": "positions", "folder": str(drive("day", ["b.png,3,4,90", "a.png,0,0,", "c.png,0,1,80"]))}
        | {"positive_radius": 5, "negative_radius": 7.5, "max_yaw_deg": 20, "min_gap": 0.5}
    )
    assert [path.name for path in s.images] == ["a.png", "b.png", "c.png"]
    assert s.positions.tolist() == [[0, 0], [3, 4], [0, 1]]
    assert np.isnan(s.yaw_deg[0])
    assert s.yaw_deg[1:].tolist() == [90, 80]
    assert s.limits == Limits(5, 7.5, 20, 0.5)
    assert [s.positives(i).tolist() for i in range(3)] == [[], [2], [1]]
    s.check_images()


def test_roles_and_areas_make_queries_of_one_drive_and_a_database_of_another(drive):
    rows = ["0.png,0,0", "1.png,50,0"]
    common = {"kind": "positions", "area": "campus"}
    day, night = (drive(name, rows, "image,x,y") for name in ("day", "night"))
    elsewhere = {"kind": "positions", "folder": str(drive("elsewhere", rows, "image,x,y"))}
    s = open_all([common | {"folder": day, "role": "database"}, common | {"folder": night, "role": "query"}, elsewhere])
    assert s.queries.tolist() == [2, 3, 4, 5]
    assert s.database.tolist() == [0, 1, 4, 5]
    assert [s.positives(i).tolist() for i in (2, 3, 4)] == [[0], [1], []]
    assert np.flatnonzero(s.negatives_mask(2)).tolist() == [1, 4, 5]


def test_relative_folders_start_at_the_base(drive):
    folder = drive("day", ["0.png,0,0,"])
    assert open_places({"kind": "positions", "folder": "day"}, folder.parent).images == (folder / "images" / "0.png",)
    elsewhere = folder.parent / "elsewhere.csv"
    elsewhere.write_text("image,x,y\n0.png,7,8\n")
    s = open_places({"kind": "positions", "folder": folder, "positions": "elsewhere.csv"}, folder.parent)
    assert s.positions.tolist() == [[7, 8]]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({}, "unknown kind of places None: the kinds are positions, utm_names, frames, pittsburgh"),
        ({"kind": "postions"}, "did you mean positions"),
        ({"kind": ["frames"]}, "unknown kind"),
        ("frames", "a table of settings with a kind, not 'frames'"),
        ({"kind": "positions"}, "places positions need the setting folder"),
        (
            {"kind": "positions", "folder": "x", "positve_radius": 3},
            "positve_radius of .* did you mean positive_radius",
        ),
        ({"kind": "positions", "folder": "x", "zzz": 3}, "unknown setting zzz of places positions: they are folder"),
        ({"kind": "positions", "folder": 3}, "positions.folder must be a path, not 3"),
        ({"kind": "positions", "folder": ""}, "positions.folder must be a path"),
        ({"kind": "positions", "folder": "x", "positive_radius": "25"}, "positive_radius must be a number, not '25'"),
        ({"kind": "positions", "folder": "x", "positive_radius": True}, "positive_radius must be a number"),
        ({"kind": "positions", "folder": "x", "positive_radius": math.nan}, "positive_radius must be a number"),
        ({"kind": "positions", "folder": "x", "area": 3}, "positions.area must be a word, not 3"),
        ({"kind": "positions", "folder": "x", "role": "queries"}, "role must be one of both, query, database"),
        ({"kind": "frames", "folder": "x", "areas": "floor1"}, "frames.areas must be a list of names, not 'floor1'"),
        ({"kind": "frames", "folder": "x", "areas": [1]}, "frames.areas must be a list of names"),
        ({"kind": "frames", "folder": "x", "protocol": ["all"]}, "frames.protocol must be one of"),
        ({"kind": "pittsburgh", "folder": "x"}, "pittsburgh need the setting split"),
    ],
)
def test_wrong_settings_are_named(source, problem):
    with pytest.raises(ConfigError, match=problem):
        source_of(source)


def test_wrong_data_is_named(drive, tmp_path):
    with pytest.raises(DatasetError, match="is not a folder"):
        open_places({"kind": "positions", "folder": str(tmp_path / "absent")})
    folder = drive("day", ["0.png,0,0,"])
    with pytest.raises(DatasetError, match="has no yaw, but max_yaw_deg is 40"):
        open_places({"kind": "positions", "folder": folder, "max_yaw_deg": 40})
    with pytest.raises(DatasetError, match="must not be less than the positive radius"):
        open_places({"kind": "positions", "folder": folder, "positive_radius": 30})
    (folder / "images" / "1.png").touch()
    with pytest.raises(DatasetError, match=r"lacks 1 of 2 images: 1\.png"):
        open_places({"kind": "positions", "folder": folder})


def test_every_kind_says_what_it_is():
    assert all(made.__doc__ and not made.__doc__.startswith(made.__name__) for made in KINDS.values())


@pytest.mark.shared_data
def test_the_corridor_is_seen_twice():
    s = open_places(
        {"kind": "positions", "folder": shared("corridor_two_laps"), "positive_radius": 2, "negative_radius": 6}
    )
    s.check_images()
    assert len(s) == 84
    again = [i for i in range(40, 80) if (s.positives(i) < 40).any()]
    assert again == list(range(40, 80))
    assert not any((s.negatives_mask(i)[s.positives(i)]).any() for i in range(84))
