"""All methods on the keyframes of one map, judged alike."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kept import Answer, KeptDescriber, Row

from tscm_core.config import Config
from tscm_core.datasets.drive_source import DriveSource
from tscm_core.errors import DatasetError
from tscm_core.evaluation.figures import curve_json
from tscm_core.evaluation.ground_truth import Query, TruePlaces, Truth
from tscm_core.evaluation.judgement import decisions, judge_maps
from tscm_core.evaluation.precision_recall import Decision, curve
from tscm_core.evaluation.remembering import RememberingMatcher
from tscm_core.evaluation.replay import replay_all
from tscm_core.evaluation.replay_result import ReplayResult
from tscm_core.recognition.geometry import OrbMatcher
from tscm_core.recognition.image import resize
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.precision import stored_precision
from tscm_core.recognition.records import Rgb

Scores = Callable[[Row, Row], Row]
"""How similar remembered rows [N, D] are to the row [D] of a query: float32 [N]."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A method that describes each image by itself, as float32 [D]."""

    name: str
    describe: Callable[[Rgb], Answer]
    scores: Scores


@dataclass(frozen=True, slots=True)
class Answers:
    """What a method answers: for each keyframe the best remembered one (``None``: nothing), its score, and the ms."""

    name: str
    matches: tuple[int | None, ...]
    scores: tuple[float, ...]
    ms: tuple[float, ...]


def inner(rows: Row, query: Row) -> Row:
    """Cosine, as the rows have length 1."""
    return np.asarray(rows @ query, np.float32)


def top_one(peer: Peer, described: Sequence[Answer], searched: Sequence[int]) -> Answers:
    """The most similar among the first ``searched`` keyframes, for each keyframe; of equals the first."""
    rows = np.stack([answer.row for answer in described])  # [N, D]
    matches, best, times = [], [], []
    for (row, describe_ms), limit in zip(described, searched, strict=True):
        start = time.perf_counter()
        found = peer.scores(rows[:limit], row) if limit else np.zeros(0, np.float32)
        match = int(np.argmax(found)) if limit else None
        times.append(describe_ms + (time.perf_counter() - start) * 1e3)
        matches.append(match)
        best.append(0.0 if match is None else float(found[match]))
    return Answers(peer.name, tuple(matches), tuple(best), tuple(times))


def verified(answers: Answers, ids: Sequence[int], detector: LoopDetector, extract_ms: float) -> Answers:
    """The answers that the detector's two-view geometry confirms, as DLoopDetector confirms its own."""
    matches, times, rule, matcher = [], [], detector.config.geometry, OrbMatcher()
    for number, match in enumerate(answers.matches):
        start = time.perf_counter()
        query = detector.features_of(ids[number])
        other = None if match is None else detector.features_of(ids[match])
        inliers = matcher.verify(query, other, rule).inlier_count if query and other else 0
        matches.append(match if inliers >= rule.min_inliers else None)
        times.append(answers.ms[number] + extract_ms + (time.perf_counter() - start) * 1e3)
    return Answers(f"{answers.name} + geometry", tuple(matches), answers.scores, tuple(times))


def decided(answers: Answers, places: TruePlaces, searched: Sequence[int]) -> list[Decision]:
    """The answers, judged like ours."""
    found = []
    for number, (match, score) in enumerate(zip(answers.matches, answers.scores, strict=True)):
        verdict = places.verdict(number, Query(searched[number], () if match is None else (match,)))
        if verdict.revisit is not None:
            right = verdict.right[0] if verdict.right else None
            found.append(Decision(number, match, score, right, verdict.revisit))
    return found


def row(name: str, judged: Sequence[Decision], ms: float) -> dict[str, Any]:
    """The figures of one method. ``wrong_ever``: wrong answers that a low enough threshold would let through."""
    return {
        "method": name,
        **{key: value for key, value in curve_json(curve(judged)).items() if key != "f1_threshold"},
        "answers": sum(decision.match is not None for decision in judged),
        "wrong_ever": sum(decision.right is False for decision in judged),
        "ms": round(ms, 2),
    }


