"""Closed routes through the Freedoom levels, and the smooth path of a camera that drives them.

Way-points are map units (1/32 m) of the level; everything that leaves this file is metres and radians.
"""

from dataclasses import dataclass
from math import tau

import numpy as np
from numpy.typing import NDArray

METRES_PER_UNIT = 1.0 / 32.0
SAMPLE_M = 0.02
CORNER_SIGMA_M = 1.2
BLEND_SIGMA_M = 1.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Route:
    """One closed loop: the WAD file and level that hold it, and its corners (map units) in driving order."""

    wad: str
    level: str
    waypoints: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Stretch:
    """Part of a route, `start` and `laps` in loops; the camera is turned (rad) and shifted (m) left."""

    start: float
    laps: float
    heading_offset: float
    lateral_offset: float


@dataclass(frozen=True)
class Plan:
    """Planned camera: `poses` float64 [N, 3] (m, m, rad unwrapped) and the `stretch` of each, int [N]."""

    poses: Array
    stretch: NDArray[np.int64]


# fmt: off
ROUTES: dict[str, Route] = {
    "warehouse": Route("freedoom1.wad", "E2M3", (  # between and around crates, 63 m
        (272, 352), (272, 304), (384, 208), (448, 96), (448, -64), (384, -128), (144, -128), (112, -160),
        (0, -80), (0, -16), (0, 80), (-48, 128), (-160, 128), (-224, 192), (-160, 400), (-96, 448),
        (112, 448), (224, 352),
    )),
    "hall": Route("freedoom1.wad", "E1M2", (  # a hall with pillars, windows and a raised floor, 64 m
        (1112, -208), (1048, -208), (952, -320), (792, -320), (760, -352), (744, -560), (840, -640),
        (616, -640), (536, -560), (536, -512), (536, -112), (568, -80), (984, -48),
    )),
}
# fmt: on


def smooth_loop(route: Route) -> tuple[Array, Array]:
    """The loop with rounded corners: float64 centre line [S, 2] in m and heading [S] in rad, unwrapped."""
    corners = np.array(route.waypoints, np.float64) * METRES_PER_UNIT
    line = _resample_closed(_blur_closed(_resample_closed(corners), CORNER_SIGMA_M / SAMPLE_M))
    tangent = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0)
    return line, np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))


def loop_length(route: Route) -> float:
    """Length of one loop, in m."""
    return len(smooth_loop(route)[0]) * SAMPLE_M


def plan_drive(route: Route, stretches: tuple[Stretch, ...], step_s: float, speed: float, turn_rate: float) -> Plan:
    """Poses every `step_s` s along the stretches in turn, each beginning where the one before ended.

    `speed` (m/s) is lowered where the heading would change faster than `turn_rate` (rad/s). `start` counts
    only in the first stretch. Offsets change gradually where one stretch follows another.
    """
    line, heading = smooth_loop(route)
    counts = [round(stretch.laps * len(line)) for stretch in stretches]
    which = np.repeat(np.arange(len(stretches)), counts)
    along = round(stretches[0].start * len(line)) + np.arange(len(which))
    turn = _turn(heading)
    yaw = heading[along % len(line)] + turn * (along // len(line))
    offset = np.array([(stretch.heading_offset, stretch.lateral_offset) for stretch in stretches])[which]
    offset = _blur_open(offset, BLEND_SIGMA_M / SAMPLE_M)
    left = np.stack([-np.sin(yaw), np.cos(yaw)], axis=1)
    place = line[along % len(line)] + left * offset[:, 1:]
    poses = np.concatenate([place, (yaw + offset[:, 0])[:, None]], axis=1)  # [S, 3]
    return _at_times(poses, which, step_s, speed, turn_rate)


def _turn(heading: Array) -> float:
    """Heading gained over one whole loop: a multiple of a full turn."""
    return float(np.round((heading[-1] - heading[0]) / tau) * tau)


def _at_times(poses: Array, which: NDArray[np.int64], step_s: float, speed: float, turn_rate: float) -> Plan:
    moved = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    turned = np.abs(np.diff(poses[:, 2]))
    seconds = np.concatenate([[0.0], np.cumsum(np.maximum(moved / speed, turned / turn_rate))])
    times = np.arange(0.0, seconds[-1], step_s)
    sampled = np.stack([np.interp(times, seconds, column) for column in poses.T], axis=1)
    return Plan(sampled, which[np.searchsorted(seconds, times)])


def _resample_closed(corners: Array) -> Array:
    ring = np.concatenate([corners, corners[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    at = np.linspace(0.0, along[-1], round(along[-1] / SAMPLE_M), endpoint=False)
    return np.stack([np.interp(at, along, column) for column in ring.T], axis=1)


def _gaussian(sigma: float) -> Array:
    reach = np.arange(-round(4 * sigma), round(4 * sigma) + 1)
    weight = np.exp(-0.5 * (reach / sigma) ** 2)
    return np.asarray(weight / weight.sum(), np.float64)


def _blur_closed(values: Array, sigma: float) -> Array:
    kernel = _gaussian(sigma)
    wide = np.pad(values, ((len(kernel) // 2, len(kernel) // 2), (0, 0)), mode="wrap")
    return np.stack([np.convolve(column, kernel, "valid") for column in wide.T], axis=1)


def _blur_open(values: Array, sigma: float) -> Array:
    kernel = _gaussian(sigma)
    wide = np.pad(values, ((len(kernel) // 2, len(kernel) // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in wide.T], axis=1)
