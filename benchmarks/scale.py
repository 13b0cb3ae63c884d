"""What a map costs as it grows: time, memory and disk at 10,000, 100,000 and 1,000,000 places, and the growth between.

All goes through the real map (``LiveMap``) and its file. Made up are the descriptors, with the statistics of real ones
(``tscm_core/bench/places.py``), and the network, which costs nothing here: each image that comes brings the descriptor
of a second visit to a place of the map, so that it is searched for, found, judged with the settings as they come,
committed and remembered. Pictures are painted, and repeat after 32 places. Two kinds of map:

- ``bare``: no local features, ``geometry.enabled`` false. Thumbnails are of real size.
- ``features``: every keyframe has 600 local features, and each image is verified by those of its best places. At a
  million places such a file would take 34 GB and twice that while it is saved: only up to 100,000 unless asked for.

Not in these figures: the network, ROS, and a cold disk, since what was just written is still in the system's cache.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from scale_figures import heads, table_rows
from scale_steps import come_back, drive, fill, in_child, load
from tables import one_core, print_rows, write_json

from tscm_core.bench.header import header
from tscm_core.commands.support import errors
from tscm_core.errors import TscmError

KINDS = ("bare", "features")
_A_PLACE_KB = {"bare": 12.5, "features": 34.5}
_COPIES = 3.3
"""While a map is loaded: the saved one, the log of the running one with all of it, and the running one."""
_SPARE_GB, _GB = 1.0, 1e9
_MOST_WITH_FEATURES = 100_000
_LOOK_S = 0.2


def main(
    sizes: Annotated[str, typer.Option(help="Places, by commas, ascending.")] = "10000,100000,1000000",
    kinds: Annotated[str, typer.Option(help=f"Of {', '.join(KINDS)}, by commas.")] = ",".join(KINDS),
    seconds: Annotated[float, typer.Option(min=1.0, help="How long images come, without a save and with saves.")] = 30,
    folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(exists=True, file_okay=False, help="For the maps while it runs; else the system's."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="JSON file to write.")] = None,  # noqa: UP045
) -> None:
    """Measure maps of several sizes."""
    with one_core(), tempfile.TemporaryDirectory(prefix="tscm-scale-", dir=folder) as name:
        asked = wanted(sizes, kinds)
        require_room(Path(name), asked)
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind, _ in asked}
        for kind, count in asked:
            place = Path(name) / f"{kind}-{count}"
            place.mkdir()
            rows[kind].append(one_map(place, kind, count, seconds))
            shutil.rmtree(place)
            if out:
                write_json(out, {"benchmark": "scale", "header": header(), "seconds": seconds, "kinds": rows})
        for kind, found in rows.items():
            print_rows(f"{kind}: what a map costs as it grows", table_rows(found), heads(found))


def wanted(sizes: str, kinds: str) -> list[tuple[str, int]]:
    """Kinds and sizes to measure, in order.

    Raises:
        TscmError: there is no such kind, or a size is no number of at least 500.
    """
    names, texts = kinds.split(","), sizes.split(",")
    if unknown := [name for name in names if name not in KINDS]:
        raise TscmError(f"there is no kind {unknown[0]!r}: the kinds are {', '.join(KINDS)}")
    if wrong := [text for text in texts if not text.isdecimal() or int(text) < 500]:
        raise TscmError(f"--sizes takes numbers of places from 500 on, by commas, not {wrong[0]!r}")
    counts = sorted({int(text) for text in texts})
    within = [count for count in counts if count <= _MOST_WITH_FEATURES]
    if "features" in names and within != counts and "bare" in names:
        errors.print(f"maps with features are left out above {_MOST_WITH_FEATURES:,} places; --kinds features has them")
    return [(name, count) for name in names for count in (within if name == "features" and "bare" in names else counts)]


def require_room(folder: Path, asked: Sequence[tuple[str, int]]) -> None:
    """Refuse what the disk has no room for.

    Raises:
        TscmError: it has not.
    """
    needed = max(_COPIES * _A_PLACE_KB[kind] * count * 1e3 for kind, count in asked) / _GB + _SPARE_GB
    free = shutil.disk_usage(folder).free / _GB
    if free < needed:
        raise TscmError(
            f"{folder.parent} has {free:.1f} GB free, and the largest of these maps takes {needed:.1f} GB: choose "
            "another --folder, or smaller --sizes"
        )


def one_map(folder: Path, kind: str, count: int, seconds: float) -> dict[str, Any]:
    """All figures of one map; its files lie in ``folder``.

    Raises:
        TscmError: a step failed, or the figures contradict each other.
    """
    features, figures = kind == "features", dict[str, Any](places=count)
    with _watched(folder) as disk:
        _say(kind, count, "filling a map")
        figures |= in_child(folder, fill, count, features)
        _say(kind, count, "opening it, driving, saving")
        figures |= in_child(folder, drive, count, features, seconds)
        _say(kind, count, "opening it after a kill")
        figures |= in_child(folder, come_back, features)
        for path in folder.glob("map.tscm.live*"):
            path.unlink()
        _say(kind, count, "loading it")
        figures |= in_child(folder, load, count, features)
    figures["disk_peak_mb"] = disk[0] / 1e6
    require_consistent(figures)
    return figures


def require_consistent(figures: dict[str, Any]) -> None:
    """Refuse figures of a map that lost, or made up, anything.

    Raises:
        TscmError: with all that does not add up.
    """
    count, added, saving = figures["places"], figures["added"], figures["saving"]
    keyframes = figures["quiet"]["keyframes"] + saving["keyframes"]
    images = figures["quiet"]["frames"] + saving["frames"]
    equal = {
        "places found after a restart": (figures["opened"], count),
        "keyframes added and images": (keyframes, images),
        "places more and keyframes added": (added, keyframes),
        "places found after a kill": (figures["opened_after_kill"], count + added),
        "places loaded and saved": (figures["loaded"], figures["saved"]),
        "places after loading": (figures["after_load"], figures["loaded"] + figures["frames_after_load"]),
    }
    wrong = [f"{what}: {one} and {other}" for what, (one, other) in equal.items() if one != other]
    if not count <= figures["saved"] <= count + added:
        wrong.append(f"{figures['saved']} places saved of {count} to {count + added}")
    if wrong:
        raise TscmError(f"the map of {count} places is not what it should be: {'; '.join(wrong)}")


@contextmanager
def _watched(folder: Path) -> Iterator[list[int]]:
    """The most bytes that the files in ``folder`` took together."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            most[0] = max(most[0], _taken(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def _taken(folder: Path) -> int:
    taken = 0
    for path in folder.rglob("*"):
        try:
            taken += path.stat().st_blocks * 512
        except FileNotFoundError:  # gone since it was listed
            continue
    return taken


def _say(kind: str, count: int, what: str) -> None:
    errors.print(f"{time.strftime('%H:%M:%S')} {kind}, {count:,} places: {what}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
