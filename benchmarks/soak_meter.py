"""What a process holds, as Linux tells it: memory by kind, open handles and threads by name."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024.0


@dataclass(frozen=True, slots=True)
class Held:
    """Memory in MiB, and how many handles and threads there are of each name.

    ``anonymous`` is what the process itself asked for: neither files that are mapped nor memory shared with others, as
    DDS has it. ``proportional`` counts a page that n processes share as the n-th part of one.
    """

    resident: float
    anonymous: float
    mapped: float
    shared: float
    proportional: float
    handles: dict[str, int]
    threads: dict[str, int]


def held_by(pid: int | str) -> Held:
    """What a process holds now.

    Raises:
        OSError: there is no such process.
    """
    folder = Path(f"/proc/{pid}")
    status = _kibibytes(folder / "status")
    resident, anonymous, mapped, shared = (status[name] / _KIB for name in ("VmRSS", "RssAnon", "RssFile", "RssShmem"))
    return Held(
        resident,
        anonymous,
        mapped,
        shared,
        _kibibytes(folder / "smaps_rollup")["Pss"] / _KIB,
        _handles(folder / "fd"),
        _threads(folder / "task"),
    )


def anonymous_mib(pid: int | str = "self") -> float:
    """The anonymous memory of a process alone."""
    return _kibibytes(Path(f"/proc/{pid}/status"))["RssAnon"] / _KIB


def _kibibytes(path: Path) -> dict[str, int]:
    lines = re.findall(r"^(\w+):\s+(\d+) kB$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return {name: int(value) for name, value in lines}


def _handles(folder: Path) -> dict[str, int]:
    """By what they lead to, numbers left out: ``socket``, ``anon_inode:[eventpoll]``, ``map.tscm.live-wal``."""
    kinds: Counter[str] = Counter()
    for path in folder.iterdir():
        with suppress(OSError):  # closed since it was listed
            kinds[re.sub(r"[\d:]*\[\d+\]$", "", Path(path.readlink()).name)] += 1
    return dict(sorted(kinds.items()))


def _threads(folder: Path) -> dict[str, int]:
    names: Counter[str] = Counter()
    for path in folder.iterdir():
        with suppress(OSError):  # ended since it was listed
            names[path.joinpath("comm").read_text(encoding="utf-8", errors="replace").strip()] += 1
    return dict(sorted(names.items()))
