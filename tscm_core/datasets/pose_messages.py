"""Poses and intrinsics out of ROS messages, whether a bag or a topic brought them."""

from __future__ import annotations

import math
from typing import Any

from tscm_core.datasets.camera_files import COEFFICIENTS, lens
from tscm_core.recognition.local_features import MOST_PIXELS
from tscm_core.recognition.records import Intrinsics, Pose


def stamp_of(header: Any) -> int:
    """The stamp of a ``std_msgs/Header`` in nanoseconds."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def pose_from_odometry(message: Any) -> Pose | None:
    """The pose of a ``nav_msgs/Odometry`` with its quaternion made unit length; an all-zero quaternion is no rotation.

    ``None`` if a number in it is not finite, as some drivers send before they have initialised.
    """
    return pose_of(message.pose.pose.position, message.pose.pose.orientation, message.header.frame_id)


def pose_from_stamped(message: Any) -> Pose | None:
    """The pose of a ``geometry_msgs/PoseStamped`` or ``PoseWithCovarianceStamped``, under the same rules."""
    pose = getattr(message.pose, "pose", message.pose)
    return pose_of(pose.position, pose.orientation, message.header.frame_id)


def pose_of(position: Any, orientation: Any, frame_id: str) -> Pose | None:
    """A pose from a point or vector and a quaternion of ROS, under the same rules."""
    place = (float(position.x), float(position.y), float(position.z))
    turn = (float(orientation.x), float(orientation.y), float(orientation.z), float(orientation.w))
    length = math.sqrt(sum(value * value for value in turn))
    if not all(map(math.isfinite, (*place, length))):
        return None
    if length < 1e-6:
        return Pose(place, frame_id=frame_id)
    x, y, z, w = (value / length for value in turn)
    return Pose(place, (x, y, z, w), frame_id)


def intrinsics_from_message(message: Any) -> Intrinsics | None:
    """The intrinsics of a ``sensor_msgs/CameraInfo``, for the images that go with it; ``None`` if it has a problem.

    The message describes the full sensor. Where the driver sends a part of it (``roi``) or joins pixels (``binning``),
    size, focal lengths and principal point are those of the images sent, as in ROS's ``image_geometry``. See
    ``intrinsics_problem`` for why there are none.
    """
    if intrinsics_problem(message):
        return None
    k, roi = message.k, message.roi
    whole = roi.width == 0 or roi.height == 0
    left, top = (0, 0) if whole else (roi.x_offset, roi.y_offset)
    width, height = (message.width, message.height) if whole else (roi.width, roi.height)
    across, down = max(1, int(message.binning_x)), max(1, int(message.binning_y))
    model, distortion = lens(message.distortion_model, [float(value) for value in message.d]) or ("", ())
    return Intrinsics(
        int(width) // across,
        int(height) // down,
        float(k[0]) / across,
        float(k[4]) / down,
        (float(k[2]) - left) / across,
        (float(k[5]) - top) / down,
        distortion,
        model,
    )


def intrinsics_problem(message: Any) -> str:
    """Why a ``sensor_msgs/CameraInfo`` gives no intrinsics, for a log line; empty if it does."""
    k = [float(value) for value in message.k]
    if not (k[0] > 0.0 and k[4] > 0.0 and all(map(math.isfinite, k))):
        return "the camera was never calibrated: its focal length is 0 or no number"
    if min(message.width, message.height) < 1:
        return f"its image size is {message.width} x {message.height}"
    if lens(message.distortion_model, [float(value) for value in message.d]) is None:
        known = ", ".join(f"{model} ({counts[-1]})" for model, counts in COEFFICIENTS.items())
        return (
            f'distortion model "{message.distortion_model}" with {len(message.d)} coefficients is unknown: '
            f"known are {known}"
        )
    if not all(abs(value) <= MOST_PIXELS for value in [*k, *(float(value) for value in message.d)]):
        return "one of its numbers is beyond every camera"
    return ""
