"""Satellite fixes as local metres, held against the radii of curvature, and the heading of who moves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bag_messages import fix_message

from tscm_core.datasets.satellite_fixes import Fix, fix_from_message, poses_from_fixes
from tscm_core.recognition.poses import yaw_rad

A, B = 6378137.0, 6356752.314245  # semi-axes of WGS 84


def arcs(latitude, north_deg, east_deg):
    """Metres along the meridian and then along the parallel, by sums over small steps of the radii of curvature."""
    e2 = 1 - B * B / (A * A)
    steps = np.radians(latitude + (np.arange(2000) + 0.5) / 2000 * north_deg)
    meridian = np.sum(A * (1 - e2) / (1 - e2 * np.sin(steps) ** 2) ** 1.5) * math.radians(north_deg) / 2000
    end = math.radians(latitude + north_deg)
    parallel = A / math.sqrt(1 - e2 * math.sin(end) ** 2) * math.cos(end) * math.radians(east_deg)
    return meridian, parallel


def points(*fixes):
    return [pose.position for _, pose in poses_from_fixes(enumerate(fixes))]


@pytest.mark.parametrize("latitude", [-80.0, -35.0, 0.0, 47.3, 60.0])
@pytest.mark.parametrize(("north", "east"), [(0.045, 0.0), (-0.045, 0.0), (0.0, 0.05), (0.0, -0.05)])
def test_five_kilometres_are_right_to_a_centimetre(latitude, north, east):
    meridian, parallel = arcs(latitude, north, east)
    _, (x, y, z) = points(Fix(latitude, 8.5, 400.0), Fix(latitude + north, 8.5 + east, 400.0))
    # The arc at 400 m above the ellipsoid, whose chord is shorter by its cube over 24 r^2: 0.1 mm at 5 km.
    along = (meridian if north else parallel) * (1 + 400.0 / 6.37e6)
    assert math.copysign(math.hypot(x, y, z), along) == pytest.approx(along, abs=0.01)
    assert (y if north else x) * (north or east) > 0
    assert z == pytest.approx(-(along**2) / 2 / 6.37e6, abs=0.03)  # the earth is round
    if north:
        assert x == pytest.approx(0.0, abs=1e-6)


def test_height_is_up_and_none_is_that_of_the_first():
    assert points(Fix(47.0, 8.0, 400.0), Fix(47.0, 8.0, 412.5))[1] == pytest.approx((0.0, 0.0, 12.5), abs=1e-6)
    assert points(Fix(47.0, 8.0, 400.0), Fix(47.0, 8.0, math.nan))[1] == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)
    assert points(Fix(47.0, 8.0, math.nan), Fix(47.0, 8.0, 3.0))[1] == pytest.approx((0.0, 0.0, 3.0), abs=1e-6)


def test_the_date_line_is_crossed():
    east, north, _ = points(Fix(10.0, 179.999, 0.0), Fix(10.0, -179.999, 0.0))[1]
    assert east == pytest.approx(arcs(10.0, 0.0, 0.002)[1], abs=0.01)
    assert abs(north) < 0.01


def at(metres_east, metres_north):
    _, east_deg = arcs(47.0, 0.0, 1.0)
    north_m, _ = arcs(47.0, 0.01, 0.0)
    return Fix(47.0 + metres_north / north_m * 0.01, 8.0 + metres_east / east_deg, 0.0)


def headings(*places):
    return [math.degrees(yaw_rad(pose)) for _, pose in poses_from_fixes(enumerate(at(*place) for place in places))]


def test_the_heading_is_that_of_the_motion():
    got = headings((0, 0), (0.2, 0), (0.4, 0), (1, 0), (1, 0.1), (1, 2), (1, 2.1), (0, 2), (0, 2))
    assert [abs(yaw) for yaw in got] == pytest.approx([0, 0, 0, 0, 90, 90, 180, 180, 180], abs=0.1)
    assert headings((0, 0), (0, -1)) == pytest.approx([-90, -90], abs=0.1)


def test_who_never_moved_looks_along_x():
    assert headings((0, 0), (0.3, 0.3), (-0.3, 0.0)) == [0.0, 0.0, 0.0]
    assert headings() == []


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ((47.0, 8.0, 400.0, 0), Fix(47.0, 8.0, 400.0)),
        ((47.0, 8.0, 400.0, 2), Fix(47.0, 8.0, 400.0)),
        ((47.0, 8.0, 400.0, -1), None),
        ((math.nan, 8.0, 400.0, 0), None),
        ((47.0, math.inf, 400.0, 0), None),
        ((91.0, 8.0, 400.0, 0), None),
    ],
)
def test_only_places_on_earth_are_fixes(values, fix):
    assert fix_from_message(fix_message(0, *values)) == fix


def test_a_fix_without_altitude_is_one():
    assert math.isnan(fix_from_message(fix_message(0, 47.0, 8.0, math.nan)).altitude)
