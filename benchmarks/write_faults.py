"""Each call that changes a file fails once, the first to the last, while a map is opened, driven on, saved and loaded.

Run by durability.py with the library of failing_calls.c before the C library.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from durable import Content, begin, content, frame, is_sentence
from failing_calls import MODES, READ, FailingCalls, Mode

from tscm_core.maps.live_map import LiveMap

KEYFRAMES, SAVED, OTHER = 6, 3, 4
ANEW = "open, not going on"


@dataclass
class Tally:
    """What came of the faults in one operation and mode."""

    operation: str
    mode: str
    faults: int = 0
    refused: int = 0
    lost: int = 0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done while calls fail: ``act`` gets the running map, or None if opening it is the act."""

    name: str
    template: str
    act: Callable[[Path, LiveMap | None], LiveMap]
    opened: bool = True
    replaces: bool = False


def _open(folder: Path, _live: LiveMap | None) -> LiveMap:
    return begin(folder, "tuesday")


def _open_anew(folder: Path, _live: LiveMap | None) -> LiveMap:
    return begin(folder, "tuesday", resume=False)


def _on(act: Callable[[LiveMap, Path], object]) -> Callable[[Path, LiveMap | None], LiveMap]:
    def run(folder: Path, live: LiveMap | None) -> LiveMap:
        if live is None:
            raise ValueError("this needs a running map")
        act(live, folder)
        return live

    return run


def _commit(live: LiveMap, _folder: Path | None = None) -> None:
    for number in range(100, 103):
        live.observe(frame(number))


def _commit_and_checkpoint(live: LiveMap, _folder: Path) -> None:
    live._store._db.execute("PRAGMA wal_autocheckpoint = 3")
    _commit(live)


OPERATIONS = (
    Operation("open, a new map", "new", _open, opened=False),
    Operation("open, the first run with a saved map", "saved", _open, opened=False),
    Operation("open, a closed map", "closed", _open, opened=False),
    Operation("open, a killed map", "killed", _open, opened=False),
    Operation(ANEW, "killed", _open_anew, opened=False, replaces=True),
    Operation("commit", "closed", _on(_commit)),
    Operation("commit and checkpoint", "closed", _on(_commit_and_checkpoint)),
    Operation("new session", "closed", _on(lambda live, folder: live.begin_session("wednesday"))),
    Operation("save over an earlier state", "closed", _on(lambda live, folder: live.save())),
    Operation("save under a new name", "closed", _on(lambda live, folder: live.save(folder / "new" / "map.tscm"))),
    Operation("save over another map", "closed", _on(lambda live, folder: live.save(folder / "other.tscm"))),
    Operation("load", "closed", _on(lambda live, folder: live.load("thursday", folder / "other.tscm")), replaces=True),
    Operation("clear", "closed", _on(lambda live, folder: live.clear("friday")), replaces=True),
    Operation("close", "closed", _on(lambda live, folder: live.close())),
)


