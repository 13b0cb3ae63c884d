"""Killed, starved and damaged maps: nothing that was committed is lost, and nothing is wrong in silence.

The first part runs small parts of benchmarks/durability.py; each other test is something that it found once.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_live_map import LAP, begin, drive, ids
from toys import frame

from tscm_core.errors import MapFileError
from tscm_core.maps import live_file
from tscm_core.maps.map_files import FileLock
from tscm_core.maps.map_reader import MapReader, check
from tscm_core.maps.replacement import Replacement

ROOT = Path(__file__).resolve().parent.parent
EVERY_CALL = "commit and checkpoint,save over an earlier state,load,clear,I/O error, once"


def bench(tmp_path, *arguments):
    out, memory = tmp_path / "out.json", Path("/dev/shm")  # where syncing costs nothing
    folder = memory if os.access(memory, os.W_OK) else tmp_path
    command = [sys.executable, ROOT / "benchmarks" / "durability.py", *arguments, "--folder", folder, "--out", out]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["findings"] == 0
    return report["sums"]


def test_kills_lose_nothing(tmp_path):
    sums = bench(tmp_path, "kills", "--tiny", "--count", "5")
    assert (sums["kills"], sums["lost"]) == (5, 0)
    assert sums["keyframes"] > 20


def test_no_call_that_fails_costs_a_map(tmp_path):
    """Each call in turn, until the operation succeeds untouched."""
    sums = bench(tmp_path, "faults", "--only", EVERY_CALL)
    assert (sums["lost"], sums["faults"] > 100, sums["refused"] > 80) == (0, True, True)


def test_every_operation_survives_a_full_disk_and_a_kill(tmp_path):
    sums = bench(tmp_path, "faults", "--stride", "23", "--only", "disk full from then on,killed there")
    assert (sums["lost"], sums["faults"] > 40) == (0, True)


def test_mutants_are_right_or_refused(tmp_path):
    sums = bench(tmp_path, "mutants", "--rows", "100", "--stride", "151")
    assert sums["mutants"] > 150
    assert sums["wrong"] == sums["crash"] == sums["hang"] == sums["traceback"] == 0
    assert sums["right"] > 30
    assert sums["refused"] > 50


# ------------------------------------------------------------------------------------------------ what was found


@pytest.fixture
def killed(tmp_path):
    """A live map as SIGKILL leaves it, half of it in its log, in a folder of its own."""
    (tmp_path / "running").mkdir()
    with begin(tmp_path / "running") as live:
        drive(live)
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        drive(live, start=100)
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    return tmp_path / "killed"


def test_a_lock_that_cannot_be_signed_is_given_back(tmp_path, monkeypatch):
    """On a full disk it stayed with this process for ever, which then found its own map «in use»."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    FileLock(tmp_path / "map.tscm").release()
    FileLock(tmp_path / "map.tscm").release()


