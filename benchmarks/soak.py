"""The real node for hours: does anything grow, is everything answered for? See README.md.

Prints a table, writes ``soak.json`` and ``soak.png``, and exits with 1 if something is not as it must be.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rclpy.serialization import deserialize_message
from rich.markup import escape
from sensor_msgs.msg import Image
from soak_chores import Chores, Every
from soak_drive import Step, endless, read_drive
from soak_meter import anonymous_mib, held_by
from soak_plot import draw
from soak_report import result, show
from soak_robot import SoakRobot
from soak_series import Latencies, Record, Sample
from soak_verdict import Limits
from tables import one_core, write_json

from tscm_core.commands.support import errors
from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC, ODOMETRY_TOPIC
from tscm_core.errors import TscmError
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.playback import NodeProcess

app = typer.Typer(add_completion=False, help="Run the real node for hours and see whether it stays as it is.")
_REMAPPINGS = {
    "image": IMAGE_TOPIC,
    "camera_info": CAMERA_INFO_TOPIC,
    "odometry": ODOMETRY_TOPIC,
    "depth": DEPTH_TOPIC,
}
_BEHIND_S, _PATIENCE_S, _LIVE_SAYS = 1.0, 5.0, 6
_MIB = float(1 << 20)
_EVERY, _LIMITS = Every(), Limits()


class Soak:
    """One run: sends images, lets chores be done, and takes a sample every few seconds."""

    def __init__(self, out: Path, frames: int, period_s: float | None, sample_s: float, limits: Limits) -> None:
        self.record = Record(Latencies(frames))
        self.out, self.map_path, self.limits = out, out / "map.tscm", limits
        self._frames, self._period_s, self._sample_s = frames, period_s, sample_s
        self._began = self._sampled_at = self._next_at = time.monotonic()
        self._sampled_frame = 0

    def run(self, drives: list[list[Step]], every: Every, parameters: dict[str, object]) -> None:
        """Send all images; what ends the run early is noted in the record.

        Raises:
            TscmError: the node cannot be started.
        """
        given = {"map_path": self.map_path, "map.max_keyframes": self.limits.max_keyframes, **parameters}
        picture = deserialize_message(drives[0][len(drives[0]) // 2][-1].raw, Image)
        with (
            NodeProcess(self.out / "node.log", given, _REMAPPINGS) as process,
            SoakRobot(process, self.record) as robot,
        ):
            robot.wait_for_node()
            chores = Chores(robot, self.record, self.map_path, picture, every)
            self._began = self._sampled_at = self._next_at = time.monotonic()
            try:
                self._send(drives, process, robot, chores)
            except KeyboardInterrupt:
                self.record.end = "the run was stopped"
                with suppress(TscmError):
                    robot.settle()
            except TscmError as error:
                self.record.end = f"after {self._sampled_frame} frames or more: {error}"
            code = process.stop()
        if code and not self.record.end:
            self.record.end = f"asked to stop, the node ended with exit code {code}"
        self.record.complaints = _complaints(process.log)

    def _send(self, drives: list[list[Step]], process: NodeProcess, robot: SoakRobot, chores: Chores) -> None:
        for shot in islice(endless(drives), self._frames):
            if shot.begins and shot.number > 1:
                chores.new_session()
            self._wait(robot)
            robot.show(shot)
            chores.after(shot.number)
            if time.monotonic() - self._sampled_at > self._sample_s:
                self._sample(shot.number, process, robot)
        robot.collect(60.0)
        robot.settle()
        self._sample(self._frames, process, robot)

    def _wait(self, robot: SoakRobot) -> None:
        """Until the image before is answered for, or until it is time; what was missed is not made up for in a rush."""
        if self._period_s is None:
            robot.wait_for_status(_PATIENCE_S)
            return
        now, self._next_at = time.monotonic(), self._next_at + self._period_s
        if now - self._next_at > _BEHIND_S:
            self._next_at = now
        time.sleep(max(0.0, self._next_at - now))

    def _sample(self, number: int, process: NodeProcess, robot: SoakRobot) -> None:
        robot.wait_for_status(_PATIENCE_S)
        robot.collect(_PATIENCE_S)
        latencies = self.record.latencies.percentiles(self._sampled_frame, number)
        self.record.samples.append(
            Sample(
                number,
                round(time.monotonic() - self._began, 3),
                held_by(process.process.pid),
                robot.map_size,
                _mib(self.map_path, ".live"),
                _mib(self.map_path, ".live-wal"),
                anonymous_mib(),
                latencies,
            )
        )
        self._sampled_at, self._sampled_frame = time.monotonic(), number
        if len(self.record.samples) % _LIVE_SAYS == 0:
            errors.print(f"[dim]{escape(_line(self.record.samples[-1]))}[/]")
            write_json(self.out / "soak.json", result(self.record, self.limits, {"state": "running"}))


def _complaints(log: Path) -> list[str]:
    """What the node logged as an error; nothing that a soak does is one."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [line.strip() for line in lines if line.startswith(("[ERROR]", "[FATAL]", "Traceback"))]


