"""Trials: which images ask, which may answer, and which answers are right."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from small_places import located, make_two_folders, make_videos, rows, write
from toys import ToyDescriber, picture

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.positions import Position
from tscm_core.errors import DatasetError
from tscm_core.evaluation.recall import evaluate, evaluate_places
from tscm_core.evaluation.trial import (
    located_by_one_file,
    located_images,
    trial_of_folders,
    trial_of_places,
    with_limits,
)


@pytest.fixture
def two_folders(tmp_path):
    return make_two_folders(tmp_path)


@pytest.fixture
def videos(tmp_path):
    return make_videos(tmp_path)


def test_an_image_does_not_match_itself_however_it_is_reached(tmp_path):
    folder = write(tmp_path / "a", [(1, 0), (1, 5), (2, 0)], ["image,x,y", "000.png,0,0", "001.png,1,0", "002.png,9,0"])
    linked = tmp_path / "linked"
    linked.mkdir()
    for image in folder.glob("*.png"):
        (linked / f"other_{image.name}").symlink_to(image)
    for other, names in ((folder, ""), (tmp_path / "a" / ".." / "a", ""), (linked, "other_")):
        lines = ["image,x,y", *(f"{names}{n:03}.png,{x},0" for n, x in enumerate((0, 1, 9)))]
        (other / "positions.csv").write_text("\n".join(lines))
        trial = trial_of_folders(located_images(folder), located_images(other), 2.0)
        assert [found.tolist() for found in trial.positives] == [[1], [0], []]
        assert [found.tolist() for found in trial.excluded] == [[0], [1], [2]]
        result = evaluate(trial, ToyDescriber()).result
        assert (result.recall[1], result.queries_with_positive) == (1.0, 2)
        assert result.top[:, :3].tolist()[:2] == [[1, 2, -1], [0, 2, -1]]


@pytest.mark.parametrize(
    ("yaw", "right"), [(170.0, True), (-170.0, True), (-149.0, False), (150.0, True), (0.0, False)]
)
def test_headings_wrap_around(two_folders, yaw, right):
    """From 180 degrees, within 30."""
    queries = located(two_folders[1], (0, 0, 180.0), (0, 0, -180.0))
    database = located(two_folders[0], (0, 0, yaw), (0, 0, yaw - 360), (500, 0, 180.0))
    trial = trial_of_folders(database, queries, 5.0, 30.0)
    assert [found.tolist() for found in trial.positives] == [[0, 1] if right else []] * 2
    assert trial.turned_deg(0, rows(0))[0] == pytest.approx(180 - abs(yaw))


def test_a_limit_on_headings_needs_all_of_them(two_folders):
    database = located(two_folders[0], (0, 0, 0.0), (0, 0, None), (0, 0, None))
    queries = located(two_folders[1], (0, 0, 0.0), (0, 0, 0.0))
    with pytest.raises(DatasetError, match=r"2 of 5 images have no yaw, .*: 001.png, 002.png: add a column yaw"):
        trial_of_folders(database, queries, 5.0, 30.0)
    assert trial_of_folders(database, queries, 5.0, 180.0).max_yaw_deg == 180.0


def test_a_missing_file_is_named_before_anything_is_described(two_folders):
    database, queries = map(located_images, two_folders)
    queries.images[1].unlink()
    with pytest.raises(DatasetError, match=r"1 of 5 images are missing: .*b/001.png"):
        trial_of_folders(database, queries, 5.0)


def test_radius_is_inclusive_and_far_coordinates_keep_their_metres(two_folders):
    east, north = 4_500_000.0, 9_999_000.0
    database = located(two_folders[0], (east + 25, north, None), (east + 25.001, north, None), (east, north - 25, None))
    queries = located(two_folders[1], (east, north, None), (east, north, None))
    trial = trial_of_folders(database, queries, 25.0)
    assert [found.tolist() for found in trial.positives] == [[0, 2]] * 2
    assert trial.distances(0, rows(0, 1, 2)) == pytest.approx([25, 25.001, 25])


@pytest.mark.parametrize("given", ["", "images"])
@pytest.mark.parametrize("beside", ["positions.csv", "images/positions.csv"])
def test_positions_are_found_beside_the_images_or_their_folder(tmp_path, given, beside):
    write(tmp_path / "drive" / "images", [(1, 0)])
    (tmp_path / "drive" / beside).write_text("image,x,y,yaw\n000.png,3,4,90")
    assert located_images(tmp_path / "drive" / given).positions == (Position("000.png", 3.0, 4.0, 90.0),)


def test_positions_are_found_in_the_names(tmp_path):
    folder = tmp_path / "utm"
    folder.mkdir()
    for name in ("@585001.5@4476002.25@.png", "@585001.5@4476012.25@17@T@.png"):
        cv2.imwrite(str(folder / name), picture(1))
    found = located_images(folder).positions
    assert [(one.x, one.y) for one in found] == [(585001.5, 4476002.25), (585001.5, 4476012.25)]
    for number in range(7):
        cv2.imwrite(str(folder / f"a{number}.png"), picture(1))
    with pytest.raises(DatasetError, match=r"7 of 9 images have no position: a0.png, a1.png, a2.png, a3.png, a4.png:"):
        located_images(folder)


def test_images_without_a_position_are_counted(two_folders):
    (two_folders[0] / "positions.csv").write_text("image,x,y\n001.png,0,0")
    with pytest.raises(DatasetError, match=r"lacks 2 of 3 images: 000.png, 002.png"):
        located_images(two_folders[0])


@pytest.mark.parametrize("value", ["nan", "inf", "", "east"])
def test_positions_that_are_no_numbers_are_refused(two_folders, value):
    (two_folders[1] / "positions.csv").write_text(f"image,x,y\n000.png,0,{value}\n001.png,0,0")
    with pytest.raises(DatasetError, match="line 2"):
        located_images(two_folders[1])


def test_one_file_for_both_folders_needs_names_that_differ(two_folders, tmp_path):
    both = tmp_path / "both.csv"
    both.write_text("image,x,y\n000.png,0,0\n001.png,1,0\n002.png,2,0\n010.png,0,0\n011.png,0,0")
    with pytest.raises(DatasetError, match=r"2 names stand for two images.*000.png, 001.png.*cannot tell them apart"):
        located_by_one_file(*two_folders, both)
    assert len(located_by_one_file(two_folders[0], two_folders[0], both)[1].images) == 3
    assert located_by_one_file(*two_folders, None)[1].positions[1].y == 4.0
    for image in two_folders[1].glob("*.png"):
        image.rename(image.with_name(f"01{image.stem[-1]}.png"))
    assert located_by_one_file(*two_folders, both)[1].positions[0].image == "010.png"


def test_what_nobody_knows_is_neither_right_nor_wrong(videos):
    trial = trial_of_places(videos, "frames")
    assert [found.tolist() for found in trial.positives] == [[1], [0], [], [], []]
    assert [found.tolist() for found in trial.excluded] == [[0, 3], [1, 3], [2, 3], [0, 1, 2, 3], [4]]
    assert np.isnan(trial.distances(0, rows(3)))
    result = evaluate_places(videos, ToyDescriber(), unit="frames")
    assert result.result.recall[1] == 1.0  # the other video of the floor looks more alike, but may not answer
    assert result.trial.radius == 4.0
    assert "max_yaw_deg" not in result.to_json()


def test_a_split_is_kept(videos):
    split = make_places(
        "split",
        videos.images,
        videos.positions,
        limits=Limits(4.0, np.inf),
        frames="a",
        is_query=[True, False, False, False, True],
        is_database=[False, True, True, True, False],
    )
    trial = trial_of_places(split)
    assert [image.name for image in trial.queries] == ["000.png", "004.png"]
    assert [image.name for image in trial.database] == ["001.png", "002.png", "003.png"]
    assert [found.tolist() for found in trial.positives] == [[0, 2], [0, 2]]
    assert trial.distances(1, rows(0, 1)).tolist() == [3.0, 9.0]


def test_limits_can_be_changed_afterwards(videos):
    wider = with_limits(videos, 9.0, None)
    assert (wider.positive_radius, wider.negative_radius, wider.max_yaw_deg) == (9.0, np.inf, 180.0)
    assert wider.positives(0).tolist() == [1, 2]
    finite = dataclasses.replace(videos, negative_radius=5.0)
    assert with_limits(finite, 9.0, None).negative_radius == 9.0
    assert with_limits(videos, None, None).positives(0).tolist() == videos.positives(0).tolist() == [1]
    with pytest.raises(DatasetError, match=r"5 of 5 images have no yaw"):
        trial_of_places(with_limits(videos, None, 30.0))
