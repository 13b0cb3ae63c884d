"""The journey of one image: from pixels to «I have been here before», or to the reason why not."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from tscm_core.config import Config
from tscm_core.errors import StampError
from tscm_core.recognition.candidates import explain, find_candidates
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.image import resize, thumbnail_jpeg
from tscm_core.recognition.keyframes import KeyframeGate, comparable
from tscm_core.recognition.place_memory import PlaceMemory
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
from tscm_core.recognition.stopwatch import Stopwatch

SEARCH = "search"
_RESTORE_CHUNK = 512
_KEYFRAMES_A_PLACE = 32


class Stage(Protocol):
    """A further judge of candidates, after appearance: temporal support, geometry."""

    @property
    def name(self) -> str:
        """What the stage is called in messages and in ``Observation.stages``."""

    def judge(self, frame: Frame, keyframe: Keyframe, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        """The same candidates with evidence filled in and the status of those that fail changed."""

    def explain(self, best: Candidate) -> str:
        """Why ``best`` got the status that this stage gave it, with the figures that decided it."""


class LoopDetector:
    """Recognises places. Deterministic: the same frames and settings (``model.threads`` too), the same observations.

    Not thread-safe; :class:`tscm_core.maps.live_map.LiveMap` puts a lock around it and a file under it.
    """

    def __init__(
        self,
        describer: Describer,
        config: Config | None = None,
        stages: Sequence[Stage] = (),
        session: str = "session",
    ) -> None:
        self.describer = describer
        self.config = config or Config()
        self.stages = tuple(stages)
        self._last_with_pose: Keyframe | None = None
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
        """What ``frame`` shows. A keyframe takes its id, but is in the map only once it is given to :meth:`remember`.

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
        keyframe = self._keyframe(frame, descriptor)
        with watch.stage(SEARCH):
            limit = self.searchable(keyframe)
            candidates = find_candidates(self.memory, keyframe.descriptor, limit, self.config.candidates)
        for stage in self.stages:
            with watch.stage(stage.name):
                candidates = stage.judge(frame, keyframe, candidates)
        return self._conclude(keyframe, candidates, limit, watch)

    def remember(self, observation: Observation) -> None:
        """Put the keyframe of ``observation``, if it has one, and its loops into the map."""
        if observation.keyframe is not None:
            self.memory.add([observation.keyframe], observation.loops)
            self.gate.last = observation.keyframe
            if observation.keyframe.pose is not None:
                self._last_with_pose = observation.keyframe

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

    def searchable(self, keyframe: Keyframe) -> int:
        """How many of the keyframes are old enough to be a loop for ``keyframe``."""
        travelled_m = keyframe.travelled_m if keyframe.pose else None
        return self.memory.recent_limit(keyframe.session, keyframe.stamp_ns, travelled_m, self.config.recency)

    def searchable_at(self, stamp_ns: int) -> int:
        """How many of the keyframes are old enough at ``stamp_ns``, if the robot has not moved since the last one."""
        last = self.gate.last
        travelled_m = last.travelled_m if last and last.pose else None
        return self.memory.recent_limit(self.session, stamp_ns, travelled_m, self.config.recency)

    def restore(self, keyframes: Iterable[Keyframe], loops: Iterable[Loop], session: str) -> None:
        """Replace everything remembered by ``keyframes`` in the order of their ids, and begin ``session``."""
        memory, following = PlaceMemory(self.describer.dim), iter(keyframes)
        while chunk := list(itertools.islice(following, _RESTORE_CHUNK)):
            memory.add(chunk)
        memory.add((), list(loops))
        self.memory = memory
        self._next_id = memory.places[-1].keyframe_id + 1 if memory.places else 1
        self.begin_session(session)

    def begin_session(self, session: str) -> None:
        """Begin another drive on the same map: its clock and its odometry have nothing to do with the last one's."""
        self.session = session
        self.gate = KeyframeGate(self.config.keyframes)
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

    def _keyframe(self, frame: Frame, descriptor: Descriptor) -> Keyframe:
        self._next_id += 1
        return Keyframe(
            id=self._next_id - 1,
            session=self.session,
            stamp_ns=frame.stamp_ns,
            pose=frame.pose,
            travelled_m=self._travelled_m(frame),
            descriptor=descriptor,
            thumbnail_jpeg=thumbnail_jpeg(frame.image, self.config.map.thumbnail_width),
        )

    def _travelled_m(self, frame: Frame) -> float:
        last = self._last_with_pose
        if last is None or last.pose is None:
            return 0.0
        if frame.pose is None or not comparable(frame.pose, last.pose):
            return last.travelled_m
        return last.travelled_m + distance_m(frame.pose, last.pose)

    def _conclude(
        self, keyframe: Keyframe, candidates: tuple[Candidate, ...], limit: int, watch: Stopwatch
    ) -> Observation:
        ordered = tuple(sorted(candidates, key=lambda candidate: candidate.status is not Status.ACCEPTED))
        status = ordered[0].status if ordered else Status.MAP_TOO_YOUNG
        return Observation(
            stamp_ns=keyframe.stamp_ns,
            session=self.session,
            status=status,
            reason=self._explain(ordered),
            map_size=len(self.memory) + 1,
            searched=limit,
            keyframe=keyframe,
            candidates=ordered,
            stages=(SEARCH, *(stage.name for stage in self.stages)),
            stage_times=watch.times,
        )

    def _explain(self, candidates: tuple[Candidate, ...]) -> str:
        if not candidates:
            return f"none of the {len(self.memory)} keyframes in the map is old enough to be matched (recency.*)"
        best, judges = candidates[0], {Status.NOT_CONSISTENT: "temporal", Status.NO_GEOMETRY: "geometry"}
        for stage in self.stages:
            if stage.name == judges.get(best.status):
                return stage.explain(best)
        return explain(best, self.config.candidates)

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
