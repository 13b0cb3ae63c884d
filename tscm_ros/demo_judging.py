"""Which of the loops that a node found are right, by the true poses of the drives; and how to show them."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tscm_core.errors import TscmError
from tscm_core.evaluation.ground_truth import Query, TruePlaces
from tscm_core.evaluation.picture import Drive, Pair, Scene
from tscm_core.recognition.poses import distance_m, yaw_rad
from tscm_core.recognition.records import Pose, Rgb, Status
from tscm_ros.demo_report import TRUTH, Session, stamp_of

_SHARES = (0.15, 0.5, 0.9)
"""Which of the right loops are shown with their images: so far along the drives."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """An image: whose, when, and from where by the true pose. ``keyframe_id`` is 0 where it was not remembered."""

    robot: str
    session: str
    keyframe_id: int
    stamp_ns: int
    pose: Pose

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all others."""
        return self.robot, self.stamp_ns


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop as the node told it. ``match`` is ``None`` if no such keyframe is known, and then it is wrong."""

    query: Sighting
    match: Sighting | None
    robot: str
    """The robot that the candidate names; that of the query where it names none."""
    session: str
    """The session that the candidate names."""
    similarity: float
    right: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of one drive.

    ``queries`` are the images that were looked up. ``revisits`` are those at a place of ``others`` seen before, and
    ``found`` those of them with a right loop there.
    """

    queries: tuple[Sighting, ...]
    revisits: int
    found: int
    loops: tuple[Loop, ...]

    @property
    def right(self) -> tuple[Loop, ...]:
        """The loops that are right."""
        return tuple(loop for loop in self.loops if loop.right)

    @property
    def wrong(self) -> tuple[Loop, ...]:
        """The loops that are wrong."""
        return tuple(loop for loop in self.loops if not loop.right)

    @property
    def sessions(self) -> dict[str, int]:
        """How many loops name each session."""
        return dict(Counter(loop.session for loop in self.loops))


def places(session: Session) -> tuple[Sighting, ...]:
    """The keyframes of a drive, in order.

    Raises:
        TscmError: one has a stamp that no image had.
    """
    return tuple(
        Sighting(session.robot, item.session, item.id, stamp_of(item), true_pose(session, stamp_of(item)))
        for item in session.keyframes
    )


def looked_up(session: Session) -> tuple[Sighting, ...]:
    """The images of a drive that were looked up: all that were worth a keyframe, remembered or not."""
    return tuple(
        Sighting(session.robot, item.session, item.keyframe_id, stamp_of(item), true_pose(session, stamp_of(item)))
        for item in session.statuses
        if item.status != Status.NOT_KEYFRAME
    )


def true_pose(session: Session, stamp_ns: int) -> Pose:
    """Where the camera truly was.

    Raises:
        TscmError: no image had this stamp.
    """
    pose = session.truth.get(stamp_ns)
    if pose is None:
        raise TscmError(f"{session.name}: the node answered for stamp {stamp_ns}, which no image had")
    return pose


def judge(session: Session, others: Sequence[Sighting], own: Sequence[Sighting] = ()) -> Judged:
    """Judge the loops of one drive.

    Args:
        session: what the node answered.
        others: the places that it was to be recognised among, in the order of their stamps.
        own: other places that a loop may name, which do not count as revisits.
    """
    known, queries = (*others, *own), looked_up(session)
    truth = TruePlaces([item.pose for item in (*known, *queries)], TRUTH)
    candidates = {stamp_of(item): item.candidates for item in session.candidates}
    stamps, among = [item.stamp_ns for item in others], set(others)
    position = {(item.robot, item.keyframe_id): number for number, item in enumerate(known)}
    revisits = found = 0
    loops: list[Loop] = []
    for number, query in enumerate(queries, start=len(known)):
        accepted = [item for item in candidates.get(query.stamp_ns, ()) if item.status == Status.ACCEPTED]
        matches = [position.get((item.robot or session.robot, item.keyframe_id)) for item in accepted]
        seen = Query(bisect.bisect_left(stamps, query.stamp_ns), tuple(item for item in matches if item is not None))
        verdict = truth.verdict(number, seen)
        near = {match for match, holds in zip(verdict.matches, verdict.right, strict=True) if holds}
        told = [
            _loop(query, item, None if match is None else known[match], match in near)
            for item, match in zip(accepted, matches, strict=True)
        ]
        revisits += bool(verdict.revisit)
        found += any(loop.right and loop.match in among for loop in told)
        loops += told
    return Judged(queries, revisits, found, tuple(loops))


def _loop(query: Sighting, candidate: Any, match: Sighting | None, near: bool) -> Loop:
    """The loop, which is right only if all that the candidate tells of the match is true of it."""
    stamp_ns = int(candidate.stamp.sec * 10**9 + candidate.stamp.nanosec)
    true = match is not None and (candidate.session, stamp_ns) == (match.session, match.stamp_ns)
    robot = candidate.robot or query.robot
    return Loop(query, match, robot, candidate.session, float(candidate.similarity), near and true)


def same_place(one: Sighting, other: Sighting) -> bool:
    """Whether two images show the same place, by their true poses."""
    return bool(TruePlaces((one.pose, other.pose), TRUTH).verdict(1, Query(1, (0,))).revisit)


def shown(loops: Sequence[Loop]) -> list[Loop]:
    """The three loops whose images are shown: a wrong one if there is one, then right ones from along the drives."""
    right = [loop for loop in loops if loop.right]
    wrong = [loop for loop in loops if not loop.right and loop.match is not None]
    return [*wrong[:1], *(right[round(share * (len(right) - 1))] for share in _SHARES if right)][:3]


def scene(
    title: str,
    drives: Mapping[str, Iterable[Sighting]],
    loops: Sequence[Loop],
    images: Mapping[tuple[str, int], Rgb],
    names: Mapping[tuple[str, str], str],
) -> Scene:
    """The picture.

    Args:
        title: above it.
        drives: sightings along each drive, by its label.
        loops: what to draw between them.
        images: by :attr:`Sighting.key`, those of the loops that :func:`shown` chooses.
        names: what to call a session of a robot, by robot and session.
    """
    sightings: list[Sighting] = []
    ways: list[Drive] = []
    for label, seen in drives.items():
        begin = len(sightings)
        sightings += seen
        ways.append(Drive(label, tuple(range(begin, len(sightings)))))
    position = {item.key: number for number, item in enumerate(sightings)}
    edges = {
        holds: tuple(
            (position[loop.query.key], position[loop.match.key]) for loop in loops if loop.match and loop.right is holds
        )
        for holds in (True, False)
    }
    pairs = tuple(
        Pair(images[loop.query.key], images[loop.match.key], caption(loop, loop.match, names))
        for loop in shown(loops)
        if loop.match
    )
    return Scene(title, tuple(item.pose for item in sightings), tuple(ways), edges[True], edges[False], pairs)


def caption(loop: Loop, match: Sighting, names: Mapping[tuple[str, str], str]) -> str:
    """Who recognised whose place, how alike they look, and how the two cameras truly stood to each other."""
    query = loop.query
    turned = abs(math.degrees(math.remainder(yaw_rad(query.pose) - yaw_rad(match.pose), math.tau)))
    return (
        f"above: {names[query.robot, query.session]}\nbelow: {names[match.robot, match.session]}, keyframe "
        f"{match.keyframe_id}\nsimilarity {loop.similarity:.3f}; truly {distance_m(query.pose, match.pose):.1f} m and "
        f"{turned:.0f} degrees apart"
    )
