"""Merged maps: every byte of each, no id twice, and the loops that driving on one map would have found."""

from __future__ import annotations

import os
import sqlite3
import tracemalloc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import network, shared
from toys import LOOKS_ALONE, ToyDescriber, ToyMatcher, direction, frame, textured, unit

from tscm_core.config import Config
from tscm_core.datasets.image_drive import ImageDrive
from tscm_core.errors import MapFileError
from tscm_core.evaluation.remembering import RememberingDescriber
from tscm_core.maps.live_map import open_live_map
from tscm_core.maps.map_files import FileLock
from tscm_core.maps.map_merge import merge
from tscm_core.maps.map_reader import MapReader, check
from tscm_core.maps.map_store import MapStore
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Candidate, Keyframe, Loop, Pose, RelativePose, Status

ALONE = Config().replace(
    LOOKS_ALONE | {"recency.keyframes": 3, "recency.seconds": 2.0, "candidates.place_keyframes": 1}
)
EVIDENCE = Config().replace({"recency.keyframes": 100, "candidates.place_keyframes": 1})
"""All stages; the drive that is under way is never searched, so that driving on one map is what merging does."""
LAP = 8


class Describer(ToyDescriber):
    """Sees whole pictures, so that their first pixel stays what it is."""

    input_size = (320, 240)


def frames_of(change, places=range(LAP)):
    return [replace(frame(n, p, change), image=textured(p, change)) for n, p in enumerate(places)]


def drive(path, drives, config=ALONE, describer=None):
    """A saved map of drives, each a list of frames; gives its observations."""
    seen = []
    with open_live_map(path, False, describer or Describer(), config, "drive") as live:
        for number, frames in enumerate(drives):
            if number:
                live.begin_session("drive")
            seen += [live.observe(item) for item in frames]
        live.save()
    for beside in path.parent.glob(f"{path.name}.live*"):
        beside.unlink()
    return seen


def rows(path, query):
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as db:
        return db.execute(query).fetchall()


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def maps(tmp_path):
    """Two maps in a folder of their own: two laps of eight places, and one of five of them in other light."""
    folder = tmp_path / "maps"
    folder.mkdir()
    drive(folder / "a.tscm", [[*frames_of(0), *(replace(f, stamp_ns=f.stamp_ns + 10**11) for f in frames_of(9))]])
    drive(folder / "b.tscm", [frames_of(20, range(2, 7)), frames_of(30, (100, 101))])
    return folder


# ------------------------------------------------------------------------------------------------- what is kept


def test_all_rows_are_kept_byte_for_byte(maps, tmp_path):
    before, out = listing(maps), tmp_path / "out" / "c.tscm"
    merged = merge([maps / "a.tscm", maps / "b.tscm"], out, ALONE)
    assert check(out) == []
    content = "SELECT stamp_ns, px, py, pz, qx, qy, qz, qw, frame_id, travelled_m, descriptor, thumbnail, features "
    each = [rows(maps / name, content + "FROM keyframes ORDER BY id") for name in ("a.tscm", "b.tscm")]
    assert rows(out, content + "FROM keyframes ORDER BY id") == each[0] + each[1]
    assert all(row[-2] for row in each[0])  # thumbnails are there to be kept
    assert [id_ for (id_,) in rows(out, "SELECT id FROM keyframes ORDER BY id")] == list(range(1, 24))
    assert listing(maps) == before
    assert [path.name for path in out.parent.iterdir()] == ["c.tscm"]
    assert (merged.keyframes, merged.path) == (23, out)


def test_features_are_kept_and_carried_loops_point_where_they_did(tmp_path):
    drive(tmp_path / "a.tscm", [frames_of(0, (50, 51))], EVIDENCE)
    drive(tmp_path / "b.tscm", [frames_of(0), frames_of(20)], EVIDENCE)
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", EVIDENCE)
    features = rows(tmp_path / "b.tscm", "SELECT features FROM keyframes ORDER BY id")
    assert rows(tmp_path / "c.tscm", "SELECT features FROM keyframes WHERE id > 2 ORDER BY id") == features
    assert min(len(blob) for (blob,) in features) > 1000
    loops = "SELECT keyframe_id{0}, match_id{0}, rank, similarity, ratio, temporal_support, matches, inliers FROM loops"
    mine = rows(tmp_path / "b.tscm", loops.format(" + 2"))
    assert len(mine) == LAP
    assert rows(tmp_path / "c.tscm", loops.format("")) == mine
    assert (merged.carried, merged.between) == (LAP, ())


