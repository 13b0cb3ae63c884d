"""Keyframes out of ``tscm_msgs/Keyframe``, which another robot sent: every field is checked before it is used."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from tscm_core.datasets.pose_messages import pose_from_stamped, stamp_of
from tscm_core.errors import FeatureError, KeyframeError
from tscm_core.recognition.local_features import FEATURE_FORMAT, decode_features
from tscm_core.recognition.precision import BYTES_PER_NUMBER, decode_descriptor, is_unit_length
from tscm_core.recognition.records import Descriptor, Keyframe, Pose

MOST_FEATURES = 1200
"""As many as ``geometry.features`` may ask for. Comparing takes time for each."""
_FLOAT16 = 0
_LONGEST_NAME = 255
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


def robot_of(message: Any) -> str:
    """The namespace of the robot that sent a ``tscm_msgs/Keyframe``.

    Raises:
        KeyframeError: it is none.
    """
    name = str(message.robot)
    if not name:
        raise KeyframeError("it names no robot: run each robot's node in a namespace of its own, as in __ns:=/robot_a")
    if len(name) > _LONGEST_NAME or not _NAMESPACE.fullmatch(name):
        raise KeyframeError(f"its robot, {shown(name)}, is no namespace: another program made it, or it was damaged")
    return name


def keyframe_from_message(message: Any, dim: int) -> Keyframe:
    """The keyframe of a ``tscm_msgs/Keyframe`` with a descriptor of ``dim`` numbers, and without thumbnail.

    Whether it is of the right model is for the caller to compare. Local features in a layout that this version does not
    know are left out.

    Raises:
        KeyframeError: a field is not what the message's definition says; the end of the sentence names it.
    """
    if message.id < 1:
        raise KeyframeError("its id is 0, and ids begin at 1")
    if not 1 <= len(message.session) <= _LONGEST_NAME:
        raise KeyframeError(f"the name of its session has {len(message.session)} characters, not 1 to {_LONGEST_NAME}")
    travelled_m = float(message.travelled_m)
    if not 0.0 <= travelled_m < math.inf:
        raise KeyframeError(f"its travelled_m is {travelled_m:g}, which is no way driven")
    return Keyframe(
        id=int(message.id),
        session=str(message.session),
        stamp_ns=_stamp_ns(message),
        pose=_pose(message),
        travelled_m=travelled_m,
        descriptor=_descriptor(message, dim),
        thumbnail_jpeg=b"",
        features=_features(message),
    )


def shown(text: str) -> str:
    """A text that somebody sent, as it may stand in a log: in quotes, on one line, not longer than 80 characters."""
    quoted = repr(text[:100])
    return quoted if len(quoted) <= 80 else f"{quoted[:76]}..."


def _stamp_ns(message: Any) -> int:
    stamp_ns = stamp_of(message.header)
    if not stamp_ns:
        raise KeyframeError("it has no time stamp")
    if message.header.stamp.nanosec >= 10**9:
        raise KeyframeError(f"its stamp has {message.header.stamp.nanosec} nanoseconds to a second")
    return stamp_ns


def _pose(message: Any) -> Pose | None:
    if not message.has_pose:
        return None
    pose = pose_from_stamped(message.pose)
    if pose is None:
        raise KeyframeError("a number of its pose is not finite")
    return pose


def _descriptor(message: Any, dim: int) -> Descriptor:
    if message.encoding != _FLOAT16:
        raise KeyframeError(
            f"the encoding {message.encoding} of its descriptor is not known, only FLOAT16 ({_FLOAT16})"
        )
    if message.dim != dim:
        raise KeyframeError(f"its descriptor has {message.dim} numbers, and those of its model have {dim}")
    if len(message.descriptor) != BYTES_PER_NUMBER * dim:
        raise KeyframeError(f"its descriptor has {len(message.descriptor)} bytes instead of {BYTES_PER_NUMBER * dim}")
    with np.errstate(all="ignore"):  # a NaN that signals would be told on the node's standard error
        descriptor = decode_descriptor(bytes(message.descriptor), dim)
        is_sound = is_unit_length(descriptor)
    if not is_sound:
        raise KeyframeError("its descriptor is not of length 1")
    return descriptor


def _features(message: Any) -> bytes | None:
    if message.feature_format != FEATURE_FORMAT:
        return None
    blob = bytes(message.features)
    try:
        features = decode_features(blob)
    except FeatureError as error:
        raise KeyframeError(f"its {error}") from error
    if len(features) > MOST_FEATURES:
        raise KeyframeError(f"it has {len(features)} local features, more than {MOST_FEATURES}")
    if np.isinf(features.depths).any():
        raise KeyframeError("a depth of its local features is not finite")
    return blob
