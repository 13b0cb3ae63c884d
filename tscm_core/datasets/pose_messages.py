"""Poses and intrinsics out of ROS messages, whether a bag or a topic brought them."""

from __future__ import annotations

import math
from typing import Any

from tscm_core.recognition.records import Intrinsics, Pose


def pose_from_odometry(message: Any) -> Pose | None:
    """The pose of a ``nav_msgs/Odometry`` with its quaternion made unit length; an all-zero quaternion is no rotation.

    ``None`` if a number in it is not finite, as some drivers send before they have initialised.
    """
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    place = (float(position.x), float(position.y), float(position.z))
    turn = (float(orientation.x), float(orientation.y), float(orientation.z), float(orientation.w))
    length = math.sqrt(sum(value * value for value in turn))
    if not all(map(math.isfinite, (*place, length))):
        return None
    if length < 1e-6:
        return Pose(place, frame_id=message.header.frame_id)
    x, y, z, w = (value / length for value in turn)
    return Pose(place, (x, y, z, w), message.header.frame_id)


def intrinsics_from_message(message: Any) -> Intrinsics | None:
    """The intrinsics of a ``sensor_msgs/CameraInfo``; ``None`` if the camera was never calibrated (focal length 0)."""
    k = message.k
    if not (k[0] > 0.0 and k[4] > 0.0):
        return None
    return Intrinsics(int(message.width), int(message.height), float(k[0]), float(k[4]), float(k[2]), float(k[5]))
