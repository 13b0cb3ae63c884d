"""The camera of a rendered world: it jumps from pose to pose."""

from __future__ import annotations

from dataclasses import dataclass
from math import degrees
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tscm_core.datasets.drive_lighting import Image
from tscm_core.datasets.drive_routes import METRES_PER_UNIT
from tscm_core.datasets.synthetic_drive import CAMERA
from tscm_core.errors import DatasetError
from tscm_core.recognition.records import Intrinsics

SETTLE_TICKS = 4  # after a jump the eye lies on the floor and rises within three ticks
EYE_UNITS = 41.0
MOST_OFF_M = 0.1


@dataclass(frozen=True, slots=True)
class Shot:
    """Image RGB uint8 [480, 640, 3], its depth buffer uint8 [480, 640] if there is one, and where it was taken."""

    image: Image
    buffer: NDArray[np.uint8] | None
    x: float  # m
    y: float
    yaw: float  # degrees


class WorldCamera:
    """Jumps from pose to pose in a running game.

    Walking would open doors, start lifts and get stuck; a jump does not.
    """

    def __init__(self, game: Any) -> None:
        """Take over a game made by `running_game` with `camera_height`."""
        self._game = game
        game.send_game_command("god")
        game.make_action([0.0, 0.0, 0.0], 1)
        self._angle = float(game.get_state().game_variables[2])

    def shoot(self, pose: NDArray[np.float64]) -> Shot | None:
        """What is seen from a pose [3] (m, m, rad); nothing when the camera cannot stand there.

        Raises:
            DatasetError: the game is over.
        """
        x, y, yaw = pose.tolist()
        self._game.send_game_command(f"warp {round(x / METRES_PER_UNIT)} {round(y / METRES_PER_UNIT)}")
        self._game.set_action([0.0, 0.0, 0.0])
        self._game.advance_action(SETTLE_TICKS, False)
        self._game.make_action([_wrap(self._angle - degrees(yaw)), 0.0, 0.0], 1)
        state = self._game.get_state()
        if state is None:
            raise DatasetError(f"the camera came to harm at ({x:.1f}, {y:.1f}): take another seed or world")
        there_x, there_y, self._angle, eye = map(float, state.game_variables)
        there_x, there_y = there_x * METRES_PER_UNIT, there_y * METRES_PER_UNIT
        if abs(there_x - x) + abs(there_y - y) > MOST_OFF_M or abs(eye - EYE_UNITS) > 1.0:
            return None
        buffer = None if state.depth_buffer is None else np.array(state.depth_buffer, np.uint8)
        return Shot(np.array(state.screen_buffer, np.uint8), buffer, there_x, there_y, _wrap(self._angle))


def scaled_camera(size: tuple[int, int]) -> Intrinsics:
    """The intrinsics of rendered images of a width and height in pixels."""
    across, down = size[0] / CAMERA.width, size[1] / CAMERA.height
    return Intrinsics(*size, CAMERA.fx * across, CAMERA.fy * down, CAMERA.cx * across, CAMERA.cy * down)


def _wrap(angle: float) -> float:
    """The same angle in degrees in [-180, 180)."""
    return (angle + 180.0) % 360.0 - 180.0
