"""What comes of a damaged map: right, refused in a sentence, gone on with a part of it and said so, or wrong."""

from __future__ import annotations

import itertools
import os
import select
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from durable import begin, content, frame, is_sentence
from mutants import Base, Files, write

from tscm_core.errors import ModelMismatchError, TscmError
from tscm_core.maps.map_reader import check, inspect
from tscm_core.maps.map_repair import repair

LIMIT_S = 20.0


@dataclass
class MutantTally:
    """What came of the mutants of one kind of file."""

    opened: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def judge_all(base: Base, every: Callable[[], Iterator[tuple[str, Files]]], folder: Path) -> MutantTally:
    """Open each mutant in a process that may crash or hang: then it is counted, and another process goes on.

    ``every`` gives the mutants anew, from the first: all of them together would fill the memory.
    """
    tally, done = MutantTally(), 0
    names = [name for name, _ in every()]
    while done < len(names):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            for name, files in itertools.islice(every(), done, None):
                os.write(writing, (_judge(base, name, files, folder) + "\n").encode())
            os._exit(0)
        os.close(writing)
        answers, hung = _listen(reading, len(names) - done)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for answer in answers:
            _count(tally, answer)
        done += len(answers)
        if done < len(names):
            _count(tally, f"{'hang' if hung else 'crash'}: {names[done]}")
            done += 1
    return tally


def _listen(reading: int, wanted: int) -> tuple[list[str], bool]:
    text, hung = b"", False
    while text.count(b"\n") < wanted:
        if not select.select([reading], [], [], LIMIT_S)[0]:
            hung = True
            break
        more = os.read(reading, 1 << 16)
        if not more:
            break
        text += more
    os.close(reading)
    return text.decode().split("\n")[: text.count(b"\n")], hung


def _count(tally: MutantTally, answer: str) -> None:
    tally.opened[answer.partition(":")[0]] += 1
    if not answer.startswith(("right", "refused", "noted")):
        tally.findings.append(answer)


def _judge(base: Base, name: str, files: Files, folder: Path) -> str:
    """«right», «refused», «noted» (it goes on with a part and says so), or what is wrong."""
    try:
        path = folder / "case" / "map.tscm"
        write(path, files)
        read = _read(base, path)
        problems = check(path)
        agreed = read == "other model" or (read == "refused") == bool(problems)
        read = read.replace("other model", "refused")
        if not agreed or any("\n" in problem for problem in problems):
            return f"wrong check: {name}: {read}, but check says {problems}"
        inspect_safely = _sentence(lambda: inspect(path))
        if problems and (wrong := _repair(base, path)):
            return f"{wrong}: {name}"
        if not base.live or read not in {"right", "refused"} or not inspect_safely:
            return f"{read if inspect_safely else 'traceback of inspect'}: {name}"
        write(folder / "case" / "map.tscm.live", files)
        return f"{_drive_on(base, folder / 'case')}: {name}"
    except Exception as error:  # noqa: BLE001
        return f"traceback: {name}: {type(error).__name__}: {' '.join(str(error).split())}"


def _read(base: Base, path: Path) -> str:
    try:
        now = content(path)
    except ModelMismatchError:  # nothing else is damaged: the check has no model to compare with
        return "other model"
    except Exception as error:  # noqa: BLE001
        return "refused" if is_sentence(error) else f"traceback of {type(error).__name__}"
    return "right" if now == base.content else "wrong answer"


def _repair(base: Base, path: Path) -> str:
    """What is wrong with a repair of the damaged map at ``path``; empty if it brings back no row that never was."""
    out = path.with_name("repaired.tscm")
    before = path.read_bytes()
    try:
        done = repair(path, out)
    except TscmError as error:
        return "" if is_sentence(error) and not out.exists() else f"wrong refusal of a repair ({error})"
    if done.path != out or check(out) or path.read_bytes() != before:
        return "wrong repair"
    whole = base.content | base.gone
    rows = {key: row for key, row in content(out, None).items() if key[0] != "session"}
    out.unlink()
    if len(rows) != done.keyframes_kept + done.loops_kept:
        return "wrong count of a repair"
    return "" if rows.items() <= whole.items() else "wrong rows of a repair"


def _sentence(use: Callable[[], object]) -> bool:
    try:
        use()
    except Exception as error:  # noqa: BLE001
        return is_sentence(error)
    return True


def _drive_on(base: Base, folder: Path) -> str:
    """The next drive on a live map: its first keyframe is there, and all that was there before."""
    try:
        with begin(folder, "afterwards") as live:
            seen = live.observe(frame(500))
            now, notes = content(live.live_path), live.notes
    except Exception as error:  # noqa: BLE001
        return "refused" if is_sentence(error) else f"traceback of {type(error).__name__}"
    fresh = sorted(table for table, *_ in now.keys() - base.content.keys())
    if base.content.items() <= now.items() and fresh == ["keyframe", *["loop"] * len(seen.loops), "session"]:
        return "right"
    return "noted" if notes else "wrong answer of the live map"