def test_sessions_stay_apart_under_names_of_their_own(maps, tmp_path):
    merged = merge([maps / "a.tscm", maps / "b.tscm"], tmp_path / "c.tscm", ALONE)
    assert [(s.was, s.name, s.keyframes, s.first_id, s.last_id) for s in merged.sessions] == [
        ("drive", "drive", 16, 1, 16), ("drive", "drive-2", 5, 17, 21), ("drive-2", "drive-2-2", 2, 22, 23),
    ]  # fmt: skip
    with MapReader(tmp_path / "c.tscm") as reader:
        assert [s.name for s in reader.sessions()] == ["drive", "drive-2", "drive-2-2"]
        assert Counter(k.session for k in reader.keyframes()) == {"drive": 16, "drive-2": 5, "drive-2-2": 2}
    said = " ".join(merged.notes)
    assert all(word in said for word in ("drive-2 here", "drive-2-2 here", str(maps / "b.tscm")))


def test_a_robot_goes_on_with_a_merged_map(maps, tmp_path):
    merge([maps / "a.tscm", maps / "b.tscm"], tmp_path / "c.tscm", ALONE)
    with open_live_map(tmp_path / "c.tscm", True, Describer(), ALONE, "wednesday") as live:
        seen = live.observe(frames_of(40, (101,))[0])
        assert (seen.status, seen.keyframe.id, seen.candidates[0].keyframe_id) == (Status.ACCEPTED, 24, 23)


gaps = st.lists(st.integers(1, 1000), min_size=0, max_size=6)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(gaps, st.randoms(use_true_random=False)), min_size=2, max_size=4))
def test_ids_ascend_and_keep_their_steps(tmp_path_factory, steps):
    """Any maps: with gaps, empty, of one or three sessions in any order."""
    folder = tmp_path_factory.mktemp("any")
    stamps, linked = [], set()
    for number, (gap, random) in enumerate(steps):
        with MapStore.create(folder / f"{number}.live", "toy", 64) as store:
            for name in "xyz":
                store.begin_session(name, 100 * number + ord(name))
            made = []
            for id_ in np.cumsum(gap).tolist():
                stamp = 10**6 * number + id_
                item = Keyframe(id_, random.choice("xyz"), stamp, None, 0.0, stored_precision(unit(stamp)), b"t", None)
                loops = [loop(id_, random.choice(made))] if made else []
                linked |= {(stamp, each.candidate.stamp_ns) for each in loops}
                store.add(item, loops)
                made.append(item)
            stamps.append([item.stamp_ns for item in made])
            store.save_copy(folder / f"{number}.tscm")
    merged = merge([folder / f"{n}.tscm" for n in range(len(steps))], folder / "out.tscm", ALONE)
    assert check(folder / "out.tscm") == []
    with MapReader(folder / "out.tscm") as reader:
        keyframes, loops = list(reader.keyframes()), list(reader.loops())
    by_id = {item.id: item.stamp_ns for item in keyframes}
    assert len(by_id) == len(keyframes) == merged.keyframes
    assert list(by_id.values()) == [stamp for part in stamps for stamp in part]
    new = {stamp: id_ for id_, stamp in by_id.items()}
    for part in stamps:
        assert np.diff([new[stamp] for stamp in part]).tolist() == np.diff(part).tolist()
    assert {(by_id[each.keyframe_id], by_id[each.candidate.keyframe_id]) for each in loops} == linked
    assert len({item.name for item in merged.sessions}) == 3 * len(steps)


