"""Does odometry contradict a candidate? It drifts, but not without bound: a place 40 m away cannot be here.

Within one drive, odometry says how far the robot is from where it saw the place and how much it has turned since. Both
are wrong by an unknown drift, which grows with the way. What is further off than any drift explains is another place
that looks the same, however many features agree: walls repeat their texture, floors of a house are alike.
"""

from __future__ import annotations

import math

from tscm_core.config import OdometryConfig
from tscm_core.recognition.keyframes import comparable
from tscm_core.recognition.place_memory import Place
from tscm_core.recognition.poses import angle_rad, distance_m
from tscm_core.recognition.records import Keyframe, RelativePose
from tscm_core.recognition.two_view import TwoView

ODOMETRY = "odometry"
_MARGIN_M = 1.0


def contradiction(keyframe: Keyframe, place: Place, view: TwoView | None, rule: OdometryConfig) -> str:
    """Why odometry excludes that ``keyframe`` shows ``place``, with the figures; empty if it does not, or is not known.

    ``view`` is what the two images have in common, if that is known. Angles are compared as angles of rotation, which
    do not depend on how the camera is mounted on the robot.
    """
    if keyframe.session != place.session or keyframe.pose is None or place.pose is None:
        return ""
    if not comparable(keyframe.pose, place.pose):
        return ""
    way_m, apart_m = keyframe.travelled_m - place.travelled_m, distance_m(keyframe.pose, place.pose)
    near_m, known = seen_m(view.metric_pose if view else None, rule)
    if rule.reach_m and apart_m > near_m + rule.max_drift * way_m:
        return (
            f"odometry puts keyframe {place.keyframe_id} {apart_m:.1f} m away after {way_m:.0f} m of driving, further "
            f"than {known} and odometry.max_drift {rule.max_drift:g} allow"
        )
    if not rule.max_turn_deg or view is None or view.turn_deg is None:
        return ""
    driven, seen = math.degrees(angle_rad(keyframe.pose, place.pose)), view.turn_deg
    if abs(driven - seen) <= rule.max_turn_deg:
        return ""
    return (
        f"the images of keyframe {place.keyframe_id} and this one are turned by {seen:.0f} deg against each other, but "
        f"the robot by {driven:.0f} deg (odometry.max_turn_deg {rule.max_turn_deg:g})"
    )


def seen_m(relative: RelativePose | None, rule: OdometryConfig) -> tuple[float, str]:
    """How far away the images say that the place may be, and why: measured with depth, else as far as one can see."""
    if relative is None:
        return rule.reach_m, f"odometry.reach_m {rule.reach_m:g}"
    apart_m = math.hypot(*relative.translation)
    return apart_m + _MARGIN_M, f"the {apart_m:.1f} m that the images show"
