"""``tscm map``: look at map files, check, merge and export them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.markup import escape

from tscm_core.commands.map_print import merged_json, print_merged, print_notes, print_repaired
from tscm_core.commands.support import (
    Json,
    Params,
    Settings,
    errors,
    output,
    print_json,
    print_table,
    progress,
    read_settings,
)

if TYPE_CHECKING:
    from tscm_core.recognition.records import Pose

map_app = typer.Typer(help="Look at map files, check, merge and export them.", no_args_is_help=True)

_File = Annotated[Path, typer.Argument(metavar="FILE")]


@map_app.command("info")
def map_info_command(file: _File, json_output: Json = False) -> None:
    """Show what a map holds: model, sessions, keyframes, loops.

    Example: `tscm map info ~/.ros/tscm/map.tscm`
    """
    from tscm_core.maps.map_reader import inspect

    info = asdict(inspect(file)) | {"path": str(file)}
    if json_output:
        print_json(info)
        return
    print_table(f"Map {file}", {key: value for key, value in info.items() if key != "sessions"}.items())
    for session in info["sessions"]:
        output.print(f"session {escape(session['name'])}: {session['keyframes']} keyframes")
    if info["ids_gone"]:
        output.print(
            f"{info['ids_gone']} of {info['keyframes'] + info['ids_gone']} ids are no longer there: given up for "
            f"map.max_keyframes or map.max_mb, or never stored"
        )


@map_app.command("check")
def map_check_command(
    file: _File,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write what is whole in a damaged map to a new one.")
    ] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
        typer.Option(metavar="NEW", help="Where --repair writes; FILE.repaired unless said otherwise."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Check every row of a map; exit 1 if it would not be loaded.

    With --repair, a damaged map is left as it is, and what is whole in it is written to another file; exit 0 if that
    can be used.

    Example: `tscm map check ~/.ros/tscm/map.tscm`
    """
    from tscm_core.maps.map_reader import check
    from tscm_core.maps.map_repair import repair_advice

    if out is not None and not repair:
        raise typer.BadParameter("is where --repair writes: give that too, or leave it out", param_hint="--out")
    problems = check(file)
    repaired = _repair(file, out) if problems and repair else None
    if json_output:
        print_json(
            {"file": str(file), "ok": not problems, "problems": problems, **({"repaired": repaired} if repair else {})}
        )
    elif not problems:
        output.print(f"map {escape(str(file))} is whole")
    else:
        for problem in problems:
            errors.print(f"[bold red]error:[/] map {escape(f'{file}: {problem}')}")
        if repaired is not None:
            print_repaired(file, repaired)
        elif advice := repair_advice(file, problems):
            errors.print(escape(advice))
    if problems and repaired is None:
        raise typer.Exit(1)


def _repair(file: Path, out: Path | None) -> dict[str, Any]:
    from tscm_core.maps.map_repair import repair

    done = asdict(repair(file, out))
    return {key: str(value) if isinstance(value, Path) else value for key, value in done.items()}


@map_app.command("merge")
def map_merge_command(
    files: Annotated[list[Path], typer.Argument(metavar="A B [C...]", help="Maps of one model; they are only read.")],
    out: Annotated[Path, typer.Option(metavar="OUT", help="The map to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a map that is there.")] = False,
    params: Params = None,
    settings: Settings = None,
    json_output: Json = False,
) -> None:
    """Make one map of several, and find the loops between them by what they hold: no image is described again.

    Sessions stay apart; one whose name is taken gets a number. The first map keeps its ids, those of the others go on
    from there. What maps of robots that began with one map have in common is taken once. Loops are judged by the same
    rules as on the robot: similarity, local features, support by the keyframes before. A map that a node is driving on
    is taken as it is when it is opened.

    Example: `tscm map merge monday.tscm tuesday.tscm --out both.tscm`
    """
    from tscm_core.maps.map_merge import merge

    if len(files) < 2:
        raise typer.BadParameter("give two maps or more", param_hint="A B [C...]")
    config = read_settings(params, settings)
    with progress("Merging") as show:
        merged = merge(files, out, config, overwrite=overwrite, progress=show)
    if json_output:
        print_json(merged_json(merged, out))
    else:
        print_merged(merged, out)


@map_app.command("export")
def map_export_command(
    file: Annotated[Path, typer.Argument(metavar="MAP", help="A map file; it is only read.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    camera_pose: Annotated[
        Optional[str],  # noqa: UP045 - typer reads this at run time, on Python 3.10 too
        typer.Option(
            metavar="X,Y,Z,QX,QY,QZ,QW",
            help="The camera's optical frame in the robot's base, as `tf2_echo` gives it (metres, quaternion); "
            "forward: at the base, looking ahead; same: poses are the optical frame's own. Loops become edges with it.",
        ),
    ] = None,
    odometry_edges: Annotated[
        bool, typer.Option("--odometry-edges", help="Also edges between consecutive keyframes of a session.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Descriptors as float16, as the map keeps them.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    json_output: Json = False,
) -> None:
    """Write a map as files that other programs read: images, positions, descriptors, and loops as a g2o pose graph.

    `tscm replay` and `tscm evaluate` read the folder too. The map does not know where the camera sits on the robot:
    loops become edges of the graph only with --camera-pose, and only where they are in metres (depth). loops.csv has
    them all, with their evidence.

    Example: `tscm map export map.tscm --out exported --camera-pose forward`
    """
    from tscm_core.maps.map_export import export
    from tscm_core.maps.map_g2o import EdgeRule

    rule = EdgeRule(_camera_pose(camera_pose), odometry_edges)
    with progress("Exporting") as show:
        done = export(file, out, rule, half=half, overwrite=overwrite, progress=show)
    if json_output:
        print_json(asdict(done) | {"path": str(out)})
        return
    print_notes(done.notes)
    output.print(
        f"{escape(str(out))}: {done.keyframes} keyframes, {done.with_pose} with a pose; {done.loops} loops, "
        f"{done.loop_edges} of them edges; {done.odometry_edges} edges from odometry"
    )


def _camera_pose(given: str | None) -> Pose | None:
    from tscm_core.maps.map_g2o import FORWARD, SAME
    from tscm_core.recognition.records import Pose

    if given is None or given in ("forward", "same"):
        return {None: None, "forward": FORWARD, "same": SAME}[given]
    try:
        x, y, z, qx, qy, qz, qw = (float(part) for part in given.split(","))
    except ValueError:
        x = y = z = qx = qy = qz = qw = math.nan
    if not all(map(math.isfinite, (x, y, z))) or not abs(math.hypot(qx, qy, qz, qw) - 1.0) < 0.01:
        raise typer.BadParameter(
            f"must be forward, same, or seven numbers x,y,z,qx,qy,qz,qw with a quaternion of length 1, not {given}",
            param_hint="--camera-pose",
        )
    return Pose((x, y, z), (qx, qy, qz, qw), "base")
