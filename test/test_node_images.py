"""What cameras and odometry send, good and bad: the node refuses with a sentence, counts, and goes on."""

from __future__ import annotations

import math
import time

import cv2
import numpy as np
import pytest
from ros_helpers import (
    EASY,
    IMAGE_TOPIC,
    ODOMETRY_TOPIC,
    SECOND,
    grey_message,
    image_message,
    odometry_message,
    picture,
    refuse,
    running_node,
    stamp_of,
)

from tscm_msgs.srv import Relocalize
from tscm_ros.playback import wait_until


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), {**EASY, "input.odometry_wait_s": 0.0}) as rig:
        yield rig


BAD = {
    "data shorter than its rows": ({"height": 241}, "241 rows of step 960 are due, not 230400 bytes"),
    "step shorter than a row": ({"step": 959}, "its step is 959 bytes, but one row takes 960"),
    "unknown encoding": ({"encoding": "purple8"}, '"purple8" is not supported'),
    "no pixels": ({"width": 0, "height": 0, "step": 0, "data": b""}, "0 x 0 pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_and_the_next_good_one_processed(raw, name):
    changes, sentence = BAD[name]
    refused = refuse(raw, image_message(picture(1), raw.tick(), **changes), sentence)
    after = raw.show(2)[0]
    assert after.is_keyframe
    assert after.images_refused == refused


@pytest.mark.parametrize(("behind_s", "sentence"), [(5.0, "5.000 s behind")])
def test_a_stamp_that_does_not_go_forward_is_refused(raw, behind_s, sentence):
    newest = raw.show(1)[0]
    refused = refuse(raw, image_message(picture(2), raw.clock_ns - round(behind_s * SECOND)), sentence)
    after = raw.show(3)[0]
    assert (after.map_size, after.images_refused) == (newest.map_size + 1, refused)


def test_mono8_is_read_as_grey(raw):
    grey = cv2.cvtColor(picture(5), cv2.COLOR_RGB2GRAY)
    raw.send(image_message(np.dstack([grey] * 3), raw.tick()))
    same = raw.send(grey_message(grey, raw.tick(), "mono8"))
    assert same.best_keyframe_id == same.keyframe_id - 1
    assert same.best_similarity == pytest.approx(1.0, abs=1e-4)


def test_a_bayer_mosaic_is_read_in_colour(raw):
    colours = picture(6)
    mosaic = colours[..., 2].copy()  # bayer_rggb: red green / green blue
    mosaic[0::2, 0::2] = colours[0::2, 0::2, 0]
    mosaic[0::2, 1::2] = colours[0::2, 1::2, 1]
    mosaic[1::2, 0::2] = colours[1::2, 0::2, 1]
    whole = raw.send(image_message(colours, raw.tick()))
    right = raw.send(grey_message(mosaic, raw.tick(), "bayer_rggb8"))
    assert right.best_keyframe_id == whole.keyframe_id
    assert right.best_similarity > 0.95
    swapped = raw.send(grey_message(mosaic, raw.tick(), "bayer_bggr8"))  # red and blue the wrong way round
    found = raw.candidates_at(raw.clock_ns).candidates if swapped.status == 0 else []
    assert all(item.keyframe_id != whole.keyframe_id or item.similarity < right.best_similarity for item in found)


@pytest.fixture
def odometry(raw):
    """Publishes odometry; the node has heard one at the stamp of the newest image, x = -1, and waits for more."""

    def publish(stamp_ns, x, y=0.0):
        raw.robot.publish(ODOMETRY_TOPIC, odometry_message(stamp_ns, x, y))

    def heard():
        stamp_ns = raw.tick(0.4)  # after the odometry before, and near enough to it for the image to wait
        publish(stamp_ns, -1.0)
        raw.send(image_message(picture(1), stamp_ns))
        return raw.keyframe_at(stamp_ns).has_pose

    raw.set_live("input.odometry_wait_s", 0.05)
    wait_until(heard, 10.0, "the node to hear odometry")
    raw.set_live("input.odometry_wait_s", 5.0)
    yield publish
    raw.set_live("input.odometry_wait_s", 0.0)


def test_the_pose_is_interpolated_at_the_stamp_of_the_image(raw, odometry):
    stamp_ns = raw.tick(0.2)
    odometry(stamp_ns - SECOND // 10, 1.0, 4.0)
    odometry(stamp_ns + SECOND // 10 * 3, 3.0, 0.0)
    raw.send(image_message(picture(1), stamp_ns))
    keyframe = raw.keyframe_at(stamp_ns)
    assert keyframe.has_pose
    assert keyframe.pose.header.frame_id == "odom"
    assert keyframe.pose.header.stamp == keyframe.header.stamp
    place = keyframe.pose.pose.position
    assert (place.x, place.y, place.z) == pytest.approx((1.5, 3.0, 0.0))
    assert keyframe.pose.pose.orientation.w == pytest.approx(1.0)


def test_an_image_waits_for_odometry_that_comes_after_it(raw, odometry):
    stamp_ns = raw.tick(0.2)
    raw.robot.publish(IMAGE_TOPIC, image_message(picture(2), stamp_ns))

    def arrived():
        return stamp_of(raw.robot.call(Relocalize, "relocalize", Relocalize.Request())) == stamp_ns

    wait_until(arrived, 10.0, "the image to arrive")
    time.sleep(0.2)  # long after that it is taken up, and begins to wait
    assert stamp_ns not in map(stamp_of, raw.robot.statuses)
    odometry(stamp_ns, 8.0)
    status = raw.status_at(stamp_ns)
    assert {item.stage: item.milliseconds for item in status.stage_times}["pose"] > 1.0
    assert raw.keyframe_at(stamp_ns).pose.pose.position.x == 8.0


@pytest.mark.parametrize("broken", [(math.nan,), (0.0, math.inf)])
def test_odometry_that_is_not_finite_is_ignored(raw, odometry, broken):
    stamp_ns = raw.tick(0.2)
    odometry(stamp_ns, *broken)
    odometry(stamp_ns + SECOND // 5, 7.0)
    raw.send(image_message(picture(3), stamp_ns))
    assert raw.keyframe_at(stamp_ns).pose.pose.position.x == pytest.approx(3.0)  # between -1 and 7


def test_without_odometry_keyframes_are_chosen_by_what_is_new(raw):
    raw.set_live("keyframes.min_novelty", 0.02)
    raw.tick(100.0)
    first, same, other = raw.show(11, 11, 12)
    raw.set_live("keyframes.min_novelty", 0.0)
    assert [first.is_keyframe, same.is_keyframe, other.is_keyframe] == [True, False, True]
    assert same.reason.replace("-0", "0").startswith("descriptor changed by 0.000")
    keyframe = raw.keyframe_at(raw.clock_ns)
    assert not keyframe.has_pose
