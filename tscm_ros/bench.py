"""What ``tscm bench`` measures of the real node, in a process of its own, over DDS: latency, drops, and its start."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from tscm_core.bench import scenes
from tscm_core.bench.budgets import DROPS, TOPIC
from tscm_core.bench.child import serve
from tscm_core.bench.measure import Samples, resident_mib
from tscm_core.bench.records import Figure, Row, Section, known, sampled
from tscm_core.bench.request import Request, Say
from tscm_core.bench.startup import CACHES, row
from tscm_core.config import Config
from tscm_core.datasets.bag_writer import CAMERA_INFO_TOPIC, DEPTH_TOPIC, IMAGE_TOPIC, ODOMETRY_TOPIC
from tscm_core.datasets.image_messages import from_rgb
from tscm_core.recognition.records import Frame
from tscm_msgs.msg import FrameStatus, LoopCandidates
from tscm_ros.dds import dds_for_one_machine
from tscm_ros.messages import to_header
from tscm_ros.playback import NodeProcess, Robot, wait_until

RATES_HZ = (15, 30)
_JUDGED_HZ, _JUDGED_HZ_GPU = 15, 30
_LAPS, _WARM_UP = 4, 10
_START_S, _EVERY_S = 240.0, 0.1
_REMAPPINGS = {
    "image": IMAGE_TOPIC,
    "camera_info": CAMERA_INFO_TOPIC,
    "odometry": ODOMETRY_TOPIC,
    "depth": DEPTH_TOPIC,
}


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has used so far: seconds of all its threads together, how many there are, memory."""

    cpu_s: float
    threads: int
    memory_mib: float | None


