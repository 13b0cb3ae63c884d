"""Which topics of a bag make up a drive: colour beside depth, the camera's info, and sentences where it is unclear."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from bag_messages import (
    COMPRESSED,
    IMAGE,
    INFO,
    ODOMETRY,
    SECOND,
    STAMPED,
    compressed_message,
    image_message,
    info_message,
    odometry_message,
    stamped_message,
    write_messages,
)

from tscm_core.datasets.rosbag import BagTopics, DriveBag
from tscm_core.errors import BagError, ImageError

MS = 1_000_000
NONE = (0.0, 0.0, 0.0, 1.0)


def colour(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (12, 17, 3), np.uint8)


def depth(metres):
    return np.full((6, 8), round(metres * 1000), np.uint16)


def picture(topic, number=0, frame_id="front", stamp_ns=SECOND):
    return topic, IMAGE, stamp_ns, image_message(stamp_ns, colour(number), frame_id=frame_id)


def range_image(topic, metres=1.0, frame_id="front", stamp_ns=SECOND, encoding="16UC1"):
    pixels = depth(metres) if encoding == "16UC1" else depth(metres).astype(np.float32) / 1000
    return topic, IMAGE, stamp_ns, image_message(stamp_ns, pixels, encoding, frame_id)


def packed(topic, metres=1.0, stamp_ns=SECOND):
    data = cv2.imencode(".png", depth(metres))[1].tobytes()
    return topic, COMPRESSED, stamp_ns, compressed_message(stamp_ns, data, "16UC1; compressedDepth png")


def read(path, messages, **topics):
    write_messages(path / "bag", messages)
    with DriveBag(path / "bag", BagTopics(**topics)) as bag:
        return bag.topics, list(bag.frames())


@pytest.mark.parametrize(
    ("messages", "image", "found"),
    [
        ([picture("/c"), range_image("/r")], "/c", "/r"),
        ([picture("/c"), range_image("/r", encoding="32FC1")], "/c", "/r"),
        ([picture("/c"), packed("/depth/image/compressedDepth")], "/c", "/depth/image/compressedDepth"),
        ([picture("/c"), range_image("/d/depth"), packed("/d/depth/compressedDepth")], "/c", "/d/depth"),
        ([picture("/c"), picture("/depth/colourised")], "/c", ""),  # a picture of depth is neither
        ([picture("/depth_camera/image"), range_image("/depth_camera/r")], "/depth_camera/image", "/depth_camera/r"),
        ([picture("/c"), range_image("/r", frame_id="left")], "/c", ""),  # seen from elsewhere: not registered
        ([picture("/c"), range_image("/a", frame_id="left"), range_image("/b")], "/c", "/b"),
        ([picture("/c")], "/c", ""),
        ([range_image("/thermal")], "/thermal", ""),  # 16 bits of a lone camera are its picture
        ([picture("/c"), ("/never", IMAGE, 0, None)], "/c", ""),
    ],
)
def test_colour_and_depth_are_told_apart(tmp_path, messages, image, found):
    topics, frames = read(tmp_path, messages)
    assert (topics.image.name, topics.depth) == (image, found)
    assert [frame.depth is not None for frame in frames] == [bool(found)]
    if found:
        assert np.array_equal(frames[0].depth, np.ones((6, 8), np.float32))


def test_depth_that_was_named_is_believed(tmp_path):
    messages = [picture("/c"), range_image("/a", 1.0, "left"), range_image("/b", 2.0)]
    topics, frames = read(tmp_path, messages, depth="/a")
    assert (topics.depth, frames[0].depth[0, 0]) == ("/a", 1.0)


@pytest.mark.parametrize(
    ("messages", "topics", "problem"),
    [
        (
            [picture("/c"), range_image("/a"), range_image("/b")],
            {},
            "several depth topics, choose one with --depth-topic: /a",
        ),
        ([picture("/c"), range_image("/a")], {"depth": "/x"}, "has no depth topic /x: there is /a"),
        ([picture("/c"), range_image("/a")], {"depth": "/c"}, "has no depth topic /c: there is /a"),
        ([picture("/c"), picture("/a")], {"depth": "/a", "image": "/c"}, "has no depth on /a, but images of rgb8"),
        ([range_image("/a"), range_image("/b")], {}, "several image topics, choose one with --image-topic: /a, /b"),
    ],
)
def test_what_is_unclear_is_a_sentence(tmp_path, messages, topics, problem):
    with pytest.raises(BagError, match=problem):
        read(tmp_path, messages, **topics)


def test_depth_is_the_nearest_in_time_within_50_ms(tmp_path):
    """Also where it was recorded after its image, and also when the bag is read again."""
    messages = [picture("/c", n, stamp_ns=(1 + n) * SECOND) for n in range(4)]
    for metres, stamp_ms, recorded_ms in (
        (1, 970, 970),
        (2, 1020, 1300),
        (3, 1949, 1949),
        (4, 3050, 3050),
        (5, 3970, 3990),
    ):
        topic, kind, _, message = range_image("/r", metres, stamp_ns=stamp_ms * MS)
        messages.append((topic, kind, recorded_ms * MS, message))
    write_messages(tmp_path / "bag", sorted(messages, key=lambda item: item[2]))
    with DriveBag(tmp_path / "bag") as bag:
        for _ in range(2):
            frames = list(bag.frames())
            assert [frame.stamp_ns for frame in frames] == [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
            assert [None if f.depth is None else f.depth[0, 0] for f in frames] == [2.0, None, 4.0, 5.0]
            assert all(np.array_equal(frame.image, colour(n)) for n, frame in enumerate(frames))


def test_depth_that_cannot_be_used_refuses_its_frame(tmp_path):
    topic, kind, stamp_ns, message = range_image("/r", stamp_ns=2 * SECOND)
    message.step = 1
    messages = [
        picture("/c"),
        range_image("/r"),
        picture("/c", 1, stamp_ns=2 * SECOND),
        (topic, kind, stamp_ns, message),
    ]
    with pytest.raises(ImageError, match="its step is 1 bytes"):
        read(tmp_path, messages)
    told = []
    with DriveBag(tmp_path / "bag") as bag:
        assert [frame.stamp_ns for frame in bag.frames(lambda *what: told.append(what))] == [SECOND]
    assert [stamp for stamp, _ in told] == [2 * SECOND]


# ---------------------------------------------------------------------------------------------- camera info


def test_of_several_camera_infos_that_beside_the_image_is_taken(tmp_path):
    messages = [
        picture("/front/image_raw"),
        ("/front/camera_info", INFO, 0, info_message(size=(17, 12))),
        ("/rear/camera_info", INFO, 0, info_message(size=(99, 99))),
    ]
    topics, frames = read(tmp_path, messages)
    assert (topics.camera_info, frames[0].intrinsics.width) == ("/front/camera_info", 17)
    with DriveBag(tmp_path / "bag", BagTopics(camera_info="/rear/camera_info")) as bag:
        assert next(bag.frames()).intrinsics.width == 99


def test_camera_infos_of_nobody_are_a_sentence(tmp_path):
    messages = [picture("/image"), *((f"/{name}/camera_info", INFO, 0, info_message()) for name in "ab")]
    with pytest.raises(
        BagError, match="several camera-info topics, choose one with --camera-info-topic: /a/camera_info"
    ):
        read(tmp_path, messages)


def test_a_lens_that_is_not_understood_says_so(tmp_path):
    info = info_message(model="scaramuzza", d=(1.0, 2.0))
    write_messages(tmp_path / "bag", [picture("/c/image"), ("/c/camera_info", INFO, 0, info)])
    with DriveBag(tmp_path / "bag") as bag:
        assert next(bag.frames()).intrinsics is None
        assert '"scaramuzza" with 2 coefficients is unknown' in bag.intrinsics_problem


# ---------------------------------------------------------------------------------------------- poses


def odometry(topic, x=1.0):
    return topic, ODOMETRY, SECOND, odometry_message((x, 0, 0), NONE, SECOND)


def stamped(topic, x=2.0):
    return topic, STAMPED, SECOND, stamped_message((x, 0, 0), NONE, SECOND)


@pytest.mark.parametrize(
    ("messages", "topics", "x"),
    [
        ([odometry("/o"), stamped("/p")], {}, 1.0),
        ([odometry("/o"), stamped("/p")], {"pose": "/p"}, 2.0),
        ([odometry("/o"), stamped("/p")], {"odometry": "/p"}, 2.0),
        ([odometry("/o"), odometry("/q", 3.0)], {"pose": "/q"}, 3.0),
        ([odometry("/o"), odometry("/q", 3.0)], {"pose": "/q", "odometry": "/q"}, 3.0),
        ([("/o", ODOMETRY, 0, None), stamped("/p")], {}, 2.0),
        ([stamped("/goal_pose", 7.0), stamped("/p")], {}, 2.0),
        ([stamped("/goal_pose", 7.0)], {}, None),
        ([stamped("/goal_pose", 7.0)], {"pose": "/goal_pose"}, 7.0),
    ],
)
def test_the_preferred_or_the_named_poses_are_taken(tmp_path, messages, topics, x):
    _, frames = read(tmp_path, [picture("/c"), *messages], **topics)
    assert (frames[0].pose and frames[0].pose.position[0]) == x


@pytest.mark.parametrize(
    ("messages", "topics", "problem"),
    [
        ([odometry("/o"), odometry("/q")], {}, "several odometry topics, choose one with --odometry-topic: /o, /q"),
        ([stamped("/o"), stamped("/q")], {}, "several pose topics, choose one with --pose-topic: /o, /q"),
        ([odometry("/o")], {"pose": "/q"}, "has no pose topic /q: there is /o"),
        ([odometry("/o")], {"odometry": "/q"}, "has no odometry topic /q: there is /o"),
        ([odometry("/o")], {"odometry": "/c"}, "has no odometry topic /c: there is /o"),
        ([odometry("/o"), stamped("/p")], {"odometry": "/o", "pose": "/p"}, "poses of both /o and /p: name one"),
        ([odometry("/o")], {"pose": "tf"}, "has no tf, which was asked for as tf"),
    ],
)
def test_poses_that_are_unclear_are_a_sentence(tmp_path, messages, topics, problem):
    with pytest.raises(BagError, match=problem):
        read(tmp_path, [picture("/c"), *messages], **topics)
