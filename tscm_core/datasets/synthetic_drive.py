"""A robot drives through a rendered, textured world: images with exact poses, made on the spot by vizdoom.

The level is walked as a player walks it (no teleport between frames: a teleport drops the eye to the floor),
with the thrust of each tick computed so that the camera lands on the planned path. Poses are those the game
reports afterwards. Lighting and noise are applied to the finished image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from math import atan2, cos, degrees, pi, radians, sin
from pathlib import Path
from typing import Any

import numpy as np

from tscm_core.datasets.drive_lighting import DAY, EVENING, MORNING, Exposure, Image, Lighting
from tscm_core.datasets.drive_routes import METRES_PER_UNIT, ROUTES, Plan, Stretch, plan_drive
from tscm_core.errors import ConfigError, MissingDependencyError
from tscm_core.recognition.records import Intrinsics

TICK_HZ = 35.0  # of the game; a session's clock is stretched so that a whole number of ticks makes a frame
SETTLE_TICKS = 20
FRICTION = 0.90625  # of Doom's floors: what is left of the velocity after one tick
THRUST = 1.0 / 32.0  # map units per tick gained by one unit of the move buttons
STUCK_M = 0.5
# Without these sections the engine makes a folder _vizdoom in the working directory, for a start-up script.
SETTINGS = "".join(f"[{game}.AutoExec]\n" for game in ("Doom", "Heretic", "Hexen", "Strife", "Chex"))


CAMERA = Intrinsics(width=640, height=480, fx=320.0, fy=384.0, cx=320.0, cy=240.0)
"""Pinhole camera without distortion: 90 degrees of view over the width.

