"""Sound maps, and every way to damage them: cut, and with bytes flipped at every structural place."""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from durable import CONFIG, Content, begin, content, frame

from tscm_core.maps.live_map import LiveMap

PAGE, FRAME = 4096, 4096 + 24
_BITS = (0x01, 0x80, 0xFF)
SUFFIXES = ("", "-wal", "-shm")

Files = dict[str, bytes]
"""The files of one map by suffix."""


@dataclass(frozen=True, slots=True)
class Base:
    """A sound map: its files, what stands in it, and whether it is one that was being driven on.

    ``gone`` are rows that were deleted by what stands in the log alone: a repair that cannot read that finds them.
    """

    name: str
    files: Files
    content: Content
    live: bool
    gone: Content


def bases(folder: Path) -> tuple[list[Base], Files]:
    """Sound maps of every kind, and the files of another killed map of the same shape.

    A saved map, the live map of a killed process, and a thinned one, of which rows were deleted so that it has free
    pages: as its process closed it, and as one was killed that went on thinning.
    """
    killed, saved = _driven(folder, "one", 0)
    other, _ = _driven(folder, "other", 7)
    closed, half, gone = _thinned(folder)
    made = []
    for name, files, is_live in (
        ("saved map", saved, False),
        ("killed live map", killed, True),
        ("closed thinned map", closed, False),
        ("killed thinned map", half, True),
    ):
        path = folder / "case" / "map.tscm"
        write(path, files)
        made.append(Base(name, files, content(path), is_live, gone if name == "killed thinned map" else {}))
    return made, other


def _driven(folder: Path, name: str, start: int) -> tuple[Files, Files]:
    """A live map, half of it in its log, and what was saved of it before."""
    place = folder / name
    place.mkdir()
    with begin(place, name) as live:
        for number in range(start, start + 15):
            live.observe(frame(number))
        live.save()
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for number in range(start + 20, start + 27):
            live.observe(frame(number))
        return _files(place / "map.tscm.live"), _files(place / "map.tscm")


def _thinned(folder: Path) -> tuple[Files, Files, Content]:
    """A thinned map that was closed, the same one when its process was killed later, and what was in that before."""
    place = folder / "thinned"
    place.mkdir()
    path = place / "map.tscm.live"
    young = CONFIG.replace({"recency.keyframes": 40})
    with begin(place, "one", config=young) as live:
        for number in range(60):
            live.observe(frame(number))
        _drop(live, 15)
    closed = _files(path)
    with begin(place, "two", config=young) as live:
        for number in range(70, 76):
            live.observe(frame(number))
        live._store._db.execute("PRAGMA wal_checkpoint(PASSIVE)")
        before = content(path)
        _drop(live, 3)
        return closed, _files(path), before


def _drop(live: LiveMap, count: int) -> None:
    """One keyframe comes, and ``count`` of those go on which no loop rests."""
    store = live._store
    used = {loop.candidate.keyframe_id for loop in store.loops()} | {loop.keyframe_id for loop in store.loops()}
    spare = [keyframe for keyframe in store.keyframes() if keyframe.id not in used]
    fresh = replace(spare[-1], id=store.next_id, session=store.newest_session, stamp_ns=spare[-1].stamp_ns + 1)
    store.add(fresh, (), drop=[keyframe.id for keyframe in spare[:count]])


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
    return sorted(places | _free_list(main))


def _free_list(main: bytes) -> set[int]:
    """Bytes of the pages that list free pages, and the first of the free ones (https://sqlite.org/fileformat2.html)."""
    places: set[int] = set()
    trunk = struct.unpack_from(">I", main, 32)[0]
    while trunk:
        start = (trunk - 1) * PAGE
        following, held = struct.unpack_from(">2I", main, start)
        places.update(range(start, start + 8 + 4 * held + 4))
        for leaf in struct.unpack_from(f">{held}I", main, start + 8):
            places.update(range((leaf - 1) * PAGE, (leaf - 1) * PAGE + 12))
        trunk = following
    return places


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


def _files(path: Path) -> Files:
    named = {suffix: path.with_name(path.name + suffix) for suffix in SUFFIXES}
    return {suffix: file.read_bytes() for suffix, file in named.items() if file.exists()}


def write(path: Path, files: Files) -> None:
    """Put the files of a map where nothing else is: in a folder of its own, or over all that is beside a live map."""
    if not path.name.endswith(".live"):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
    else:
        for old in path.parent.iterdir():
            old.unlink()
    for suffix, raw in files.items():
        path.with_name(path.name + suffix).write_bytes(raw)
