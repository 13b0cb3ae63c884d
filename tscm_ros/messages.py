"""From the core's records to ROS messages."""

from __future__ import annotations

import array
import math
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, PoseWithCovariance
from std_msgs.msg import Header

from tscm_core.recognition import records
from tscm_core.recognition.local_features import FEATURE_FORMAT
from tscm_core.recognition.precision import encode_descriptor
from tscm_msgs.msg import FrameStatus, LoopCandidate, LoopCandidates, StageTime
from tscm_msgs.msg import Keyframe as KeyframeMessage

_FIRST_NS, _LAST_NS = -(2**31) * 10**9, 2**31 * 10**9 - 1


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is speaking: the robot's namespace without slashes at its ends, and the model of its descriptors."""

    robot: str
    model_id: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the images since activation, and how long this one took."""

    dropped: int
    refused: int
    latency_ms: float


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds as ``builtin_interfaces/Time``, whose seconds end in 2038: what a map says beyond is its last one."""
    stamp_ns = min(max(stamp_ns, _FIRST_NS), _LAST_NS)
    return Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def to_header(stamp_ns: int, frame_id: str) -> Header:
    """A header with this stamp and frame."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def to_loop_candidates(
    seen: records.Observation, times: tuple[records.StageTime, ...], sender: Sender, camera_frame: str
) -> LoopCandidates:
    """The message for an observation with at least one accepted candidate."""
    message = LoopCandidates(
        header=to_header(seen.stamp_ns, camera_frame),
        robot=sender.robot,
        session=seen.session,
        keyframe_id=seen.keyframe.id if seen.keyframe else 0,
        model_id=sender.model_id,
        map_size=seen.map_size,
        stages=list(seen.stages),
        candidates=[to_candidate(candidate) for candidate in seen.accepted],
        stage_times=to_stage_times(times),
    )
    asked = seen.query or seen.keyframe
    _set_pose(message, seen.stamp_ns, asked.pose if asked else None)
    return message


def to_candidate(candidate: records.Candidate) -> LoopCandidate:
    """One candidate with its evidence."""
    message = LoopCandidate(
        rank=candidate.rank,
        status=int(candidate.status),
        robot=candidate.robot,
        session=candidate.session,
        keyframe_id=candidate.keyframe_id,
        stamp=to_time(candidate.stamp_ns),
        similarity=candidate.similarity,
        ratio=candidate.ratio,
        temporal_support=candidate.temporal_support,
        evidence=candidate.evidence,
        matches=candidate.matches,
        inliers=candidate.inliers,
    )
    if candidate.relative_pose is not None:
        message.has_relative_pose = True
        message.metric_scale = candidate.relative_pose.metric_scale
        message.relative_pose = _to_relative_pose(candidate.relative_pose)
    _set_pose(message, candidate.stamp_ns, candidate.pose)
    return message


def to_frame_status(
    seen: records.Observation,
    times: tuple[records.StageTime, ...],
    sender: Sender,
    camera_frame: str,
    counts: Counts,
) -> FrameStatus:
    """What became of a frame, with the figures of the candidate that decided it: the first one."""
    deciding = seen.candidates[0] if seen.candidates else None
    message = FrameStatus(
        header=to_header(seen.stamp_ns, camera_frame),
        status=int(seen.status),
        reason=seen.reason,
        session=seen.session,
        model_id=sender.model_id,
        is_keyframe=seen.keyframe is not None,
        keyframe_id=seen.keyframe.id if seen.keyframe else 0,
        map_size=seen.map_size,
        searched=seen.searched,
        best_similarity=max((candidate.similarity for candidate in seen.candidates), default=math.nan),
        ratio=math.nan,
        stages=list(seen.stages),
        stage_times=to_stage_times(times),
        latency_ms=counts.latency_ms,
        images_dropped=counts.dropped,
        images_refused=counts.refused,
    )
    if deciding is not None:
        message.ratio, message.best_keyframe_id = deciding.ratio, deciding.keyframe_id
        message.best_robot = deciding.robot
        message.temporal_support = deciding.temporal_support
        message.matches, message.inliers = deciding.matches, deciding.inliers
    return message


def to_keyframe(keyframe: records.Keyframe, sender: Sender, camera_frame: str) -> KeyframeMessage:
    """A keyframe with its descriptor as float16 and its local features, if it has any."""
    message = KeyframeMessage(
        header=to_header(keyframe.stamp_ns, camera_frame),
        robot=sender.robot,
        session=keyframe.session,
        id=keyframe.id,
        model_id=sender.model_id,
        travelled_m=keyframe.travelled_m,
        dim=keyframe.descriptor.size,
        encoding=KeyframeMessage.FLOAT16,
    )
    message.descriptor = array.array("B", encode_descriptor(keyframe.descriptor))
    if keyframe.features is not None:
        message.feature_format, message.features = FEATURE_FORMAT, array.array("B", keyframe.features)
    _set_pose(message, keyframe.stamp_ns, keyframe.pose)
    return message


def to_stage_times(times: tuple[records.StageTime, ...]) -> list[StageTime]:
    """Stage times in the order in which they ran."""
    return [StageTime(stage=item.stage, milliseconds=item.milliseconds) for item in times]


def _set_pose(
    message: LoopCandidates | LoopCandidate | KeyframeMessage, stamp_ns: int, pose: records.Pose | None
) -> None:
    message.has_pose = pose is not None
    if pose is not None:
        message.pose = PoseStamped(header=to_header(stamp_ns, pose.frame_id))
        _set_place(message.pose.pose, pose.position, pose.orientation)


def _to_relative_pose(relative: records.RelativePose) -> PoseWithCovariance:
    message = PoseWithCovariance(covariance=list(relative.covariance))
    _set_place(message.pose, relative.translation, relative.orientation)
    return message


def _set_place(
    pose: PoseStamped, position: tuple[float, float, float], turn: tuple[float, float, float, float]
) -> None:
    pose.position.x, pose.position.y, pose.position.z = position
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = turn
