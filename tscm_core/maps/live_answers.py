"""What a live map answers with, and what it knows of its own drive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tscm_core.recognition.records import Candidate, Observation


@dataclass(frozen=True, slots=True)
class Begun:
    """The session that is under way, whether the file knows of it, and which names are taken for the next one."""

    name: str
    started_ns: int
    taken: frozenset[str]
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """A map that was written or read: where, its keyframes, and the copy of what it displaced, if that was kept.

    ``note`` is what a person should know about it, in one sentence; mostly empty.
    """

    path: Path
    keyframes: int
    kept: Path | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Relocalization:
    """What :meth:`LiveMap.relocalize` found: candidates, best first, keyframes searched, and the stages that judged."""

    candidates: tuple[Candidate, ...]
    searched: int
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fullness:
    """What the bounds of the map did since it was opened.

    ``thinned`` keyframes were given up, ``passed_over`` images show a place of a map that is full. ``problem`` says,
    in one sentence, why the last image of a new place is not remembered; images of known places do not change it.
    """

    thinned: int = 0
    passed_over: int = 0
    problem: str = ""

    def after(self, seen: Observation) -> Fullness:
        """The account after one more image."""
        if seen.keyframe is not None:
            return Fullness(self.thinned + len(seen.thinned), self.passed_over)
        if not seen.no_room:
            return self
        if seen.own_accepted:
            return Fullness(self.thinned, self.passed_over + 1, self.problem)
        return Fullness(self.thinned, self.passed_over, seen.no_room)


def unverifiable(missing: int, count: int) -> str:
    """One sentence if ``missing`` of ``count`` keyframes have nothing that geometry could verify; else empty."""
    if not missing:
        return ""
    return (
        f"{missing} of {count} keyframes have no local features, as in maps made without geometry: they close no loops "
        f"while geometry.enabled is true"
    )
