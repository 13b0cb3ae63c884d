"""Geometry through the running node: depth and intrinsics in, relative poses, pictures and markers out."""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np
import pytest
from ros_helpers import (
    CAMERA_INFO_TOPIC,
    DEPTH_TOPIC,
    EASY,
    IMAGE_TOPIC,
    ODOMETRY_TOPIC,
    camera_info_message,
    depth_message,
    image_message,
    odometry_message,
    running_node,
    stamp_of,
    values_of,
)
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from two_planes import FOCAL, HEIGHT, WIDTH, view
from visualization_msgs.msg import Marker, MarkerArray

from tscm_core.datasets.image_messages import to_rgb
from tscm_core.recognition.local_features import decode_features
from tscm_msgs.msg import FrameStatus
from tscm_msgs.srv import Relocalize
from tscm_ros.playback import NodeError, wait_until

FIRST = (0.0, 0.0, 0.0), np.eye(3)
MOVED = (0.3, -0.1, 0.25), cv2.Rodrigues(np.array([0.02, -0.1, 0.03]))[0]
SETTINGS = {
    **EASY,
    "candidates.min_similarity": -1.0,
    "geometry.enabled": True,
    "input.odometry_wait_s": 5.0,
    "map.thumbnail_width": 320,
    "candidates.top_places": 50,
    "geometry.places": 50,
}


"""The network has never seen such textures and takes them all for one place: geometry alone must tell them apart."""


class Camera:
    """A robot with a depth camera and odometry before the made-up room."""

    def __init__(self, rig):
        self.rig = rig

    def publish(self, seed, where, *, x=None, depth=True, step_s=0.2):
        """Send what belongs to an image, and the image; gives its stamp."""
        stamp_ns = self.rig.tick(step_s)
        image, metres = view(seed, *where)
        self.rig.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp_ns, 10.0 * seed if x is None else x))
        if depth:
            self.rig.robot.publish(DEPTH_TOPIC, depth_message(metres, stamp_ns))
        self.rig.robot.publish(IMAGE_TOPIC, image_message(image, stamp_ns))
        return stamp_ns

    def see(self, seed, where, **how):
        """The same, and what became of the image."""
        return self.rig.status_at(self.publish(seed, where, **how))

    def pass_twice(self, seed, **how):
        """See a place, and see it again from elsewhere; gives the first keyframe's id and the loop candidate."""
        first = self.see(seed, FIRST, **how)
        again = self.see(seed, MOVED, **how | {"step_s": 0.2})
        assert again.status == FrameStatus.ACCEPTED, again.reason
        candidate = self.rig.candidates_at(self.rig.clock_ns).candidates[0]
        assert candidate.keyframe_id == first.keyframe_id
        return first.keyframe_id, candidate


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), SETTINGS) as rig:
        yield rig


@pytest.fixture(scope="module")
def camera(rig):
    """The camera, once everything that it sends has been heard."""
    camera = Camera(rig)

    def heard():
        rig.robot.publish(CAMERA_INFO_TOPIC, camera_info_message(WIDTH, HEIGHT, FOCAL))
        stamp_ns = camera.publish(90, FIRST)
        rig.status_at(stamp_ns)
        features = decode_features(bytes(rig.keyframe_at(stamp_ns).features))
        return features.camera is not None and np.isfinite(features.depths).any() and rig.keyframe_at(stamp_ns).has_pose

    wait_until(heard, 20.0, "depth, intrinsics and odometry to be heard")
    return camera


def relative_pose(candidate):
    assert candidate.has_relative_pose
    p, q = candidate.relative_pose.pose.position, candidate.relative_pose.pose.orientation
    return np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])


def turn_between(quaternion, matrix):
    """Degrees between a quaternion (x, y, z, w) and a rotation matrix."""
    x, y, z, w = quaternion
    axis = np.array([x, y, z]) / max(np.linalg.norm([x, y, z]), 1e-12)
    turn = cv2.Rodrigues(axis * 2 * np.arctan2(np.linalg.norm([x, y, z]), w))[0]
    return np.degrees(np.linalg.norm(cv2.Rodrigues(turn @ matrix.T)[0]))