def test_a_lock_that_cannot_be_read_is_told_in_a_sentence(killed, monkeypatch):
    def broken(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(live_file, "lock_holder", broken)
    with pytest.raises(MapFileError, match="cannot be read: Input/output error"):
        begin(killed)


def test_an_error_of_sqlite_is_one_line(tmp_path):
    with begin(tmp_path) as live:
        drive(live)
        live.save()
    path = tmp_path / "map.tscm"
    raw = path.read_bytes()
    path.write_bytes(raw[:4096] + bytes(4096) + raw[8192:])
    problems = check(path)
    assert problems
    assert not any("\n" in problem for problem in problems)


def test_a_copy_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(MapFileError, match="the true one"), live_file.dropped_on_failure(tmp_path / "copy"):
        raise MapFileError(tmp_path, "the true one")


def test_a_clear_that_fails_leaves_no_copy(tmp_path, monkeypatch):
    def full(self):
        raise MapFileError(self._path, "the disk is full")

    with begin(tmp_path) as live:
        drive(live)
        monkeypatch.setattr(Replacement, "commit", full)
        with pytest.raises(MapFileError, match="the disk is full"):
            live.clear("tuesday")
        assert list(tmp_path.glob("*.previous-*")) == []
        assert live.size == LAP


def test_a_map_that_cannot_be_read_while_it_is_made_ready_changes_neither_file_nor_memory(tmp_path, monkeypatch):
    """Once the file had changed and the memory had not: new keyframes got the ids of another map."""
    with begin(tmp_path) as live:
        for number in range(3):
            live.observe(frame(number, number))
        saved = live.save(tmp_path / "small.tscm").path
        drive(live, start=10)
        before = ids(live.live_path)
        with monkeypatch.context() as patch:
            broken = MapFileError(live.live_path, "broken")
            patch.setattr(Replacement, "keyframes", lambda self: (_ for _ in ()).throw(broken))
            with pytest.raises(MapFileError, match="broken"):
                live.load("next", saved)
            assert live.observe(frame(100, 500)).keyframe.id == before[-1] + 1
        assert ids(live.live_path) == [*before, before[-1] + 1]
        assert (live.size, live.session) == (len(before) + 1, "monday")
        assert live.load("next", saved).keyframes == 3
        assert (live.observe(frame(101, 101)).keyframe.id, ids(live.live_path)) == (4, [1, 2, 3, 4])


def test_a_damaged_log_is_said_and_the_damaged_map_is_kept(killed):
    """SQLite reads a log up to the first bad page and says nothing of the commits behind it."""
    log = killed / "map.tscm.live-wal"
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    with pytest.raises(MapFileError, match="log is damaged at page"):
        MapReader(killed / "map.tscm.live")
    assert any("log is damaged" in problem for problem in check(killed / "map.tscm.live"))
    with begin(killed, "afterwards") as live:
        assert LAP <= live.size < 2 * LAP
        note = next(note for note in live.notes if "log is damaged" in note)
        kept = Path(note.rpartition(" kept as ")[2])
        assert live.observe(frame(500, 50)).keyframe.id == live.size
    assert kept.with_name(kept.name + "-wal").read_bytes() == raw


def test_a_sound_log_is_no_reason_for_a_note(killed):
    with begin(killed, "afterwards") as live:
        assert (live.size, live.notes) == (2 * LAP, ())


def test_the_log_of_another_map_is_not_taken_for_ours(tmp_path, killed):
    """SQLite would give a map of which one half is of each."""
    (tmp_path / "other").mkdir()
    with begin(tmp_path / "other", "elsewhere") as live:
        drive(live, change=3)
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        drive(live, start=100, change=3)
        for suffix in ("-wal", "-shm"):
            shutil.copy(tmp_path / "other" / f"map.tscm.live{suffix}", killed)
    for use in (lambda: MapReader(killed / "map.tscm.live"), lambda: begin(killed)):
        with pytest.raises(MapFileError, match=r"has the log of another map beside it: move map\.tscm\.live-wal"):
            use()
    for suffix in ("-wal", "-shm"):
        (killed / f"map.tscm.live{suffix}").unlink()
    assert ids(killed / "map.tscm.live") == list(range(1, LAP + 1))


def test_a_log_in_which_a_map_was_loaded_or_cleared_is_ours(tmp_path):
    (tmp_path / "running").mkdir()
    with begin(tmp_path / "running") as live:
        drive(live)
        saved = live.save(tmp_path / "saved.tscm").path
        drive(live, start=100)
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        live.load("loaded", saved)
        live.observe(frame(500, 50))
        shutil.copytree(tmp_path / "running", tmp_path / "loaded")
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        live.clear("cleared")
        drive(live, start=600)
        shutil.copytree(tmp_path / "running", tmp_path / "cleared")
    for name, expected in (("loaded", LAP + 1), ("cleared", LAP)):
        assert ids(tmp_path / name / "map.tscm.live") == list(range(1, expected + 1))
        with begin(tmp_path / name, "afterwards") as live:
            assert (live.size, live.notes) == (expected, ())


def test_a_save_is_not_misread_for_an_index_that_was_left_there(killed):
    """Whoever removed only the log of a killed map got a copy that was said to lack it."""
    (killed / "map.tscm.live-wal").unlink()
    target = killed / "map.tscm.live"
    (killed / "other").mkdir()
    with begin(killed / "other") as live:
        drive(live)
        live.save(target)
    assert ids(target) == list(range(1, LAP + 1))


def test_setting_aside_survives_errors_that_quote_the_damage(tmp_path):
    """SQLite's message had bytes in it that are no text, and Python raised UnicodeDecodeError."""
    with begin(tmp_path) as live:
        drive(live)
    path = tmp_path / "map.tscm.live"
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE keyframes", b"CREATE TABLE \xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff")
    )
    with begin(tmp_path, resume=False) as live:
        assert live.size == 0
        assert "is kept as" in live.notes[0]
