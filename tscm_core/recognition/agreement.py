"""Do the loops between two drives agree with each other? Each says how the two odometries lie to each other.

Between two drives, of two days or of two robots, odometry contradicts no single loop. Two loops between the same two
drives it may: as far as the robot came and as it turned between them, so far apart must the two places be and so turned
against each other, but for drift, and for how far and how turned a place is recognised. That is a weaker form of the
pairwise consistency of Mangelson et al. (ICRA 2018): length and rotation of the way are compared, not its direction,
for which one would have to know how cameras are mounted. It is asked as images come: a place is refused if, of the
newest keyframes with loops into its drive, more contradict it than agree. As long as few agree, nothing is known of how
the drives lie, and the frames that support a place must say more for it.

Loops that say little are not asked about others. Those that were contradicted are, so that a drive that was entered at
a wrong place, or an odometry that jumped, is understood after as many keyframes as spoke for it before.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tscm_core.config import Config, OdometryConfig
from tscm_core.recognition.odometry import seen_m
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import distance_m, orientation_from, orientations_apart_rad
from tscm_core.recognition.records import Candidate, Keyframe, Pose, RelativePose, Status
from tscm_core.recognition.two_view import TwoView

_NEWEST = 30
"""Keyframes with loops into a drive that are asked. With more it would take longer until a jump is understood."""

_Drive = tuple[str, str, str]
"""Session of the places, and the frames of the two odometries."""


@dataclass(frozen=True, slots=True)
class _Loop:
    """Where the robot was and where the place is, each with the way up to there; and what the images say of the two.

    ``metric`` is how the place was seen, in metres, and ``turn_deg`` how turned; ``None`` where the images do not say.
    """

    candidate: Candidate
    here: Pose
    here_m: float
    there: Pose
    there_m: float
    metric: RelativePose | None
    turn_deg: float | None

    @property
    def drive(self) -> tuple[str, str]:
        """The frames of the two odometries."""
        return self.here.frame_id, self.there.frame_id


class Agreement:
    """The loops of one session into other drives; its frames must come in their order."""

    def __init__(self, place_of: Callable[[int], Place]) -> None:
        self._place_of = place_of
        self._newest: dict[_Drive, deque[tuple[_Loop, ...]]] = {}

    def contradictions(
        self,
        keyframe: Keyframe,
        candidates: Iterable[Candidate],
        views: dict[int, TwoView],
        config: Config,
        *,
        own_drives: bool,
    ) -> dict[int, str]:
        """Keyframes that the loops before contradict, or speak for too little, and why.

        Args:
            keyframe: what was looked for.
            candidates: what it may show; others than accepted ones are left out.
            views: what the images have in common with them, where that is known.
            config: of which ``odometry`` and ``temporal`` matter.
            own_drives: whether the places are this robot's own. Those of this session are then another test's task.
        """
        found: dict[_Drive, list[_Loop]] = {}
        for item in candidates:
            place = self._place_of(item.keyframe_id)
            of_this_drive = own_drives and place.session == keyframe.session
            if item.status is Status.ACCEPTED and keyframe.pose and place.pose and not of_this_drive:
                view = views.get(item.keyframe_id)  # not kept: it holds on to the features of both images
                seen = (view.metric_pose, view.turn_deg) if view else (None, None)
                loop = _Loop(item, keyframe.pose, keyframe.travelled_m, place.pose, place.travelled_m, *seen)
                found.setdefault((place.session, *loop.drive), []).append(loop)
        reasons = {
            loop.candidate.keyframe_id: self._reason(loop, drive, config)
            for drive, loops in found.items()
            for loop in loops
        }
        for drive, loops in found.items():
            telling = tuple(loop for loop in loops if not _says_little(loop.candidate, config))
            if telling:
                self._newest.setdefault(drive, deque(maxlen=_NEWEST)).append(telling)
        return {number: reason for number, reason in reasons.items() if reason}

    def _reason(self, loop: _Loop, drive: _Drive, config: Config) -> str:
        """Why a loop is refused; empty if it is not."""
        rule, against, agreeing, newest = config.odometry, 0, 0, ""
        for before in self._newest.get(drive, ()):
            reasons = [_contradiction(loop, one, rule) for one in before]
            against += any(reasons)
            agreeing += not all(reasons)
            newest = next(filter(None, reasons), newest)
        number = loop.candidate.keyframe_id
        if rule.min_loops and against >= rule.min_loops and against > agreeing:
            return (
                f"of the last keyframes with loops into session {drive[0]}, {against} contradict keyframe {number} "
                f"(odometry.min_loops {rule.min_loops}) and {agreeing} agree: {newest}"
            )
        if agreeing >= rule.min_loops or not _says_little(loop.candidate, config):
            return ""
        return (
            f"of the last keyframes with loops into session {drive[0]}, {agreeing} agree with keyframe {number}, fewer "
            f"than odometry.min_loops {rule.min_loops}, and the {loop.candidate.temporal_support} in a row for it "
            f"weigh {loop.candidate.evidence:.2f}, less than odometry.min_first_evidence {rule.min_first_evidence:g}"
        )


def _says_little(candidate: Candidate, config: Config) -> bool:
    certain = candidate.inliers >= config.temporal.certain_inliers
    return config.temporal.enabled and not certain and candidate.evidence < config.odometry.min_first_evidence


def _contradiction(now: _Loop, before: _Loop, rule: OdometryConfig) -> str:
    """Why two loops between the same two drives cannot both be right, with the figures; empty if they can."""
    place = before.candidate.keyframe_id
    came_m, apart_m = distance_m(now.here, before.here), distance_m(now.there, before.there)
    ways_m = abs(now.here_m - before.here_m) + abs(now.there_m - before.there_m)
    allowed_m = _seen_m(now, rule) + _seen_m(before, rule) + rule.max_drift * ways_m
    if rule.reach_m and abs(came_m - apart_m) > allowed_m:
        return (
            f"since it was at keyframe {place} the robot has come {came_m:.1f} m by odometry, but the two places are "
            f"{apart_m:.1f} m apart, and odometry.reach_m and odometry.max_drift allow {allowed_m:.1f} m of difference"
        )
    if not rule.max_turn_deg or now.turn_deg is None or before.turn_deg is None:
        return ""
    turned = orientation_from(before.here, now.here), orientation_from(before.there, now.there)
    off_deg, seen_deg = math.degrees(orientations_apart_rad(*turned)), now.turn_deg + before.turn_deg
    allowed_deg = rule.max_turn_deg + rule.max_drift * ways_m  # headings drift too: so many degrees a metre
    if off_deg <= seen_deg + allowed_deg:
        return ""
    return (
        f"since it was at keyframe {place} the robot has turned otherwise than from that place to this one, by "
        f"{off_deg:.0f} deg, of which the images explain {seen_deg:.0f}, and odometry.max_turn_deg and "
        f"odometry.max_drift allow {allowed_deg:.0f}"
    )


def _seen_m(loop: _Loop, rule: OdometryConfig) -> float:
    """How far from the place the image may have been taken."""
    metres, _ = seen_m(loop.metric, rule)
    return metres