def test_with_depth_the_relative_pose_is_in_metres(rig, camera):
    _, candidate = camera.pass_twice(1)
    assert candidate.metric_scale
    shift, turn = relative_pose(candidate)
    np.testing.assert_allclose(shift, MOVED[0], atol=0.03)
    assert turn_between(turn, MOVED[1]) < 0.5
    covariance = np.reshape(candidate.relative_pose.covariance, (6, 6))
    np.testing.assert_allclose(covariance, covariance.T)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    status = rig.status_at(rig.clock_ns)
    assert list(status.stages) == ["search", "geometry"]
    assert {"features", "geometry"} <= {item.stage for item in status.stage_times}
    assert (status.best_keyframe_id, status.inliers, status.matches) == (
        candidate.keyframe_id, candidate.inliers, candidate.matches,
    )  # fmt: skip
    assert status.matches > status.inliers >= 20


def test_without_depth_the_translation_is_a_direction(rig, camera):
    _, candidate = camera.pass_twice(2, depth=False, step_s=5.0)
    assert not candidate.metric_scale
    direction, turn = relative_pose(candidate)
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    truth = np.array(MOVED[0]) / np.linalg.norm(MOVED[0])
    assert np.degrees(np.arccos(direction @ truth)) < 5.0
    assert turn_between(turn, MOVED[1]) < 2.0


def test_depth_that_cannot_be_used_is_told_and_the_image_goes_on(rig, camera):
    camera.see(3, FIRST)
    stamp_ns = rig.tick(0.2)
    rig.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp_ns, 30.0))
    rig.robot.publish(DEPTH_TOPIC, depth_message(np.ones((100, 100)), stamp_ns, "32FC1"))
    rig.send(image_message(view(3, *MOVED)[0], stamp_ns))
    features = decode_features(bytes(rig.keyframe_at(stamp_ns).features))
    assert np.isnan(features.depths).all()
    assert "depth is not used: depth image of 100 x 100 pixels is not registered to the image of 640 x 480" in rig.log


def test_keyframes_carry_their_features(rig, camera):
    stamp_ns = camera.publish(4, FIRST)
    message = rig.keyframe_at(stamp_ns)
    assert message.feature_format == "tscm-orb-1"
    features = decode_features(bytes(message.features))
    assert 200 < len(features) <= 600
    assert (features.camera.width, features.camera.height, features.camera.fx) == (WIDTH, HEIGHT, FOCAL)
    truth = view(4, *FIRST)[1]
    columns, rows = features.points.round().astype(int).T
    assert np.median(np.abs(features.depths - truth[rows, columns])) < 0.01


def test_relocalize_judges_geometry_too(rig, camera):
    first = camera.see(5, FIRST)
    sent = Relocalize.Request(image=image_message(view(5, *MOVED)[0], 0), top_k=2)
    answer = rig.robot.call(Relocalize, "relocalize", sent)
    assert (answer.success, list(answer.stages)) == (True, ["search", "geometry"]), answer.message
    best = answer.candidates[0]
    assert (best.keyframe_id, best.status, best.has_relative_pose) == (first.keyframe_id, FrameStatus.ACCEPTED, False)
    assert best.inliers >= 20
    assert f"{best.inliers} of {best.matches} matched features agree" in answer.message
    of_newest = rig.robot.call(Relocalize, "relocalize", Relocalize.Request(top_k=2)).candidates[0]
    assert (of_newest.keyframe_id, of_newest.metric_scale) == (first.keyframe_id, True)
    np.testing.assert_allclose(relative_pose(of_newest)[0], 0.0, atol=0.03)


def test_stages_are_switched_while_the_node_runs(rig, camera):
    for geometry, others, stages in (
        (False, True, ["search", "odometry", "temporal"]),
        (True, False, ["search", "geometry"]),
    ):
        for name, on in (("geometry", geometry), ("odometry", others), ("temporal", others)):
            rig.set_live(f"{name}.enabled", on)
        status = camera.see(6, FIRST)
        assert list(status.stages) == stages
        assert set(stages) <= {item.stage for item in status.stage_times}
        assert bool(rig.keyframe_at(rig.clock_ns).features) == geometry


