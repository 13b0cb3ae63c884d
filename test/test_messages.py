"""Every field of every message says what the record says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from ros_helpers import SECOND

from tscm_core.recognition.local_features import LocalFeatures, decode_features, encode_features
from tscm_core.recognition.precision import decode_descriptor, stored_precision
from tscm_core.recognition.records import Candidate, Keyframe, Observation, Pose, RelativePose, StageTime, Status
from tscm_msgs.msg import FrameStatus
from tscm_msgs.msg import Keyframe as KeyframeMessage
from tscm_ros.messages import Counts, Sender, to_candidate, to_frame_status, to_keyframe, to_loop_candidates, to_time

STAMP_NS = 1_700_000_000 * SECOND + 123_456_789
HALF = math.sqrt(0.5)
POSE = Pose((1.0, -2.0, 0.5), (0.0, 0.0, HALF, HALF), "odom")
SENDER = Sender("red", "model-1")
TIMES = (StageTime("convert", 1.5), StageTime("describe", 12.25))
COVARIANCE = tuple(float(number) for number in range(36))
RELATIVE = RelativePose((0.0, 0.6, 0.8), (HALF, 0.0, 0.0, HALF), False, COVARIANCE)
DESCRIPTOR = stored_precision(np.random.default_rng(0).normal(size=2048).astype(np.float32) / 45)

BEST = Candidate(
    keyframe_id=7, session="monday", stamp_ns=3 * SECOND + 5, pose=replace(POSE, frame_id="map"), similarity=0.9375,
    ratio=0.5, rank=1, status=Status.ACCEPTED, temporal_support=4, matches=120, inliers=80, relative_pose=RELATIVE,
)  # fmt: skip
OTHER = replace(
    BEST, keyframe_id=30, rank=2, status=Status.AMBIGUOUS, similarity=0.46875, pose=None, relative_pose=None
)
KEYFRAME = Keyframe(41, "tuesday", STAMP_NS, POSE, 12.0, DESCRIPTOR, b"jpeg")
SEEN = Observation(
    STAMP_NS, "tuesday", Status.ACCEPTED, "shows the place", 41, 30, KEYFRAME, (BEST, OTHER),
    ("search", "geometry"), TIMES,
)  # fmt: skip


def place(pose):
    p, q = pose.position, pose.orientation
    return (p.x, p.y, p.z), (q.x, q.y, q.z, q.w)


def stamp(message):
    return message.sec * SECOND + message.nanosec


def require_pose(message, pose, stamp_ns):
    assert message.has_pose
    assert (message.pose.header.frame_id, stamp(message.pose.header.stamp)) == (pose.frame_id, stamp_ns)
    assert place(message.pose.pose) == (pose.position, pose.orientation)


@pytest.mark.parametrize("stamp_ns", [0, 1, SECOND - 1, STAMP_NS, -1])
def test_times_keep_every_nanosecond(stamp_ns):
    assert stamp(to_time(stamp_ns)) == stamp_ns


def test_loop_candidates():
    message = to_loop_candidates(SEEN, TIMES, SENDER, "camera")
    assert (stamp(message.header.stamp), message.header.frame_id) == (STAMP_NS, "camera")
    assert (message.robot, message.session, message.model_id) == ("red", "tuesday", "model-1")
    assert (message.keyframe_id, message.map_size) == (41, 41)
    assert list(message.stages) == ["search", "geometry"]
    assert [(item.stage, item.milliseconds) for item in message.stage_times] == [("convert", 1.5), ("describe", 12.25)]
    require_pose(message, POSE, STAMP_NS)
    assert list(message.candidates) == [to_candidate(BEST)]


def test_candidate_with_all_evidence():
    message = to_candidate(BEST)
    assert (message.rank, message.status) == (1, FrameStatus.ACCEPTED)
    assert (message.session, message.keyframe_id, stamp(message.stamp)) == ("monday", 7, 3 * SECOND + 5)
    assert (message.similarity, message.ratio) == (0.9375, 0.5)
    assert (message.temporal_support, message.matches, message.inliers) == (4, 120, 80)
    require_pose(message, BEST.pose, BEST.stamp_ns)
    assert (message.has_relative_pose, message.metric_scale) == (True, False)
    assert place(message.relative_pose.pose) == (RELATIVE.translation, RELATIVE.orientation)
    assert tuple(message.relative_pose.covariance) == COVARIANCE
    assert to_candidate(replace(BEST, relative_pose=replace(RELATIVE, metric_scale=True))).metric_scale


def test_candidate_without_poses():
    message = to_candidate(OTHER)
    assert not any((message.has_pose, message.has_relative_pose, message.metric_scale))
    assert message.status == FrameStatus.AMBIGUOUS


def test_status_of_a_frame_with_candidates():
    message = to_frame_status(SEEN, TIMES, SENDER, "camera", Counts(3, 2, 17.5))
    assert (stamp(message.header.stamp), message.header.frame_id) == (STAMP_NS, "camera")
    assert (message.status, message.reason) == (FrameStatus.ACCEPTED, "shows the place")
    assert (message.session, message.model_id) == ("tuesday", "model-1")
    assert (message.is_keyframe, message.keyframe_id, message.map_size, message.searched) == (True, 41, 41, 30)
    assert (message.best_keyframe_id, message.best_similarity, message.ratio) == (7, 0.9375, 0.5)
    assert (message.temporal_support, message.matches, message.inliers) == (4, 120, 80)
    assert list(message.stages) == ["search", "geometry"]
    assert [item.stage for item in message.stage_times] == ["convert", "describe"]
    assert (message.images_dropped, message.images_refused, message.latency_ms) == (3, 2, 17.5)


def test_the_figures_of_a_status_are_those_of_the_candidate_that_decided():
    alike = replace(OTHER, similarity=0.96875, inliers=3)
    message = to_frame_status(replace(SEEN, candidates=(BEST, alike)), TIMES, SENDER, "camera", Counts(0, 0, 1.0))
    assert (message.best_keyframe_id, message.ratio, message.inliers) == (7, 0.5, 80)
    assert message.best_similarity == 0.96875


def test_status_of_a_frame_without_candidates():
    seen = Observation(STAMP_NS, "tuesday", Status.NOT_KEYFRAME, "too soon", 41, 0)
    message = to_frame_status(seen, (), SENDER, "camera", Counts(0, 0, 1.0))
    assert (message.status, message.is_keyframe, message.keyframe_id) == (FrameStatus.NOT_KEYFRAME, False, 0)
    assert math.isnan(message.best_similarity)
    assert math.isnan(message.ratio)
    assert (message.best_keyframe_id, message.temporal_support, message.matches, message.inliers) == (0, 0, 0, 0)


def test_statuses_have_the_numbers_of_the_message():
    assert {status.name: int(status) for status in Status} == {
        status.name: getattr(FrameStatus, status.name) for status in Status
    }


def test_keyframe_and_its_descriptor_without_loss():
    message = to_keyframe(KEYFRAME, SENDER, "camera")
    assert (stamp(message.header.stamp), message.header.frame_id) == (STAMP_NS, "camera")
    assert (message.robot, message.session, message.id, message.model_id) == ("red", "tuesday", 41, "model-1")
    assert (message.dim, message.encoding, len(message.descriptor)) == (2048, KeyframeMessage.FLOAT16, 4096)
    assert decode_descriptor(bytes(message.descriptor), message.dim).tobytes() == DESCRIPTOR.tobytes()
    assert (message.feature_format, bytes(message.features)) == ("", b"")
    require_pose(message, POSE, STAMP_NS)


def test_keyframe_with_local_features_names_their_layout():
    features = LocalFeatures(
        np.array([[10, 20], [300, 239]], np.float32), np.arange(64, dtype=np.uint8).reshape(2, 32),
        np.array([1.5, np.nan], np.float32), 320, 240,
    )  # fmt: skip
    message = to_keyframe(replace(KEYFRAME, features=encode_features(features)), SENDER, "camera")
    assert message.feature_format == "tscm-orb-1"
    read = decode_features(bytes(message.features))
    np.testing.assert_allclose(read.points, features.points, atol=0.01)
    np.testing.assert_array_equal(read.descriptors, features.descriptors)
    np.testing.assert_array_equal(read.depths, features.depths)


def test_keyframe_without_a_pose():
    message = to_keyframe(replace(KEYFRAME, pose=None), SENDER, "")
    assert not message.has_pose
    assert message.pose.header.frame_id == ""


def test_a_keyframe_that_was_not_stored_gets_no_id():
    unstored = replace(SEEN, keyframe=None)
    message = to_loop_candidates(unstored, TIMES, SENDER, "camera")
    assert (message.keyframe_id, message.has_pose) == (0, False)
    assert [item.keyframe_id for item in message.candidates] == [7]
    status = to_frame_status(unstored, TIMES, SENDER, "camera", Counts(0, 0, 1.0))
    assert (status.is_keyframe, status.keyframe_id, status.status) == (False, 0, FrameStatus.ACCEPTED)
