"""``tscm render``: images with exact positions from a world that is made on the spot."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tscm_core.commands.support import Json, errors, output, print_json, print_table, progress
from tscm_core.errors import ConfigError


def render_command(
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Folder to write.")] = None,
    world: Annotated[
        str, typer.Option(metavar="GAME:LEVEL", help="Which world; --list names them.")
    ] = "freedoom2:MAP01",
    metres: Annotated[float, typer.Option(help="Length of a lap.")] = 300.0,
    laps: Annotated[int, typer.Option(min=1, max=100, help="How often the same walk is driven.")] = 2,
    spacing: Annotated[float, typer.Option(help="Metres between two images.")] = 0.7,
    lighting: Annotated[
        str, typer.Option(help="Light of each lap, by commas; begins again when there are more laps.")
    ] = "noon,dusk",
    aside: Annotated[float, typer.Option(help="How far laps after the first run beside it, at most, in m.")] = 0.4,
    turned: Annotated[float, typer.Option(help="How far they look aside, at most, in degrees.")] = 12.0,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the images.")] = "480x360",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same drive.")] = 0,
    depth: Annotated[
        bool, typer.Option("--depth", help="Also write OUT/lap1/depth/*.png: 16-bit millimetres, 0 unknown.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that is there.")] = False,
    list_worlds: Annotated[bool, typer.Option("--list", help="Name worlds and lightings, and render nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Render laps through a textured world: OUT/lap1/images/*.jpg with OUT/lap1/positions.csv, and so on.

    Each lap also gets camera.yaml, the camera's ROS calibration file. All laps follow one random walk and share one
    frame. Needs `pip install vizdoom`.

    Example: `tscm render drive --world freedoom2:MAP05 --metres 60 --lighting noon,night`
    """
    from tscm_core.datasets.drive_lighting import LIGHTINGS
    from tscm_core.datasets.world_drives import WorldDrive, render_world, worlds

    if list_worlds:
        _list({"worlds": list(worlds()), "lighting": list(LIGHTINGS)}, as_json)
        return
    if out is None:
        raise typer.BadParameter("name a folder to write, or take --list", param_hint="OUT")
    names = [name.strip() for name in lighting.split(",")]
    drive = WorldDrive(
        world=world,
        metres=metres,
        spacing=spacing,
        lighting=tuple(names[lap % len(names)] for lap in range(laps)),
        lateral_m=aside,
        turn_deg=turned,
        size=_size(size),
        seed=seed,
        depth=depth,
    )
    with progress(f"rendering {world}") as show:
        reports = render_world(drive, out, overwrite=overwrite, progress=show)
    if as_json:
        print_json({"out": str(out), "world": world, "laps": [asdict(report) for report in reports]})
        return
    lost = sum(report.lost for report in reports)
    if lost:
        errors.print(f"{lost} images left out: the camera could not stand there")
    print_table(str(out), ((f"lap{lap}", f"{one.frames} images, {one.lighting}") for lap, one in enumerate(reports, 1)))


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"--size takes WIDTHxHEIGHT like 480x360, not {text!r}")
    return int(width), int(height)


def _list(known: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(known)
        return
    for title, names in known.items():
        output.print(f"{title}: {' '.join(names)}")
