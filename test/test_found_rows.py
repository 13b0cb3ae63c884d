"""The command that brings back a part of a damaged map is named where it does, and nowhere else."""

from __future__ import annotations

import contextlib
import random
import shlex
import sqlite3

import pytest
from test_map_repair import saved, spoil  # noqa: F401
from test_map_store import DIM, MODEL, fill

from tscm_core.errors import DamagedMapError, MapFileError
from tscm_core.maps.found_rows import can_be_repaired
from tscm_core.maps.map_files import FileLock
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_repair import repair
from tscm_core.maps.map_store import MapStore

PAGE = 4096


def said_of(path):
    """What everybody says who opens the map; empty if it can be read."""
    said = set()
    for use in (MapReader, lambda given: MapStore.open(given, MODEL, DIM)):
        try:
            use(path).close()
            said.add("")
        except MapFileError as error:
            said.add(str(error).replace("cannot be opened", "cannot be read"))
    (one,) = said
    return one


def command(path):
    return f"; `tscm map check {shlex.quote(str(path))} --repair` writes what is whole in it to another map"


DAMAGED = {
    "half of it": (lambda raw: raw[: len(raw) // 2], "it is damaged (database disk image is malformed)"),
    "first byte": (lambda raw: b"T" + raw[1:], "cannot be read: its first bytes are damaged"),
    "no first page": (lambda raw: bytes(PAGE) + raw[PAGE:], "cannot be read: its first bytes are damaged"),
    "kind": (lambda raw: raw[:68] + b"T" + raw[69:], "is damaged (its first bytes do not say that it is a tscm map)"),
    "format": (lambda raw: raw[:60] + b"\1" + raw[61:], "is damaged (there is no format 16777217)"),
    "schema format": (lambda raw: raw[:47] + b"\xff" + raw[48:], "it is damaged (unsupported file format)"),
    "free list": (lambda raw: raw[:35] + b"\1" + raw[36:], "is damaged (SQLite: Main freelist: "),
    "last byte": (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "is damaged (loop of keyframe "),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_of_a_damaged_map_the_command_is_named_that_brings_back_a_part(saved, case):  # noqa: F811
    spoilt, why = DAMAGED[case]
    path = saved.rename(saved.with_name("it's mine.tscm"))
    path.write_bytes(spoilt(path.read_bytes()))
    text = said_of(path)
    assert text.startswith(f"map {path}: ")
    assert why in text
    assert text.endswith(command(path))
    assert len(text.splitlines()) == 1
    assert repair(path).keyframes_kept > 0
    assert not any("--repair" in problem for problem in check(path))


def another_database(path):
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE node (id INTEGER, data BLOB)")


def without_keyframes(path):
    path.unlink()
    with MapStore.create(path.with_name("live.none"), MODEL, DIM) as store:
        store.save_copy(path)
    spoil(path, 0)


HOPELESS = {
    "text": (lambda path: path.write_bytes(b"I am no map. " * 4000), "it is not a tscm map, nor any SQLite file"),
    "another database": (another_database, "is not a tscm map, but another SQLite database"),
    "newer": (lambda path: spoil(path, 63), "was written by a newer tscm (format 254; this one reads up to 1)"),
    "one page": (lambda path: path.write_bytes(path.read_bytes()[:PAGE]), "use another copy"),
    "no keyframe": (without_keyframes, "it is not a tscm map, nor any SQLite file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_where_nothing_can_be_brought_back_nothing_is_promised(saved, case):  # noqa: F811
    spoilt, why = HOPELESS[case]
    spoilt(saved)
    assert why in said_of(saved)
    assert "--repair" not in said_of(saved)
    with pytest.raises(MapFileError):
        repair(saved)


def test_cuts_and_flips_anywhere_are_promised_what_a_repair_keeps(saved, tmp_path):  # noqa: F811
    raw, chance = saved.read_bytes(), random.Random(3)
    mutants = [raw[: chance.randrange(1, len(raw))] for _ in range(15)]
    mutants += [raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :] for at in chance.sample(range(2 * PAGE), 15)]
    mutants += [raw[:at] + bytes(9 * PAGE) + raw[at + 9 * PAGE :] for at in range(0, len(raw) - 9 * PAGE, 5 * PAGE)]
    promised = []
    for number, mutant in enumerate(mutants):
        path = tmp_path / "mutant.tscm"
        path.write_bytes(mutant)
        try:
            kept = repair(path, tmp_path / f"out{number}.tscm").keyframes_kept
        except MapFileError:
            kept = 0
        if text := said_of(path):
            assert text.endswith(command(path)) == bool(kept), text
            promised.append(bool(kept))
    assert set(promised) == {True, False}


def test_while_a_process_writes_to_it_no_repair_is_promised(tmp_path):
    with MapStore.create(tmp_path / "a.tscm", MODEL, DIM) as store:
        fill(store)
        store.save_copy(tmp_path / "b.tscm")
    spoil(tmp_path / "b.tscm", 0)
    assert can_be_repaired(tmp_path / "b.tscm")
    lock = FileLock(tmp_path / "b.tscm")
    assert not can_be_repaired(tmp_path / "b.tscm")
    with pytest.raises(DamagedMapError, match="it is not a tscm map"):
        inspect(tmp_path / "b.tscm")
    lock.release()