class Comparison:
    """All methods on the drives of one map: run once, and judged by any truth.

    Args:
        sources: open drives; each is a session, and poses are in one frame.
        describer: ours.
        peers: the others, of which those named in ``to_verify`` are also verified by our geometry.
        config: our settings.
    """

    def __init__(
        self,
        sources: Sequence[DriveSource],
        describer: KeptDescriber,
        peers: Sequence[Peer],
        config: Config,
        to_verify: Sequence[str] = (),
    ) -> None:
        self._sources, self._peers, self._ours = sources, peers, whole(describer)
        matcher, anything = RememberingMatcher(OrbMatcher()), Truth(0.0)
        self._detector = LoopDetector(describer, config, matcher=matcher)
        self._result = replay_all(sources, self._detector, anything, one_map=True)
        self._seen = [seen for seen in self._result.observations if seen.keyframe is not None]
        if not self._seen:
            raise DatasetError(f"{sources[0].path}: none of the images is a keyframe")
        unhelped = LoopDetector(describer, config.replace({"odometry.enabled": False}), matcher=matcher)
        self._unhelped = replay_all(sources, unhelped, anything, one_map=True)
        self._keyframes = [seen.keyframe for seen in self._seen if seen.keyframe is not None]
        self._searched = [seen.searched for seen in self._seen]
        described, describe_ms = self._describe()
        self._ms = self._others_ms() + describe_ms
        self._answers = list(self._answers_of(described, to_verify))

    def images(self) -> Iterator[Rgb]:
        """The images of the keyframes, in their order."""
        for source, one in zip(self._sources, self._result.drives, strict=True):
            stamps = {seen.stamp_ns for seen in one.observations if seen.keyframe is not None}
            yield from (frame.image for frame in source.frames(lambda *_: None, stamps))

    def result(self, truth: Truth) -> ReplayResult:
        """What our detector found."""
        return _judged_by(self._result, truth)

    def rows(self, truth: Truth) -> list[dict[str, Any]]:
        """The figures of every method; ours are the last, without and with the help of odometry."""
        places = TruePlaces([self._result.true_poses.of(keyframe) for keyframe in self._keyframes], truth)
        rows = [row(one.name, decided(one, places, self._searched), statistics.median(one.ms)) for one in self._answers]
        for name, result in (("ours, no odometry test", self._unhelped), ("ours", self._result)):
            rows.append(row(name, decisions(_judged_by(result, truth).judged), self._ms))
        return rows

    def _answers_of(self, described: Sequence[Sequence[Answer]], to_verify: Sequence[str]) -> Iterator[Answers]:
        extract_ms = self._median("features")
        for peer, known in zip(self._peers, described, strict=True):
            answers = top_one(peer, known, self._searched)
            yield answers
            if peer.name in to_verify:
                yield verified(answers, [one.id for one in self._keyframes], self._detector, extract_ms)

    def _describe(self) -> tuple[list[list[Answer]], float]:
        """What each peer makes of each keyframe, and the median time of our network."""
        described: list[list[Answer]] = [[] for _ in self._peers]
        times = []
        for image in self.images():
            for peer, known in zip(self._peers, described, strict=True):
                known.append(peer.describe(image))
            times.append(self._ours(image).ms)
        return described, statistics.median(times)

    def _others_ms(self) -> float:
        """Median of all stages but the network, whose answers may come from an earlier run."""
        return statistics.median(
            sum(item.milliseconds for item in seen.stage_times if item.stage != "describe") for seen in self._seen
        )

    def _median(self, stage: str) -> float:
        times = [item.milliseconds for seen in self._seen for item in seen.stage_times if item.stage == stage]
        return statistics.median(times) if times else 0.0


def _judged_by(result: ReplayResult, truth: Truth) -> ReplayResult:
    judged = judge_maps([result.observations], truth, result.true_poses)
    return dataclasses.replace(result, judged=judged, truth=truth)


def whole(describer: KeptDescriber) -> Callable[[Rgb], Answer]:
    """Its descriptors of images of any size, in the precision in which a map keeps them."""

    def describe(image: Rgb) -> Answer:
        row, ms = describer.kept.of(resize(image, describer.input_size))
        return Answer(stored_precision(row), ms)

    return describe
