"""What speaks for and against a frame's candidates, beyond looks: geometry, the frames before, the loops before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection

from tscm_core.config import Config
from tscm_core.errors import FeatureError
from tscm_core.recognition.agreement import Agreement
from tscm_core.recognition.candidates import explain, judged
from tscm_core.recognition.geometry import (
    GEOMETRY,
    LocalMatcher,
    explain_geometry,
    has_pose,
    judge_geometry,
    look,
    with_pose,
)
from tscm_core.recognition.local_features import LocalFeatures, decode_features
from tscm_core.recognition.odometry import ODOMETRY, contradiction
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.records import Candidate, Keyframe, Status
from tscm_core.recognition.stopwatch import Stopwatch
from tscm_core.recognition.temporal import TEMPORAL, TemporalMemory, explain_temporal, judge_alone
from tscm_core.recognition.two_view import TwoView

SEARCH = "search"
_KEPT = 256

LoadFeatures = Callable[[int], bytes | None]
"""The stored features of a keyframe by its id; ``None`` if there are none."""


class FeatureShelf:
    """Local features by keyframe: all of them, or, over a file that has them, those that were asked for last.

    Any thread may use it.
    """

    def __init__(self, load: LoadFeatures | None = None) -> None:
        self._load = load
        self._features: OrderedDict[int, LocalFeatures] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, keyframe_id: int, features: LocalFeatures) -> None:
        """Keep the features of a keyframe."""
        with self._lock:
            self._features[keyframe_id] = features
            self._features.move_to_end(keyframe_id)
            if self._load is not None and len(self._features) > _KEPT:
                self._features.popitem(last=False)

    def forget(self, keyframe_ids: Collection[int]) -> None:
        """Keep the features of these keyframes no longer."""
        with self._lock:
            for number in keyframe_ids:
                self._features.pop(number, None)

    def of(self, keyframe_id: int) -> LocalFeatures | None:
        """The features of a keyframe; ``None`` if it has none that this program can read."""
        with self._lock:
            known = self._features.get(keyframe_id)
        if known is not None or self._load is None:
            return known
        blob = self._load(keyframe_id)
        features = decoded(blob)
        if features is not None:
            self.put(keyframe_id, features)
        return features


def decoded(blob: bytes | None) -> LocalFeatures | None:
    """Stored features; ``None`` if there are none, or if another version of this program made them."""
    try:
        return decode_features(blob) if blob else None
    except FeatureError:
        return None


class Evidence:
    """Judges the candidates of one session's frames in turn.

    With ``own_drives`` false the places are another robot's: none of its sessions is this one, whatever it is called.
    """

    def __init__(
        self,
        shelf: FeatureShelf,
        matcher: LocalMatcher,
        place_of: Callable[[int], Place],
        *,
        own_drives: bool = True,
    ) -> None:
        self.shelf = shelf
        self.matcher = matcher
        self._place_of = place_of
        self._own_drives = own_drives
        self._temporal = TemporalMemory(place_of)
        self._agreement = Agreement(place_of)
        self._excluded: dict[int, str] = {}

    def judge(
        self,
        keyframe: Keyframe,
        features: LocalFeatures | None,
        candidates: tuple[Candidate, ...],
        config: Config,
        watch: Stopwatch,
    ) -> tuple[Candidate, ...]:
        """The candidates, best first, with the evidence of all stages that are switched on."""
        verified = features is not None and config.geometry.enabled
        views: dict[int, TwoView] = {}
        if features is not None and verified:
            with watch.stage(GEOMETRY):
                views = look(features, candidates, self.shelf.of, self.matcher, config.geometry)
        self._excluded = {}
        if config.odometry.enabled:
            with watch.stage(ODOMETRY):
                self._excluded = self._contradictions(keyframe, candidates, views, config)
        if verified:
            candidates = judge_geometry(candidates, views, self._excluded.keys(), config.geometry)
        candidates = _not_consistent(candidates, self._excluded)
        if config.temporal.enabled:
            with watch.stage(TEMPORAL):
                candidates = self._temporal.judge(keyframe, candidates, config.temporal, verified=verified)
        if config.odometry.enabled:
            with watch.stage(ODOMETRY):
                between = self._agreement.contradictions(
                    keyframe, candidates, views, config, own_drives=self._own_drives
                )
            self._excluded |= between
            candidates = _not_consistent(candidates, between)
        if any(item.status is Status.ACCEPTED and has_pose(item, views) for item in candidates):
            with watch.stage("relative_pose"):
                candidates = tuple(with_pose(item, views) for item in candidates)
        return ordered(candidates)

    def _contradictions(
        self, keyframe: Keyframe, candidates: tuple[Candidate, ...], views: dict[int, TwoView], config: Config
    ) -> dict[int, str]:
        """Keyframes that the odometry of this drive excludes, and why."""
        if not self._own_drives:
            return {}
        reasons = {
            number: contradiction(keyframe, self._place_of(number), views.get(number), config.odometry)
            for number in (item.keyframe_id for item in candidates)
        }
        return {number: text for number, text in reasons.items() if text}

    def reason(self, best: Candidate, config: Config) -> str:
        """Why a candidate of the frame that was judged last got its status, with the figures that decided it."""
        verified = config.geometry.enabled
        if best.status is Status.NOT_CONSISTENT:
            alone = explain_temporal(best, config.temporal, verified=verified)
            return self._excluded.get(best.keyframe_id, alone)
        if best.status is Status.NO_GEOMETRY or (best.status is Status.AMBIGUOUS and verified):
            return explain_geometry(best, config.geometry)
        return explain(best, config.candidates)

    def judge_alone(
        self, features: LocalFeatures | None, candidates: tuple[Candidate, ...], config: Config
    ) -> tuple[Candidate, ...]:
        """The same for an image that belongs to no drive: no frame came before it."""
        views: dict[int, TwoView] = {}
        if features is not None and config.geometry.enabled:
            views = look(features, candidates, self.shelf.of, self.matcher, config.geometry)
            candidates = judge_geometry(candidates, views, (), config.geometry)
        if config.temporal.enabled:
            candidates = judge_alone(candidates, config.temporal, verified=config.geometry.enabled)
        return ordered(tuple(with_pose(item, views) for item in candidates))


def _not_consistent(candidates: tuple[Candidate, ...], excluded: Collection[int]) -> tuple[Candidate, ...]:
    return tuple(
        judged(item, (*item.failed, Status.NOT_CONSISTENT)) if item.keyframe_id in excluded else item
        for item in candidates
    )


def stages(config: Config, *, alone: bool = False) -> tuple[str, ...]:
    """The stages that judge candidates, in order; ``alone`` those of an image that belongs to no drive."""
    switches = {
        SEARCH: True,
        GEOMETRY: config.geometry.enabled,
        ODOMETRY: config.odometry.enabled and not alone,
        TEMPORAL: config.temporal.enabled,
    }
    return tuple(name for name, on in switches.items() if on)


def ordered(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    """Accepted ones first; then those that failed fewer tests, that have more inliers, that are more similar."""

    def order(candidate: Candidate) -> tuple[int, int, int]:
        inliers = 0 if Status.NO_GEOMETRY in candidate.failed else candidate.inliers
        return len(candidate.failed), -inliers, candidate.rank

    return tuple(sorted(candidates, key=order))