def test_a_picture_of_the_loop_is_made_for_those_who_look(rig, camera):
    camera.pass_twice(10)
    pictures, subscription = rig.listen(Image, "match_image")
    wait_until(lambda: rig.robot.node.count_publishers("/tscm/match_image") == 1, 10.0, "the topic")

    for seed in range(11, 20):
        camera.pass_twice(seed)
        with suppress(NodeError):  # whether the node knows of us yet cannot be asked
            wait_until(lambda: bool(pictures), 2.0, "a picture")
            break
    assert pictures, rig.log
    seed += 1
    camera.pass_twice(seed)
    wait_until(lambda: stamp_of(pictures[-1]) == rig.clock_ns, 10.0, f"the newest loop's picture; log:\n{rig.log}")
    picture = to_rgb(pictures[-1])
    assert pictures[-1].header.frame_id == "camera"
    query, place = view(seed, *MOVED)[0], view(seed, *FIRST)[0]
    assert picture.shape[0] > HEIGHT
    left, right = picture[:HEIGHT, :WIDTH], picture[:HEIGHT, -WIDTH:]
    assert difference(left, query) == 0 < difference(left, place)
    assert difference(right, place) < difference(right, query) / 2
    assert (left != query).any(axis=2).mean() > 0.02, "lines cover some of it"
    rig.robot.node.destroy_subscription(subscription)
    assert "internal error" not in rig.log


def difference(a, b):
    """Of the middle pixel, in grey levels: lines that are drawn over the image do not matter."""
    return np.median(np.abs(a.astype(int) - b))


def test_markers_show_everything_to_one_who_comes_late(rig, camera):
    assert rig.robot.call(Trigger, "clear_map", Trigger.Request()).success
    camera.see(20, FIRST, x=1.0)
    camera.pass_twice(21, x=2.5)
    arrays, subscription = rig.listen(MarkerArray, "markers")

    def drawn(namespace):
        last = {(item.ns, item.id): item for array in arrays for item in array.markers}
        return [point.x for key, item in sorted(last.items()) if key[0] == namespace for point in item.points]

    wait_until(lambda: all(map(drawn, ("keyframes", "loops", "newest"))), 10.0, f"markers; log:\n{rig.log}")
    assert arrays[0].markers[0].action == Marker.DELETEALL
    assert drawn("keyframes") == drawn("path") == [1.0, 2.5, 2.5]
    assert drawn("loops") == drawn("newest") == [2.5, 2.5]
    assert {item.header.frame_id for array in arrays for item in array.markers[1:]} == {"odom"}
    camera.see(22, FIRST, x=4.0)
    wait_until(lambda: drawn("keyframes") == [1.0, 2.5, 2.5, 4.0], 10.0, "the keyframe that came")
    count = len(arrays)
    assert rig.robot.call(Trigger, "clear_map", Trigger.Request()).success

    def is_taken_away():
        return len(arrays) > count and [item.action for item in arrays[-1].markers] == [Marker.DELETEALL]

    wait_until(is_taken_away, 10.0, "the markers to be taken away")
    rig.robot.node.destroy_subscription(subscription)


def test_intrinsics_of_another_size_are_scaled_and_of_another_shape_refused(rig, camera):
    camera.see(30, FIRST)
    assert f"camera: {WIDTH} x {HEIGHT} pixels, focal length {FOCAL:.1f}, no distortion" in rig.log

    def hear(message, sentence):
        def said():
            rig.robot.publish(CAMERA_INFO_TOPIC, message)
            camera.see(31, FIRST)
            return sentence in rig.log

        wait_until(said, 10.0, sentence)
        camera.see(31, FIRST)  # the one before may have been looked at before it was said
        return decode_features(bytes(rig.keyframe_at(rig.clock_ns).features)).camera

    half = hear(
        camera_info_message(WIDTH // 2, HEIGHT // 2, FOCAL / 2),
        f"camera: {WIDTH} x {HEIGHT} pixels, scaled from 320 x 240",
    )
    assert (half.width, half.fx) == (WIDTH, FOCAL)
    bent = camera_info_message(WIDTH, HEIGHT, FOCAL)
    bent.d = [-0.1, 0.01, 0.001, 0.0, 0.0]
    assert hear(bent, f"focal length {FOCAL:.1f}, plumb_bob").distortion == tuple(bent.d)
    bent.distortion_model = "wobbly"
    assert hear(bent, 'is not used: distortion model "wobbly" with 5 coefficients is unknown') is None
    sentence = "it is for images of 640 x 360 pixels, and those that come have 640 x 480: another shape"
    assert hear(camera_info_message(640, 360, FOCAL), sentence) is None
    camera.see(32, FIRST)
    assert rig.log.count(sentence) == 1
    report = rig.wait_for_report(lambda parts: "another shape" in values_of(parts["images"])["camera info"])
    assert values_of(report["images"])["depth"].startswith(f"on {DEPTH_TOPIC}, last one ")
