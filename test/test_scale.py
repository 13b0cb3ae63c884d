"""benchmarks/scale.py on a map of 500 places: its figures add up, and are those of what is in the files."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tscm_core.bench.places import places
from tscm_core.errors import TscmError
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.precision import stored_precision

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
COUNT = 500


def module(name):
    if str(BENCHMARKS) not in sys.path:
        sys.path.append(str(BENCHMARKS))
    return importlib.import_module(name)


scale, steps, visits, figures = map(module, ("scale", "scale_steps", "scale_visits", "scale_figures"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def found(folder):
    return scale.one_map(folder, "bare", COUNT, 1.0)


def test_every_second_visit_finds_its_place_and_a_restart_finds_every_keyframe(found):
    images = 0
    for phase in (found["quiet"], found["saving"]):
        assert phase["found"] == phase["frames"] == phase["keyframes"] > 0
        assert phase["relocated"] == phase["relocalized"] > 0
        assert 0 < phase["accepted"] <= phase["frames"]
        images += phase["frames"]
    assert (found["opened"], found["opened_after_kill"]) == (COUNT, COUNT + images)
    assert COUNT + found["quiet"]["frames"] <= found["saved"] <= COUNT + images
    assert found["loaded"] == found["saved"]


def test_the_figures_are_those_of_the_files(found, folder):
    expected = stored_precision(np.concatenate(list(places(COUNT, visits.DIM))))
    with MapReader(folder / "map.tscm", visits.MODEL, visits.DIM) as saved:
        keyframes = list(saved.keyframes())
        sizes = [len(keyframe.thumbnail_jpeg) for keyframe in keyframes[:COUNT]]
        assert (len(keyframes), saved.sessions()[0].keyframes) == (found["saved"], COUNT)
    assert all(
        np.array_equal(keyframe.descriptor, row) for keyframe, row in zip(keyframes[:COUNT], expected, strict=True)
    )
    assert {keyframe.features for keyframe in keyframes} == {None}
    least = (2 * visits.DIM + np.mean(sizes)) / 1e3
    assert least < found["file_a_place_kb"] < 1.3 * least
    assert found["saved_mb"] * 1e6 == (folder / "map.tscm").stat().st_size
    assert found["disk_peak_mb"] > found["saved_mb"] + found["file_mb"]
    with MapReader(folder / "other" / "map.tscm.live", visits.MODEL, visits.DIM) as loaded:
        assert loaded.count == found["after_load"] == found["loaded"] + found["frames_after_load"]


def test_second_visits_lie_at_the_places_that_they_are_said_to_show(found, folder):
    rows = np.concatenate(list(places(COUNT, visits.DIM)))
    seen = visits.Visits.of(folder)
    assert sorted(seen.numbers.tolist()) == steps.stretches(COUNT).tolist() == list(range(COUNT))
    assert np.abs((seen.rows @ rows.T).argmax(axis=1) - seen.numbers).max() <= 1
    picture = visits.pictures()[0]
    images = [seen.frame(visit, 0, picture).image for visit in (0, 300)]
    np.testing.assert_array_equal(seen.describe(images), seen.rows[[0, 300]])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("opened", "found after a restart"),
        ("added", "places more and keyframes added"),
        ("opened_after_kill", "found after a kill"),
        ("loaded", "loaded and saved"),
        ("after_load", "after loading"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(found, key, words):
    changed = copy.deepcopy(found)
    changed[key] -= 1
    with pytest.raises(TscmError, match=words):
        scale.require_consistent(changed)


def test_the_table_has_the_growth_from_size_to_size(found):
    larger = copy.deepcopy(found)
    larger["places"] *= 10
    larger["open"]["s"] *= 12.0
    larger["quiet"]["search_ms"] = {"p50": 4.0 * found["quiet"]["search_ms"]["p50"], "p95": 9.0, "max": 9.0}
    rows = {row["figure"]: list(row.values()) for row in figures.table_rows([found, larger])}
    assert list(figures.heads([found, larger]).values()) == ["", "500", "x 10", "5,000"]
    assert (rows["open after a restart, s"][3], rows["search, ms"][3], rows["save, s"][3]) == ("12", "4", "1")
    assert rows["search, ms"][2].endswith(" / 9")
    assert rows["images, dropped"][3] == ""
    assert "geometry, ms" not in rows


def test_what_the_disk_has_no_room_for_and_what_is_unknown_is_refused(tmp_path):
    with pytest.raises(TscmError, match="GB free"):
        scale.require_room(tmp_path, [("bare", 10**12)])
    scale.require_room(tmp_path, [("features", 500)])
    with pytest.raises(TscmError, match="no kind 'nice'"):
        scale.wanted("500", "nice")
    with pytest.raises(TscmError, match="not '12'"):
        scale.wanted("500,12", "bare")
    pairs = [("bare", 1000), ("bare", 1_000_000), ("features", 1000)]
    assert scale.wanted("1000000,1000", "bare,features") == pairs
    assert scale.wanted("1000000", "features") == [("features", 1_000_000)]


def test_a_step_that_fails_is_told_in_a_sentence(tmp_path):
    with pytest.raises(TscmError, match=r"come_back .* failed: .*visits"):
        steps.in_child(tmp_path, steps.come_back, False)
