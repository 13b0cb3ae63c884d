"""Which loops are right, by the poses of the keyframes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.poses import yaw_rad
from tscm_core.recognition.records import Keyframe, Pose


@dataclass(frozen=True, slots=True)
class Truth:
    """When two images show the same place: within ``radius_m`` metres and ``max_yaw_deg`` degrees of heading."""

    radius_m: float
    max_yaw_deg: float = 180.0


@dataclass(frozen=True, slots=True)
class TruePoses:
    """Where the keyframes of a replay truly were.

    ``by_session`` has true poses by stamp for each session whose drive has them apart from those that the detector saw.
    The keyframes of all other sessions were where their own poses say.
    """

    by_session: Mapping[str, Mapping[int, Pose | None]] = field(default_factory=dict)

    def of(self, keyframe: Keyframe) -> Pose | None:
        """The true pose of a keyframe, ``None`` if nobody knows it."""
        known = self.by_session.get(keyframe.session)
        return keyframe.pose if known is None else known.get(keyframe.stamp_ns)


@dataclass(frozen=True, slots=True)
class Query:
    """A keyframe as it was searched for: among those from ``begin`` up to ``searched``; ``matches`` were found."""

    searched: int
    matches: tuple[int, ...]
    """Positions, in the order of the keyframes, of the candidates to judge."""
    begin: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the poses say of one keyframe and its candidates.

    Attributes:
        position: of the keyframe, in the order of the keyframes.
        revisit: whether one of the keyframes that were searched shows its place; ``None`` if it has no pose.
        matches: positions of its candidates.
        right: for each candidate whether it shows the same place; ``None`` where one of the two has no pose.
    """

    position: int
    revisit: bool | None
    matches: tuple[int, ...]
    right: tuple[bool | None, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """What came of a drive.

    A revisit is a keyframe with a true match among the keyframes that the recency rule allowed. ``accepted`` counts
    candidates, of which ``correct`` were true and ``wrong`` were not; ``found`` counts revisits with a correct one.
    """

    revisits: int
    accepted: int
    correct: int
    found: int
    correct_pairs: tuple[tuple[int, int], ...]
    wrong_pairs: tuple[tuple[int, int], ...]

    @property
    def wrong(self) -> int:
        """Accepted candidates that were not true."""
        return self.accepted - self.correct

    @property
    def precision(self) -> float | None:
        """Correct / accepted; ``None`` if nothing was accepted."""
        return self.correct / self.accepted if self.accepted else None

    @property
    def recall(self) -> float | None:
        """Revisits with a correct accepted candidate / revisits; ``None`` if there were no revisits."""
        return self.found / self.revisits if self.revisits else None


class TruePlaces:
    """The true poses of the keyframes of one map, in their order; what has none is not judged."""

    def __init__(self, poses: Sequence[Pose | None], truth: Truth, remembered: Sequence[bool] | None = None) -> None:
        """``remembered`` says which of them the map had; all of them, unless said otherwise."""
        self._truth = truth
        self._remembered = np.ones(len(poses), np.bool_) if remembered is None else np.array(remembered, np.bool_)
        self._known = [pose is not None for pose in poses]
        self._places = np.array([pose.position if pose else (np.nan,) * 3 for pose in poses]).reshape(-1, 3)  # [N, 3]
        self._yaws = np.array([yaw_rad(pose) if pose else np.nan for pose in poses])  # [N]

    def verdict(self, position: int, query: Query) -> Verdict:
        """What the poses say of the keyframe at ``position``."""
        if not self._known[position]:
            return Verdict(position, None, query.matches, (None,) * len(query.matches))
        same = self._same_as(position)
        right = tuple(bool(same[match]) if self._known[match] else None for match in query.matches)
        there = (same & self._remembered)[query.begin : query.searched]
        return Verdict(position, bool(there.any()), query.matches, right)

    def _same_as(self, position: int) -> NDArray[np.bool_]:
        apart = np.linalg.norm(self._places - self._places[position], axis=1)
        turned = np.abs((self._yaws - self._yaws[position] + math.pi) % (2 * math.pi) - math.pi)
        within = turned <= math.radians(self._truth.max_yaw_deg) + 1e-9
        return np.asarray((apart <= self._truth.radius_m) & within)


def tally(verdicts: Iterable[Verdict]) -> Score:
    """The score of keyframes whose candidates in ``verdicts`` are those that were accepted."""
    revisits = found = 0
    correct: list[tuple[int, int]] = []
    wrong: list[tuple[int, int]] = []
    for verdict in verdicts:
        revisits += bool(verdict.revisit)
        found += any(verdict.right)
        judged = list(zip(verdict.matches, verdict.right, strict=True))
        correct += [(verdict.position, match) for match, right in judged if right]
        wrong += [(verdict.position, match) for match, right in judged if right is False]
    return Score(revisits, len(correct) + len(wrong), len(correct), found, tuple(correct), tuple(wrong))


def score(poses: Sequence[Pose | None], queries: Sequence[tuple[int, Query]], truth: Truth) -> Score:
    """Judge the accepted candidates of a drive.

    Args:
        poses: true pose of every keyframe of the map, in the order of the keyframes; what has none is not judged.
        queries: (position of the keyframe, what was searched and accepted for it).
        truth: when two keyframes show the same place.
    """
    places = TruePlaces(poses, truth)
    return tally(places.verdict(position, query) for position, query in queries)
