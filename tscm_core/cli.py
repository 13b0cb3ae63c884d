"""The command line: ``tscm COMMAND --help`` explains each command with examples."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tscm_core.commands.ablation import train_ablation_command
from tscm_core.commands.average import average_command
from tscm_core.commands.bench import bench_command
from tscm_core.commands.calibrate import calibrate_command
from tscm_core.commands.compile import compile_command
from tscm_core.commands.evaluate import evaluate_command
from tscm_core.commands.import_checkpoint import import_checkpoint_command
from tscm_core.commands.map import map_app
from tscm_core.commands.render import render_command
from tscm_core.commands.replay import replay_command
from tscm_core.commands.support import (
    Json,
    Params,
    Settings,
    errors,
    open_describer,
    output,
    print_json,
    progress,
    read_settings,
)
from tscm_core.commands.train import train_app
from tscm_core.errors import MissingDependencyError, TscmError


class DemoKind(str, Enum):
    """What ``tscm demo`` shows; the names are those of ``tscm_ros.demo.DEMOS``."""

    DRIVES = "drives"
    TWO_DAYS = "two-days"
    TWO_ROBOTS = "two-robots"


app = typer.Typer(
    help="Visual place recognition that a robot can carry.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
bag_app = typer.Typer(help="Make bags.", no_args_is_help=True)
app.add_typer(bag_app, name="bag")
app.add_typer(map_app, name="map")
app.add_typer(train_app, name="train")
train_app.command("ablation")(train_ablation_command)
app.command("replay")(replay_command)
app.command("calibrate")(calibrate_command)
app.command("compile")(compile_command)
app.command("bench")(bench_command)


def main() -> None:
    """Run the command line: exit 0 done, 1 the answer is no or the data is bad, 2 wrong usage."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what is wrong with an image is said in our own sentence
    try:
        app()
    except TscmError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)
    except ImportError as error:
        if (error.name or "tscm").startswith("tscm"):
            raise
        errors.print(f"[bold red]error:[/] Python package {error.name} is not installed: pip install it, see README.md")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a folder that may not be read, a name that is too long
        if error.filename is None:
            raise
        errors.print(f"[bold red]error:[/] {escape(str(error.filename))}: {escape(str(error.strerror))}")
        sys.exit(1)


@bag_app.command("from-images")
def bag_from_images_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of images, taken in the order of their names.")],
    out: Annotated[Path, typer.Option(help="Bag to write (a folder).")],
    rate: Annotated[float, typer.Option(metavar="HZ", min=0.001, max=1000.0, help="Images a second.")] = 2.0,
    positions: Annotated[Path | None, typer.Option(help="CSV with image,x,y[,yaw]: becomes odometry.")] = None,
    storage: Annotated[str, typer.Option("--format", help="mcap or sqlite3.")] = "mcap",
    overwrite: Annotated[bool, typer.Option(help="Replace a bag that is there.")] = False,
) -> None:
    """Make a ROS 2 bag from a folder of images, with odometry where there are positions.

    Example: `tscm bag from-images drive/ --out drive_bag --rate 2 --positions drive/positions.csv`
    """
    from tscm_core.datasets.bag_writer import bag_from_images, fresh_bag
    from tscm_core.datasets.positions import list_images

    if storage not in ("mcap", "sqlite3"):
        raise typer.BadParameter("must be mcap or sqlite3", param_hint="--format")
    total = len(list_images(folder))
    with fresh_bag(out, overwrite) as path, progress("Writing images") as show:
        for done in bag_from_images(folder, path, rate, positions, storage):  # type: ignore[arg-type]
            show(done, total)
    output.print(f"{escape(str(out))}: {total} images at {rate:g} Hz")


@app.command("describe")
def describe_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or one folder of images.")],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE.npy", help="Where to write float32 [B, D], in the order of the images."),
    ],
    params: Params = None,
    settings: Settings = None,
    json_output: Json = False,
) -> None:
    """Turn images into descriptors: unit-length rows whose inner product is their similarity.

    Example: `tscm describe images/ --out descriptors.npy`
    """
    from tscm_core.datasets.positions import list_images
    from tscm_core.evaluation.describe import describe_files

    files = list_images(images[0]) if len(images) == 1 and images[0].is_dir() else images
    describer = open_describer(read_settings(params, settings).model)
    with progress("Describing") as show:
        describe_files(files, describer, out, show)
    if json_output:
        print_json({"file": str(out), "images": len(files), "dim": describer.dim, "model_id": describer.model_id})
    else:
        output.print(f"{escape(str(out))}: {len(files)} descriptors of {describer.dim} numbers by {describer.model_id}")


@app.command("demo")
def demo_command(
    kind: Annotated[
        DemoKind,
        typer.Argument(
            help="drives: two drives, the node killed between them. two-days: a map of yesterday, driven on and looked "
            "into. two-robots: each recognises places of the other."
        ),
    ] = DemoKind.DRIVES,
    out: Annotated[Path, typer.Option(help="Folder for bags, map, result.json and picture.")] = Path("demo_output"),
    json_output: Json = False,
) -> None:
    """Drive a robot through a rendered world and let the real node, over DDS, recognise where it has been.

    Needs ROS 2 (rclpy), tscm_msgs and vizdoom; takes one to four minutes.

    Example: `tscm demo --out demo_output`, or `tscm demo two-robots --out demo_two_robots`
    """
    for package, remedy in (
        ("rclpy", "run inside a ROS 2 environment, or `make venv`"),
        ("tscm_ros", "run `make venv`"),
    ):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(package, remedy)
    which = [] if kind is DemoKind.DRIVES else [kind.value]
    options = ["--out", str(out), *(["--json"] if json_output else [])]
    command = [sys.executable, "-m", "tscm_ros.demo", *which, *options]
    raise typer.Exit(_run_to_the_end(command))


app.command("evaluate")(evaluate_command)
app.command("render")(render_command)
app.command("import-checkpoint")(import_checkpoint_command)
app.command("average")(average_command)


def _run_to_the_end(command: list[str]) -> int:
    """The exit code of a command, to which SIGTERM is handed on; Ctrl-C reaches it by itself."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))  # before it begins, or it might be left alone
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        if asked:
            process.terminate()
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
