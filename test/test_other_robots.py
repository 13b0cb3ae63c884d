"""Keyframes of other robots as messages: what is taken is what was sent, and nothing else is taken."""

from __future__ import annotations

import functools
import math
import operator
from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import rclpy
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from ros_helpers import SECOND, own_graph
from toys import textured, unit

from tscm_core.config import Config
from tscm_core.datasets.keyframe_messages import MOST_FEATURES, keyframe_from_message
from tscm_core.errors import ConfigError, KeyframeError
from tscm_core.recognition.foreign_places import Added, ForeignPlaces
from tscm_core.recognition.geometry import OrbMatcher
from tscm_core.recognition.local_features import decode_features, encode_features, extract
from tscm_core.recognition.precision import encode_descriptor, stored_precision
from tscm_core.recognition.records import Frame, Intrinsics, Keyframe, Pose
from tscm_core.recognition.stopwatch import Stopwatch
from tscm_msgs.msg import Keyframe as KeyframeMessage
from tscm_ros.messages import Sender, to_candidate, to_keyframe
from tscm_ros.other_robots import MOST_ROBOTS, OtherRobots, resolve_topics

DIM, TOPIC, OTHER = 64, "/red/tscm/keyframes", "/blue/tscm/keyframes"
RED, US = Sender("red", "model-1"), Sender("us", "model-1")
CAMERA = Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)


@functools.cache
def features_of(place):
    depth = np.full((240, 320), 3.0, np.float32)
    return extract(Frame(1, textured(place), None, "camera", CAMERA, depth), Config().geometry)


@functools.cache
def kept(number=1, place=1):
    """A keyframe as a robot publishes it, which has no thumbnail."""
    vector, pose = stored_precision(unit(place, DIM)), Pose((1.0, 2.0, 0.0), (0.0, 0.0, 0.6, 0.8), "odom")
    stamp_ns = number * SECOND + 7
    return Keyframe(number, "monday", stamp_ns, pose, 3.5, vector, b"", encode_features(features_of(place)))


def sent(sender=RED, keyframe=None, **changes):
    """The message of a keyframe, made wrong where ``changes`` say so: by name of the field, dots as two underscores."""
    message = to_keyframe(keyframe or kept(), sender, "camera")
    for name, value in changes.items():
        *path, last = name.split("__")
        setattr(functools.reduce(getattr, path, message), last, value)
    return message


class FakeNode:
    """Remembers subscriptions and log lines."""

    def __init__(self):
        self.callbacks, self.lines, self.publishers = {}, [], 0

    def create_subscription(self, kind, topic, callback, qos, callback_group):
        assert kind is KeyframeMessage
        self.callbacks[topic] = callback
        return topic

    def destroy_subscription(self, topic):
        del self.callbacks[topic]

    def count_publishers(self, topic):
        return self.publishers

    def get_logger(self):
        def level(name):
            return lambda text, throttle_duration_sec=None: self.lines.append((name, text))

        return SimpleNamespace(**{name: level(name) for name in ("info", "warning", "error")})

    def said(self, level):
        return [text for name, text in self.lines if name == level]


class Listener:
    """What listens to two topics, and what it took."""

    def __init__(self, sender=US, most=100):
        self.node, self.taken = FakeNode(), []
        self.places = ForeignPlaces(DIM, OrbMatcher(), most)
        self.robots = OtherRobots(self.node, (TOPIC, OTHER), sender, DIM, self.add, self.places.counts)

    def add(self, robot, keyframe):
        self.taken.append((robot, keyframe))
        return self.places.add(robot, keyframe)

    def hear(self, message, topic=TOPIC):
        self.node.callbacks[topic](message)
        return self.robots.texts()[topic]


# ------------------------------------------------------------------------------------------------ both ways


def comparable(keyframe):
    return replace(keyframe, descriptor=None), keyframe.descriptor.tobytes()


@pytest.mark.parametrize(
    "change",
    [{}, {"features": None}, {"pose": None}, {"travelled_m": 0.0, "session": "Fahrt 2 (Süd)"}, {"id": 2**32 - 1}],
)
def test_a_keyframe_arrives_as_it_was_sent(change):
    keyframe = replace(kept(), **change)
    wire = deserialize_message(serialize_message(sent(keyframe=keyframe)), KeyframeMessage)
    assert comparable(keyframe_from_message(wire, DIM)) == comparable(keyframe)


def test_a_turn_is_made_unit_length_and_none_at_all_is_no_turn():
    turned = sent(pose__pose__orientation__z=2.0, pose__pose__orientation__w=0.0)
    assert keyframe_from_message(turned, DIM).pose == Pose((1.0, 2.0, 0.0), (0.0, 0.0, 1.0, 0.0), "odom")
    nothing = sent(pose__pose__orientation__z=0.0, pose__pose__orientation__w=0.0)
    assert keyframe_from_message(nothing, DIM).pose.orientation == (0.0, 0.0, 0.0, 1.0)


