"""Do the loops between two drives agree with each other? Each says how the two odometries lie to each other.

Between two drives, of two days or of two robots, odometry contradicts no single loop. Two loops between the same two
drives it may: as far as the robot drove and turned between them, so far apart must the two places be and so much turned
against each other, but for drift, and for how far and how turned a place is recognised. This is the pairwise
consistency of Mangelson et al. (ICRA 2018), asked as images come: a place is refused if, of the newest keyframes with
loops into its drive, more contradict it than agree. As long as few agree, nothing is known of how the drives lie, and
the frames that support a place must say more for it. Refused loops are asked as well, so that a drive that was entered
at a wrong place, or an odometry that jumped, is understood after as many keyframes as spoke for it before.

Where the two odometries begin does not matter, nor how a camera is mounted, as long as it is the same on both drives or
both move on level ground.
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
from tscm_core.recognition.records import Candidate, Keyframe, Pose, Status
from tscm_core.recognition.two_view import TwoView

_NEWEST = 30
"""Keyframes with loops into a drive that are asked: with more it takes longer until a jump is understood."""

_Drive = tuple[str, str, str]
"""Session of the places, and the frames of the two odometries."""


@dataclass(frozen=True, slots=True)
class _Loop:
    """Where the robot was and where the place is, each with the way up to there; how far and how turned it was seen."""

    candidate: Candidate
    here: Pose
    here_m: float
    there: Pose
    there_m: float
    seen_m: float
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
                apart_m, turn_deg = _seen(views.get(item.keyframe_id), config.odometry)
                there_m = place.travelled_m
                loop = _Loop(item, keyframe.pose, keyframe.travelled_m, place.pose, there_m, apart_m, turn_deg)
                found.setdefault((place.session, *loop.drive), []).append(loop)
        reasons = {
            loop.candidate.keyframe_id: self._reason(loop, drive, config)
            for drive, loops in found.items()
            for loop in loops
        }
        for drive, loops in found.items():
            self._newest.setdefault(drive, deque(maxlen=_NEWEST)).append(tuple(loops))
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


def _seen(view: TwoView | None, rule: OdometryConfig) -> tuple[float, float | None]:
    """How far from the place, and how much turned against it, the image may have been taken."""
    apart_m, _ = seen_m(view.metric_pose if view else None, rule)
    return apart_m, view.turn_deg if view else None


def _says_little(candidate: Candidate, config: Config) -> bool:
    certain = candidate.inliers >= config.temporal.certain_inliers
    return config.temporal.enabled and not certain and candidate.evidence < config.odometry.min_first_evidence


def _contradiction(now: _Loop, before: _Loop, rule: OdometryConfig) -> str:
    """Why two loops between the same two drives cannot both be right, with the figures; empty if they can."""
    place = before.candidate.keyframe_id
    driven_m, apart_m = distance_m(now.here, before.here), distance_m(now.there, before.there)
    ways_m = abs(now.here_m - before.here_m) + abs(now.there_m - before.there_m)
    allowed_m = now.seen_m + before.seen_m + rule.max_drift * ways_m
    if rule.reach_m and abs(driven_m - apart_m) > allowed_m:
        return (
            f"since the place of keyframe {place} was seen the robot has come {driven_m:.1f} m, but the "
            f"two places are {apart_m:.1f} m apart, and {allowed_m:.1f} m of difference are allowed"
        )
    if not rule.max_turn_deg or now.turn_deg is None or before.turn_deg is None:
        return ""
    turned = orientation_from(before.here, now.here), orientation_from(before.there, now.there)
    off_deg, allowed_deg = math.degrees(orientations_apart_rad(*turned)), now.turn_deg + before.turn_deg
    if off_deg <= allowed_deg + rule.max_turn_deg:
        return ""
    return (
        f"since the place of keyframe {place} was seen the robot has turned otherwise than from that "
        f"place to this one, by {off_deg:.0f} deg, of which the images explain {allowed_deg:.0f} "
        f"(odometry.max_turn_deg {rule.max_turn_deg:g})"
    )
