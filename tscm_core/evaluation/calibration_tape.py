"""Drives looked at once, then judged again with other thresholds for a hundredth of the time.

Descriptors and local features depend on no threshold, and which frames become keyframes on none that is calibrated. A
tape keeps what was seen of each keyframe; played, it is a drive of stand-in pictures that carry only their number, and
goes through the same loop detector as the images did. Nothing of the detector is imitated here, so that what is
calibrated is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tscm_core.config import Config, GeometryConfig
from tscm_core.datasets.drive_source import DriveSource
from tscm_core.errors import ImageError
from tscm_core.evaluation.ground_truth import Truth
from tscm_core.evaluation.remembering import RememberingMatcher
from tscm_core.evaluation.replay import Progress, replay_all
from tscm_core.evaluation.replay_result import DriveReplay, ReplayResult
from tscm_core.recognition.descriptor import Describer
from tscm_core.recognition.evidence import decoded
from tscm_core.recognition.geometry import LocalMatcher, OrbMatcher
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.records import Descriptor, Frame, Keyframe, Rgb
from tscm_core.recognition.two_view import TwoView

SIDE = 4
_EVERY_KEYFRAME = {
    "odometry.min_loops": 0,  # compares loops with those that were accepted before, which thresholds decide
    "keyframes.min_distance_m": 0.0,
    "keyframes.min_angle_deg": 0.0,
    "keyframes.min_interval_s": 0.0,
    "keyframes.min_novelty": 0.0,
    "keyframes.min_texture": 0.0,
    "map.thumbnail_width": 16,
}


class Tape:
    """The keyframes of one map, drive after drive, and a detector's way through them with any thresholds.

    Args:
        recorded: one map's drives, replayed once on their images.
        describer: the one that described them.
        config: the settings in use.
        matcher: verifies pairs of keyframes; each pair once.

    ``has_poses`` says whether poses tell right places from wrong ones.
    """

    def __init__(
        self, recorded: ReplayResult, describer: Describer, config: Config, matcher: LocalMatcher | None = None
    ) -> None:
        drives = [[seen.keyframe for seen in drive.observations if seen.keyframe] for drive in recorded.drives]
        self.keyframes = tuple(keyframe for drive in drives for keyframe in drive)
        self.truth = recorded.truth
        self.config = config.replace(_EVERY_KEYFRAME)
        self._describer = _TapeDescriber(self.keyframes, describer)
        self._matcher = RememberingMatcher(_TapeMatcher(self.keyframes, matcher or OrbMatcher()))
        starts = np.cumsum([0, *(len(drive) for drive in drives)]).tolist()
        self._sources = [
            _TapeSource(replayed, keyframes, start)
            for replayed, keyframes, start in zip(recorded.drives, drives, starts[:-1], strict=True)
        ]
        self.has_poses = any(frame.verdict.revisit is not None for frame in recorded.judged)

    def play(self, changes: dict[str, object]) -> ReplayResult:
        """What the detector finds with some settings changed, none of them of the network, features or keyframes."""
        detector = LoopDetector(self._describer, self.config.replace(changes), matcher=self._matcher)
        return replay_all(self._sources, detector, self.truth, one_map=True)


def record(
    sources: Sequence[DriveSource], describer: Describer, config: Config, truth: Truth, progress: Progress
) -> Tape:
    """Look at the images of drives that share one map.

    Raises:
        TscmError: a drive is damaged, or not one of its images can be used.
    """
    detector = LoopDetector(describer, config, matcher=_Extractor())
    return Tape(replay_all(sources, detector, truth, one_map=True, progress=progress), describer, config)


def stand_in(number: int) -> Rgb:
    """A picture that says which keyframe it stands for, ``uint8 [SIDE, SIDE, 3]``."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image.reshape(-1)[:8] = np.frombuffer(number.to_bytes(8, "little"), np.uint8)
    return image


def number_of(image: Rgb) -> int:
    """The number in a picture that :func:`stand_in` made."""
    return int.from_bytes(image.reshape(-1)[:8].tobytes(), "little")


class _Extractor(OrbMatcher):
    """Extracts and does not verify: which frames become keyframes does not depend on it, and the tape does it."""

    def verify(self, query: LocalFeatures, match: LocalFeatures, rule: GeometryConfig) -> TwoView:
        return TwoView(np.zeros((0, 2), np.int64), np.zeros(0, np.bool_))


class _TapeSource:
    """A drive of stand-in pictures, in place of the images of one drive."""

    def __init__(self, replayed: DriveReplay, keyframes: Sequence[Keyframe], first: int) -> None:
        self.path, self.image_count = replayed.path, len(keyframes)
        self.odometry, self.true_poses = replayed.odometry, replayed.true_poses
        self._keyframes, self._first = keyframes, first

    def __enter__(self) -> _TapeSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def frames(
        self, refuse: Callable[[int, ImageError], None] | None = None, wanted: Collection[int] | None = None
    ) -> Iterator[Frame]:
        for number, keyframe in enumerate(self._keyframes, start=self._first):
            if wanted is None or keyframe.stamp_ns in wanted:
                yield Frame(keyframe.stamp_ns, stand_in(number), keyframe.pose)


class _TapeDescriber:
    """Gives the descriptors of the tape again."""

    def __init__(self, keyframes: Sequence[Keyframe], describer: Describer) -> None:
        self.dim, self.model_id, self.input_size = describer.dim, describer.model_id, (SIDE, SIDE)
        self._rows: list[Descriptor] = [keyframe.descriptor for keyframe in keyframes]

    def describe(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        return np.stack([self._rows[number_of(image)] for image in images])


class _TapeMatcher:
    """Gives the features of the tape again, each the same object every time, so that pairs are known again."""

    def __init__(self, keyframes: Sequence[Keyframe], matcher: LocalMatcher) -> None:
        self._features = [decoded(keyframe.features) for keyframe in keyframes]
        self._matcher = matcher

    def extract(self, frame: Frame, rule: GeometryConfig) -> LocalFeatures:
        features = self._features[number_of(frame.image)]
        return self._matcher.extract(frame, rule) if features is None else features

    def verify(self, query: LocalFeatures, match: LocalFeatures, rule: GeometryConfig) -> TwoView:
        return self._matcher.verify(query, match, rule)