def blob(**changes):
    return array("B", encode_features(replace(features_of(1), **changes)))


def many(count):
    """More features than any setting makes."""
    points, descriptors = np.zeros((count, 2), np.float32), np.zeros((count, 32), np.uint8)
    return blob(points=points, descriptors=descriptors, depths=np.full(count, np.nan, np.float32))


def with_infinite_depth():
    data = bytearray(blob())
    data[-2:] = np.array([math.inf], "<f2").tobytes()
    return array("B", data)


def scaled(factor):
    return array("B", encode_descriptor(factor * kept().descriptor))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": 0}, "its id is 0"),
        ({"session": ""}, "its session has 0 characters"),
        ({"session": "x" * 256}, "its session has 256 characters"),
        ({"travelled_m": math.nan}, "travelled_m is nan"),
        ({"travelled_m": math.inf}, "travelled_m is inf"),
        ({"travelled_m": -1.0}, "travelled_m is -1"),
        ({"header__stamp__sec": 0, "header__stamp__nanosec": 0}, "no time stamp"),
        ({"header__stamp__nanosec": 10**9}, "stamp has 1000000000 nanoseconds"),
        ({"pose__pose__position__y": math.nan}, "pose is not finite"),
        ({"pose__pose__orientation__w": math.inf}, "pose is not finite"),
        ({"encoding": 1}, "the encoding 1 of its descriptor"),
        ({"dim": 63}, "its descriptor has 63 numbers, and those of its model have 64"),
        ({"descriptor": array("B", bytes(127))}, "has 127 bytes instead of 128"),
        ({"descriptor": array("B")}, "has 0 bytes instead of 128"),
        ({"descriptor": array("B", bytes(128))}, "not of length 1"),
        ({"descriptor": scaled(1.02)}, "not of length 1"),
        ({"descriptor": scaled(math.nan)}, "not of length 1"),
        ({"features": array("B")}, "its local features are cut off"),
        ({"features": blob()[:-1]}, "its local features have"),
        ({"features": many(MOST_FEATURES + 1)}, "it has 1201 local features, more than 1200"),
        ({"features": with_infinite_depth()}, "a depth of its local features is not finite"),
    ],
)
def test_what_is_not_as_the_definition_says_is_refused_counted_and_told(changes, problem):
    with pytest.raises(KeyframeError, match=problem):
        keyframe_from_message(sent(**changes), DIM)
    listener = Listener()
    assert problem in listener.hear(sent(**changes))
    assert listener.taken == []
    (line,) = listener.node.said("warning")
    assert line.startswith(f"keyframe on {TOPIC} refused: ")
    assert "1 refused" in listener.hear(sent())
    assert [(robot, keyframe.id) for robot, keyframe in listener.taken] == [("red", 1)]


def test_as_many_features_are_taken_as_a_robot_may_be_set_to_send():
    limits = {name: limits for name, _, limits in Config().settings()}["geometry.features"]
    assert limits.maximum == MOST_FEATURES
    assert keyframe_from_message(sent(features=many(MOST_FEATURES)), DIM).features == many(MOST_FEATURES).tobytes()


# ------------------------------------------------------------------------------------------------ who is heard


def test_what_is_taken_is_remembered_under_the_robots_name():
    listener = Listener()
    for number, place in ((1, 1), (2, 2), (3, 3)):
        listener.hear(sent(keyframe=kept(number, place)))
    text = listener.hear(sent(Sender("team/blue", "model-1")), OTHER)
    assert text.startswith("team/blue: 1 keyframes kept, last one came 0.0 s ago")
    assert listener.robots.texts()[TOPIC].startswith("red: 3 keyframes kept, last one came ")
    assert listener.places.counts() == {"red": 3, "team/blue": 1}
    assert listener.node.said("info") == [
        f"listening for keyframes of other robots on {TOPIC}, {OTHER}",
        f"first keyframe of robot red on {TOPIC}",
        f"first keyframe of robot team/blue on {OTHER}",
    ]
    assert listener.robots.problem() == ""


def test_a_topic_on_which_nothing_comes_says_so():
    listener = Listener()
    assert listener.robots.texts() == dict.fromkeys((TOPIC, OTHER), "none yet; nobody sends any")
    listener.node.publishers = 1
    assert listener.robots.texts()[TOPIC] == "none yet"
    listener.robots.destroy()
    assert listener.node.callbacks == {}


