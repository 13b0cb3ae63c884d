"""A map is cut and its bytes are flipped at every structural place: it opens rightly, or is refused in a sentence."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from durable import Content, begin, content, frame, is_sentence

from tscm_core.errors import ModelMismatchError
from tscm_core.maps.map_reader import check, inspect

PAGE, FRAME = 4096, 4096 + 24
LIMIT_S = 20.0
_BITS = (0x01, 0x80, 0xFF)
SUFFIXES = ("", "-wal", "-shm")

Files = dict[str, bytes]
"""The files of one map by suffix."""


@dataclass
class MutantTally:
    """What came of the mutants of one kind of file."""

    opened: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Base:
    """A sound map: its files, what stands in it, and whether it is one that was being driven on."""

    name: str
    files: Files
    content: Content
    live: bool


def bases(folder: Path) -> tuple[list[Base], Files]:
    """A saved map and a live map of a killed process, and the files of another killed map of the same shape."""
    killed: list[Files] = []
    for name, start in (("one", 0), ("other", 7)):
        place = folder / name
        place.mkdir()
        with begin(place, name) as live:
            for number in range(start, start + 15):
                live.observe(frame(number))
            live.save()
            live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for number in range(start + 20, start + 27):
                live.observe(frame(number))
            killed.append(_files(place / "map.tscm.live"))
    saved = _files(folder / "one" / "map.tscm")
    made = []
    for name, files, is_live in (("saved map", saved, False), ("killed live map", killed[0], True)):
        path = folder / "case" / "map.tscm"
        _write(path, files)
        made.append(Base(name, files, content(path), is_live))
    return made, killed[1]


def mutants(base: Base, other: Files, rows: int, seed: int = 0) -> Iterator[tuple[str, Files]]:
    """Every mutant by name; ``rows`` bytes are flipped at random in the pages, and as many in the log."""
    chance = random.Random(seed)
    main, log, index = (base.files.get(suffix, b"") for suffix in SUFFIXES)
    yield from _with(base, "", _cuts(main, PAGE, 0))
    yield from _with(base, "", _flips(main, _structure(main)))
    yield from _with(base, "", _flips(main, sorted(chance.sample(range(len(main)), rows)), (0x01, 0xFF)))
    yield from _with(base, "", _pages(main))
    if not log:
        return
    yield from _with(base, "-wal", _cuts(log, FRAME, 32))
    heads = [start + at for start in range(32, len(log) - 23, FRAME) for at in range(24)]
    yield from _with(base, "-wal", _flips(log, [*range(32), *heads]))
    yield from _with(base, "-wal", _flips(log, sorted(chance.sample(range(32, len(log)), rows)), (0x01, 0xFF)))
    yield from _with(base, "-shm", _flips(index, range(136)))
    yield from _with(base, "-shm", _cuts(index, 4096, 0))
    yield from (
        ("log of another map", {**base.files, "-wal": other["-wal"]}),
        ("log and index of another map", {**other, "": main}),
        ("index of another map", {**base.files, "-shm": other["-shm"]}),
        ("log missing", {"": main, "-shm": index}),
        ("index missing", {"": main, "-wal": log}),
        ("log twice", {**base.files, "-wal": log + log}),
        ("log of random bytes", {**base.files, "-wal": chance.randbytes(len(log))}),
        ("index of random bytes", {**base.files, "-shm": chance.randbytes(len(index))}),
        ("log is the map", {**base.files, "-wal": main}),
        ("map is the log", {**base.files, "": log}),
    )


def _with(base: Base, suffix: str, changed: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, Files]]:
    for name, raw in changed:
        yield f"{suffix or 'map'} {name}", {**base.files, suffix: raw}


def _cuts(raw: bytes, step: int, first: int) -> Iterator[tuple[str, bytes]]:
    places = {place + off for place in range(first, len(raw), step) for off in (-1, 0, 1, 24, 100, step // 2)}
    for place in sorted(place for place in places if 0 <= place < len(raw)):
        yield f"cut to {place} bytes", raw[:place]


def _flips(raw: bytes, places: list[int] | range, bits: tuple[int, ...] = _BITS) -> Iterator[tuple[str, bytes]]:
    for place in places:
        for bit in bits:
            yield f"byte {place} ^ {bit:#x}", raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :]


def _structure(main: bytes) -> list[int]:
    """Bytes of the file's header, of all page headers and cell pointers, and the first of every cell."""
    places = set(range(100))
    for start in range(0, len(main), PAGE):
        head = start + (100 if start == 0 else 0)
        cells = struct.unpack_from(">H", main, head + 3)[0] if main[head] in (2, 5, 10, 13) else 0
        width = 12 if main[head] in (2, 5) else 8
        places.update(range(head, head + width + 2 * min(cells, 100)))
        for number in range(min(cells, 100)):
            cell = start + struct.unpack_from(">H", main, head + width + 2 * number)[0]
            places.update(range(cell, min(cell + 20, len(main))))
    return sorted(places)


