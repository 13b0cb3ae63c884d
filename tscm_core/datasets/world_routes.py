"""Long walks through the free space of a level, and the camera poses of laps along them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, radians, tau

import cv2
import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.world_geometry import BODY_M, Array, Space, connected
from tscm_core.errors import DatasetError

STRIDE = 3  # grid cells between the nodes of the path search
COMFORT_M = 1.5  # a walk keeps this far from walls where it can
WALL_COST = 8.0
AGAIN_COST = 1.5  # ways already walked look this much longer
SEEN_M = 3.0  # what is nearer than this to the walk so far is nothing new
GOALS = 64  # drawn for each leg; the newest place among them is the next goal
NEAR_M, FAR_M = 8.0, 90.0  # of a goal, along the way
SAMPLE_M = 0.1
SMOOTHING_ROUNDS = 30
SPARE = 1.5  # smoothing cuts corners: the walk before it is this much longer
HEADING_SIGMA_M = 0.8
MOST_TURN = radians(30.0)  # between two images
LEAST_PART_M2 = 300.0
OFFSET_WAVES_M = (37.0, 23.0)  # of the lateral offset and of the heading offset of a lap
_MOVES = tuple((down, right, hypot(down, right)) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right)


@dataclass(frozen=True)
class Walk:
    """A centre line: `points` float64 [S, 2] (m, every 0.1 m or so) and `heading` [S] (rad, unwrapped)."""

    points: Array
    heading: Array

    @property
    def along(self) -> Array:
        """Distance walked up to each point, in m [S]."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.points, axis=0).T))])


def plan_walk(space: Space, start: tuple[float, float] | None, metres: float, seed: int) -> Walk:
    """A random walk of `metres` through the part of the space around `start` (m), or through the largest part.

    Each leg leads to the place that is newest to the walk so far, by a way that keeps away from walls and from
    ways already walked.

    Raises:
        DatasetError: there is no room to walk in.
    """
    part = _part(space, start)
    explorer = _Explorer(space, part, np.random.default_rng(seed))
    line = explorer.explore(metres * SPARE)
    points = _smooth(space, _resample(line, SAMPLE_M))
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    points = points[walked <= metres]
    return Walk(points, _headings(points))


def lap_poses(walk: Walk, space: Space, spacing: float, lateral_m: float, turn_deg: float, seed: int) -> Array:
    """Camera poses [N, 3] (m, m, rad) along a walk, one every `spacing` m and oftener in tight turns.

    The camera sways up to `lateral_m` m beside the walk, less where there is no room, and looks up to `turn_deg`
    aside, both slowly changing; with both zero it keeps to the centre line.
    """
    rng = np.random.default_rng(seed)
    side, turn = (np.sin(tau * (walk.along / wave + rng.random())) for wave in OFFSET_WAVES_M)
    left = np.stack([-np.sin(walk.heading), np.cos(walk.heading)], axis=1)
    points = walk.points + lateral_m * side[:, None] * left
    for part in (0.75, 0.5, 0.25, 0.0):
        tight = space.clear(points) < BODY_M
        points[tight] = walk.points[tight] + part * lateral_m * side[tight, None] * left[tight]
    heading = walk.heading + radians(turn_deg) * turn
    effort = np.maximum(np.diff(walk.along) / spacing, np.abs(np.diff(walk.heading)) / MOST_TURN)
    images = np.concatenate([[0.0], np.cumsum(effort)])
    phase = 0.0 if lateral_m == turn_deg == 0 else rng.random()  # another lap stops at other places
    at = np.searchsorted(images, np.arange(phase, images[-1], 1.0))
    return np.concatenate([points[at], heading[at, None]], axis=1)


def _part(space: Space, start: tuple[float, float] | None) -> NDArray[np.bool_]:
    """The part of the space that holds the start; the largest one when that is a mere closet."""
    parts = connected(space)
    if not parts:
        raise DatasetError("there is no room to walk in: every passage is too narrow or too low")
    if start is None:
        return parts[0]
    row, column = space.index(np.array([start]))[0]
    least = LEAST_PART_M2 / space.cell**2
    return next((part for part in parts if part[row, column] and part.sum() >= least), parts[0])