def loop(id_, match):
    relative = RelativePose((1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0), True, tuple(map(float, range(36))))
    return Loop(
        id_, Candidate(match.id, match.session, match.stamp_ns, None, 0.9, 0.5, 1, Status.ACCEPTED, 3, 50, 40, relative)
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ loops between


def known(candidate):
    """What a map keeps of a candidate."""
    return replace(candidate, session="", evidence=0.0)


@pytest.mark.parametrize("config", [ALONE.replace({"recency.keyframes": 100}), EVIDENCE], ids=["looks", "evidence"])
def test_the_loops_are_those_of_driving_on_one_map(tmp_path, config):
    laps = [frames_of(0), frames_of(20, (99, 2, 3, 4, 98, 5, 6, 7, 97))]
    for name, lap in zip("ab", laps, strict=True):
        drive(tmp_path / f"{name}.tscm", [lap], config)
    seen = drive(tmp_path / "one.tscm", laps, config)
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", config)
    driven = [(s.keyframe.id, s.stamp_ns, known(c)) for s in seen[LAP:] for c in s.accepted]
    assert len(driven) >= 6
    assert [(b.keyframe_id, b.stamp_ns, known(b.candidate)) for b in merged.between] == driven
    assert {s.status: s.keyframes for s in merged.statuses} == Counter(s.status for s in seen[LAP:])
    assert {b.candidate.session for b in merged.between} == {"drive"}
    with MapReader(tmp_path / "c.tscm") as reader:
        stored = list(reader.loops())
    assert stored == [Loop(b.keyframe_id, replace(b.candidate, evidence=0.0)) for b in merged.between]


def test_settings_decide(maps, tmp_path):
    found = [
        len(merge([maps / "a.tscm", maps / "b.tscm"], tmp_path / f"{least}", ALONE.replace(rule)).between)
        for least in (0.6, 0.999)
        for rule in [{"candidates.min_similarity": least}]
    ]
    assert found == [5, 0]


def test_geometry_is_asked_of_stored_features_alone(tmp_path):
    """One of two places that look the same shares features with the query: that one is the loop."""
    drive(tmp_path / "a.tscm", [frames_of(0)], EVIDENCE)
    drive(tmp_path / "b.tscm", [frames_of(20)], EVIDENCE)
    asked = ToyMatcher(lambda place, other: 150)
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", EVIDENCE, matcher=asked)
    assert len(asked.asked) == LAP * EVIDENCE.geometry.places
    assert {b.candidate.inliers for b in merged.between} <= {150}
    none = merge(
        [tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "d.tscm", EVIDENCE, matcher=ToyMatcher(lambda *_: 0)
    )
    assert none.between == ()
    assert {(s.status, s.keyframes) for s in none.statuses} == {(Status.NO_GEOMETRY, LAP)}


def test_without_features_there_are_no_loops_and_it_is_said(maps, tmp_path):
    merged = merge([maps / "a.tscm", maps / "b.tscm"], tmp_path / "c.tscm", EVIDENCE)
    assert merged.between == ()
    assert any(note.startswith("7 keyframes have no local features") for note in merged.notes)


def test_odometry_of_one_map_contradicts_no_place_of_another_that_agrees_with_the_others(tmp_path):
    """Both drives are called alike, and by their poses are a kilometre apart."""
    config = ALONE.replace({"odometry.enabled": True})
    for name, x, change in (("a", 0.0, 0), ("b", 1000.0, 20)):
        drive(tmp_path / f"{name}.tscm", [[frame(n, n, change, x=x + 2.0 * n) for n in range(LAP)]], config)
    assert len(merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", config).between) == LAP


def test_a_third_map_is_looked_for_in_both_and_what_they_share_is_one_place(tmp_path):
    """Places of two maps that a loop joins are no rivals; both stay rivals of the rest."""
    for name, change, places in (("a", 0, range(LAP)), ("b", 10, range(4)), ("c", 20, (*range(4), 70))):
        drive(tmp_path / f"{name}.tscm", [frames_of(change, places)])
    merged = merge([tmp_path / f"{name}.tscm" for name in "abc"], tmp_path / "out.tscm", ALONE)
    pairs = [(b.keyframe_id, b.candidate.keyframe_id) for b in merged.between]
    assert pairs[:4] == [(9, 1), (10, 2), (11, 3), (12, 4)]
    assert [key for key, _ in pairs[4:]] == [13, 14, 15, 16]
    assert all(match in (key - 4, key - 12) for key, match in pairs[4:])
    similar = direction(0, 10) @ direction(1, 20)
    assert all(b.candidate.ratio < 0.6 for b in merged.between[4:]), similar
    backwards = merge([tmp_path / f"{name}.tscm" for name in "cba"], tmp_path / "back.tscm", ALONE)
    assert len(backwards.between) == 8


def test_the_second_lap_of_a_corridor_finds_the_first_as_a_robot_would(tmp_path):
    """On one map a robot also searches its own drive: a loop may have a rival there, or its place be taken by one."""
    with ImageDrive(shared("corridor_two_laps")) as source:
        frames = list(source.frames())
    describer, config = RememberingDescriber(network()), Config()
    laps = frames[:42], frames[42:]
    for name, lap in zip("ab", laps, strict=True):
        drive(tmp_path / f"{name}.tscm", [lap], config, describer)
    seen = drive(tmp_path / "one.tscm", laps, config, describer)
    merged = merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", config)
    first = {s.keyframe.id: s.keyframe.pose for s in seen[:42] if s.keyframe}
    second = {s.keyframe.id: s for s in seen[42:] if s.keyframe}
    driven = {(id_, c.keyframe_id): known(c) for id_, s in second.items() for c in s.accepted if c.keyframe_id in first}
    found = {(b.keyframe_id, b.candidate.keyframe_id): known(b.candidate) for b in merged.between}
    assert len(driven) >= 36
    assert driven.keys() <= found.keys()
    for pair in found.keys() - driven.keys():  # on one map its place was one of its own drive
        assert second[pair[0]].candidates[0].keyframe_id in second
    differing = [pair for pair in driven if driven[pair] != found[pair]]
    assert len(differing) <= 4
    for pair in differing:  # rivals show in ratio and rank, and may break a chain of support
        same = {"ratio": 0.0, "rank": 1, "temporal_support": 0}
        assert replace(driven[pair], **same) == replace(found[pair], **same)
        assert driven[pair].temporal_support <= found[pair].temporal_support
    away = [np.subtract(first[match].position, second[id_].keyframe.pose.position) for id_, match in found]
    assert max(np.linalg.norm(away, axis=1)) <= 3.0


# ---------------------------------------------------------------------------------------- what is refused, and how


def refused(folder, sources, out, *parts, overwrite=False, **arguments):
    """The merge fails with a sentence that has the parts, and leaves every file as it was."""
    before = listing(folder)
    with pytest.raises(MapFileError) as error:
        merge(sources, out, ALONE, overwrite=overwrite, **arguments)
    assert listing(folder) == before
    for part in map(str, parts):
        assert part in str(error.value)


def test_models_must_be_one(maps):
    drive(maps / "other.tscm", [frames_of(0)], describer=Describer("another"))
    sources = [maps / "a.tscm", maps / "other.tscm"]
    refused(maps, sources, maps / "out.tscm", maps / "other.tscm", "model another", "model toy")


def test_the_same_file_twice_is_refused_under_any_name(maps):
    (maps / "soft").symlink_to(maps / "a.tscm")
    os.link(maps / "a.tscm", maps / "hard")
    for again in ("a.tscm", "soft", "hard"):
        refused(maps, [maps / "a.tscm", maps / "b.tscm", maps / again], maps / "out.tscm", "is the same file as")


def test_a_drive_under_other_ids_is_refused(maps):
    merge([maps / "b.tscm", maps / "a.tscm"], maps / "both.tscm", ALONE)  # its name there is another one too
    refused(maps, [maps / "both.tscm", maps / "a.tscm"], maps / "out.tscm", "under other ids", "there called drive-3")


def test_what_is_there_is_replaced_only_if_asked_and_when_all_is_done(maps):
    sources = [maps / "a.tscm", maps / "b.tscm"]
    (maps / "out.tscm").write_bytes(b"older")
    refused(maps, sources, maps / "out.tscm", "exists already", "--overwrite")

    def fail(done, total):
        if done == total - 1:
            raise MapFileError(maps, "is enough")

    refused(maps, sources, maps / "out.tscm", "is enough", overwrite=True, progress=fail)
    refused(maps, sources, maps / "new.tscm", "is enough", progress=fail)
    merge(sources, maps / "out.tscm", ALONE, overwrite=True)
    assert check(maps / "out.tscm") == []
    refused(maps, sources, maps / "a.tscm", "is one of the maps to merge", overwrite=True)
    refused(maps, sources, maps, "folder", overwrite=True)
    with_lock = FileLock(maps / "out.tscm")
    refused(maps, sources, maps / "out.tscm", "in use by process", overwrite=True)
    with_lock.release()


def test_somebody_else_who_was_quicker_keeps_his_file(maps):
    def write(done, total):
        (maps / "out.tscm").write_bytes(b"quicker")

    with pytest.raises(MapFileError, match="exists already"):
        merge([maps / "a.tscm", maps / "b.tscm"], maps / "out.tscm", ALONE, progress=write)
    assert (maps / "out.tscm").read_bytes() == b"quicker"
    assert sorted(path.name for path in maps.iterdir()) == ["a.tscm", "b.tscm", "out.tscm"]


def test_an_interruption_leaves_nothing(maps):
    before = listing(maps)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge([maps / "a.tscm", maps / "b.tscm"], maps / "out.tscm", ALONE, progress=stop)
    assert listing(maps) == before


def test_damaged_missing_and_lonely_maps(maps):
    (maps / "text.tscm").write_text("no map, " * 100)
    bad = bytearray((maps / "b.tscm").read_bytes())
    at = bad.rindex(b"\xff\xd8\xff")
    bad[at + 40] ^= 1
    (maps / "bad.tscm").write_bytes(bad)
    for name, part in (("text.tscm", "not a tscm map"), ("none.tscm", "does not exist"), ("bad.tscm", "is damaged")):
        refused(maps, [maps / "a.tscm", maps / name], maps / "out.tscm", maps / name, part)
    refused(maps, [maps / "a.tscm"], maps / "out.tscm", "two maps or more")


def test_ids_that_messages_cannot_carry_are_refused(maps):
    with MapStore.create(maps / "high.live", "toy", 64) as store:
        store.begin_session("high", 1)
        store.add(Keyframe(2**32 - 3, "high", 1, None, 0.0, stored_precision(unit(1)), b"", None))
        store.save_copy(maps / "high.tscm")
    for path in maps.glob("high.live*"):
        path.unlink()
    refused(maps, [maps / "high.tscm", maps / "a.tscm"], maps / "out.tscm", "ids beyond")
    assert merge([maps / "a.tscm", maps / "high.tscm"], maps / "out.tscm", ALONE).sessions[1].last_id == 17


# --------------------------------------------------------------------------------------------- maps that are in use


def test_a_map_that_is_being_driven_on_is_taken_as_it_is(maps, tmp_path):
    with open_live_map(tmp_path / "run.tscm", True, Describer(), ALONE, "now") as live:
        for item in frames_of(20):
            live.observe(item)

        def drive_on(done, total):
            if live.size == LAP:
                live.observe(replace(frames_of(20, (90,))[0], stamp_ns=10**12))

        merged = merge([maps / "a.tscm", live.live_path], tmp_path / "c.tscm", ALONE, progress=drive_on)
        assert [(s.name, s.keyframes) for s in merged.sessions] in (
            [("drive", 16), ("now", LAP + 1)],
            [("drive", 16), ("now", LAP)],
        )
        assert len(merged.between) == LAP
        assert any(f"being driven on by process {os.getpid()}" in note for note in merged.notes)
        assert live.size == LAP + 1
        assert live.observe(replace(frames_of(30, (91,))[0], stamp_ns=2 * 10**12)).keyframe.id == LAP + 2
    assert check(tmp_path / "c.tscm") == []


def test_features_are_never_all_in_memory(tmp_path):
    """Forty megabytes of features."""
    for name in "ab":
        with MapStore.create(tmp_path / f"{name}.live", "toy", 64) as store:
            store.begin_session(name, ord(name))
            for id_ in range(1, 21):
                vector = stored_precision(unit(id_))
                pose = Pose((float(id_), 0.0, 0.0))
                store.add(Keyframe(id_, name, id_, pose, 0.0, vector, b"", os.urandom(1 << 20)))
            store.save_copy(tmp_path / f"{name}.tscm")
    tracemalloc.start()
    try:
        merge([tmp_path / "a.tscm", tmp_path / "b.tscm"], tmp_path / "c.tscm", EVIDENCE)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()
