"""Loops between maps: the stored keyframes of one, in their order, are looked for among those of the maps before it.

Nothing is described or extracted again: descriptors and local features are those that the maps hold, and all rules are
those of recognition on the robot. Other than there, only keyframes of other maps are searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tscm_core.config import Config
from tscm_core.recognition.candidates import find_candidates
from tscm_core.recognition.evidence import Evidence, FeatureShelf, LoadFeatures, decoded
from tscm_core.recognition.geometry import LocalMatcher, OrbMatcher
from tscm_core.recognition.local_features import DESCRIPTOR_BYTES, LocalFeatures
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.records import Candidate, Keyframe, Loop, Status
from tscm_core.recognition.stopwatch import Stopwatch

_NO_FEATURES = LocalFeatures(
    np.zeros((0, 2), np.float32), np.zeros((0, DESCRIPTOR_BYTES), np.uint8), np.zeros(0, np.float32), 1, 1
)
"""Of a keyframe that was made without geometry: it shares nothing with any other, and so closes no loop."""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many keyframes ended in one status."""

    status: Status
    keyframes: int


class LoopsBetween:
    """Takes the keyframes of several maps one after the other, and says which loops each closes into earlier maps.

    Keeps of each keyframe what a running detector keeps, not its features. Deterministic.
    """

    def __init__(
        self, dim: int, config: Config, load_features: LoadFeatures, matcher: LocalMatcher | None = None
    ) -> None:
        """Begin with the first map.

        Args:
            dim: length of a descriptor.
            config: of which ``candidates``, ``geometry``, ``odometry`` and ``temporal`` matter.
            load_features: where the features of keyframes that were taken are read from, by id.
            matcher: verifies local features; :class:`OrbMatcher` unless said otherwise.
        """
        self.config = config
        self.without_features = 0
        """Keyframes that were looked for, and could not be verified though ``geometry.enabled`` asks for it."""
        self._memory = PlaceMemory(dim)
        self._shelf = FeatureShelf(load_features)
        self._matcher = matcher or OrbMatcher()
        self._statuses: Counter[Status] = Counter()
        self._sessions: set[str] = set()
        self.begin_map()

    def begin_map(self) -> None:
        """From here on come the keyframes of another map: all that came before are searched."""
        self._searched = len(self._memory)
        self._before = frozenset(self._sessions)
        self._evidence: dict[str, Evidence] = {}

    @property
    def statuses(self) -> tuple[StatusCount, ...]:
        """What became of the keyframes that were looked for, in the order of the statuses."""
        return tuple(StatusCount(status, self._statuses[status]) for status in sorted(self._statuses))

    def take(self, keyframe: Keyframe, carried: Sequence[Loop]) -> tuple[Candidate, ...]:
        """The loops of the next keyframe into earlier maps, best first; ``carried`` are those that its own map had.

        A keyframe that goes on with a drive of an earlier map is not looked for: it would find the one just before it.
        Ids must ascend, and names of sessions be unique over all drives.
        """
        known = [loop for loop in carried if loop.candidate.keyframe_id < keyframe.id]  # all, unless made by others
        matched = {loop.candidate.keyframe_id for loop in known}  # its map may have known places of an earlier one
        found = self._look_for(keyframe) if self._searched and keyframe.session not in self._before else ()
        accepted = tuple(candidate for candidate in found if candidate.keyframe_id not in matched)
        self._sessions.add(keyframe.session)
        self._memory.add([keyframe], [*known, *(Loop(keyframe.id, candidate) for candidate in accepted)])
        return accepted

    def _look_for(self, keyframe: Keyframe) -> tuple[Candidate, ...]:
        candidates = find_candidates(self._memory, keyframe.descriptor, self._searched, self.config.candidates)
        evidence = self._evidence.get(keyframe.session)
        if evidence is None:
            evidence = Evidence(self._shelf, self._matcher, self._memory.place_of)
            self._evidence[keyframe.session] = evidence
        judged = evidence.judge(keyframe, self._features_of(keyframe), candidates, self.config, Stopwatch())
        self._statuses[judged[0].status if judged else Status.MAP_TOO_YOUNG] += 1
        return tuple(candidate for candidate in judged if candidate.status is Status.ACCEPTED)

    def _features_of(self, keyframe: Keyframe) -> LocalFeatures | None:
        if not self.config.geometry.enabled:
            return None
        features = decoded(keyframe.features)
        if features is None:
            self.without_features += 1
            return _NO_FEATURES
        return features