def test_another_model_is_refused_loudly_once_and_for_as_long_as_it_is_there():
    listener = Listener()
    for number in range(1, 20):
        listener.hear(sent(Sender("red", "model-2"), kept(number)))
    (error,) = listener.node.said("error")
    for part in ("robot red", TOPIC, "'model-2'", "'model-1'", "run both with the same model (parameters model.*)"):
        assert part in error
    assert listener.robots.problem() == error
    assert listener.taken == []
    assert "19 refused, the last because robot red describes places with another model" in listener.hear(
        sent(Sender("red", "model-2")), TOPIC
    ).replace("20 refused", "19 refused")
    listener.hear(sent(Sender("blue", "model-2")), OTHER)
    listener.hear(sent(Sender("red", "model-3")))
    assert len(listener.node.said("error")) == 3
    assert "'model-3'" in listener.robots.problem()
    assert "robot blue" in listener.robots.problem()
    listener.hear(sent())
    assert "robot red" not in listener.robots.problem()
    assert [robot for robot, _ in listener.taken] == ["red"]


def test_our_own_keyframes_are_ignored_with_one_warning():
    listener = Listener()
    for number in range(1, 5):
        listener.hear(sent(US, kept(number)))
    assert listener.taken == []
    warnings = [text for text in listener.node.said("warning") if "refused" not in text]
    assert len(warnings) == 1
    assert f"keyframes on {TOPIC} are of this robot itself, us, and are ignored" in warnings[0]
    assert "4 refused, the last because it is of this robot itself" in listener.robots.texts()[TOPIC]


@pytest.mark.parametrize("own", ["", "us"])
@pytest.mark.parametrize("name", ["", "/red", "red/", "a b", "1st", "red\n[FATAL]", "ü", "x" * 256, "a//b"])
def test_a_robot_that_has_no_namespace_is_refused(name, own):
    listener = Listener(Sender(own, "model-1"))
    text = listener.hear(sent(Sender(name, "model-1")))
    assert ("it names no robot" if not name else "is no namespace") in text
    assert len(text) < 300
    assert "\n" not in text
    assert listener.taken == []


def test_two_robots_of_one_name_do_not_wipe_out_each_others_map():
    listener = Listener()
    listener.hear(sent())
    text = listener.hear(sent(keyframe=kept(1, 9)), OTHER)
    assert f"robot red is heard on {TOPIC} already" in text
    assert listener.places.counts() == {"red": 1}


def test_names_without_end_are_not_all_believed():
    listener = Listener()
    for number in range(MOST_ROBOTS + 5):
        text = listener.hear(sent(Sender(f"robot_{number}", "model-1")))
    assert len(listener.places.counts()) == MOST_ROBOTS
    assert f"5 refused, the last because there are {MOST_ROBOTS} robots already" in text
    for number in range(1000):
        listener.hear(sent(Sender("red", f"model {number}")))
        listener.hear(sent(Sender(f"red_{number}", "model-2")))
    assert len(listener.node.said("error")) <= 256
    assert listener.robots.problem().count("; robot ") < MOST_ROBOTS


def test_a_robot_that_begins_another_map_is_told_of():
    listener = Listener()
    for number in (1, 2, 3):
        listener.hear(sent(keyframe=kept(number)))
    listener.hear(sent(keyframe=replace(kept(1), session="tuesday")))
    assert listener.node.said("info")[2:] == ["robot red began another map: what was known of it is forgotten"]
    assert listener.robots.texts()[TOPIC].startswith("red: 1 keyframes kept")


@pytest.mark.parametrize(
    ("changes", "word"), [({"feature_format": "tscm-orb-9"}, "'tscm-orb-9'"), ({"feature_format": ""}, "not sent")]
)
def test_a_keyframe_whose_features_are_unknown_is_taken_without_them_and_that_is_said_once(changes, word):
    listener = Listener()
    for number in (1, 2):
        listener.hear(sent(keyframe=kept(number), **changes))
    assert [keyframe.features for _, keyframe in listener.taken] == [None, None]
    (warning,) = listener.node.said("warning")
    assert word in warning
    assert "none of its places can be verified" in warning


# ------------------------------------------------------------------------------------------------ hostile


TEXT = st.text(max_size=30) | st.sampled_from(["red", "us", "blue", "model-1", "monday", "tscm-orb-1", "\x1b[31m"])
FIELDS = {
    "robot": TEXT,
    "session": TEXT,
    "model_id": TEXT,
    "feature_format": TEXT,
    "id": st.integers(0, 2**32 - 1),
    "dim": st.integers(0, 2**16 - 1),
    "encoding": st.integers(0, 255),
    "travelled_m": st.floats(),
    "has_pose": st.booleans(),
    "header__stamp__sec": st.integers(-(2**31), 2**31 - 1),
    "header__stamp__nanosec": st.integers(0, 2**32 - 1),
    "pose__header__frame_id": TEXT,
    "pose__pose__position__x": st.floats(),
    "pose__pose__orientation__w": st.floats(),
    "descriptor": st.binary(max_size=200).map(functools.partial(array, "B")),
    "features": st.binary(max_size=200).map(functools.partial(array, "B")),
}
FLIPS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=6)


