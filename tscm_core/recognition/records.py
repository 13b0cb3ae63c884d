"""The values that cross module borders: frozen, typed, never dicts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""An image, RGB ``uint8 [H, W, 3]``."""

Descriptor = NDArray[np.float32]
"""A unit-length descriptor ``float32 [D]``, C-contiguous."""

Depth = NDArray[np.float32]
"""Metres along the optical axis, ``float32 [H, W]``, registered to the image; 0 or NaN where unknown."""


class Status(IntEnum):
    """What became of a frame or of a candidate. The numbers are those of ``tscm_msgs/FrameStatus``."""

    ACCEPTED = 0
    NOT_KEYFRAME = 1
    MAP_TOO_YOUNG = 2
    LOW_SIMILARITY = 3
    AMBIGUOUS = 4
    NOT_CONSISTENT = 5
    NO_GEOMETRY = 6


@dataclass(frozen=True, slots=True)
class Pose:
    """Position in metres and orientation as quaternion (x, y, z, w), in ``frame_id``."""

    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    frame_id: str = "odom"


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Camera: image size, focal lengths and principal point in pixels, and how its lens bends straight lines.

    ``distortion`` are the coefficients of ``distortion_model``, as in ``sensor_msgs/CameraInfo``: ``plumb_bob`` (k1 k2
    p1 p2 k3), ``rational_polynomial`` (k1 k2 p1 p2 k3 k4 k5 k6) or ``equidistant`` (k1 k2 k3 k4). Empty: a pinhole.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    distortion_model: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One image on its way in, with what is known about the moment it was taken."""

    stamp_ns: int
    image: Rgb
    pose: Pose | None = None
    camera_frame: str = ""
    intrinsics: Intrinsics | None = None
    depth: Depth | None = None


@dataclass(frozen=True, slots=True)
class Keyframe:
    """One remembered place.

    ``descriptor`` has been through float16, so that a map gives the same answers before saving and after loading.
    ``travelled_m`` is the path length since the session began, in metres; 0 without odometry.
    """

    id: int
    session: str
    stamp_ns: int
    pose: Pose | None
    travelled_m: float
    descriptor: Descriptor
    thumbnail_jpeg: bytes
    features: bytes | None = None


@dataclass(frozen=True, slots=True)
class RelativePose:
    """Pose of the query camera in the optical frame of the matched keyframe's camera.

    ``translation`` is in metres when ``metric_scale``, else a direction of length 1. ``covariance`` is 6 x 6 row by
    row in the order x y z roll pitch yaw, m² and rad².
    """

    translation: tuple[float, float, float]
    orientation: tuple[float, float, float, float]
    metric_scale: bool
    covariance: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One remembered place that a frame may show, with the evidence for it.

    ``similarity`` is the inner product of the descriptors. ``ratio`` is the similarity of the best other place divided
    by this one's, 0 when there is no other. What the temporal and geometric stages find stays 0 where they did not run.
    ``failed`` are all the tests that it failed, in order; ``status`` is the first of them. ``evidence`` weighs the
    frames that support it, each with at most 1: see :mod:`tscm_core.recognition.temporal`; maps do not keep it.
    ``robot`` is the namespace of the robot whose map has the keyframe; empty for this one's own.
    """

    keyframe_id: int
    session: str
    stamp_ns: int
    pose: Pose | None
    similarity: float
    ratio: float
    rank: int
    status: Status
    temporal_support: int = 0
    matches: int = 0
    inliers: int = 0
    relative_pose: RelativePose | None = None
    failed: tuple[Status, ...] = ()
    evidence: float = field(default=0.0, compare=False)
    robot: str = ""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Wall-clock milliseconds that one stage took."""

    stage: str
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Loop:
    """An accepted loop closure as the map file keeps it."""

    keyframe_id: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that came of one frame. ``candidates`` are best first; the accepted ones come before the others.

    ``query`` is what was looked for, ``None`` where the frame was no keyframe. ``keyframe`` is the same where it is
    remembered; ``None`` otherwise, and then the id of ``query`` is 0: in localization mode, or because the map has no
    room for it. ``searched`` counts the keyframes of this robot that were searched, and ``span`` has the lowest and
    the highest of their ids. ``thinned`` are the ids of those that the map gives up for this one; ``no_room`` says why
    a full map does not remember it.
    """

    stamp_ns: int
    session: str
    status: Status
    reason: str
    map_size: int
    searched: int
    keyframe: Keyframe | None = None
    candidates: tuple[Candidate, ...] = ()
    stages: tuple[str, ...] = ()
    stage_times: tuple[StageTime, ...] = ()
    query: Keyframe | None = None
    span: tuple[int, int] = (0, 0)
    thinned: tuple[int, ...] = ()
    no_room: str = ""

    def without_keyframe(self, why: str, map_size: int) -> Observation:
        """The same of an image that is not remembered."""
        query = None if self.query is None else replace(self.query, id=0)
        reason = f"{self.reason}; not remembered: {why}"
        return replace(self, keyframe=None, query=query, thinned=(), map_size=map_size, reason=reason)

    @property
    def accepted(self) -> tuple[Candidate, ...]:
        """The candidates that are loops, best first."""
        return tuple(candidate for candidate in self.candidates if candidate.status is Status.ACCEPTED)

    @property
    def own_accepted(self) -> tuple[Candidate, ...]:
        """The loops that lead into this robot's own map, best first."""
        return tuple(candidate for candidate in self.accepted if not candidate.robot)

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What the map file keeps of this frame's loops: those with places of its own."""
        if self.keyframe is None:
            return ()
        return tuple(Loop(self.keyframe.id, candidate) for candidate in self.own_accepted)
