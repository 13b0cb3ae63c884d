"""Poses of a bag by every kind of topic that tells them: the same drive has the same poses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from bag_messages import (
    FIX,
    IMAGE,
    ODOMETRY,
    SECOND,
    STAMPED,
    TF,
    WITH_COVARIANCE,
    covariance_message,
    fix_message,
    image_message,
    odometry_message,
    stamped_message,
    tf_message,
    write_messages,
)

from tscm_core.datasets.rosbag import BagTopics, DriveBag
from tscm_core.errors import BagError
from tscm_core.recognition.poses import yaw_rad

NONE = (0.0, 0.0, 0.0, 1.0)
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
COUNT = 5


def yaw(degrees):
    return (0.0, 0.0, math.sin(math.radians(degrees) / 2), math.cos(math.radians(degrees) / 2))


def images(frame_id="camera_optical"):
    pixels = np.full((4, 4, 3), 100, np.uint8)
    stamps = [(2 * n + 1) * SECOND // 2 for n in range(COUNT - 1)]
    return [("/image", IMAGE, stamp, image_message(stamp, pixels, frame_id=frame_id)) for stamp in stamps]


def track(topic, kind, make):
    """East 2 m and north 1 m a second, looking there."""
    turn = yaw(math.degrees(math.atan2(1, 2)))
    return [(topic, kind, n * SECOND, make((2.0 * n, 1.0 * n, 0.0), turn, n * SECOND)) for n in range(COUNT)]


def fixes(topic="/fix"):
    """The same walk at the equator, where a degree north is 110574.276 m and one east 111319.491 m."""
    return [
        (topic, FIX, n * SECOND, fix_message(n * SECOND, 1.0 * n / 110574.276, 30 + 2.0 * n / 111319.491, 5.0))
        for n in range(COUNT)
    ]


def transforms(leaf="camera_optical"):
    turn, messages = yaw(math.degrees(math.atan2(1, 2))), []
    mount = (0, "base_link", leaf, (0.0, 0.0, 0.0), OPTICAL if "optical" in leaf else NONE)
    messages.append(("/tf_static", TF, 0, tf_message(mount)))
    for n in range(COUNT):
        links = [
            (n * SECOND, "map", "odom", (5.0, 0, 0), NONE),
            (n * SECOND, "odom", "base_link", (2 * n - 5, n, 0), turn),
        ]
        messages.append(("/tf", TF, n * SECOND, tf_message(*links)))
    return messages


def read(path, messages, pose="", max_gap_s=1.0):
    write_messages(path / "bag", sorted(messages, key=lambda item: item[2]))
    with DriveBag(path / "bag", BagTopics(pose=pose), max_gap_s) as bag:
        return bag.pose_source, [frame.pose for frame in bag.frames()]


@pytest.mark.parametrize(
    ("messages", "source", "frame_id"),
    [
        (track("/odom", ODOMETRY, odometry_message), "/odom (odometry)", "odom"),
        (track("/pose", STAMPED, stamped_message), "/pose (pose)", "map"),
        (track("/amcl", WITH_COVARIANCE, covariance_message), "/amcl (pose)", "map"),
        (fixes(), "/fix (fix)", "enu"),
        (transforms(), "/tf: camera_optical in map", "map"),
        (transforms("camera_link"), "/tf: base_link in map", "map"),
    ],
    ids=["odometry", "pose", "covariance", "fix", "tf", "tf of the body"],
)
def test_the_same_drive_has_the_same_poses(tmp_path, messages, source, frame_id):
    told, poses = read(tmp_path, [*images(), *messages])
    assert told == source
    for number, pose in enumerate(poses):
        assert pose.position[:2] == pytest.approx((2 * number + 1, number + 0.5), abs=1e-3)
        assert yaw_rad(pose) == pytest.approx(math.atan2(1, 2), abs=1e-3)
        assert pose.frame_id == frame_id


def test_the_preferred_kind_comes_first(tmp_path):
    kinds = [
        track("/odom", ODOMETRY, odometry_message), track("/pose", STAMPED, stamped_message), fixes(), transforms(),
    ]  # fmt: skip
    sources = []
    for first in range(4):
        (tmp_path / str(first)).mkdir()
        sources.append(read(tmp_path / str(first), [*images(), *itertools.chain(*kinds[first:])])[0])
    assert sources == ["/odom (odometry)", "/pose (pose)", "/fix (fix)", "/tf: camera_optical in map"]


def test_tf_may_be_asked_for_with_the_frame_that_stands_still(tmp_path):
    messages = [*images(), *transforms(), *track("/odom", ODOMETRY, odometry_message)]
    source, poses = read(tmp_path, messages, "tf:odom")
    assert (source, poses[0].frame_id) == ("/tf: camera_optical in odom", "odom")
    assert poses[0].position == pytest.approx((-4.0, 0.5, 0.0))
    with DriveBag(tmp_path / "bag", BagTopics(odometry="tf")) as bag:
        assert bag.pose_source == "/tf: camera_optical in map"
    with DriveBag(tmp_path / "bag", BagTopics(pose="/tf")) as bag:
        assert bag.pose_source == "/tf: camera_optical in map"


def test_tf_that_leads_nowhere_is_no_pose_or_a_sentence_when_asked_for(tmp_path):
    static = [item for item in transforms() if item[0] == "/tf_static"]
    source, poses = read(tmp_path, [*images(), *static])
    assert (source, poses) == ("", [None] * (COUNT - 1))
    sentence = "has no tf that leads from one of camera_optical, base_link, base_footprint to one of map, odom, world"
    with pytest.raises(BagError, match=sentence), DriveBag(tmp_path / "bag", BagTopics(pose="tf")) as bag:
        next(bag.frames())
    with (
        pytest.raises(BagError, match=r"to one of earth$"),
        DriveBag(tmp_path / "bag", BagTopics(pose="tf:earth")) as bag,
    ):
        next(bag.frames())


def test_tf_of_several_robots_needs_a_choice(tmp_path):
    messages = [*images()]
    for robot, shift in (("a", 0), ("b", 100)):
        link = (0, "odom", "base_link", (shift, 0, 0), NONE)
        messages.append((f"/{robot}/tf", TF, 0, tf_message(link)))
        mount = (0, "base_link", "camera_optical", (0, 0, 1), OPTICAL)
        messages.append((f"/{robot}/tf_static", TF, 0, tf_message(mount)))
    with pytest.raises(BagError, match="several pose topics, choose one with --pose-topic: /a/tf, /b/tf"):
        read(tmp_path, messages)
    with DriveBag(tmp_path / "bag", BagTopics(pose="/b/tf"), 1.0) as bag:
        assert next(bag.frames()).pose.position == pytest.approx((100, 0, 1))


def lying(topic="/odom"):
    """Odometry that stands still."""
    return track(topic, ODOMETRY, lambda place, turn, stamp: odometry_message((0.0, 0.0, 0.0), turn, stamp))


def truth_of(path, messages, max_gap_s=1.0, **topics):
    """Where the frames say that they are, where they truly are, and where the poses of the frames come from."""
    if messages:
        write_messages(path / "bag", sorted(messages, key=lambda item: item[2]))
    with DriveBag(path / "bag", BagTopics(**topics), max_gap_s) as bag:
        frames = list(bag.frames())
        true = None if bag.true_poses is None else [bag.true_poses[frame.stamp_ns] for frame in frames]
        return [frame.pose for frame in frames], true, bag.odometry


@pytest.mark.parametrize(
    ("messages", "topic"),
    [
        (track("/gt", ODOMETRY, odometry_message), "/gt"),
        (track("/gt", STAMPED, stamped_message), "/gt"),
        (track("/gt", WITH_COVARIANCE, covariance_message), "/gt"),
        (fixes("/gt"), "/gt"),
        (transforms(), "tf"),
    ],
    ids=["odometry", "pose", "covariance", "fix", "tf"],
)
def test_true_poses_may_come_from_any_kind_of_topic(tmp_path, messages, topic):
    told, true, odometry = truth_of(tmp_path, [*images(), *lying(), *messages], truth=topic)
    assert (len(told), odometry) == (COUNT - 1, "/odom (odometry)")
    assert {pose.position for pose in told} == {(0.0, 0.0, 0.0)}
    for number, pose in enumerate(true):
        assert pose.position[:2] == pytest.approx((2 * number + 1, number + 0.5), abs=1e-3)
    assert truth_of(tmp_path, [], pose="/odom")[1:] == (None, "/odom (odometry)")


@pytest.mark.parametrize("messages", [track("/gt", STAMPED, stamped_message), transforms()], ids=["pose", "tf"])
def test_the_truth_is_not_taken_for_odometry(tmp_path, messages):
    topic = messages[-1][0]
    told, true, odometry = truth_of(tmp_path, [*images(), *messages], truth=topic)
    assert (told, odometry) == ([None] * (COUNT - 1), "none")
    assert None not in true
    with pytest.raises(BagError, match=f"cannot judge {topic} by itself"):
        truth_of(tmp_path, [], truth=topic, pose=topic)


def test_one_tree_may_tell_odometry_and_truth(tmp_path):
    told, true, odometry = truth_of(tmp_path, [*images(), *transforms()], pose="tf:odom", truth="tf:map")
    assert odometry == "/tf: camera_optical in odom"
    for ours, theirs in zip(told, true, strict=True):
        assert (ours.frame_id, theirs.frame_id) == ("odom", "map")
        assert theirs.position[0] - ours.position[0] == pytest.approx(5.0)


def test_a_topic_of_truth_that_is_not_there_or_far_from_the_images(tmp_path):
    with pytest.raises(BagError, match="has no truth topic /nowhere: there is /gt, /odom"):
        truth_of(tmp_path, [*images(), *lying(), *track("/gt", STAMPED, stamped_message)], truth="/nowhere")
    _, true, _ = truth_of(tmp_path, [], max_gap_s=0.4, truth="/gt")
    assert true == [None] * (COUNT - 1)


def test_fixes_of_once_a_second_are_interpolated_whatever_is_asked_of_odometry(tmp_path):
    shifted = [(topic, kind, stamp, image_message(stamp + SECOND // 4, np.zeros((4, 4, 3), np.uint8)))
               for topic, kind, stamp, _ in images()]  # fmt: skip
    _, poses = read(tmp_path, [*shifted, *fixes()], max_gap_s=0.1)
    assert [pose.position[0] for pose in poses] == pytest.approx([1.5, 3.5, 5.5, 7.5], abs=1e-3)


def test_fixes_without_a_place_are_left_out(tmp_path):
    bad = [
        ("/fix", FIX, 0, fix_message(0, 50.0, 9.0, status=-1)),
        ("/fix", FIX, SECOND // 2, fix_message(SECOND // 2, math.nan, 30.0)),
    ]
    _, poses = read(tmp_path, [*images(), *bad, *fixes()[1:]])
    assert poses[1].position[:2] == pytest.approx((1.0, 0.5), abs=1e-3)  # about the first fix that is one


def test_poses_recorded_out_of_order_are_put_in_theirs(tmp_path):
    messages = [(topic, kind, 0, message) for topic, kind, _, message in reversed(fixes())]
    assert read(tmp_path, [*images(), *messages])[1] == read_again(tmp_path)


def read_again(path):
    (path / "again").mkdir()
    return read(path / "again", [*images(), *fixes()])[1]
