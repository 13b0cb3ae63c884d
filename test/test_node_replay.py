"""A drive through the node over DDS gives, bit for bit, what the loop detector gives in this process."""

from __future__ import annotations

import numpy as np
import pytest
from ros_helpers import running_node, stamp_of
from shared_data import compile_default, shared

from tscm_core.config import Config
from tscm_core.datasets.bag_writer import FIRST_STAMP_NS, bag_from_images
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.maps.map_reader import MapReader
from tscm_core.recognition.loop_detector import LoopDetector
from tscm_core.recognition.precision import encode_descriptor
from tscm_core.recognition.records import Status
from tscm_msgs.msg import FrameStatus

pytestmark = pytest.mark.shared_data

RATE_HZ, IMAGES, LAP, RADIUS = 2.0, 84, 40, 2.0


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("corridor") / "bag"
    assert list(bag_from_images(shared("corridor_two_laps"), path, RATE_HZ))[-1] == IMAGES
    return path


@pytest.fixture(scope="module")
def expected(bag):
    """The observations without ROS."""
    detector = LoopDetector(compile_default().describer, Config())
    with DriveBag(bag) as drive:
        return [detector.observe(frame) for frame in drive.frames()]


@pytest.fixture(scope="module")
def drive(bag, expected, tmp_path_factory):
    """The robot after the drive through the node, which was ended by SIGINT, and the node's live map."""
    with running_node(tmp_path_factory.mktemp("node"), {"input.odometry_wait_s": 5.0}) as rig:
        rig.make_odometry_heard(0.0, FIRST_STAMP_NS - round(0.4e9))  # no image is so early, and the first one waits
        assert rig.robot.play(bag, in_step=True) == IMAGES
        rig.robot.wait_for_statuses(IMAGES)
        last = [item for item in expected if item.accepted][-1]
        rig.candidates_at(last.stamp_ns)
        rig.keyframe_at(max(item.stamp_ns for item in expected if item.keyframe))
        assert rig.process.stop() == 0, rig.log
        return rig


def float32(value):
    return np.float32(value).tobytes()


def figures(evidence):
    return evidence.temporal_support, evidence.matches, evidence.inliers


def position(message):
    assert message.has_pose
    point = message.pose.pose.position
    return point.x, point.y, point.z


def test_every_image_is_answered_for_in_order(drive):
    assert [stamp_of(status) for status in drive.robot.statuses] == [
        FIRST_STAMP_NS + round(number * 1e9 / RATE_HZ) for number in range(IMAGES)
    ]
    assert drive.robot.statuses[-1].images_dropped == drive.robot.statuses[-1].images_refused == 0


def test_statuses_are_those_of_the_detector(drive, expected):
    for status, seen in zip(drive.robot.statuses, expected, strict=True):
        assert Status(status.status) is seen.status
        assert status.reason == seen.reason
        assert status.is_keyframe == (seen.keyframe is not None)
        assert status.keyframe_id == (seen.keyframe.id if seen.keyframe else 0)
        assert (status.map_size, status.searched) == (seen.map_size, seen.searched)
        assert tuple(status.stages) == seen.stages
        if not seen.candidates:
            assert np.isnan([status.best_similarity, status.ratio]).all()
            continue
        deciding = seen.candidates[0]
        assert status.best_keyframe_id == deciding.keyframe_id
        assert float32(status.best_similarity) == float32(max(item.similarity for item in seen.candidates))
        assert float32(status.ratio) == float32(deciding.ratio)
        assert figures(status) == figures(deciding)


def test_candidates_are_those_of_the_detector(drive, expected):
    accepted = [seen for seen in expected if seen.accepted]
    assert [message.keyframe_id for message in drive.robot.candidates] == [seen.keyframe.id for seen in accepted]
    for message, seen in zip(drive.robot.candidates, accepted, strict=True):
        assert stamp_of(message) == seen.stamp_ns
        assert message.header.frame_id == "camera"
        assert position(message) == seen.keyframe.pose.position
        for sent, candidate in zip(message.candidates, seen.accepted, strict=True):
            assert (sent.rank, sent.status) == (candidate.rank, candidate.status)
            assert sent.keyframe_id == candidate.keyframe_id
            assert sent.stamp.sec * 10**9 + sent.stamp.nanosec == candidate.stamp_ns
            assert float32(sent.similarity) == float32(candidate.similarity)
            assert float32(sent.ratio) == float32(candidate.ratio)
            assert position(sent) == candidate.pose.position
            assert figures(sent) == figures(candidate)
            assert sent.has_relative_pose == (candidate.relative_pose is not None)


def test_keyframes_are_those_of_the_detector(drive, expected):
    keyframes = [seen.keyframe for seen in expected if seen.keyframe]
    for message, keyframe in zip(drive.robot.keyframes, keyframes, strict=True):
        assert (message.id, stamp_of(message)) == (keyframe.id, keyframe.stamp_ns)
        assert bytes(message.descriptor) == encode_descriptor(keyframe.descriptor)
        assert bytes(message.features) == (keyframe.features or b"")
        assert position(message) == keyframe.pose.position


def test_the_second_lap_is_recognised_and_no_loop_is_wrong(drive):
    closed = set()
    for message in drive.robot.candidates:
        here = position(message)[0]
        for candidate in message.candidates:
            assert candidate.status == FrameStatus.ACCEPTED
            assert abs(position(candidate)[0] - here) <= RADIUS, (message.keyframe_id, candidate.keyframe_id)
        closed.add(round((stamp_of(message) - FIRST_STAMP_NS) * RATE_HZ / 1e9))
    assert len(closed & set(range(LAP, 2 * LAP))) >= LAP / 2


def test_the_live_map_of_the_ended_node_holds_the_drive(drive, expected):
    keyframes = [seen.keyframe for seen in expected if seen.keyframe]
    with MapReader(drive.live_path) as reader:
        stored = list(reader.keyframes())
        loops = list(reader.loops())
    assert [(item.id, item.stamp_ns, item.pose) for item in stored] == [
        (item.id, item.stamp_ns, item.pose) for item in keyframes
    ]
    assert all((a.descriptor == b.descriptor).all() for a, b in zip(stored, keyframes, strict=True))
    assert len(loops) == sum(len(seen.loops) for seen in expected)
