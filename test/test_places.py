"""Which images show the same place: held against plain loops over all pairs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tscm_core.datasets.place_building import make_places
from tscm_core.datasets.place_limits import Limits
from tscm_core.datasets.places import PlaceSet
from tscm_core.errors import DatasetError

LIMITS = Limits(10, 25)


def places(positions, limits=LIMITS, **more):
    return make_places("set", [f"{k}.jpg" for k in range(len(positions))], positions, limits=limits, **more)


def apart(s, i, j):
    return math.hypot(*(s.positions[i] - s.positions[j]))


def turned(a, b):
    difference = abs(a - b) % 360
    return min(difference, 360 - difference)


def is_positive(s, i, j):
    """The definition, for one pair."""
    limits = s.frame_limits.get(int(s.frame[i]), s.limits)
    return bool(
        s.is_database[j]
        and s.images[i] != s.images[j]
        and s.frame[i] == s.frame[j]
        and limits.min_gap <= apart(s, i, j) <= limits.positive_radius
        and (limits.max_yaw_deg == 180 or turned(s.yaw_deg[i], s.yaw_deg[j]) <= limits.max_yaw_deg)
    )


def is_negative(s, i, j):
    limits = s.frame_limits.get(int(s.frame[i]), s.limits)
    far = s.frame[i] == s.frame[j] and apart(s, i, j) > limits.negative_radius
    return bool(s.is_database[j] and s.images[i] != s.images[j] and (far or s.area[i] != s.area[j]))


@st.composite
def sets(draw):
    count = draw(st.integers(1, 12))
    number = st.integers(0, 6)
    column = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    frames = column(st.sampled_from(["a/1", "a/2", "b/1"]))
    return make_places(
        "drawn",
        [f"{k}.jpg" for k in column(st.integers(0, 20))],  # some files stand there twice
        list(zip(column(number), column(number), strict=True)),
        limits=Limits(*(draw(values) for values in (
            st.integers(2, 4), st.sampled_from([4, 5, math.inf]), st.sampled_from([180, 40]), st.integers(0, 2)
        ))),
        yaw_deg=column(st.sampled_from([math.nan, 0, 30, 170, 355, -170])),
        frames=frames,
        areas=[frame[0] for frame in frames],
        is_query=column(st.booleans()),
        is_database=column(st.booleans()),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(sets())
def test_relations_are_those_of_the_definition(s):
    for i in range(len(s)):
        assert s.positives(i).tolist() == [j for j in range(len(s)) if is_positive(s, i, j)]
        assert np.flatnonzero(s.negatives_mask(i)).tolist() == [j for j in range(len(s)) if is_negative(s, i, j)]
        assert not s.negatives_mask(i)[s.positives(i)].any()


@settings(max_examples=30, deadline=None)
@given(sets(), sets(), st.data())
def test_a_joined_set_keeps_every_relation(first, second, data):
    second = dataclasses.replace(
        second,
        images=tuple(Path("other") / image for image in second.images),
        frame_names=tuple(f"other {name}" for name in second.frame_names),
        area_names=tuple(f"other {name}" for name in second.area_names),
    )
    joined = PlaceSet.join([first, second])
    for part, start in ((first, 0), (second, len(first))):
        for i in range(len(part)):
            assert joined.positives(start + i).tolist() == (part.positives(i) + start).tolist()
            negatives = joined.negatives_mask(start + i)
            assert (negatives[start : start + len(part)] == part.negatives_mask(i)).all()
            negatives[start : start + len(part)] = joined.is_database[start : start + len(part)]
            assert (negatives == joined.is_database).all()  # all of the other set
    chosen = data.draw(st.lists(st.booleans(), min_size=len(joined), max_size=len(joined)))
    subset, numbers = joined.subset(np.array(chosen, bool)), np.flatnonzero(chosen)
    for i, number in enumerate(numbers):
        wanted = [k for k, other in enumerate(numbers) if is_positive(joined, number, other)]
        assert subset.positives(i).tolist() == wanted


def test_radii_are_inclusive_and_headings_wrap():
    s = places([(0, 0), (10, 0), (25, 0), (25.5, 0)], Limits(10, 25, 20), yaw_deg=[350, 10, 0, 0])
    assert s.positives(0).tolist() == [1]
    assert s.negatives_mask(0).tolist() == [False, False, False, True]
    assert s.positives_within(0, 25).tolist() == [1, 2]
    s = places([(0, 0), (0, 0), (0, 0)], Limits(10, 25, 20), yaw_deg=[350, 11, math.nan])
    assert [s.positives(i).tolist() for i in range(3)] == [[], [], []]


def test_neighbours_in_a_video_are_too_easy():
    s = places([(k, 0) for k in range(9)], Limits(4, math.inf, min_gap=2), frames="video")
    assert s.positives(4).tolist() == [0, 1, 2, 6, 7, 8]
    assert s.unsearchable(4).tolist() == [3, 4, 5]
    assert not s.negatives_mask(4).any()


def test_frames_of_one_area_are_unknown_to_each_other():
    s = places([(0, 0)] * 4, frames=["v1", "v1", "v2", "v3"], areas=["floor 1", "floor 1", "floor 1", "floor 2"])
    assert s.positives(0).tolist() == [1]
    assert s.negatives_mask(0).tolist() == [False, False, False, True]


def test_an_image_is_no_answer_to_itself_even_under_two_numbers():
    s = make_places("set", ["a.jpg", "a.jpg", "b.jpg"], [(0, 0)] * 3, limits=LIMITS, is_query=[True, False, False],
                    is_database=[False, True, True])  # fmt: skip
    assert s.positives(0).tolist() == [2]
    assert s.unsearchable(0).tolist() == [1]


def test_drives_through_one_world_are_joined_by_its_name():
    day, night = (
        make_places(name, [f"{name}.jpg"], [(0, 0)], limits=LIMITS, frames="world 3") for name in ("day", "night")
    )
    elsewhere = make_places("e", ["e.jpg"], [(0, 0)], limits=Limits(2, 4), frames="world 4")
    joined = PlaceSet.join([day, night, elsewhere], "all")
    assert [joined.positives(i).tolist() for i in range(3)] == [[1], [0], []]
    assert joined.negatives_mask(0).tolist() == [False, False, True]
    assert joined.frame_limits == {1: Limits(2, 4)}
    with pytest.raises(DatasetError, match="limits differ"):
        PlaceSet.join([day, dataclasses.replace(night, positive_radius=11.0)])
    with pytest.raises(DatasetError, match="no place sets"):
        PlaceSet.join([])


def test_missing_images_are_all_counted(tmp_path):
    (tmp_path / "there.jpg").touch()
    images = [tmp_path / name for name in ("there.jpg", *(f"{k}.jpg" for k in range(7)), "0.jpg")]
    s = make_places("set", images, np.zeros((9, 2)), limits=LIMITS)
    with pytest.raises(DatasetError) as caught:
        s.check_images()
    assert str(caught.value).startswith("set: 7 of 8 images are missing: ")
    assert str(caught.value).endswith(f"{tmp_path / '4.jpg'}, ...")
    s.subset([0]).check_images()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"positions": [[0, 0]]}, "2 images, but positions has the shape"),
        ({"positions": [[0, 0], [0, math.nan]]}, "1 positions are not finite, first that of 1.jpg"),
        ({"positions": [["a", 0], [0, 0]]}, "positions must be float64"),
        ({"yaw_deg": [0, math.inf]}, "infinite"),
        ({"frame": [0.5, 1]}, "frame must be int64"),
        ({"is_query": [True]}, "is_query has the shape"),
        ({"area": [0, 1]}, "in two areas"),
        ({"negative_radius": 5.0}, "must not be less than the positive radius"),
        ({"min_gap": 11.0}, "must be 0 <= gap <= radius"),
        ({"positive_radius": math.nan}, "must be 0 <= gap <= radius"),
        ({"max_yaw_deg": 181.0}, "from 0 to 180"),
    ],
)
def test_what_does_not_fit_is_refused(change, problem):
    with pytest.raises(DatasetError, match=problem):
        dataclasses.replace(places([(0, 0), (1, 1)]), **change)


def test_a_set_cannot_be_changed_unseen():
    positions = np.zeros((2, 2))
    s = places(positions)
    positions += 100
    assert s.positives(0).tolist() == [1]
    with pytest.raises(ValueError, match="read-only"):
        s.positions[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        s.positives(0)[0] = 1


def test_an_empty_set_is_a_set():
    s = places([])
    assert (len(s), len(s.queries)) == (0, 0)