def _pages(main: bytes) -> Iterator[tuple[str, bytes]]:
    pages = [main[start : start + PAGE] for start in range(0, len(main), PAGE)]
    for number, page in enumerate(pages):
        yield f"page {number + 1} zero", b"".join([*pages[:number], bytes(PAGE), *pages[number + 1 :]])
        following = (number + 1) % len(pages)
        swapped = dict(enumerate(pages)) | {number: pages[following], following: page}
        yield f"pages {number + 1} and {following + 1} swapped", b"".join(swapped[key] for key in sorted(swapped))
        yield f"page {number + 1} twice", b"".join([*pages[: number + 1], page, *pages[number + 1 :]])
    yield "a page more", main + bytes(PAGE)
    yield "a byte more", main + b"x"


def judge_all(base: Base, every: list[tuple[str, Files]], folder: Path) -> MutantTally:
    """Open each mutant in a process that may crash or hang: then it is counted, and another process goes on."""
    tally, done = MutantTally(), 0
    while done < len(every):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            for name, files in every[done:]:
                os.write(writing, (_judge(base, name, files, folder) + "\n").encode())
            os._exit(0)
        os.close(writing)
        answers, hung = _listen(reading, len(every) - done)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for answer in answers:
            _count(tally, answer)
        done += len(answers)
        if done < len(every):
            _count(tally, f"{'hang' if hung else 'crash'}: {every[done][0]}")
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
        _write(path, files)
        read = _read(base, path)
        problems = check(path)
        agreed = read == "other model" or (read == "refused") == bool(problems)
        read = read.replace("other model", "refused")
        if not agreed or any("\n" in problem for problem in problems):
            return f"wrong check: {name}: {read}, but check says {problems}"
        inspect_safely = _sentence(lambda: inspect(path))
        if not base.live or read not in {"right", "refused"} or not inspect_safely:
            return f"{read if inspect_safely else 'traceback of inspect'}: {name}"
        _write(folder / "case" / "map.tscm.live", files)
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


def _sentence(use: object) -> bool:
    try:
        use()  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001
        return is_sentence(error)
    return True


def _drive_on(base: Base, folder: Path) -> str:
    try:
        with begin(folder, "afterwards") as live:
            now, notes = content(live.live_path), live.notes
    except Exception as error:  # noqa: BLE001
        return "refused" if is_sentence(error) else f"traceback of {type(error).__name__}"
    if base.content.items() <= now.items() and len(now) == len(base.content) + 1:
        return "right"
    return "noted" if notes else "wrong answer of the live map"


def _files(path: Path) -> Files:
    named = {suffix: path.with_name(path.name + suffix) for suffix in SUFFIXES}
    return {suffix: file.read_bytes() for suffix, file in named.items() if file.exists()}


def _write(path: Path, files: Files) -> None:
    if not path.name.endswith(".live"):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
    else:
        for old in path.parent.iterdir():
            old.unlink()
    for suffix, raw in files.items():
        path.with_name(path.name + suffix).write_bytes(raw)