class Faults:
    """Every operation under every fault, in a folder of its own each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.calls = FailingCalls(self.work)
        self.work.mkdir()
        _make_templates(folder)
        tempfile.tempdir = str(self.work / "tmp")
        os.environ["SQLITE_TMPDIR"] = tempfile.tempdir

    def run(self, operation: Operation, mode: Mode, stride: int = 1) -> Tally:
        """Let call 1, 1 + stride, ... fail until the operation succeeds untouched."""
        tally, number = Tally(operation.name, mode.name), 1
        attempt = self._killed if mode.kills else self._failed
        while attempt(operation, mode, number, tally):
            tally.faults += 1
            number += stride
        return tally

    def _prepare(self, operation: Operation) -> tuple[Path, Content, Content]:
        shutil.rmtree(self.work, ignore_errors=True)
        case = self.work / "case"
        shutil.copytree(self.folder / operation.template, case)
        (self.work / "tmp").mkdir()
        return case, _content(case / "map.tscm.live"), _content(case / "map.tscm")

    def _failed(self, operation: Operation, mode: Mode, number: int, tally: Tally) -> bool:
        case, before, saved = self._prepare(operation)
        live = begin(case, "today") if operation.opened else None
        error: BaseException | None = None
        acted = live
        with self.calls.failing(mode, number):
            try:
                acted = operation.act(case, live)
            except Exception as caught:  # noqa: BLE001 - whatever comes out is judged
                error = caught
        fired = self.calls.fired > 0
        where = f"{operation.name}, {mode.name}, call {number}"
        tally.refused += error is not None
        verdict = Verdict(where, tally, case, mode)
        verdict.error(error)
        verdict.folder(refused=error is not None)
        verdict.saved(saved, operation, refused=error is not None)
        replaced = operation.replaces and (error is None or (acted is not None and acted._store.count != KEYFRAMES))
        verdict.running(acted if operation.name != "close" else None, {} if replaced else before)
        return fired

    def _killed(self, operation: Operation, mode: Mode, number: int, tally: Tally) -> bool:
        case, before, saved = self._prepare(operation)
        child = os.fork()
        if not child:
            live = begin(case, "today") if operation.opened else None
            with self.calls.failing(mode, number):
                operation.act(case, live)
            os._exit(0)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        verdict = Verdict(f"{operation.name}, {mode.name}, call {number}", tally, case, mode)
        verdict.saved(saved, operation, refused=False)
        verdict.running(None, {} if operation.replaces else before)
        return killed


class Verdict:
    """Whether all is well after one fault; what is not is told to the tally."""

    def __init__(self, where: str, tally: Tally, case: Path, mode: Mode) -> None:
        self.where, self.tally, self.case, self.mode = where, tally, case, mode
        self.anew = tally.operation == ANEW

    def error(self, error: BaseException | None) -> None:
        """An error is one sentence."""
        if error is not None and not is_sentence(error):
            self._finding(f"{type(error).__name__} instead of a sentence: {error}")

    def folder(self, *, refused: bool) -> None:
        """No temporary file is left, unless removing one was what failed."""
        litter = [path.name for path in self.case.rglob("*") if _is_temporary(path)]
        litter = [name for name in litter if name != "map.tscm.live-journal"]  # from it the next opening recovers
        litter += [path.name for path in (self.case.parent / "tmp").iterdir()]
        if refused and not self.anew:
            litter += [path.name for path in self.case.glob("*.previous-*")]
        if litter and not _removing_may_fail(self.mode):
            self._finding(f"{sorted(litter)} are left")

    def saved(self, saved: Content, operation: Operation, *, refused: bool) -> None:
        """The maps under their names are whole and what they were, or the new state."""
        for name, old in (("map.tscm", saved), ("other.tscm", None), ("new/map.tscm", None)):
            path = self.case / name
            if not path.exists():
                if saved and name == "map.tscm":
                    self._lost(f"{name} is gone")
                continue
            try:
                now = content(path)
            except Exception as error:  # noqa: BLE001
                self._lost(f"{name} cannot be read: {error}")
                continue
            if old is not None and (now != old if refused else not old.items() <= now.items()):
                self._lost(f"{name} is another map")
            if not now and operation.name.startswith("save"):
                self._lost(f"{name} is empty")

    def running(self, live: LiveMap | None, before: Content) -> None:
        """The running map, or the one that is opened now, has all that was committed, and goes on."""
        try:
            with live or begin(self.case, "afterwards") as running:
                self._goes_on(running, before)
            if any(_is_temporary(path) for path in self.case.iterdir()):
                self._finding("a temporary file outlives the next save")
            again = begin(self.case, "at last")
            size = again.size
            again.close()
            if size != _count(content(self.case / "map.tscm.live")):
                self._finding("the map that was opened again has another size than its file")
        except Exception as error:  # noqa: BLE001
            self._finding(f"does not go on: {type(error).__name__}: {error}")

    def _goes_on(self, running: LiveMap, before: Content) -> None:
        now = content(running.live_path)
        if self.anew:  # the old map lies under another name
            before = {} if any(before.items() <= content(path).items() for path in self._set_aside()) else before
        if not before.items() <= now.items():
            self._lost(f"{len(before.keys() - now.keys())} rows of the running map")
        seen = running.observe(frame(500))
        now = content(running.live_path)
        if seen.keyframe is None or ("keyframe", seen.keyframe.id, 0) not in now:
            self._finding(f"the next keyframe is not stored: {seen.reason}")
        if running.size != _count(now):
            self._finding(f"memory holds {running.size} keyframes and the file {_count(now)}")
        running.save(self.case / "afterwards.tscm")

    def _set_aside(self) -> list[Path]:
        side = ("-wal", "-shm", ".lock")
        return [path for path in self.case.glob("map.tscm.live.previous-*") if not path.name.endswith(side)]

    def _lost(self, what: str) -> None:
        self.tally.lost += 1
        self._finding(what)

    def _finding(self, what: str) -> None:
        self.tally.findings.append(f"{self.where}: {what}")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".tscm-") or path.name.endswith((".part", "-journal"))


def _removing_may_fail(mode: Mode) -> bool:
    return mode.name.startswith("I/O error") or "read-only" in mode.name or bool(mode.kinds & READ)


def _count(rows: Content) -> int:
    return sum(kind == "keyframe" for kind, _, _ in rows)


def _content(path: Path) -> Content:
    return content(path) if path.exists() else {}


def _make_templates(folder: Path) -> None:
    closed, killed = folder / "closed", folder / "killed"
    (folder / "new").mkdir()
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    closed.mkdir()
    with begin(elsewhere, "last year") as other:
        for number in range(OTHER):
            other.observe(frame(number + 5))
        other.save(closed / "other.tscm")
    with begin(closed) as live:
        for number in range(KEYFRAMES):
            live.observe(frame(number if number < 5 else 12))
            if number == SAVED - 1:
                live.save()
    shutil.copytree(closed, killed)
    with begin(killed, "killed") as live:
        live.observe(frame(40))
        shutil.copytree(killed, folder / "copied")  # as a SIGKILL would leave it
    shutil.rmtree(killed)
    (folder / "copied").rename(killed)
    (folder / "saved").mkdir()
    shutil.copy(closed / "map.tscm", folder / "saved")


def every_fault(folder: Path, stride: int = 1, only: str = "") -> Iterator[Tally]:
    """All operations in all modes, or those whose names are in ``only``, at each ``stride``-th call."""
    faults = Faults(folder)
    for operation in [one for one in OPERATIONS if one.name in only] or OPERATIONS:
        for mode in [one for one in MODES if one.name in only] or MODES:
            yield faults.run(operation, mode, stride)