def _mib(path: Path, suffix: str) -> float:
    file = path.with_name(path.name + suffix)
    return file.stat().st_size / _MIB if file.exists() else 0.0


def _line(sample: Sample) -> str:
    return (
        f"{sample.frame} frames, {sample.seconds:.0f} s: {sample.held.anonymous:.1f} MiB anonymous, {sample.handles} "
        f"handles, {sample.threads} threads, {sample.map_size} keyframes"
    )


def _period_of(rate: str) -> float | None:
    if rate == "full":
        return None
    try:
        hertz = float(rate)
    except ValueError:
        hertz = 0.0
    if not 0.0 < hertz < 1000.0:
        raise TscmError(f"--rate is a number of images a second, or full, not {rate!r}")
    return 1.0 / hertz


@app.command()
def main(
    bag: Annotated[list[Path], typer.Option(help="A bag with raw images of one camera; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the result, the node's log and its map; must be new or empty.")],
    frames: Annotated[int, typer.Option(min=100, help="Images to send: two hours at 15 Hz.")] = 108_000,
    rate: Annotated[str, typer.Option(help="Images a second, or full: each as soon as the one before is done.")] = "15",
    max_keyframes: Annotated[int, typer.Option(min=0, help="Bound of the map; 0: none.")] = 2000,
    sample_every: Annotated[float, typer.Option(min=0.1, help="Seconds between two samples.")] = 10.0,
    save_every: Annotated[int, typer.Option(min=0, help="Frames between two saves; 0: none.")] = _EVERY.save,
    relocalize_every: Annotated[
        int, typer.Option(min=0, help="... between two calls of relocalize.")
    ] = _EVERY.relocalize,
    parameters_every: Annotated[int, typer.Option(min=0, help="... between two changes.")] = _EVERY.parameters,
    look_every: Annotated[int, typer.Option(min=0, help="... until a subscriber comes or goes.")] = _EVERY.look,
    load_every: Annotated[int, typer.Option(min=0, help="... between two loads.")] = _EVERY.load,
    cycle_every: Annotated[int, typer.Option(min=0, help="... between two lifecycle cycles.")] = _EVERY.cycle,
    memory: Annotated[float, typer.Option(help="MiB that memory may grow for 10,000 frames.")] = _LIMITS.memory_mib,
    dds_domain: Annotated[Optional[int], typer.Option(help="DDS domain; one of its own if not given.")] = None,  # noqa: UP045
) -> None:
    """Send images to the node for hours and call all that it offers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the node is ended, and what there is written
    limits = Limits(memory_mib=memory, max_keyframes=max_keyframes)
    every = Every(save_every, relocalize_every, parameters_every, look_every, load_every, cycle_every).within(frames)
    with one_core(), dds_for_one_machine():
        period_s = _period_of(rate)
        _begin(out)
        drives = [read_drive(item) for item in bag]
        if dds_domain is not None:
            os.environ["ROS_DOMAIN_ID"] = str(dds_domain)
        soak = Soak(out, frames, period_s, sample_every, limits)
        soak.run(drives, every, {})
        if not soak.record.samples:
            raise TscmError(soak.record.end or "the run was too short for a single sample")
        _finish(soak, {"rate": rate, "every": asdict(every), "bags": [item.name for item in bag]})


def _begin(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise TscmError(f"{out} is not empty: name a new folder")
    except OSError as error:
        raise TscmError(f"folder {out} cannot be written: {error.strerror}") from error


def _finish(soak: Soak, header: dict[str, Any]) -> None:
    whole = result(soak.record, soak.limits, header)
    write_json(soak.out / "soak.json", whole)
    draw(soak.record, soak.limits, soak.out / "soak.png")
    show(soak.record, f"soak, {whole['frames']} images in {whole['seconds']:.0f} s")
    for finding in whole["findings"]:
        errors.print(f"[bold red]{escape(finding)}[/]")
    if whole["findings"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