def used_by(pid: int) -> Used:
    """Of another process, as Linux tells it."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks, threads = int(stat[11]) + int(stat[12]), int(stat[17])
    return Used(ticks / os.sysconf("SC_CLK_TCK"), threads, resident_mib(pid))


class Camera:
    """Sends the made-up drive to the node, at any rate, and notes when each answer came."""

    def __init__(self, robot: Robot, count: int, laps: int = _LAPS) -> None:
        self.robot = robot
        self.status_at: dict[int, float] = {}
        self.candidates_at: dict[int, float] = {}
        self.frames: Iterator[Frame] = scenes.drive(count, laps=laps)
        for kind, topic, answers in (
            (FrameStatus, "frame_status", self.status_at),
            (LoopCandidates, "loop_candidates", self.candidates_at),
        ):
            robot.node.create_subscription(kind, f"/tscm/{topic}", partial(_note, answers), 1000)

    def send(self, count: int, period_s: float) -> list[int]:
        """Send so many images, each with odometry and intrinsics; gives their stamps in nanoseconds."""
        ready = [(frame.stamp_ns, messages(frame)) for frame in islice(self.frames, count)]
        began = time.monotonic()
        for number, (stamp_ns, prepared) in enumerate(ready):
            time.sleep(max(0.0, began + number * period_s - time.monotonic()))
            self.publish(stamp_ns, prepared)
        return [stamp_ns for stamp_ns, _ in ready]

    def publish(self, stamp_ns: int, prepared: tuple[Odometry, CameraInfo, Image]) -> None:
        """Send what belongs to one image now."""
        odometry, info, image = prepared
        self.robot.publish(ODOMETRY_TOPIC, odometry)
        self.robot.publish(CAMERA_INFO_TOPIC, info)
        self.robot.sent_at[stamp_ns] = time.monotonic()
        self.robot.publish(IMAGE_TOPIC, image)

    def latencies_ms(self, stamps: Sequence[int], answers: dict[int, float]) -> Samples:
        """From publishing an image to an answer to it, for those that have one."""
        sent = self.robot.sent_at
        return Samples(tuple((answers[stamp] - sent[stamp]) * 1e3 for stamp in stamps if stamp in answers))


def messages(frame: Frame) -> tuple[Odometry, CameraInfo, Image]:
    """What belongs to one image, in the order in which it is sent."""
    assert frame.pose is not None
    odometry = Odometry(header=to_header(frame.stamp_ns, frame.pose.frame_id))
    position, orientation = odometry.pose.pose.position, odometry.pose.pose.orientation
    position.x, position.y, position.z = frame.pose.position
    orientation.x, orientation.y, orientation.z, orientation.w = frame.pose.orientation
    camera = scenes.CAMERA
    header = to_header(frame.stamp_ns, frame.camera_frame)
    info = CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model="plumb_bob")
    info.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    info.d = [0.0] * 5
    return odometry, info, from_rgb(frame.image, Image(header=header))


def dds(request: Request, say: Say) -> Section:
    """One node, and images at each rate, with an empty map each time."""
    seconds = request.effort.dds_seconds
    with running_node(request, "") as (process, robot):
        wait_until_it_listens(process, robot)
        camera = Camera(robot, sum(round(rate * seconds) + _WARM_UP for rate in RATES_HZ))
        time.sleep(1.0)
        rows: list[Row] = []
        for rate in RATES_HZ:
            say(f"{rate} Hz for {seconds:.0f} s")
            rows += _at_rate(process, camera, rate, round(rate * seconds))
            robot.call(Trigger, "clear_map", Trigger.Request())
        backend = backend_of(process)
    notes = (
        f"made-up images of {scenes.WIDTH} x {scenes.HEIGHT} over shared memory on this machine, sent by another "
        f"process, with odometry and intrinsics; their stamps are {scenes.STEP_NS / 1e9:g} s apart whatever the rate, "
        f"so that by the settings as they come every image is a keyframe and goes the whole way",
        f"from before publishing until the answer was taken in; node: {backend}",
    )
    return Section("dds", "Over DDS", tuple(rows), notes)


def _at_rate(process: NodeProcess, camera: Camera, rate: int, count: int) -> list[Row]:
    robot, pid = camera.robot, process.process.pid
    camera.send(_WARM_UP, 1.0 / rate)
    settle(process, camera)
    before, dropped_before = used_by(pid), dropped_by(robot)
    stamps = camera.send(count, 1.0 / rate)
    settle(process, camera)
    after, dropped = used_by(pid), dropped_by(robot) - dropped_before
    processed = sum(stamp in camera.status_at for stamp in stamps)
    judged = rate == (_JUDGED_HZ_GPU if "cuda" in backend_of(process) else _JUDGED_HZ)
    rows = [
        _row(rate, what, sampled(times, budget=budget if judged else None))
        for what, answers, budget in (
            ("image to candidate", camera.candidates_at, TOPIC),
            ("image to status", camera.status_at, None),
        )
        if (times := camera.latencies_ms(stamps, answers)).count
    ]
    counts = (("sent", count, None), ("dropped", dropped, DROPS), ("lost", count - processed - dropped, DROPS))
    rows.append(
        _row(rate, "images", *(Figure(name, "", n, budget=budget if judged else None) for name, n, budget in counts))
    )
    own = [Figure("threads", "", after.threads), *known(("memory", "MiB", after.memory_mib))]
    if processed:
        own.insert(0, Figure("processor an image", "ms", 1e3 * (after.cpu_s - before.cpu_s) / processed))
    return [*rows, _row(rate, "node", *own)]


def _row(rate: int, what: str, *figures: Figure) -> Row:
    return Row(f"{rate} Hz, {what}", figures, {"rate_hz": rate, "what": what})


def wait_until_it_listens(process: NodeProcess, robot: Robot) -> None:
    """It may have to compile the network first."""

    def listens() -> bool:
        process.require_alive()
        return bool(robot.node.count_subscribers(IMAGE_TOPIC))

    wait_until(listens, _START_S, "the node to start")
    robot.wait_for_node(process, IMAGE_TOPIC)


def settle(process: NodeProcess, camera: Camera) -> None:
    """Wait until the node has nothing left to do."""
    while True:
        process.require_alive()
        seen = len(camera.status_at)
        time.sleep(0.5)
        if len(camera.status_at) == seen:
            return


def dropped_by(robot: Robot) -> int:
    """Images that the node had no time for, as its last status tells."""
    return int(robot.statuses[-1].images_dropped) if robot.statuses else 0


def startup(request: Request, say: Say) -> Section:
    """The node twice, the second time with the engine that the first one left."""
    rows = []
    with TemporaryDirectory(prefix="tscm-bench-") as engines:
        for cache in CACHES:
            say(f"{cache} cache")
            rows.append(_start(request, cache, f"{engines}/engines"))
    notes = ("from starting the node until it answered for its first image, which is sent again and again",)
    return Section("startup", "Cold start", tuple(rows), notes)


def _start(request: Request, cache: str, engines: str) -> Row:
    begun = time.monotonic()
    with running_node(request, engines) as (process, robot):
        camera = Camera(robot, round(_START_S / _EVERY_S) + 1)

        def answered() -> bool:
            process.require_alive()
            camera.send(1, _EVERY_S)
            time.sleep(_EVERY_S)
            return bool(camera.status_at)

        wait_until(answered, _START_S, "the first descriptor")
        seconds = min(camera.status_at.values()) - begun
        return row(cache, seconds, backend_of(process))


@contextmanager
def running_node(request: Request, engines: str) -> Iterator[tuple[NodeProcess, Robot]]:
    """The node, with its map and all else in a folder that is removed, and a robot around it."""
    usual = {name: value for name, value, _ in Config().settings()}
    changed = {name: value for name, value, _ in request.config.settings() if value != usual[name]}
    with TemporaryDirectory(prefix="tscm-bench-") as folder, dds_for_one_machine():
        os.environ |= {"ROS_HOME": folder, "ROS_LOG_DIR": folder}
        parameters = {**changed, "autostart": True, "image_transport": "raw", "map_path": f"{folder}/map.tscm"}
        parameters |= {"model.engine_cache": engines} if engines else {}
        with Robot("tscm_bench") as robot, NodeProcess(Path(folder) / "node.log", parameters, _REMAPPINGS) as process:
            yield process, robot


def backend_of(process: NodeProcess) -> str:
    """What runs the network, as the node's log says it."""
    lines = process.log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line.partition("backend: ")[2] for line in lines if "backend: " in line]
    return said[-1] if said else "its log does not say what runs the network"


def _note(answers: dict[int, float], message: Any) -> None:
    """When the answer to the image of a stamp came."""
    answers[message.header.stamp.sec * 10**9 + message.header.stamp.nanosec] = time.monotonic()


SECTIONS = {"dds": dds, "startup": startup}


def main() -> int:
    """Run the section that the first argument names."""
    name = sys.argv[1]
    return serve(name, SECTIONS[name])


if __name__ == "__main__":
    sys.exit(main())