The pixels are not square: Doom stretches its world by 1.2 vertically, so fy = 1.2 fx. Both were measured: fx on exact
turns, fy on walls of known height and distance.
"""


@dataclass(frozen=True)
class Lap:
    """One stretch of driving: `laps` loops, the camera turned (degrees) and shifted (m) to the left."""

    heading_offset_deg: float = 0.0
    lateral_offset_m: float = 0.0
    lighting: Lighting = DAY
    laps: float = 1.0


@dataclass(frozen=True)
class DriveConfig:
    """One session: laps without a stop between them, from `start` (in loops) of the named route."""

    route: str = "warehouse"
    laps: tuple[Lap, ...] = field(default=(Lap(), Lap(12.0, 0.3, EVENING)))
    start: float = 0.0
    rate_hz: float = 15.0
    speed_mps: float = 2.0
    turn_rate_dps: float = 60.0
    seed: int = 0
    start_ns: int = 0

    @property
    def ticks_per_frame(self) -> int:
        """Game ticks between two images."""
        return max(1, round(TICK_HZ / self.rate_hz))

    def __post_init__(self) -> None:
        if self.route not in ROUTES:
            raise ConfigError(f"no route is called {self.route!r}; there are {', '.join(sorted(ROUTES))}")
        if not self.laps or min(self.rate_hz, self.speed_mps, self.turn_rate_dps) <= 0:
            raise ConfigError("a drive needs at least one lap, and rate, speed and turn rate above zero")


@dataclass(frozen=True)
class DriveFrame:
    """One image, RGB uint8 [480, 640, 3], and its exact pose: x, y in m, yaw in rad counter-clockwise."""

    stamp_ns: int
    image: Image
    x: float
    y: float
    yaw: float


# Two laps, then on another day half a lap from elsewhere on the same route.
DEMO_SESSIONS = (
    DriveConfig(),
    DriveConfig(laps=(Lap(-8.0, -0.25, MORNING, 0.5),), start=0.3, seed=1, start_ns=86_400_000_000_000),
)


def render_drive(config: DriveConfig, scratch_folder: Path) -> Iterator[DriveFrame]:
    """Render a session frame by frame; the same config gives the same images and poses.

    Writes only inside `scratch_folder`. Raises MissingDependencyError without vizdoom, and ConfigError when
    the camera cannot follow its path within 0.5 m (a wall in the way of a lateral offset).
    """
    plan = plan_session(config)
    period_ns = 1e9 / config.rate_hz
    exposures = [Exposure(lap.lighting, config.seed) for lap in config.laps]
    route = ROUTES[config.route]
    with running_game(route.wad, route.level, config.seed, scratch_folder) as game:
        driver = _Driver(game, plan)
        for index, tick in enumerate(range(0, len(plan.poses), config.ticks_per_frame)):
            image, (x, y, yaw) = driver.advance(tick)
            lit = exposures[plan.stretch[tick]].apply(image, index)
            yield DriveFrame(config.start_ns + round(index * period_ns), lit, x, y, yaw)


def plan_session(config: DriveConfig) -> Plan:
    """The poses the drive aims at, one per game tick; needs no vizdoom."""
    stretches = tuple(
        Stretch(config.start, lap.laps, radians(lap.heading_offset_deg), lap.lateral_offset_m) for lap in config.laps
    )
    step_s = 1.0 / (config.rate_hz * config.ticks_per_frame)
    return plan_drive(ROUTES[config.route], stretches, step_s, config.speed_mps, radians(config.turn_rate_dps))


class _Driver:
    """Pushes the player of a game along a plan, and reads back where the camera is."""

    def __init__(self, game: Any, plan: Plan) -> None:
        self._game, self._plan = game, plan
        x, y, yaw = plan.poses[0]
        game.send_game_command(f"warp {round(x / METRES_PER_UNIT)} {round(y / METRES_PER_UNIT)}")
        for _ in range(SETTLE_TICKS):
            game.make_action([0.0, 0.0, 0.0], 1)
        game.make_action([degrees(self._pose()[2] - yaw), 0.0, 0.0], 1)
        self._before = self._now = self._pose()
        self._tick = 0

    def advance(self, tick: int) -> tuple[Image, tuple[float, float, float]]:
        """Drive up to the planned pose number `tick`; image and pose there (m, m, rad)."""
        while self._tick < tick:
            self._tick += 1
            self._towards(self._tick)
        x, y, yaw = self._now
        off = float(np.hypot(x - self._plan.poses[tick][0], y - self._plan.poses[tick][1]))
        if off > STUCK_M:
            raise ConfigError(
                f"the drive is held up {off:.1f} m off its path at ({x:.1f}, {y:.1f}): drive less far aside"
            )
        return np.array(self._game.get_state().screen_buffer, np.uint8), (x, y, yaw)

    def _towards(self, tick: int) -> None:
        """One game tick, with the thrust that makes up for the velocity left and lands on the plan."""
        x, y, yaw = self._plan.poses[tick]
        push_x = (x - self._now[0]) - FRICTION * (self._now[0] - self._before[0])
        push_y = (y - self._now[1]) - FRICTION * (self._now[1] - self._before[1])
        forward, right = cos(yaw) * push_x + sin(yaw) * push_y, sin(yaw) * push_x - cos(yaw) * push_y
        unit = THRUST * METRES_PER_UNIT
        self._game.make_action([degrees(_wrap(self._now[2] - yaw)), forward / unit, right / unit], 1)
        self._before, self._now = self._now, self._pose()

    def _pose(self) -> tuple[float, float, float]:
        x, y, angle = self._game.get_state().game_variables
        return float(x) * METRES_PER_UNIT, float(y) * METRES_PER_UNIT, _wrap(radians(float(angle)))


def _wrap(angle: float) -> float:
    """The same angle in (-pi, pi]."""
    return atan2(sin(angle), cos(angle)) if abs(angle) > pi else angle


def import_vizdoom() -> Any:
    """The module vizdoom. Raises MissingDependencyError without it."""
    try:
        return import_module("vizdoom")
    except ImportError as error:
        raise MissingDependencyError("vizdoom", "pip install vizdoom") from error


@contextmanager
def running_game(
    wad: str,
    level: str,
    seed: int,
    scratch_folder: Path,
    *,
    patch: Path | None = None,
    camera_height: bool = False,
    depth: bool = False,
) -> Iterator[Any]:
    """A running game on a level, alone in it, closed again at the end.

    `wad` is the name of a file that comes with vizdoom; `patch` another WAD file, whose lumps count first. The
    game variables are x, y (map units) and angle (degrees), and with `camera_height` that of the eye (map units).
    With `depth` it has a depth buffer.
    Raises MissingDependencyError without vizdoom.
    """
    vizdoom = import_vizdoom()
    scratch = scratch_folder.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    game = vizdoom.DoomGame()
    _choose_world(game, Path(vizdoom.__file__).parent / wad, level, seed, scratch)
    if patch is not None:
        game.set_doom_scenario_path(str(patch.resolve()))
    _choose_camera(game, vizdoom)
    game.set_depth_buffer_enabled(depth)
    if camera_height:
        game.add_available_game_variable(vizdoom.GameVariable.VIEW_HEIGHT)
    try:
        game.init()
        yield game
    finally:
        game.close()


def _choose_world(game: Any, wad: Path, level: str, seed: int, scratch: Path) -> None:
    game.set_doom_game_path(str(wad))
    game.set_doom_map(level)
    settings = scratch / "_vizdoom.ini"
    settings.write_text(SETTINGS, encoding="ascii")
    game.set_doom_config_path(str(settings))
    game.add_game_args("-nomonsters +sv_cheats 1 +sv_noitems 1 +movebob 0")
    game.set_seed(seed)
    game.set_episode_timeout(0)


def _choose_camera(game: Any, vizdoom: Any) -> None:
    button, variable = vizdoom.Button, vizdoom.GameVariable
    game.set_window_visible(False)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for part in (
        "hud",
        "weapon",
        "crosshair",
        "decals",
        "particles",
        "effects_sprites",
        "messages",
        "screen_flashes",
    ):
        getattr(game, f"set_render_{part}")(False)
    game.set_available_buttons(
        [button.TURN_LEFT_RIGHT_DELTA, button.MOVE_FORWARD_BACKWARD_DELTA, button.MOVE_LEFT_RIGHT_DELTA]
    )
    game.set_available_game_variables([variable.POSITION_X, variable.POSITION_Y, variable.ANGLE])
