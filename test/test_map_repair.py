"""What a repair brings back is byte for byte what stood in the map, and it brings back what is whole."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import struct

import pytest
from test_map_store import DIM, MODEL, fill, keyframe, loop

from tscm_core.errors import MapFileError, MapInUseError
from tscm_core.maps.map_format import KEYFRAMES, LOOPS, SESSIONS
from tscm_core.maps.map_pages import MapPages
from tscm_core.maps.map_reader import MapReader, check
from tscm_core.maps.map_repair import Repaired, repair
from tscm_core.maps.map_store import MapStore

COUNT, PAGE = 60, 4096


@pytest.fixture
def saved(tmp_path):
    """A map at rest, with rows that fit in a page and rows that go on over several."""
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as store:
        fill(store)
        for number in range(13, COUNT + 1):
            image = random.Random(number).randbytes(200 if number % 4 else 9000)
            store.add(keyframe(number, "tuesday", thumbnail_jpeg=image), [loop(number, keyframe(number - 1))])
        store.save_copy(tmp_path / "saved.tscm")
    return tmp_path / "saved.tscm"


def rows(path):
    """By table and key; None where the map has no such row."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            (table.name, row[1], row[2] if table is LOOPS else 0): row
            for table in (SESSIONS, KEYFRAMES, LOOPS)
            for row in db.execute(table.select)
        }


def count(found, name):
    return sum(key[0] == name for key in found)


def spoil(path, *places):
    raw = bytearray(path.read_bytes())
    for place in places:
        raw[place] ^= 0xFF
    path.write_bytes(raw)


def test_every_row_is_found_in_the_pages_alone(saved):
    """What is found without SQLite is what SQLite finds."""
    with MapPages(saved) as pages:
        found = [row for row in pages.rows() if row.values]
    ours = {(row.rowid, row.values[0]) for row in found if len(row.values) == 16}
    assert ours == {(key[1], row[0]) for key, row in rows(saved).items() if key[0] == "keyframes"}
    assert sum(len(row.values) == 18 for row in found) == count(rows(saved), "loops")


