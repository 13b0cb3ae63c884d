"""Maps that have drives in common are merged: what they share is there once, and nothing of either is missing."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_map_merge import ALONE, LAP, Describer, drive, frames_of, listing, loop, maps, refused, rows  # noqa: F401
from toys import unit

from tscm_core.maps.live_map import open_live_map
from tscm_core.maps.map_merge import merge
from tscm_core.maps.map_reader import MapReader, check
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Keyframe

KEYFRAMES = "SELECT * FROM keyframes ORDER BY id"
LOOPS = "SELECT * FROM loops ORDER BY keyframe_id, match_id"


def later(frames, seconds):
    return [replace(item, stamp_ns=item.stamp_ns + seconds * 10**9) for item in frames]


def drive_on(base, path, session, frames):
    """The map that a robot saves that began with ``base``; gives what it saw."""
    path.write_bytes(base.read_bytes())
    with open_live_map(path, True, Describer(), ALONE, session) as live:
        seen = [live.observe(item) for item in frames]
        live.save()
    for beside in path.parent.glob(f"{path.name}.*"):
        beside.unlink()
    return seen


def stored(path, sessions, loops=(), model="toy"):
    """A map of sessions, each a name, a start and keyframes by id and stamp."""
    with MapStore.create(path.with_suffix(".live"), model, 64) as store:
        made = {}
        for name, start, stamps in sessions:
            store.begin_session(name, start)
            for id_, stamp in stamps.items():
                made[id_] = Keyframe(id_, name, stamp, None, 0.0, stored_precision(unit(stamp)), b"t", None)
        for id_, item in sorted(made.items()):
            store.add(item, [loop(id_, made[match]) for query, match in loops if query == id_])
        store.save_copy(path)
    return path


def by_stamp(path):
    """Of a map: the stamps of each session, and of both ends of each loop."""
    with MapReader(path) as reader:
        frames = list(reader.keyframes())
        stamps = {item.id: item.stamp_ns for item in frames}
        assert len(set(stamps.values())) == len(stamps), "a keyframe is there twice"
        for name in {item.session for item in frames}:
            driven = [item.stamp_ns for item in frames if item.session == name]
            assert driven == sorted(driven), f"drive {name} is not in the order in which it was driven"
        loops = {(stamps[item.keyframe_id], stamps[item.candidate.keyframe_id]) for item in reader.loops()}
        sessions = {
            (s.name, s.started_ns): {f.stamp_ns for f in frames if f.session == s.name} for s in reader.sessions()
        }
        return sessions, loops


@pytest.mark.parametrize("order", ["earlier first", "later first"])
def test_two_states_of_one_map_become_the_later_one(maps, order):  # noqa: F811
    drive_on(maps / "a.tscm", maps / "later.tscm", "tuesday", later(frames_of(50, range(3)), 500))
    sources = [maps / "a.tscm", maps / "later.tscm"]
    merged = merge(sources if order == "earlier first" else sources[::-1], maps / "out.tscm", ALONE)
    assert check(maps / "out.tscm") == []
    for query in (KEYFRAMES, LOOPS, "SELECT * FROM sessions ORDER BY number"):
        assert rows(maps / "out.tscm", query) == rows(maps / "later.tscm", query)
    assert merged.between == ()
    assert [session.name for session in merged.sessions] == ["drive", "tuesday"]
    said = "16 keyframes of them are taken once, 0 that only it has are added"
    assert any(said in note for note in merged.notes)


def test_two_robots_that_began_with_one_map(maps, tmp_path):  # noqa: F811
    """Each goes on by itself, and both see places that the other one sees too."""
    one = drive_on(maps / "a.tscm", maps / "one.tscm", "one", later(frames_of(40, (0, 1, 70, 71, 72)), 1000))
    two = drive_on(maps / "a.tscm", maps / "two.tscm", "two", later(frames_of(60, (2, 3, 70, 71, 72)), 2000))
    carried = sum(len(seen.accepted) for seen in (*one, *two)) + len(rows(maps / "a.tscm", LOOPS))
    merged = merge([maps / "one.tscm", maps / "two.tscm"], tmp_path / "both.tscm", ALONE)
    assert check(tmp_path / "both.tscm") == []
    assert [(s.name, s.keyframes, s.first_id, s.last_id) for s in merged.sessions] == [
        ("drive", 16, 1, 16), ("one", 5, 17, 21), ("two", 5, 22, 26),
    ]  # fmt: skip
    assert rows(tmp_path / "both.tscm", KEYFRAMES)[:21] == rows(maps / "one.tscm", KEYFRAMES)
    assert merged.carried == carried
    new = {(b.keyframe_id, b.candidate.keyframe_id) for b in merged.between}
    assert {pair for pair in new if pair[1] > 16} == {(24, 19), (25, 20), (26, 21)}
    assert Counter(b.session for b in merged.between).keys() == {"two"}
    other = merge([maps / "two.tscm", maps / "one.tscm"], tmp_path / "turned.tscm", ALONE)
    assert by_stamp(tmp_path / "turned.tscm")[0] == by_stamp(tmp_path / "both.tscm")[0]
    assert other.keyframes == 26


def test_a_drive_that_one_map_went_on_with_is_joined_and_finds_not_itself(tmp_path):
    base, same = {1: 10, 2: 20, 3: 30}, {4: 40, 5: 50, 6: 60}
    stored(tmp_path / "a.tscm", [("base", 1, base), ("mine", 2, {4: 444, 5: 555})], [(4, 1), (5, 2)])
    stored(tmp_path / "b.tscm", [("base", 1, base | same), ("yours", 3, {7: 777})], [(3, 1), (6, 2), (7, 5)])
    every = ALONE.replace({"candidates.min_similarity": -1.0, "candidates.max_ratio": 1.0})
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "out.tscm", every)
    assert check(tmp_path / "out.tscm") == []
    sessions, loops = by_stamp(tmp_path / "out.tscm")
    assert sessions == {("base", 1): {10, 20, 30, 40, 50, 60}, ("mine", 2): {444, 555}, ("yours", 3): {777}}
    assert {(444, 10), (555, 20), (30, 10), (60, 20), (777, 50)} <= loops
    assert {b.session for b in merged.between} == {"yours"}
    found = [item for item in merged.sessions if item.name == "base"]
    assert [(s.keyframes, s.first_id, s.last_id, s.source) for s in found] == [(6, 1, 8, tmp_path / "a.tscm")]


def test_what_one_of_them_gave_up_comes_back_in_its_place(tmp_path):
    base = {id_: 10 * id_ for id_ in range(1, 9)}
    there = [{id_: stamp for id_, stamp in base.items() if id_ not in gone} for gone in ((2, 5), (3, 5))]
    stored(tmp_path / "a.tscm", [("base", 1, there[0]), ("mine", 2, {9: 999})])
    stored(tmp_path / "b.tscm", [("base", 1, there[1]), ("yours", 3, {9: 888, 11: 777})], [(8, 2)])
    merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "out.tscm", ALONE)
    stamps = dict(rows(tmp_path / "out.tscm", "SELECT id, stamp_ns FROM keyframes"))
    assert stamps == {1: 10, 2: 20, 3: 30, 4: 40, 6: 60, 7: 70, 8: 80, 9: 999, 10: 888, 12: 777}
    assert rows(tmp_path / "out.tscm", "SELECT keyframe_id, match_id FROM loops") == [(8, 2)]
    assert check(tmp_path / "out.tscm") == []


def test_in_a_drive_that_got_other_ids_what_comes_back_stands_in_its_place_too(tmp_path):
    """Though the first map has gaps where these ids were; a drive stays in the order in which it was driven."""
    stored(tmp_path / "a.tscm", [("mine", 2, {1: 901, 2: 902, 4: 904, 20: 920})])
    stored(tmp_path / "b.tscm", [("base", 1, {id_: 10 * id_ for id_ in (2, 4, 6, 8, 10)})])
    stored(tmp_path / "c.tscm", [("base", 1, {id_: 10 * id_ for id_ in (2, 3, 5, 7, 9, 10, 11)})])
    merge([tmp_path / f"{name}.tscm" for name in "abc"], tmp_path / "out.tscm", ALONE)
    assert check(tmp_path / "out.tscm") == []
    stamps = dict(rows(tmp_path / "out.tscm", "SELECT id, stamp_ns FROM keyframes WHERE stamp_ns < 900"))
    assert stamps == {19 + id_: 10 * id_ for id_ in range(2, 12)}


def test_where_another_drive_stands_by_now_room_is_left_for_what_comes_back(tmp_path):
    stored(tmp_path / "a.tscm", [("base", 1, {1: 10, 2: 20, 3: 30}), ("mine", 2, {4: 904, 5: 905})])
    stored(tmp_path / "b.tscm", [("base", 1, {1: 10, 2: 20, 3: 30, 5: 50, 6: 60})])
    stored(tmp_path / "c.tscm", [("base", 1, {3: 30, 4: 40, 6: 60})])
    merge([tmp_path / f"{name}.tscm" for name in "abc"], tmp_path / "out.tscm", ALONE)
    stamps = dict(rows(tmp_path / "out.tscm", "SELECT id, stamp_ns FROM keyframes"))
    assert stamps == {1: 10, 2: 20, 3: 30, 4: 904, 5: 905, 6: 40, 7: 50, 8: 60}
    assert check(tmp_path / "out.tscm") == []


def test_room_is_left_before_the_first_keyframe_of_a_drive_too(tmp_path):
    stored(tmp_path / "a.tscm", [("mine", 2, {1: 901, 2: 902})])
    stored(tmp_path / "b.tscm", [("base", 1, {3: 30, 4: 40}), ("yours", 3, {5: 805})])
    stored(tmp_path / "c.tscm", [("base", 1, {1: 10, 3: 30, 6: 60})])
    merge([tmp_path / f"{name}.tscm" for name in "abc"], tmp_path / "out.tscm", ALONE)
    stamps = dict(rows(tmp_path / "out.tscm", "SELECT id, stamp_ns FROM keyframes"))
    assert stamps == {1: 901, 2: 902, 3: 10, 5: 30, 6: 40, 7: 805, 8: 60}
    assert check(tmp_path / "out.tscm") == []


@pytest.mark.parametrize("order", itertools.permutations("abc"), ids="".join)
def test_two_maps_that_share_a_drive_only_with_a_third_one_are_merged(tmp_path, order):
    """Two gave up other keyframes each, and have none in common; the third tells that it is one drive."""
    stored(tmp_path / "a.tscm", [("base", 1, {1: 10, 3: 30}), ("mine", 2, {7: 907, 8: 908})], [(8, 1)])
    stored(tmp_path / "b.tscm", [("base", 1, {2: 20, 5: 50}), ("yours", 3, {7: 807})], [(7, 5)])
    stored(tmp_path / "c.tscm", [("base", 1, {3: 30, 4: 40, 5: 50, 6: 60})], [(6, 4)])
    merged = merge([tmp_path / f"{name}.tscm" for name in order], tmp_path / "out.tscm", ALONE)
    assert check(tmp_path / "out.tscm") == []
    sessions, loops = by_stamp(tmp_path / "out.tscm")
    assert sessions == {("base", 1): {10, 20, 30, 40, 50, 60}, ("mine", 2): {907, 908}, ("yours", 3): {807}}
    assert loops == {(908, 10), (807, 50), (60, 40)}
    assert (merged.carried, merged.between) == (3, ())


def test_room_is_left_for_a_map_that_only_a_later_one_shows_to_be_of_the_drive(tmp_path):
    stored(tmp_path / "a.tscm", [("base", 1, {1: 10, 3: 30}), ("mine", 2, {id_: 900 + id_ for id_ in range(4, 9)})])
    stored(tmp_path / "b.tscm", [("base", 1, {3: 30, 9: 90})])
    stored(tmp_path / "c.tscm", [("base", 1, {7: 70, 8: 80})])
    stored(tmp_path / "d.tscm", [("base", 1, {8: 80, 9: 90})])
    merge([tmp_path / f"{name}.tscm" for name in "abcd"], tmp_path / "out.tscm", ALONE)
    assert by_stamp(tmp_path / "out.tscm")[0]["base", 1] == {10, 30, 70, 80, 90}


def test_two_maps_that_a_third_one_shows_to_contradict_each_other_are_refused(tmp_path):
    stored(tmp_path / "a.tscm", [("base", 1, {1: 10, 3: 30})])
    stored(tmp_path / "b.tscm", [("base", 1, {1: 11, 4: 40})])
    stored(tmp_path / "c.tscm", [("base", 1, {3: 30, 4: 40})])
    merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "apart.tscm", ALONE)
    said = (f"map {tmp_path / 'b.tscm'}: holds session base as map {tmp_path / 'a.tscm'} does, but another keyframe 1",)
    refused(tmp_path, [tmp_path / f"{name}.tscm" for name in "abc"], tmp_path / "out.tscm", *said)


def test_one_drive_with_two_contents_is_refused(tmp_path):
    stored(tmp_path / "a.tscm", [("base", 1, {1: 10, 2: 20, 3: 30})])
    stored(tmp_path / "b.tscm", [("base", 1, {1: 10, 2: 22, 3: 30})])
    said = (tmp_path / "b.tscm", "session base", tmp_path / "a.tscm", "another keyframe 2")
    refused(tmp_path, [tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "out.tscm", *said)


def test_drives_that_only_have_a_name_and_a_start_in_common_stay_apart(tmp_path):
    """As the sessions of keyframes have that repairs found without one."""
    for name, first in (("a", 10), ("b", 1000)):
        stored(tmp_path / f"{name}.tscm", [("recovered", 0, {id_: first + id_ for id_ in (1, 2, 3)})])
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "out.tscm", ALONE)
    assert [(s.name, s.keyframes) for s in merged.sessions] == [("recovered", 3), ("recovered-2", 3)]
    assert merged.keyframes == 6


ids = st.sets(st.integers(1, 12))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ids, st.integers(0, 12), st.integers(0, 4)), min_size=2, max_size=4), st.randoms())
def test_any_robots_of_one_map_lose_nothing_and_share_what_they_share(tmp_path_factory, robots, random):
    """Each gave up some of the first drive, which it left at some keyframe, and drove its own."""
    folder = tmp_path_factory.mktemp("any")
    sessions, linked, sources = {("base", 1): set()}, set(), []
    for number, (gone, until, own) in enumerate(robots):
        base = {id_: 100 + id_ for id_ in range(1, until + 1) if id_ not in gone}
        mine = {until + id_: 1000 * (number + 1) + id_ for id_ in range(1, own + 1)}
        both = sorted(base | mine)
        loops = {(a, b) for a, b in [random.sample(both, 2) for _ in both if len(both) > 1] if b < a}
        loops = {(a, b) for a, b in loops if a in mine}
        linked |= {((base | mine)[a], (base | mine)[b]) for a, b in loops}
        sources.append(stored(folder / f"{number}.tscm", [("base", 1, base), (f"r{number}", number + 2, mine)], loops))
        sessions["base", 1] |= set(base.values())
        sessions[f"r{number}", number + 2] = set(mine.values())
    merged = merge(sources, folder / "out.tscm", ALONE)
    assert check(folder / "out.tscm") == []
    found, loops = by_stamp(folder / "out.tscm")
    apart = _drives_apart(robots)
    if apart < 2:
        assert found == sessions
    assert sum(start == 1 and bool(stamps) for (_, start), stamps in found.items()) == apart
    assert {stamp for part in found.values() for stamp in part} == {s for part in sessions.values() for s in part}
    assert linked <= loops
    assert merged.carried == len(linked)


def _drives_apart(robots):
    """For how many drives the first one is taken: nothing tells that it is one where no keyframe is in common."""
    drives = []
    for gone, until, _ in robots:
        left = {id_ for id_ in range(1, until + 1) if id_ not in gone}
        met = [part for part in drives if part & left]
        drives = [part for part in drives if not part & left] + ([left.union(*met)] if left else [])
    return len(drives)
