"""What the demos share: rendered drives with their true poses, and sending one to a running node."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters

from tscm_core.commands.support import errors, progress
from tscm_core.datasets.bag_writer import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    FIRST_STAMP_NS,
    IMAGE_TOPIC,
    ODOMETRY_TOPIC,
    DriveWriter,
    fresh_bag,
)
from tscm_core.datasets.synthetic_drive import CAMERA, DriveConfig, plan_session, render_drive
from tscm_core.errors import TscmError
from tscm_core.recognition.poses import pose_from_yaw
from tscm_core.recognition.records import Pose
from tscm_ros.demo_report import Session
from tscm_ros.playback import Robot

RESULT, LOG = "result.json", "node.log"
_LAST_ANSWERS_S = 0.3
"""Status, keyframe and candidates of an image come on three topics, which do not wait for one another."""


@dataclass(frozen=True, slots=True)
class RenderedDrive:
    """A drive as a bag, and the true pose of each of its images by stamp in nanoseconds."""

    bag: Path
    truth: Mapping[int, Pose]


def begin_afresh(out: Path, *names: str) -> None:
    """Make the folder, and remove from it what an earlier demo left, so that nothing old passes for new.

    Args:
        out: the folder.
        names: of the files that the demo will write besides ``result.json``; with ``*`` where it may be anything.

    Raises:
        TscmError: the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file in (item for name in (RESULT, *names) for item in out.glob(name)):
            file.unlink()
    except OSError as error:
        raise TscmError(f"folder {out} cannot be written: {error.strerror}") from error


def render(config: DriveConfig, path: Path) -> RenderedDrive:
    """Render a drive into an mcap bag with images, camera info and odometry."""
    config = replace(config, start_ns=FIRST_STAMP_NS + config.start_ns)
    total = len(plan_session(config).poses) // config.ticks_per_frame
    say(f"rendering {path.name}: {total} images of {CAMERA.width} x {CAMERA.height} at {config.rate_hz:g} Hz")
    truth: dict[int, Pose] = {}
    with (
        fresh_bag(path, overwrite=True) as fresh,
        DriveWriter(fresh) as bag,
        tempfile.TemporaryDirectory() as scratch,
        progress(f"Rendering {path.name}") as show,
    ):
        for number, frame in enumerate(render_drive(config, Path(scratch)), start=1):
            truth[frame.stamp_ns] = pose_from_yaw(frame.x, frame.y, frame.yaw)
            bag.odometry(frame.stamp_ns, truth[frame.stamp_ns])
            bag.camera_info(frame.stamp_ns, CAMERA)
            bag.image(frame.stamp_ns, frame.image, "rgb8")
            show(number, max(total, number))
    return RenderedDrive(path, truth)


def remappings(namespace: str = "") -> dict[str, str]:
    """The node's inputs on the topics of a bag, below the namespace of the robot (``/robot_a``) if it has one."""
    names = {"image": IMAGE_TOPIC, "camera_info": CAMERA_INFO_TOPIC, "odometry": ODOMETRY_TOPIC, "depth": DEPTH_TOPIC}
    return {**({"__ns": namespace} if namespace else {}), **{name: namespace + topic for name, topic in names.items()}}


def send(robot: Robot, drive: RenderedDrive, name: str, namespace: str = "", shown: str = "") -> Session:
    """Play a drive to the running node in real time; gives what came of it, apart from what came of drives before.

    Args:
        robot: what stands around the node.
        drive: what to play.
        name: of the session, for people.
        namespace: of the robot, ``/robot_a``.
        shown: title of the progress bar; empty: none.

    Raises:
        NodeError: the node did not answer for all images.
    """
    begin = tuple(len(messages) for messages in (robot.statuses, robot.keyframes, robot.candidates))
    lost = (int(robot.statuses[-1].images_dropped), int(robot.statuses[-1].images_refused)) if begin[0] else (0, 0)
    answered = robot.answered()
    if shown:
        with progress(shown) as show:
            sent = robot.play(drive.bag, show, namespace=namespace)
    else:
        sent = robot.play(drive.bag, namespace=namespace)
    robot.wait_for_statuses(answered + sent)
    time.sleep(_LAST_ANSWERS_S)
    return Session(
        name,
        sent,
        tuple(robot.statuses[begin[0] :]),
        tuple(robot.keyframes[begin[1] :]),
        tuple(robot.candidates[begin[2] :]),
        tuple(robot.topic_latencies_ms(drive.truth)),
        namespace.strip("/"),
        drive.truth,
        lost,
    )


def set_parameter(robot: Robot, name: str, text: str) -> str:
    """Set a parameter of the running node; gives the sentence to tell.

    Raises:
        TscmError: the node refused it.
    """
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=text)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    answer = robot.call(SetParameters, "set_parameters", request).results[0]
    if not answer.successful:
        raise TscmError(f"parameter {name} cannot be {text}: {answer.reason}")
    return f"parameter {name} is now {text}"


def require(response: Any) -> str:
    """The sentence with which a service answered; raises TscmError if it failed."""
    if not response.success:
        raise TscmError(response.message)
    return str(response.message)


def say(text: str) -> None:
    """Tell what was done, on standard error."""
    errors.print(f"[dim]{text}[/]")