def test_a_whole_map_is_said_to_be_whole_and_nothing_is_written(saved, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    loops = count(rows(saved), "loops")
    assert repair(saved) == Repaired(saved, None, COUNT, 0, loops, 0)
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("left", [0.4, 0.6, 0.97])
def test_a_cut_map_tells_how_much_of_it_is_missing(saved, left):
    raw = saved.read_bytes()
    kept_bytes = int(len(raw) * left)
    saved.write_bytes(raw[:kept_bytes])
    done = repair(saved)
    assert (done.pages, done.pages_missing) == (len(raw) // PAGE, len(raw) // PAGE - kept_bytes // PAGE)


def test_a_flipped_byte_in_the_number_of_pages_cuts_nothing_off(saved):
    """Nothing in the file leads to the pages that there should be."""
    spoil(saved, 28)
    with MapPages(saved) as pages:
        assert pages.stated > 2**31
        assert len(list(pages.rows())) > COUNT
        assert pages.missing() == 0
    done = repair(saved)
    assert (done.pages, done.pages_missing, done.keyframes_kept, done.keyframes_lost) == (0, 0, COUNT, 0)
    assert not done.counted


def test_what_the_log_still_has_is_not_missing(tmp_path):
    """The file of a killed process is as short as at the last time that its log was moved into it."""
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as store:
        fill(store)
        store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for number in range(13, 30):
            store.add(keyframe(number, "tuesday", thumbnail_jpeg=bytes([number]) * 9000))
        for suffix in ("", "-wal"):
            (tmp_path / f"killed{suffix}").write_bytes((tmp_path / f"live.tscm{suffix}").read_bytes())
    path = tmp_path / "killed"
    with MapPages(path) as pages:
        assert list(pages.rows())
        assert (pages.missing(), pages.stated > path.stat().st_size // PAGE) == (0, True)
    raw = path.read_bytes()
    path.write_bytes(raw[: 2 * PAGE])
    with MapPages(path) as pages:
        assert list(pages.rows())
        there = {1, 2, *pages._log.pages}
        assert pages.missing() == len(set(range(1, pages.stated + 1)) - there) > 0


def test_one_flipped_byte_costs_one_keyframe_and_its_loops(saved):
    original = rows(saved)
    image = original["keyframes", 20, 0][-2]
    spoil(saved, saved.read_bytes().find(image[:100]) + 50)
    raw = saved.read_bytes()
    done = repair(saved)
    assert done == Repaired(
        saved.with_name("saved.tscm.repaired"), saved, COUNT - 1, 1, count(original, "loops") - 2, 2
    )
    assert saved.read_bytes() == raw
    assert check(done.path) == []
    kept = rows(done.path)
    assert kept.items() <= original.items()
    assert original.keys() - kept.keys() == {("keyframes", 20, 0), ("loops", 20, 19), ("loops", 21, 20)}
    with MapReader(done.path, MODEL, DIM) as reader, MapStore.open(done.path, MODEL, DIM) as store:
        assert reader.count == store.count == COUNT - 1
        store.add(keyframe(COUNT + 1, "tuesday"))


def test_cuts_and_flips_anywhere_give_back_only_what_was_there(saved, tmp_path):
    original, raw, chance = rows(saved), saved.read_bytes(), random.Random(5)
    places = [*range(0, 100, 9), *range(PAGE, len(raw), 3 * PAGE), *chance.sample(range(len(raw)), 24)]
    mutants = [raw[:place] + bytes([raw[place] ^ 0x81]) + raw[place + 1 :] for place in places]
    mutants += [raw[:place] for place in (*range(3 * PAGE, len(raw), 5 * PAGE), len(raw) - 1)]
    mutants += [raw[:place] + bytes(PAGE) + raw[place + PAGE :] for place in range(0, len(raw), 2 * PAGE)]
    brought_back, hopeless = 0, []
    for number, mutant in enumerate(mutants):
        path, out = tmp_path / "mutant.tscm", tmp_path / f"out{number}.tscm"
        path.write_bytes(mutant)
        try:
            done = repair(path, out)
        except MapFileError as error:
            hopeless.append(str(error))
            continue
        kept = rows(done.path)
        made_up = {key for key, row in kept.items() if key[0] == "sessions" and row[2].startswith("recovered")}
        assert {key: row for key, row in kept.items() if key not in made_up}.items() <= original.items()
        assert (done.keyframes_kept, done.loops_kept) == (count(kept, "keyframes"), count(kept, "loops"))
        assert check(done.path) == []
        brought_back += done.backup is not None
        assert path.read_bytes() == mutant
    assert brought_back > 40
    assert len(hopeless) < 15
    assert not any("\n" in said for said in hopeless)
    assert not list(tmp_path.glob(".tscm-saving-*"))


def test_broken_inner_pages_cost_nothing(saved):
    """SQLite cannot go past them; the rows lie in other pages."""
    original, raw = rows(saved), saved.read_bytes()
    inner = [start for start in range(PAGE, len(raw), PAGE) if raw[start] == 5]
    assert inner
    for start in inner:
        spoil(saved, *range(start, start + 60))
    assert rows(repair(saved).path) == original


def test_a_cut_file_keeps_what_is_before_the_cut(saved):
    original = rows(saved)
    saved.write_bytes(saved.read_bytes()[: saved.stat().st_size * 2 // 3])
    done = repair(saved)
    assert COUNT // 3 < done.keyframes_kept < COUNT
    assert done.keyframes_lost >= 1
    assert rows(done.path).items() <= original.items()


def test_rows_in_the_log_of_a_killed_map_come_back(tmp_path):
    with MapStore.create(tmp_path / "live.tscm", MODEL, DIM) as store:
        fill(store)
        original = rows(store.path)
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(f"{store.path}{suffix}", tmp_path / f"killed.tscm{suffix}")
    log = tmp_path / "killed.tscm-wal"
    size = log.stat().st_size
    spoil(log, size - 2 * (PAGE + 24) + 500)
    done = repair(tmp_path / "killed.tscm")
    kept = rows(done.path)
    assert 5 < done.keyframes_kept < 12
    assert kept.items() <= original.items()


def test_what_was_deleted_does_not_come_back(saved, tmp_path):
    """The pages of forgotten keyframes are on the free list, and with their content on some machines."""
    with MapStore.open(saved, MODEL, DIM) as store:
        store._db.execute("PRAGMA secure_delete = OFF")
        store.clear("wednesday")
        store.add(keyframe(1, "wednesday"))
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        spoil(saved, 24)
        shutil.copy(saved, tmp_path / "cleared.tscm")
    raw = (tmp_path / "cleared.tscm").read_bytes()
    start = raw.find(b"wednesday")
    spoil(tmp_path / "cleared.tscm", start)
    done = repair(tmp_path / "cleared.tscm")
    kept = rows(done.path)
    assert [key for key in kept if key[0] == "keyframes"] == [("keyframes", 1, 0)]
    assert kept["sessions", 1, 0][2] == "recovered"  # its own row was the one that broke


def test_hopeless_files_get_one_sentence_and_nothing_is_written(saved, tmp_path):
    raw = saved.read_bytes()
    newer = raw[:60] + struct.pack(">I", 2) + raw[64:]
    for content, said in (
        (b"no map at all" * 1000, "it is no map"),
        (bytes(8192), "it is no map"),
        (raw[:PAGE], "stands nowhere in it"),
        (newer, "newer tscm"),
        (b"", "is empty"),
    ):
        (tmp_path / "bad.tscm").write_bytes(content)
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(MapFileError, match=said):
            repair(tmp_path / "bad.tscm")
        assert {path.name for path in tmp_path.iterdir()} == before


def test_running_maps_and_files_that_are_there_are_left_alone(saved, tmp_path):
    with MapStore.open(saved, MODEL, DIM), pytest.raises(MapInUseError):
        repair(saved)
    spoil(saved, saved.stat().st_size - 100)
    (tmp_path / "saved.tscm.repaired").write_bytes(b"mine")
    with pytest.raises(MapFileError, match="exists already: choose another name"):
        repair(saved)
    assert (tmp_path / "saved.tscm.repaired").read_bytes() == b"mine"
    assert repair(saved, tmp_path / "other.tscm").path == tmp_path / "other.tscm"
