"""What a calibration knows: which places each setting would accept, and which of them are right.

Neighbouring keyframes show nearly the same picture and lean on the same chain of earlier frames: where one of them is
taken for another place, so are its neighbours. Ninety accepted keyframes in a row are therefore not ninety trials.
They are counted in episodes: accepted keyframes that lie less than ``EPISODE_KEYFRAMES`` after the first of them are
one episode, right if every match in it is right. One accepted keyframe is an episode, a lap of 300 is thirty.

Why ten: in a rendered world of two laps, with lax geometry, nine of ten runs of wrong matches were at most ten
keyframes long, and the correlation between being wrong here and so many keyframes later had fallen to its floor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

EPISODE_KEYFRAMES = 10
"""Accepted keyframes nearer to each other than this are one trial; the recency rule's idea of «just now» as well."""

DRIVE_GAP = 1_000_000
"""Keyframes are numbered through all drives; so far apart that no episode reaches from one map into another."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """The thresholds that decide before similarity does. ``certain_inliers`` goes along with ``min_inliers``."""

    min_inliers: int
    min_support: int
    certain_inliers: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A place that passes every test but, perhaps, that of similarity.

    ``query`` is the number of the keyframe, ``right`` whether the place is the same; ``None`` where nobody knows. What
    is not right is ``wrong`` or, where nothing can be said about it, left out.
    """

    query: int
    similarity: float
    right: bool | None
    wrong: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of all drives together: the pairs of every setting, the keyframes with a true match and those without any.

    ``in_use`` and ``min_similarity`` are the thresholds in use: of equals, what is nearest to them is best.
    """

    pairs: Mapping[Setting, tuple[Pair, ...]]
    revisits: frozenset[int]
    strangers: frozenset[int]
    unknown: int = 0
    in_use: Setting | None = None
    min_similarity: float | None = None

    def only(self, keep: Iterable[range]) -> Evidence:
        """The part of the evidence whose keyframes have numbers in ``keep``."""
        ranges = tuple(keep)

        def kept(query: int) -> bool:
            return any(query in numbers for numbers in ranges)

        pairs = {setting: tuple(p for p in of if kept(p.query)) for setting, of in self.pairs.items()}
        revisits, strangers = frozenset(filter(kept, self.revisits)), frozenset(filter(kept, self.strangers))
        return replace(self, pairs=pairs, revisits=revisits, strangers=strangers)


def merge(parts: Sequence[Evidence]) -> Evidence:
    """Several maps as one body of evidence; part n keeps its numbers, moved by n times ``DRIVE_GAP``."""
    pairs: dict[Setting, list[Pair]] = {}
    revisits: set[int] = set()
    strangers: set[int] = set()
    for number, part in enumerate(parts):
        shift = number * DRIVE_GAP
        for setting, of in part.pairs.items():
            moved = (Pair(pair.query + shift, pair.similarity, pair.right, pair.wrong) for pair in of)
            pairs.setdefault(setting, []).extend(moved)
        revisits.update(query + shift for query in part.revisits)
        strangers.update(query + shift for query in part.strangers)
    unknown = sum(part.unknown for part in parts)
    frozen = {setting: tuple(of) for setting, of in pairs.items()}
    return Evidence(frozen, frozenset(revisits), frozenset(strangers), unknown)


def numbers_of(part: int) -> range:
    """The numbers that :func:`merge` gives to the keyframes of one part."""
    return range(part * DRIVE_GAP, (part + 1) * DRIVE_GAP)


def episodes(queries: Iterable[int], length: int = EPISODE_KEYFRAMES) -> list[tuple[int, ...]]:
    """The episodes of accepted keyframes: each begins with the first at least ``length`` after the last one began."""
    found: list[list[int]] = []
    for query in sorted(set(queries)):
        if found and query - found[-1][0] < length:
            found[-1].append(query)
        else:
            found.append([query])
    return [tuple(episode) for episode in found]