def flipped(data, flips):
    data = bytearray(data)
    for at, bits in flips:
        data[at % len(data)] ^= bits
    return bytes(data)


def require_sound(listener):
    """Every message was taken or counted; what was taken can be searched for, verified and sent on."""
    config = Config().replace({"temporal.min_support": 1, "geometry.min_inliers": 8})
    refused = sum(topic.refused for topic in listener.robots._topics.values())
    assert len(listener.taken) + refused == 1
    assert not any("internal error" in text for _, text in listener.node.lines)
    assert all("\x1b" not in text and "\n" not in text for _, text in listener.node.lines)
    for candidate in listener.places.judge(kept(7), features_of(1), config, Stopwatch()):
        assert math.isfinite(candidate.similarity)
        to_candidate(candidate)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_no_field_can_break_the_listener(changes):
    listener = Listener()
    listener.hear(sent(**changes))
    require_sound(listener)


@settings(max_examples=150, deadline=None)
@given(FLIPS)
def test_no_features_can_break_the_listener(flips):
    listener = Listener()
    listener.hear(sent(features=array("B", flipped(kept().features[:200], flips) + kept().features[200:])))
    require_sound(listener)


@settings(max_examples=150, deadline=None)
@given(FLIPS)
def test_no_bytes_on_the_wire_can_break_the_listener(flips):
    """Those that the middleware lets through: it refuses what is no message of this type at all."""
    small = replace(kept(), features=kept().features[:14])
    wire = serialize_message(sent(keyframe=small, feature_format="none"))
    try:
        message = deserialize_message(flipped(wire, flips), KeyframeMessage)
    except Exception:  # noqa: BLE001 - the middleware's own
        return
    listener = Listener()
    listener.hear(message)
    require_sound(listener)


def test_a_defect_of_ours_is_told_and_does_not_end_the_listening():
    listener = Listener()
    listener.robots._add = lambda robot, keyframe: operator.truediv(1, 0)
    assert "internal error, please report: ZeroDivisionError" in listener.hear(sent())


# ------------------------------------------------------------------------------------------------ names of topics


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    context = rclpy.Context()
    with own_graph(tmp_path_factory.mktemp("graph")):
        rclpy.init(context=context, args=[])
        node = Node("tscm", namespace="/us", context=context)
        yield node
        node.destroy_node()
        context.try_shutdown()


@pytest.mark.parametrize(
    ("given_names", "full"),
    [
        ("", ()),
        (" , ", ()),
        ("/red/tscm/keyframes", ("/red/tscm/keyframes",)),
        ("/b/k,  a/k ,, ~/k", ("/b/k", "/us/a/k", "/us/tscm/k")),
    ],
)
def test_topics_are_separated_by_commas_and_each_is_heard(node, given_names, full):
    assert resolve_topics(node, given_names) == full
    robots = OtherRobots(node, full, US, DIM, lambda robot, keyframe: Added.NEW, dict)
    assert tuple(item.topic_name for item in robots.subscriptions) == full
    robots.destroy()


@pytest.mark.parametrize("name", ["/red tscm", "//x", "/x/", "/1a", "/x{", "é", "/" + "a" * 300, "{robot}/x"])
def test_what_is_no_topic_is_one_clear_sentence(node, name):
    with pytest.raises(ConfigError) as raised:
        resolve_topics(node, f"/red/tscm/keyframes, {name}")
    text = str(raised.value)
    assert text.startswith(f"robots.keyframe_topics: {name!r} is no name of a topic (")
    assert "()" not in text
    assert "/project" not in text
    assert "give names such as /robot_a/tscm/keyframes, separated by commas" in text


@pytest.mark.parametrize(
    ("given_names", "said"),
    [
        ("/b/k, a/k, /us/a/k", "robots.keyframe_topics: 'a/k' and '/us/a/k' are one topic, /us/a/k: give it once"),
        ("/b/k, /b/k", "robots.keyframe_topics: '/b/k' is there twice: give it once"),
        ("/b/k, ~/keyframes", "robots.keyframe_topics: '~/keyframes' is the topic on which this robot itself tells"),
        ("tscm/keyframes", "robots.keyframe_topics: 'tscm/keyframes' is the topic on which this robot itself tells"),
    ],
)
def test_one_topic_twice_and_our_own_are_refused(node, given_names, said):
    with pytest.raises(ConfigError) as raised:
        resolve_topics(node, given_names)
    assert str(raised.value).startswith(said)


def test_features_of_the_scene_are_there_so_that_the_tests_above_mean_something():
    assert len(decode_features(kept().features)) > 200
