"""The journey of one image: from pixels to «I have been here before», or to the reason why not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from tscm_core.config import Config
from tscm_core.errors import StampError
from tscm_core.recognition.candidates import find_candidates
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.evidence import (
    SEARCH,
    Evidence,
    LoadFeatures,
    ordered,
    stages,
)
from tscm_core.recognition.foreign_places import ForeignPlaces
from tscm_core.recognition.geometry import LocalMatcher, OrbMatcher
from tscm_core.recognition.image import resize, thumbnail_jpeg
from tscm_core.recognition.keyframes import KeyframeGate, comparable
from tscm_core.recognition.local_features import LocalFeatures, encode_features
from tscm_core.recognition.poses import distance_m
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import (
    Candidate,
    Descriptor,
    Frame,
    Keyframe,
    Loop,
    Observation,
    Rgb,
    Status,
)
from tscm_core.recognition.remembered import Remembered, remembered
from tscm_core.recognition.stopwatch import Stopwatch
from tscm_core.recognition.thinning import Room, make_room

_KEYFRAMES_A_PLACE = 32


class LoopDetector:
    """Recognises places. Deterministic: the same frames and settings (``model.threads`` too), the same observations.

    Not thread-safe; :class:`tscm_core.maps.live_map.LiveMap` puts a lock around it and a file under it.
    """

    def __init__(
        self,
        describer: Describer,
        config: Config | None = None,
        session: str = "session",
        matcher: LocalMatcher | None = None,
        load_features: LoadFeatures | None = None,
    ) -> None:
        """Begin with an empty map.

        Args:
            describer: makes descriptors.
            config: all settings.
            session: name of the drive that begins.
            matcher: finds and verifies local features; :class:`OrbMatcher` unless said otherwise.
            load_features: where stored features are read from; without it all of them are kept in memory.
        """
        self.describer = describer
        self.config = config or Config()
        self.matcher = matcher or OrbMatcher()
        self._load_features = load_features
        self._last_with_pose: Keyframe | None = None
        self.foreign = ForeignPlaces(describer.dim, self.matcher, self.config.robots.max_keyframes)
        self.restore((), (), session)

    def observe(self, frame: Frame) -> Observation:
        """What ``frame`` shows, and remember it if it is a keyframe.

        Raises:
            ImageError: the image is not RGB ``uint8 [H, W, 3]``.
            StampError: the frame is not newer than the last one of this session.
        """
        observation = self.judge(frame)
        self.remember(observation)
        return observation

    def judge(self, frame: Frame) -> Observation:
        """What ``frame`` shows. Whatever is looked for takes an id; it is in the map once :meth:`remember` was called.

        Raises:
            ImageError: the image is not RGB ``uint8 [H, W, 3]``.
            StampError: the frame is not newer than the last one of this session.
        """
        self._advance(frame)
        watch = Stopwatch()
        with watch.stage("keyframe"):
            reason = self.gate.refuse_motion(frame)
        if reason:
            return self._not_keyframe(frame, reason, watch)
        with watch.stage("describe"):
            image = resize(frame.image, self.describer.input_size)
            reason = self.gate.refuse_texture(image)
            descriptor = None if reason else self.describe(image)
        if descriptor is None or (reason := self.gate.refuse_novelty(frame, descriptor)):
            return self._not_keyframe(frame, reason or "", watch)
        with watch.stage("features"):
            features = self.extract(frame)
        query = self._query(frame, descriptor, features)
        with watch.stage(SEARCH):
            begin, limit = self.searchable(query)
            candidates = find_candidates(self.memory, descriptor, limit, self.config.candidates, begin)
        candidates = self.evidence.judge(query, features, candidates, self.config, watch)
        foreign = self.foreign.judge(query, features, self.config, watch)
        seen = self._conclude(query, ordered((*candidates, *foreign)), (begin, limit), watch)
        if seen.keyframe is not None and features is not None:
            self._shelf.put(seen.keyframe.id, features)
        return seen

    def remember(self, observation: Observation) -> None:
        """Go on from what was judged last, and put its keyframe and loops, if it has any, into the map."""
        if observation.query is None:
            return
        self.gate.last = observation.query
        pose = observation.query.pose
        if pose is not None and all(map(math.isfinite, pose.position)):  # or no way would be finite from here on
            self._last_with_pose = observation.query
        if observation.thinned:
            self.memory.drop(observation.thinned)
            self._shelf.forget(observation.thinned)
        if observation.keyframe is not None:
            self.memory.add([observation.keyframe], observation.loops)

    def describe(self, image: Rgb) -> Descriptor:
        """The descriptor of an image of any size, in the precision in which maps keep it."""
        return stored_precision(self.describer.describe([image])[0])

    def find(self, descriptor: Descriptor, limit: int, top_places: int = 0) -> tuple[Candidate, ...]:
        """The places of the first ``limit`` keyframes that look most like ``descriptor``; changes nothing."""
        rule = self.config.candidates
        if top_places:
            deep = max(rule.top_keyframes, _KEYFRAMES_A_PLACE * top_places)
            rule = replace(rule, top_places=top_places, top_keyframes=deep)
        return find_candidates(self.memory, descriptor, limit, rule)

    def extract(self, frame: Frame) -> LocalFeatures | None:
        """The local features of an image; ``None`` where geometry is switched off."""
        return self.matcher.extract(frame, self.config.geometry) if self.config.geometry.enabled else None

    def examine(self, features: LocalFeatures | None, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """Candidates that :meth:`find` gave, judged by geometry too, as those of an image that no frame came before."""
        return self.evidence.judge_alone(features, candidates, self.config)

    def features_of(self, keyframe_id: int) -> LocalFeatures | None:
        """The local features of a keyframe of the map; ``None`` if it has none."""
        return self.evidence.shelf.of(keyframe_id)

    def searchable(self, query: Keyframe) -> tuple[int, int]:
        """The positions between which the keyframes are that may be a loop for ``query``."""
        limit = self._recent_limit(query.stamp_ns, query if query.pose else None)
        begin = self.memory.begin_of(self.session)
        if self.config.candidates.sessions == "within":
            return begin, max(begin, limit)
        return 0, min(limit, begin) if self.config.candidates.sessions == "between" else limit

    def searchable_at(self, stamp_ns: int) -> int:
        """The position up to which keyframes are old enough at ``stamp_ns``, if the robot has not moved since."""
        last = self.gate.last
        return self._recent_limit(stamp_ns, last if last and last.pose else None)

    def _recent_limit(self, stamp_ns: int, at: Keyframe | None) -> int:
        travelled_m = at.travelled_m if at else None
        return self.memory.recent_limit(self.session, stamp_ns, travelled_m, self.config.recency, self._next_id)

    def restore(self, keyframes: Iterable[Keyframe], loops: Iterable[Loop], session: str) -> None:
        """Replace everything remembered by ``keyframes`` in the order of their ids, and begin ``session``."""
        self.adopt(self.prepared(keyframes, loops), session)

    def prepared(self, keyframes: Iterable[Keyframe], loops: Iterable[Loop]) -> Remembered:
        """What :meth:`adopt` takes; changes nothing, and may be done by any thread while images go on."""
        bounded = self.config.map.max_keyframes > 0 or self.config.map.max_mb > 0
        return remembered(self.describer.dim, keyframes, loops, self._load_features, bounded=bounded)

    def adopt(self, remembered: Remembered, session: str) -> None:
        """Replace everything remembered by what was prepared, and begin ``session``; takes no time."""
        self.memory, self._shelf = remembered.memory, remembered.shelf
        self._next_id = self.memory.places[-1].keyframe_id + 1 if self.memory.places else 1
        self.begin_session(session)

    def begin_session(self, session: str) -> None:
        """Begin another drive on the same map: its clock and its odometry have nothing to do with the last one's."""
        self.session = session
        self.gate = KeyframeGate(self.config.keyframes)
        self.evidence = Evidence(self._shelf, self.matcher, self.memory.place_of)
        self.foreign.begin_session()
        self._newest_ns: int | None = None
        self._last_with_pose = None

    def reconfigure(self, config: Config) -> None:
        """Use other settings from the next frame on."""
        self.config = config
        self.gate.config = config.keyframes

    def _advance(self, frame: Frame) -> None:
        if self._newest_ns is not None and frame.stamp_ns <= self._newest_ns:
            raise StampError(frame.stamp_ns, self._newest_ns)
        self._newest_ns = frame.stamp_ns

    def _query(self, frame: Frame, descriptor: Descriptor, features: LocalFeatures | None) -> Keyframe:
        return Keyframe(
            id=0,
            session=self.session,
            stamp_ns=frame.stamp_ns,
            pose=frame.pose,
            travelled_m=self._travelled_m(frame),
            descriptor=descriptor,
            thumbnail_jpeg=self._thumbnail(frame),
            features=None if features is None else encode_features(features),
        )

    def _thumbnail(self, frame: Frame) -> bytes:
        """Empty where nothing is remembered: it is kept with keyframes alone, and nothing else looks at it."""
        return b"" if self._only_looks else thumbnail_jpeg(frame.image, self.config.map.thumbnail_width)

    @property
    def _only_looks(self) -> bool:
        return self.config.mode == "localization"

    def _travelled_m(self, frame: Frame) -> float:
        last = self._last_with_pose
        if last is None or last.pose is None:
            return 0.0
        if frame.pose is None or not comparable(frame.pose, last.pose):
            return last.travelled_m
        return last.travelled_m + distance_m(frame.pose, last.pose)

    def _conclude(
        self, query: Keyframe, candidates: tuple[Candidate, ...], searched: tuple[int, int], watch: Stopwatch
    ) -> Observation:
        seen = Observation(
            stamp_ns=query.stamp_ns,
            session=self.session,
            status=candidates[0].status if candidates else Status.MAP_TOO_YOUNG,
            reason=self._reason(candidates),
            map_size=len(self.memory),
            searched=self.memory.count(*searched),
            candidates=candidates,
            stages=stages(self.config),
            stage_times=watch.times,
            query=query,
            span=self.memory.span(*searched),
        )
        room = self._room(query, is_known=bool(seen.own_accepted))
        self._next_id += 1  # also where it is not remembered: ids tell how far apart keyframes came
        if room.reason:
            return replace(seen.without_keyframe(room.reason, seen.map_size), no_room=room.reason)
        if not room.remembered:
            return seen
        query = replace(query, id=self._next_id - 1)
        grown = len(self.memory) + 1 - len(room.thinned)
        return replace(seen, query=query, keyframe=query, map_size=grown, thinned=room.thinned)

    def _room(self, query: Keyframe, *, is_known: bool) -> Room:
        if self._only_looks:
            return Room(False)
        size = len(self.memory), self.memory.file_bytes
        return make_room(query, is_known, size, self.config.map, self.memory.least_missed)

    def _reason(self, candidates: tuple[Candidate, ...]) -> str:
        if candidates:
            return (self.foreign if candidates[0].robot else self.evidence).reason(candidates[0], self.config)
        nothing = f"none of the {len(self.memory)} keyframes in the map is old enough to be matched (recency.*)"
        sessions = self.config.candidates.sessions
        return (
            nothing if sessions == "all" else f"{nothing}, or of a session that may be (candidates.sessions {sessions})"
        )

    def _not_keyframe(self, frame: Frame, reason: str, watch: Stopwatch) -> Observation:
        return Observation(
            stamp_ns=frame.stamp_ns,
            session=self.session,
            status=Status.NOT_KEYFRAME,
            reason=reason,
            map_size=len(self.memory),
            searched=0,
            stage_times=watch.times,
        )