class _Explorer:
    """Walks over the nodes of a coarse grid, from one new place to the next."""

    def __init__(self, space: Space, part: NDArray[np.bool_], rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._free = part[::STRIDE, ::STRIDE].copy()
        self._free[[0, -1]] = self._free[:, [0, -1]] = False  # a step from a free node stays inside
        clearance = space.clearance[::STRIDE, ::STRIDE]
        self._step = space.cell * STRIDE
        self._cost = 1.0 + WALL_COST * np.clip(1.0 - clearance / COMFORT_M, 0.0, 1.0) ** 2  # per m
        roomy = min(1.0, float(np.quantile(clearance[self._free], 0.7))) if self._free.any() else 1.0
        self._roomy = self._free & (clearance >= roomy)
        self._walked = np.zeros(self._free.shape, np.uint8)

    def explore(self, metres: float) -> Array:
        """The nodes of a walk of at least `metres`, as points in m [S, 2]."""
        if not self._roomy.any():
            raise DatasetError("there is no room to walk in: every passage is too narrow or too low")
        here = self._draw(np.argwhere(self._roomy))
        nodes, length = [here], 0.0
        while length < metres:
            leg = self._leg(here)
            if len(leg) < 2:
                if not self._walked.any():
                    raise DatasetError("there is no room to walk in: the free places lie too close together")
                self._walked[:] = 0  # all of it is seen: begin again
                continue
            for a, b in pairwise(leg):
                length += self._step * hypot(b[0] - a[0], b[1] - a[1])
                cv2.circle(self._walked, (b[1], b[0]), 2, 1, cv2.FILLED)
            nodes, here = nodes + leg[1:], leg[-1]
        return self._space.points(np.array(nodes) * STRIDE)

    def _leg(self, here: tuple[int, int]) -> list[tuple[int, int]]:
        """Nodes from here to a new place; nothing but here when there is none."""
        reached, before = self._reach(here)
        distance = np.asarray(cv2.distanceTransform(1 - self._walked, cv2.DIST_L2, 3)) * self._step
        goals = np.argwhere(self._roomy & (reached > NEAR_M) & np.isfinite(reached) & (distance > SEEN_M))
        if not len(goals):
            return [here]
        drawn = goals[self._rng.integers(len(goals), size=GOALS)]
        news = np.minimum(distance[drawn[:, 0], drawn[:, 1]], 20.0) - 0.2 * reached[drawn[:, 0], drawn[:, 1]]
        node = tuple(drawn[int(np.argmax(news))].tolist())
        leg = [node]
        while node != here:
            node = before[node]
            leg.append(node)
        return leg[::-1]

    def _reach(self, here: tuple[int, int]) -> tuple[Array, dict[tuple[int, int], tuple[int, int]]]:
        """Dijkstra: the weighted way to every node within reach, and the node before each."""
        cost = np.where(self._free, self._cost * (1.0 + AGAIN_COST * self._walked), np.inf)
        weight: list[list[float]] = (cost * self._step).tolist()
        reached = np.full(cost.shape, np.inf)
        before: dict[tuple[int, int], tuple[int, int]] = {}
        queue = [(0.0, here, here)]
        limit = FAR_M
        while queue:
            way, node, came = heapq.heappop(queue)
            if node in before:
                continue
            before[node] = came
            row, column = node
            reached[row, column] = way
            for down, right, length in _MOVES:
                next_way = way + length * weight[row + down][column + right]
                if next_way < limit and (row + down, column + right) not in before:
                    heapq.heappush(queue, (next_way, (row + down, column + right), node))
        return reached, before

    def _draw(self, nodes: NDArray[np.int64]) -> tuple[int, int]:
        row, column = nodes[self._rng.integers(len(nodes))].tolist()
        return row, column


def _resample(line: Array, step: float) -> Array:
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0.0, along[-1], step)
    return np.stack([np.interp(at, along, column) for column in line.T], axis=1)


def _smooth(space: Space, line: Array) -> Array:
    """Round the corners, and push the line back from walls that it then comes near to."""
    for _ in range(SMOOTHING_ROUNDS):
        rounder = _blur(line, 4.0)
        bad = space.clear(rounder) < np.minimum(space.clear(line), BODY_M + 0.1)
        rounder[bad] = line[bad]
        line = rounder
    return line


def _headings(points: Array) -> Array:
    ahead = np.concatenate([points[6:], np.repeat(points[-1:], 6, axis=0)])
    behind = np.concatenate([np.repeat(points[:1], 6, axis=0), points[:-6]])
    tangent = ahead - behind
    heading = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    return _blur(heading[:, None], HEADING_SIGMA_M / SAMPLE_M)[:, 0]


def _blur(values: Array, sigma: float) -> Array:
    reach = np.arange(-round(3 * sigma), round(3 * sigma) + 1)
    weight = np.exp(-0.5 * (reach / sigma) ** 2)
    wide = np.pad(values, ((len(reach) // 2, len(reach) // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, weight / weight.sum(), "valid") for column in wide.T], axis=1)
