"""Pairs of images for a report: the loops that are wrong, those that were missed, and what nearly became a loop."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tscm_core.datasets.drive_source import DriveSource
from tscm_core.errors import DatasetError, ImageError
from tscm_core.evaluation.report_facts import MapFacts, Pair
from tscm_core.evaluation.report_svg import tag, text
from tscm_core.evaluation.report_tables import facts_line, table
from tscm_core.recognition.evidence import decoded
from tscm_core.recognition.geometry import GEOMETRY
from tscm_core.recognition.local_features import LocalFeatures
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.match_picture import Points, draw_matches
from tscm_core.recognition.records import Candidate, Frame, Keyframe, Rgb
from tscm_core.recognition.temporal import TEMPORAL

MOST_PICTURES = 10
_MOST_WIDTH, _QUALITIES, _MOST_BYTES = 480, (80, 60, 40, 20), 190_000
Key = tuple[int, int]
"""Number of a drive among the sources, and the stamp of an image in it."""


@dataclass(frozen=True, slots=True)
class PairOf:
    """A pair and the map that it is of."""

    facts: MapFacts
    pair: Pair

    @property
    def query(self) -> Keyframe:
        """The keyframe that was taken for another, or should have been."""
        return self.facts.keyframes[self.pair.query]

    @property
    def match(self) -> Keyframe:
        """The other one."""
        return self.facts.keyframes[self.pair.match]

    def when(self, position: int) -> str:
        """Seconds since the drive of a keyframe began, and which drive that was if there are several."""
        drive = self.facts.drives[self.facts.drive_of[position]]
        seconds = (self.facts.seen[position].stamp_ns - drive.observations[0].stamp_ns) / 1e9
        return f"{seconds:.2f}" + (f" of {drive.label}" if len(self.facts.drives) > 1 else "")

    @property
    def keys(self) -> tuple[Key, Key]:
        """Where the two images are."""
        drives = [self.facts.drives[self.facts.drive_of[at]].number for at in (self.pair.query, self.pair.match)]
        return (drives[0], self.query.stamp_ns), (drives[1], self.match.stamp_ns)


def collect(maps: Iterable[MapFacts], field: str) -> list[PairOf]:
    """All pairs of one kind (``wrong``, ``missed``, ``refused``): map by map, each in its own order."""
    return [PairOf(facts, pair) for facts in maps for pair in getattr(facts, field)]


def read_images(pairs: Iterable[PairOf], sources: Sequence[DriveSource]) -> dict[Key, Frame]:
    """The frames of all these pairs; of each drive nothing else is decoded once more.

    Raises:
        DatasetError: a frame is no longer there.
        TscmError: a drive cannot be read.
    """
    wanted = {key for pair in pairs for key in pair.keys}
    found: dict[Key, Frame] = {}
    for number, source in enumerate(sources):
        missing = {stamp for drive, stamp in wanted if drive == number}
        for frame in source.frames(_nobody, frozenset(missing)) if missing else ():
            if frame.stamp_ns in missing:
                found[number, frame.stamp_ns] = frame
                missing.remove(frame.stamp_ns)
            if not missing:
                break
        if missing:
            raise DatasetError(
                f"drive {source.path} no longer has the image of stamp {min(missing)}, which was replayed: replay it "
                f"again"
            )
    return found


def _nobody(stamp_ns: int, error: ImageError) -> None:
    """The replay has already said which images cannot be used."""


def section(
    pairs: Sequence[PairOf], frames: Mapping[Key, Frame], detector: LoopDetector, verb: str, nothing: str = ""
) -> str:
    """The first pairs with their pictures, and a table of all of them.

    ``verb`` says what happened between the first keyframe and the second; ``nothing`` is said where there are none.
    """
    if not pairs:
        return tag("p", text(nothing))
    shown = [
        tag("article", _words(item, verb), _picture(item, frames, detector), _class="pair")
        for item in pairs[:MOST_PICTURES]
    ]
    head = ("keyframe", "seconds in", "match", "seconds in", "similarity", "inliers", "apart [m]", "failed")
    summary = tag("summary", f"All {len(pairs)} in a table")
    return "".join(shown) + tag("details", summary, table(head, map(_row, pairs)))


def _row(item: PairOf) -> tuple[object, ...]:
    candidate = item.pair.candidate
    failed = ", ".join(status.name for status in candidate.failed) if candidate else "no candidate"
    inliers = candidate.inliers if candidate else ""
    apart = "" if math.isnan(item.pair.distance_m) else f"{item.pair.distance_m:.2f}"
    return (
        item.query.id, item.when(item.pair.query), item.match.id, item.when(item.pair.match),
        f"{item.pair.similarity:.3f}", inliers, apart, failed,
    )  # fmt: skip


def _words(item: PairOf, verb: str) -> str:
    pair, seen = item.pair, item.facts.seen[item.pair.query]
    items = [("similarity", f"{pair.similarity:.3f}"), *_evidence(pair.candidate, seen.stages)]
    if not math.isnan(pair.distance_m):
        items.append(("apart", f"{pair.distance_m:.2f} m"))
    items.append(("seconds into the drive", f"{item.when(pair.query)} and {item.when(pair.match)}"))
    reason = tag("p", tag("b", seen.status.name), ": ", text(seen.reason), _class="reason")
    return tag("h3", f"Keyframe {item.query.id} {text(verb)} keyframe {item.match.id}") + facts_line(items) + reason


def _evidence(candidate: Candidate | None, stages: Sequence[str]) -> list[tuple[str, str]]:
    """The figures of the stages that ran, and which tests the candidate failed."""
    if candidate is None:
        return [("failed", "not among the places that were judged")]
    items = [("ratio", f"{candidate.ratio:.3f}")]
    if GEOMETRY in stages:
        items.append(("inliers", f"{candidate.inliers} of {candidate.matches} matches"))
    if TEMPORAL in stages:
        items.append(("support", str(candidate.temporal_support)))
    return [*items, ("failed", ", ".join(status.name for status in candidate.failed) or "nothing")]


def _picture(item: PairOf, frames: Mapping[Key, Frame], detector: LoopDetector) -> str:
    ours, theirs = (frames[key] for key in item.keys)
    query, match = (_features(*both, detector) for both in ((item.query, ours), (item.match, theirs)))
    seen = detector.matcher.verify(query, match, detector.config.geometry)
    (left, left_scale), (right, right_scale) = _small(ours.image), _small(theirs.image)
    here, there = query.points[seen.pairs[:, 0]], match.points[seen.pairs[:, 1]]
    drawn = draw_matches(left, right, _scaled(here, left_scale), _scaled(there, right_scale), seen.inliers)
    words = (
        f"Keyframe {item.query.id} on the left, keyframe {item.match.id} on the right: {seen.inlier_count} inliers of "
        f"{len(seen.pairs)} matches"
    )
    if GEOMETRY not in item.facts.seen[item.pair.query].stages:
        words += ", which did not count, for geometry was switched off"
    size = {"width": drawn.shape[1], "height": drawn.shape[0]}
    image = tag("img", src=_jpeg(drawn), alt=words, **size)
    return image + tag("p", text(words + "."), _class="note")


def _features(keyframe: Keyframe, frame: Frame, detector: LoopDetector) -> LocalFeatures:
    """Those that the map keeps; found anew where geometry was switched off."""
    return decoded(keyframe.features) or detector.matcher.extract(frame, detector.config.geometry)


def _small(image: Rgb) -> tuple[Rgb, float]:
    scale = min(1.0, _MOST_WIDTH / image.shape[1], _MOST_WIDTH / image.shape[0])
    if scale == 1.0:
        return image, scale
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _scaled(points: Points, scale: float) -> Points:
    return np.asarray(points * scale, np.float64)


def _jpeg(image: Rgb) -> str:
    """As fine as fits, so that twenty pictures do not make a page that nobody can send."""
    for quality in _QUALITIES:
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
        if encoded.size <= _MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
