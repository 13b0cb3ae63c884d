"""Places that other robots saw: a memory for each robot, searched and judged beside the robot's own map."""

from __future__ import annotations

import bisect
from array import array
from dataclasses import replace
from enum import Enum

from tscm_core.config import Config
from tscm_core.errors import KeyframeError
from tscm_core.recognition.candidates import find_candidates
from tscm_core.recognition.evidence import SEARCH, Evidence, FeatureShelf, ordered
from tscm_core.recognition.geometry import LocalMatcher
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.place_memory import PlaceMemory
from tscm_core.recognition.precision import is_unit_length
from tscm_core.recognition.records import Candidate, Keyframe
from tscm_core.recognition.stopwatch import Stopwatch


class Added(Enum):
    """What became of a keyframe of another robot."""

    NEW = "new"
    REPEATED = "repeated"
    """It came before, and changes nothing."""
    OF_ANOTHER_MAP = "of another map"
    """The robot began another map: what was known of it is forgotten, and this is the first keyframe of the new one."""


class ForeignPlaces:
    """What other robots told of their maps. Ids and names of sessions mean something within one robot's map alone.

    Places are judged as those of the own map are, but for two things. Odometry contradicts no single loop, since no two
    robots share it; the loops before may, as between two days. Nothing is too recent: two robots side by side may well
    see the same. Keyframes are given up where there are too many, and none of these robots' own loops are known, so
    that any of them may go.

    Not thread-safe; :class:`tscm_core.maps.live_map.LiveMap` puts a lock around it.
    """

    def __init__(self, dim: int, matcher: LocalMatcher, most: int) -> None:
        """Know of no robot yet.

        Args:
            dim: length of a descriptor.
            matcher: verifies local features.
            most: keyframes kept of each robot; beyond, those go that are missed least.
        """
        self._dim, self._matcher, self._most = dim, matcher, most
        self._robots: dict[str, _Robot] = {}

    def add(self, robot: str, keyframe: Keyframe) -> Added:
        """Remember a keyframe of ``robot``; its thumbnail is not kept.

        Raises:
            KeyframeError: it has no id, or no descriptor ``float32 [dim]`` of length 1. Nothing is changed.
        """
        self._check(robot, keyframe)
        known = self._robots.get(robot)
        if known is not None and known.heard.has(keyframe):
            return Added.REPEATED
        if known is not None and keyframe.id > known.heard.newest_id:
            known.add(keyframe, self._most)
            return Added.NEW
        self._robots[robot] = begun = _Robot(self._dim, self._matcher)
        begun.add(keyframe, self._most)
        return Added.NEW if known is None else Added.OF_ANOTHER_MAP

    def begin_session(self) -> None:
        """Begin another drive of our own: its frames are not supported by those of the last one."""
        for robot in self._robots.values():
            robot.begin_session(self._matcher)

    def judge(
        self, query: Keyframe, features: LocalFeatures | None, config: Config, watch: Stopwatch
    ) -> tuple[Candidate, ...]:
        """The places of all robots that ``query`` may show, best first, with ``robot`` set; nothing if none is known.

        Frames must come in their order, for the sake of temporal support. ``rank`` counts the places of each robot for
        itself. With ``candidates.sessions`` ``within`` there are none: another robot's drive is never the same one.
        """
        if config.candidates.sessions == "within":
            return ()
        found = [
            replace(candidate, robot=name)
            for name, robot in self._robots.items()
            for candidate in robot.judge(query, features, config, watch)
        ]
        return ordered(tuple(sorted(found, key=lambda candidate: -candidate.similarity)))  # ties go by similarity

    def reason(self, best: Candidate, config: Config) -> str:
        """Why ``best``, of the frame that was judged last, got its status, with the figures that decided it."""
        return f"in the map of {best.robot}: {self._robots[best.robot].evidence.reason(best, config)}"

    def counts(self) -> dict[str, int]:
        """How many keyframes are kept, by robot."""
        return {name: len(robot.memory) for name, robot in list(self._robots.items())}

    def _check(self, robot: str, keyframe: Keyframe) -> None:
        of = f"keyframe {keyframe.id} of robot {robot}"
        if not robot or keyframe.id < 1:
            raise KeyframeError(f"{of} cannot be told from others: robots have names, and ids begin at 1")
        if keyframe.descriptor.shape != (self._dim,):
            raise KeyframeError(f"{of} has a descriptor of shape {list(keyframe.descriptor.shape)}, not [{self._dim}]")
        if not is_unit_length(keyframe.descriptor):
            raise KeyframeError(f"{of} has a descriptor that is not of length 1: it was damaged on the way")


class _Robot:
    """One robot's map, as far as it was told."""

    def __init__(self, dim: int, matcher: LocalMatcher) -> None:
        self.memory, self.heard = PlaceMemory(dim), _Heard()
        self.memory.watch_spacing()  # from the beginning: no image has to wait once there are too many
        self._features: dict[int, bytes | None] = {}
        self._shelf = FeatureShelf(self._features.get)
        self.begin_session(matcher)

    def begin_session(self, matcher: LocalMatcher) -> None:
        self.evidence = Evidence(self._shelf, matcher, self.memory.place_of, own_drives=False)

    def add(self, keyframe: Keyframe, most: int) -> None:
        self.heard.add(keyframe)
        self.memory.add([keyframe])
        self._features[keyframe.id] = keyframe.features
        if len(self.memory) > most:
            self._drop(len(self.memory) - most)

    def judge(
        self, query: Keyframe, features: LocalFeatures | None, config: Config, watch: Stopwatch
    ) -> tuple[Candidate, ...]:
        with watch.stage(SEARCH):
            limit = len(self.memory.places)
            candidates = find_candidates(self.memory, query.descriptor, limit, config.candidates)
        return self.evidence.judge(query, features, candidates, config, watch)

    def _drop(self, count: int) -> None:
        """Give up those that are missed least; the oldest where all are the first or the last one of a session."""
        given_up = self.memory.least_missed(count) or tuple(self._features)[:count]
        self.memory.drop(given_up)
        self._shelf.forget(given_up)
        for number in given_up:
            del self._features[number]


class _Heard:
    """Id, stamp and session of every keyframe that came, those too that were given up since: 24 bytes each."""

    def __init__(self) -> None:
        self._ids, self._stamps, self._of_session = array("q"), array("q"), array("q")
        self._sessions: dict[str, int] = {}

    @property
    def newest_id(self) -> int:
        return self._ids[-1]

    def add(self, keyframe: Keyframe) -> None:
        self._ids.append(keyframe.id)
        self._stamps.append(keyframe.stamp_ns)
        self._of_session.append(self._sessions.setdefault(keyframe.session, len(self._sessions)))

    def has(self, keyframe: Keyframe) -> bool:
        at = bisect.bisect_left(self._ids, keyframe.id)
        if at == len(self._ids) or self._ids[at] != keyframe.id:
            return False
        session = self._sessions.get(keyframe.session)
        return self._stamps[at] == keyframe.stamp_ns and self._of_session[at] == session
