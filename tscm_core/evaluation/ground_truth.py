"""Which loops are right, by the poses of the keyframes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tscm_core.recognition.poses import yaw_rad
from tscm_core.recognition.records import Pose


@dataclass(frozen=True, slots=True)
class Truth:
    """When two images show the same place: within ``radius_m`` metres and ``max_yaw_deg`` degrees of heading."""

    radius_m: float
    max_yaw_deg: float = 180.0


@dataclass(frozen=True, slots=True)
class Query:
    """A keyframe as it was searched for: among the first ``searched`` keyframes; ``matches`` were accepted."""

    searched: int
    matches: tuple[int, ...]
    """Positions, in the order of the keyframes, of the accepted candidates."""


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


def score(poses: Sequence[Pose | None], queries: Sequence[tuple[int, Query]], truth: Truth) -> Score:
    """Judge the accepted candidates of a drive.

    Args:
        poses: true pose of every keyframe of the map, in the order of the keyframes; what has none is not judged.
        queries: (position of the keyframe, what was searched and accepted for it).
        truth: when two keyframes show the same place.
    """
    places = np.array([pose.position if pose else (np.nan,) * 3 for pose in poses]).reshape(-1, 3)  # [N, 3]
    yaws = np.array([yaw_rad(pose) if pose else np.nan for pose in poses])  # [N]
    revisits = accepted = found = 0
    correct: list[tuple[int, int]] = []
    wrong: list[tuple[int, int]] = []
    for position, query in ((position, query) for position, query in queries if poses[position]):
        same = _same_place(places, yaws, position, truth)
        matches = [match for match in query.matches if poses[match]]
        right = [match for match in matches if same[match]]
        revisits += bool(same[: query.searched].any())
        accepted += len(matches)
        found += bool(right)
        correct += [(position, match) for match in right]
        wrong += [(position, match) for match in matches if not same[match]]
    return Score(revisits, accepted, len(correct), found, tuple(correct), tuple(wrong))


def _same_place(
    places: NDArray[np.float64], yaws: NDArray[np.float64], position: int, truth: Truth
) -> NDArray[np.bool_]:
    apart = np.linalg.norm(places - places[position], axis=1)
    turned = np.abs((yaws - yaws[position] + math.pi) % (2 * math.pi) - math.pi)
    return np.asarray((apart <= truth.radius_m) & (turned <= math.radians(truth.max_yaw_deg) + 1e-9))
