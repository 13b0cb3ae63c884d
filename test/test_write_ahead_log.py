"""The log as SQLite reads it, and what it would leave out without a word."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct

import numpy as np
import pytest

from tscm_core.maps.write_ahead_log import _checksum, read_log

FRAME = 4096 + 24


@pytest.fixture
def killed(tmp_path):
    """A database of 40 commits as a killed process leaves it, with its log and index."""
    source = tmp_path / "source"
    db = sqlite3.connect(source, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    for number in range(1, 41):
        db.execute("INSERT INTO t VALUES (?, ?)", (number, os.urandom(3000)))
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{source}{suffix}", tmp_path / f"map{suffix}")
    db.close()
    return tmp_path / "map"


def rows_read_by_sqlite(path):
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    db = sqlite3.connect(copy)
    try:
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return db.execute("SELECT count(*) FROM t").fetchone()[0] if tables else 0
    finally:
        db.close()


def plain_sums(content, start, order):
    a, b = start
    for first, second in struct.iter_unpack(f"{order}2I", content):
        a = (a + first + b) % 2**32
        b = (b + second + a) % 2**32
    return a, b


@pytest.mark.parametrize(("length", "order"), [(24, "<"), (40, ">"), (4104, "<"), (4104, ">")])
def test_the_checksum_is_that_of_a_plain_loop(length, order):
    content, start = np.random.default_rng(length).bytes(length), (4_000_000_000, 3_999_999_999)
    assert _checksum(content, start, f"{order}u4") == plain_sums(content, start, order)


def test_a_sound_log_has_every_page_and_no_damage(killed):
    log = read_log(killed)
    assert (log.damage, log.page_size) == ("", 4096)
    database = sqlite3.connect(killed)
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    raw = killed.read_bytes()
    assert len(raw) == 4096 * pages
    assert log.pages.keys() == set(range(1, pages + 1))


def test_pages_are_those_that_a_checkpoint_moves_into_the_map(killed):
    log, raw = read_log(killed), killed.with_name("map-wal").read_bytes()
    overlaid = {number: raw[offset : offset + 4096] for number, offset in log.pages.items()}
    database = sqlite3.connect(killed)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    moved = killed.read_bytes()
    assert all(moved[4096 * (number - 1) : 4096 * number] == page for number, page in overlaid.items())


@pytest.mark.parametrize("index", ["there", "missing"])
def test_flips_that_cost_commits_are_noticed(killed, index):
    """SQLite itself says nothing: it reads fewer rows."""
    raw = killed.with_name("map-wal").read_bytes()
    if index == "missing":
        killed.with_name("map-shm").unlink()
    for place in (1, 20, 32 + 5, 32 + 10 * FRAME + 9, 32 + 20 * FRAME + 17, 32 + 30 * FRAME + 2000):
        killed.with_name("map-wal").write_bytes(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
        assert "write-ahead log" in read_log(killed).damage
        assert rows_read_by_sqlite(killed) < 40


@pytest.mark.parametrize("left", [0, 10, 32, 32 + 7 * FRAME, 32 + 20 * FRAME - 1])
def test_a_log_that_was_cut_is_noticed_by_the_index(killed, left):
    log = killed.with_name("map-wal")
    log.write_bytes(log.read_bytes()[:left])
    assert "write-ahead log" in read_log(killed).damage
    if not left:
        log.unlink()
        assert "missing" in read_log(killed).damage


def test_an_unfinished_end_is_no_damage(killed):
    """A process that is killed while it writes leaves a part of a page, which it had committed to nobody."""
    log = killed.with_name("map-wal")
    raw = log.read_bytes()
    salts = raw[16:24]
    for end in (b"\0" * 11, struct.pack(">2I", 3, 0) + salts + bytes(8), struct.pack(">2I", 3, 9) + salts + bytes(8)):
        log.write_bytes(raw + end + bytes(4096 if len(end) == 24 else 0))
        assert read_log(killed).damage == ""
        assert rows_read_by_sqlite(killed) == 40


def test_no_log_is_an_empty_one(tmp_path):
    assert read_log(tmp_path / "absent").pages == {}
    assert read_log(tmp_path / "absent").damage == ""
