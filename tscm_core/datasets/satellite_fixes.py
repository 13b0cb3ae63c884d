"""Positions of a satellite receiver as local metres: WGS 84, east, north and up about the first valid fix.

The way over earth-centred coordinates is exact: no projection, hence no scale error. Up is that of the first fix, so
that 5 km away level ground lies 2 m lower. Formulas: ellipsoid of NGA.STND.0036 (WGS 84), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tscm_core.recognition.records import Pose

FRAME_ID = "enu"
"""Frame of the poses made here: x east, y north, z up, about the first valid fix."""

LEAST_MOTION_M = 0.5
"""Fixes closer together say nothing about the heading."""

FIX_INTERVAL_NS = 1_100_000_000
"""Most receivers send once a second: fixes this near are always used, however near odometry has to be."""

_A = 6_378_137.0
_F = 1.0 / 298.257223563
_E2 = _F * (2.0 - _F)
_Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Fix:
    """Degrees, and metres above the ellipsoid; NaN where the receiver gives no altitude."""

    latitude: float
    longitude: float
    altitude: float


def fix_from_message(message: Any) -> Fix | None:
    """The fix of a ``sensor_msgs/NavSatFix``; ``None`` if its status is below 0 or it is no place on earth."""
    latitude, longitude = float(message.latitude), float(message.longitude)
    if message.status.status < 0 or not (abs(latitude) <= 90.0 and abs(longitude) <= 360.0):  # also false for NaN
        return None
    altitude = float(message.altitude)
    return Fix(latitude, longitude, altitude if math.isfinite(altitude) else math.nan)


def poses_from_fixes(fixes: Iterable[tuple[int, Fix]]) -> Iterator[tuple[int, Pose]]:
    """Poses in ``FRAME_ID`` at the stamps of the fixes, which are in the order of time.

    A receiver knows no heading. It is taken from the motion: from a fix to the first one that is more than
    ``LEAST_MOTION_M`` away, and so on from there; before the first motion it is that of the first motion, at rest that
    of the last, and along x where nothing ever moved. A drive in reverse therefore looks backwards. A fix without
    altitude has that of the first.
    """
    stamped = list(fixes)
    points = _local_points([fix for _, fix in stamped])
    for (stamp_ns, _), point, yaw in zip(stamped, points, _headings(points), strict=True):
        yield stamp_ns, Pose(point, (0.0, 0.0, math.sin(yaw / 2.0), math.cos(yaw / 2.0)), FRAME_ID)


def _local_points(fixes: list[Fix]) -> list[_Point]:
    if not fixes:
        return []
    first = fixes[0]
    ground = 0.0 if math.isnan(first.altitude) else first.altitude
    origin = _earth_centred(first.latitude, first.longitude, ground)
    points = []
    for fix in fixes:
        at = _earth_centred(fix.latitude, fix.longitude, ground if math.isnan(fix.altitude) else fix.altitude)
        points.append(_east_north_up(first, (at[0] - origin[0], at[1] - origin[1], at[2] - origin[2])))
    return points


def _earth_centred(latitude: float, longitude: float, altitude: float) -> _Point:
    phi, lam = math.radians(latitude), math.radians(longitude)
    across = _A / math.sqrt(1.0 - _E2 * math.sin(phi) ** 2)
    out = (across + altitude) * math.cos(phi)
    return out * math.cos(lam), out * math.sin(lam), (across * (1.0 - _E2) + altitude) * math.sin(phi)


def _east_north_up(origin: Fix, way: _Point) -> _Point:
    phi, lam = math.radians(origin.latitude), math.radians(origin.longitude)
    x, y, z = way
    out = math.cos(lam) * x + math.sin(lam) * y
    return (
        -math.sin(lam) * x + math.cos(lam) * y,
        -math.sin(phi) * out + math.cos(phi) * z,
        math.cos(phi) * out + math.sin(phi) * z,
    )


def _headings(points: list[_Point]) -> list[float]:
    """Radians counter-clockwise from east: every point up to the next that is far enough looks to that one."""
    headings: list[float] = []
    anchor, yaw = 0, 0.0
    for number, point in enumerate(points):
        east, north = point[0] - points[anchor][0], point[1] - points[anchor][1]
        if math.hypot(east, north) > LEAST_MOTION_M:
            yaw, anchor = math.atan2(north, east), number
            headings += [yaw] * (number + 1 - len(headings))
    return headings + [yaw] * (len(points) - len(headings))
