"""The command that brings back a part of a damaged map is named where it does, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import sqlite3
import struct

import pytest
from test_map_repair import saved, spoil  # noqa: F401
from test_map_store import DIM, MODEL, fill

from tscm_core.errors import DamagedMapError, MapFileError
from tscm_core.maps import found_rows
from tscm_core.maps.foreign_log import FOREIGN
from tscm_core.maps.found_rows import can_be_repaired, find_meta
from tscm_core.maps.map_files import FileLock
from tscm_core.maps.map_format import KEYFRAMES
from tscm_core.maps.map_pages import MapPages, _local_bytes
from tscm_core.maps.map_reader import MapReader, check, inspect
from tscm_core.maps.map_repair import repair, repair_advice
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


# --------------------------------------------------------------------------------- nobody waits, whatever the file is


def row_of_a_keyframe(extra=0):
    """A cell that has as many columns as a keyframe; the last one is a blob of ``extra`` bytes."""
    columns = KEYFRAMES.columns.count(",") + 1
    last = varint(12 + 2 * extra) if extra else b"\1"
    head = bytes([1] * (columns - 1)) + last
    payload = varint(len(head) + 1) + head + bytes(columns - 1)
    return payload, len(payload) + (extra or 1)


def varint(number):
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(number & 0x7F | 0x80)
    return bytes(reversed(out))


def leaf(cell, count):
    """A page with ``count`` pointers to one cell."""
    page = bytearray(PAGE)
    at = PAGE - len(cell) - 8
    page[at : at + len(cell)] = cell
    page[0] = 13
    struct.pack_into(">H", page, 3, count)
    for place in range(count):
        struct.pack_into(">H", page, 8 + 2 * place, at)
    return bytes(page)


def before_the_keyframes(path):
    """The pages of a map up to those that say who made it."""
    raw = path.read_bytes()
    for pages in range(1, 20):
        path.write_bytes(raw[: pages * PAGE])
        with MapPages(path) as found:
            if find_meta(found):
                return raw[: pages * PAGE]
    raise AssertionError("no page says who made the map")


def test_a_file_full_of_forged_rows_is_not_looked_through(saved, monkeypatch):  # noqa: F811
    payload, length = row_of_a_keyframe()
    forged = leaf(varint(length) + b"\1" + payload + b"\0", 1500)
    saved.write_bytes(before_the_keyframes(saved) + 40 * forged)
    looked_at = []
    monkeypatch.setattr(found_rows, "is_broken", lambda table, row, dim: looked_at.append(row) or True)
    assert not can_be_repaired(saved)
    assert 1000 < len(looked_at) <= 4000, "of 60,000"


def test_one_forged_row_as_long_as_the_file_is_not_gathered(saved, monkeypatch):  # noqa: F811
    """24 MiB of pages that lead each to the next one, named by twelve cells."""
    begin, pages = before_the_keyframes(saved), 24 << 8
    payload, length = row_of_a_keyframe(pages * (PAGE - 4) - 4000)
    first = len(begin) // PAGE + 2
    local = _local_bytes(length, PAGE, table=True)
    cell = varint(length) + b"\1" + payload.ljust(local, b"\0") + struct.pack(">I", first)
    with saved.open("wb") as file:
        file.write(begin + leaf(cell, 12))
        for number in range(first, first + pages):
            file.write(struct.pack(">I", number + 1) + bytes(PAGE - 4))
    read, page = [], MapPages.page
    monkeypatch.setattr(MapPages, "page", lambda self, number: read.append(number) or page(self, number))
    assert not can_be_repaired(saved)
    assert sum(number > first for number in read) < 9000, "16 MiB of the row, and once 4,000 pages"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_pipe_in_its_place_or_beside_it_is_not_waited_for(saved, suffix):  # noqa: F811
    spoil(saved, 0)
    pipe = saved.with_name(saved.name + suffix)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    assert not can_be_repaired(saved)
    assert repair_advice(saved, ["it is not a tscm map"]) == ""


def test_keyframes_that_are_all_broken_promise_nothing(saved):  # noqa: F811
    """The rows are there, and none is what its checksum says."""
    with contextlib.closing(sqlite3.connect(saved)) as db, db:
        db.execute("UPDATE keyframes SET stamp_ns = stamp_ns + 1")
    spoil(saved, 0)
    assert not can_be_repaired(saved)


def test_no_repair_is_advised_that_would_refuse(saved):  # noqa: F811
    spoil(saved, 0)
    problems = check(saved)
    assert repair_advice(saved, problems).startswith(f"`tscm map check {saved} --repair` writes")
    assert repair_advice(saved, [*problems, FOREIGN]) == ""
    repaired = repair(saved).path
    assert repair_advice(saved, problems) == (
        f"{repaired}, where a repair would write what is whole in it, is there already: use that, or give --out"
    )
    with pytest.raises(MapFileError, match="exists already"):
        repair(saved)
