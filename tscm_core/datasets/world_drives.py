"""Laps through the levels that come with vizdoom or our own, rendered to folders of images with exact positions."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from tscm_core.datasets import world_corridors
from tscm_core.datasets.camera_files import write_camera_file
from tscm_core.datasets.depth_messages import write_depth
from tscm_core.datasets.drive_lighting import LIGHTINGS, Exposure
from tscm_core.datasets.drive_routes import METRES_PER_UNIT
from tscm_core.datasets.synthetic_drive import import_vizdoom, running_game
from tscm_core.datasets.world_camera import Shot, WorldCamera, scaled_camera
from tscm_core.datasets.world_depth import depth_from_buffer
from tscm_core.datasets.world_doors import write_open_level
from tscm_core.datasets.world_geometry import Array, walkable_space
from tscm_core.datasets.world_levels import level_names, read_level
from tscm_core.datasets.world_routes import lap_poses, plan_walk
from tscm_core.errors import ConfigError, DatasetError

GAMES = ("freedoom1", "freedoom2")
CORRIDORS = "tscm:corridors"
QUALITY = 92
ABOUT = "drive.json"  # the settings, beside the laps

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WorldDrive:
    """What to render: one walk of `metres` through a world, driven once for each name in `lighting`.

    From the second lap on the camera sways up to `lateral_m` m beside the first and looks up to `turn_deg` aside.
    `size` is width and height of the images, `spacing` the way between two of them in m.
    With `depth` each image has a depth image beside it.
    """

    world: str
    metres: float = 300.0
    spacing: float = 0.7
    lighting: tuple[str, ...] = ("noon", "dusk")
    lateral_m: float = 0.4
    turn_deg: float = 12.0
    size: tuple[int, int] = (480, 360)
    seed: int = 0
    depth: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.lighting if name not in LIGHTINGS]
        if unknown:
            raise ConfigError(f"no lighting is called {unknown[0]!r}; there are {', '.join(LIGHTINGS)}")
        if not self.lighting:
            raise ConfigError(f"each lap needs a lighting; there are {', '.join(LIGHTINGS)}")
        if not (5.0 <= self.metres <= 10_000.0 and self.spacing >= 0.05):
            raise ConfigError("a rendered drive is 5 to 10000 m long, with at least 0.05 m between images")
        if not (32 <= self.size[0] <= 640 and 32 <= self.size[1] <= 480):
            raise ConfigError(f"images may be 32x32 to 640x480 pixels large, not {self.size[0]}x{self.size[1]}")
        if not (0.0 <= self.lateral_m <= 2.0 and 0.0 <= self.turn_deg <= 90.0):
            raise ConfigError("later laps may run 0 to 2 m aside and look 0 to 90 degrees aside")
        if self.seed < 0:
            raise ConfigError("the seed must not be negative")


@dataclass(frozen=True)
class LapReport:
    """What became of one lap: images written, images lost because the camera could not stand there, lighting."""

    frames: int
    lost: int
    lighting: str


def worlds() -> tuple[str, ...]:
    """All worlds, as GAME:LEVEL; the last is our own.

    Raises:
        MissingDependencyError: vizdoom is not installed.
    """
    folder = Path(import_vizdoom().__file__).parent
    return (*(f"{game}:{level}" for game in GAMES for level in level_names(folder / f"{game}.wad")), CORRIDORS)


def render_world(drive: WorldDrive, out: Path, *, overwrite: bool = False, progress: Progress) -> list[LapReport]:
    """Render a drive to `out`/lap1, lap2, ...: images/*.jpg, positions.csv and camera.yaml.

    positions.csv has image, x, y in m and yaw in degrees; camera.yaml is a ROS calibration file.
    With `drive.depth` also depth/*.png, 16-bit millimetres along the optical axis, 0 where unknown.
    The folder appears when all of it is there. The same drive gives the same files.

    Raises:
        ConfigError: there is no such world.
        DatasetError: `out` exists and `overwrite` is false or it is something else, it cannot be written, there is no
            room in the world, or the camera could stand nowhere on a lap.
        MissingDependencyError: vizdoom is not installed.
    """
    if drive.world not in worlds():
        raise ConfigError(f"no world is called {drive.world!r}: name one like freedoom2:MAP05, --list shows all")
    with fresh_folder(out, overwrite) as (target, scratch):
        patch = scratch / "open.wad"
        game, level = _write_level(drive.world, patch)
        laps = _plan(drive, patch, level)
        with running_game(
            f"{game}.wad", level, drive.seed, scratch, patch=patch, camera_height=True, depth=drive.depth
        ) as running:
            camera = WorldCamera(running)
            done, total, reports = 0, sum(map(len, laps)), []
            for number, poses in enumerate(laps):
                advance = lambda count, done=done: progress(done + count, total)  # noqa: E731
                reports.append(_write_lap(camera, poses, drive, number, target / f"lap{number + 1}", advance))
                done += len(poses)
        about = {**asdict(drive), "laps": [asdict(report) for report in reports]}
        (target / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return reports


def _write_level(world: str, target: Path) -> tuple[str, str]:
    """Write the level to walk through to a WAD file; the game whose textures it has, and its name in the file."""
    if world == CORRIDORS:
        world_corridors.write_corridors(target)
        return world_corridors.GAME, world_corridors.LEVEL
    game, _, level = world.partition(":")
    write_open_level(Path(import_vizdoom().__file__).parent / f"{game}.wad", level, target)
    return game, level


def _plan(drive: WorldDrive, patch: Path, level_name: str) -> list[Array]:
    """Camera poses [N, 3] (m, m, rad) of each lap."""
    level = read_level(patch, level_name)
    space = walkable_space(level)
    start = (level.start[0] * METRES_PER_UNIT, level.start[1] * METRES_PER_UNIT)
    walk = plan_walk(space, start, drive.metres, drive.seed)
    first = lap_poses(walk, space, drive.spacing, 0.0, 0.0, drive.seed)
    others = range(1, len(drive.lighting))
    return [first] + [
        lap_poses(walk, space, drive.spacing, drive.lateral_m, drive.turn_deg, drive.seed + number) for number in others
    ]


def _write_lap(
    camera: WorldCamera, poses: Array, drive: WorldDrive, number: int, folder: Path, advance: Callable[[int], None]
) -> LapReport:
    name = drive.lighting[number]
    exposure = Exposure(LIGHTINGS[name], drive.seed + number, drive.size)
    for part in ("images", "depth") if drive.depth else ("images",):
        (folder / part).mkdir(parents=True)
    rows = []
    for index, pose in enumerate(poses):
        shot = camera.shoot(pose)
        advance(index + 1)
        if shot is None:
            continue
        _write_shot(shot, exposure, index, drive.size, folder)
        rows.append((f"{index:06d}.jpg", f"{shot.x:.4f}", f"{shot.y:.4f}", f"{shot.yaw:.3f}"))
    if not rows:
        raise DatasetError(f"the camera could stand nowhere on lap {number + 1}: take another seed or world")
    with (folder / "positions.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "x", "y", "yaw"), *rows])
    write_camera_file(folder / "camera.yaml", scaled_camera(drive.size), "rendered")
    return LapReport(len(rows), len(poses) - len(rows), name)


def _write_shot(shot: Shot, exposure: Exposure, index: int, size: tuple[int, int], folder: Path) -> None:
    small = cv2.resize(shot.image, size, interpolation=cv2.INTER_AREA)
    lit = exposure.apply(np.asarray(small, np.uint8), index)
    path = folder / "images" / f"{index:06d}.jpg"
    if not cv2.imwrite(str(path), lit[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise DatasetError(f"image {path} cannot be written: is the disk full?")
    if shot.buffer is not None:
        write_depth(folder / "depth" / f"{index:06d}.png", depth_from_buffer(shot.buffer, size))


@contextmanager
def fresh_folder(path: Path, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """A folder to fill, which becomes `path` once the block ends well, and a scratch folder, which goes away.

    Raises:
        DatasetError: `path` exists and `overwrite` is false or it is something else, or it cannot be written.
    """
    path = path.absolute()
    if path.exists() and not overwrite:
        raise DatasetError(f"{path} exists already: choose another name, or --overwrite")
    if path.exists() and not (path / ABOUT).is_file():
        raise DatasetError(f"{path} is no rendered drive, so it is not overwritten: choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror}") from error
    try:
        target, scratch = staging / "target", staging / "scratch"
        target.mkdir()
        scratch.mkdir()
        yield target, scratch
        if path.exists():
            path.rename(staging / "old")
        target.rename(path)
    except OSError as error:
        raise DatasetError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
