"""Hostile keyframes of other robots: real messages with any field made wrong, given to the node's own callback."""

from __future__ import annotations

import contextlib
import math
import random
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cache, reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz_seeds import CONFIG, DIM, Target, small_features

from tscm_core.recognition.foreign_places import Added, ForeignPlaces
from tscm_core.recognition.geometry import OrbMatcher
from tscm_core.recognition.local_features import decode_features, encode_features
from tscm_core.recognition.records import Candidate, Keyframe, Pose
from tscm_core.recognition.stopwatch import Stopwatch

TOPICS = ("/red/tscm/keyframes", "/blue/tscm/keyframes")
MODEL, MOST = "model-1", 4
_LENGTH = struct.Struct("<BI")
_MOST_MESSAGES = 8
_MOST_LINE = 2000
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-320, 1e-160, 1e155, 1e308, math.inf, -math.inf, math.nan)
_NAMES = (
    "",
    "red",
    "blue",
    "us",
    "a/b",
    "/red",
    "red/",
    "a//b",
    "1a",
    "a b",
    "ä",
    "a\nb",
    "\x1b[2J",
    "x" * 255,
    "x" * 256,
    "a" * 5000,
)
_FIELDS: dict[str, tuple[Any, ...]] = {
    "header.stamp.sec": (0, 1, -1, -(2**31), 2**31 - 1),
    "header.stamp.nanosec": (0, 1, 10**9 - 1, 10**9, 2**32 - 1),
    "header.frame_id": _NAMES,
    "robot": _NAMES,
    "session": _NAMES,
    "id": (0, 1, 2, 3, 2**31, 2**32 - 1),
    "model_id": (MODEL, *_NAMES),
    "has_pose": (False, True),
    "pose.header.frame_id": _NAMES,
    **{f"pose.pose.position.{axis}": _FLOATS for axis in "xyz"},
    **{f"pose.pose.orientation.{axis}": _FLOATS for axis in "xyzw"},
    "travelled_m": _FLOATS,
    "dim": (0, 1, DIM - 1, DIM, DIM + 1, 2**16 - 1),
    "encoding": (0, 1, 255),
    "feature_format": ("", "tscm-orb-1", *_NAMES),
}


class Listener:
    """Stands for a node: keeps the callbacks, and looks at every line that is logged."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []

    def create_subscription(self, _: Any, __: str, callback: Callable[[Any], None], *___: Any, **____: Any) -> object:
        """Keep the callback."""
        self.callbacks.append(callback)
        return object()

    def count_publishers(self, _: str) -> int:
        """One for every topic."""
        return 1

    def get_logger(self) -> Any:
        """Takes lines of every severity."""
        return SimpleNamespace(info=require_line, warning=require_line, error=require_line)


def require_line(text: str, **_: Any) -> None:
    """What is shown to people is one line of bounded length, and none of our own defects."""
    assert text.isprintable(), repr(text[:200])
    assert len(text) < _MOST_LINE
    assert "internal error" not in text, text


def robots_target(_: Path) -> Target:
    """Messages of other robots: each is a counted refusal, or a keyframe that can be judged."""
    seeds = robot_seeds()
    return Target(seeds, hear, mutate=MessageMutator(seeds))


def hear(data: bytes) -> None:
    """A node hears all messages of an input, and sees the place that they show after each that it took."""
    from tscm_ros.messages import Sender
    from tscm_ros.other_robots import OtherRobots

    ours, query = features(with_camera=True), good_keyframe(1, 10**18)
    node, places, taken = Listener(), ForeignPlaces(DIM, OrbMatcher(), MOST), list[Keyframe]()

    def add(robot: str, keyframe: Keyframe) -> Added:
        require_keyframe(keyframe)
        result = places.add(robot, keyframe)
        taken.append(keyframe)
        return result

    robots = OtherRobots(node, TOPICS, Sender("us", MODEL), DIM, add, places.counts)  # type: ignore[arg-type]
    for number, (topic, message) in enumerate(received(data), start=1):
        before = len(taken)
        node.callbacks[topic](message)
        refused = sum(item.refused for item in robots._topics.values())
        assert len(taken) + refused == number, "a message was neither taken nor refused"
        if len(taken) > before:
            for candidate in places.judge(query, decode_features(ours), CONFIG, Stopwatch()):
                require_candidate(candidate)
    assert all(0 < count <= MOST for count in places.counts().values())
    for text in (*robots.texts().values(), robots.problem()):
        assert text.isprintable(), text


def received(data: bytes) -> Iterator[tuple[int, Any]]:
    """The messages that DDS gives to a node, each with the number of its topic."""
    from rclpy.serialization import deserialize_message

    from tscm_msgs.msg import Keyframe as KeyframeMessage

    for topic, raw in split(data):
        with contextlib.suppress(Exception):  # what is no message comes to no node
            yield topic, deserialize_message(raw, KeyframeMessage)


class MessageMutator:
    """Makes fields of one message wrong."""

    def __init__(self, seeds: Sequence[bytes]) -> None:
        self._seeds = seeds

    def __call__(self, data: bytes, number: int) -> bytes:
        """A mutant of ``data``, or of a seed where it is no message any more; ``number`` decides which."""
        from rclpy.serialization import serialize_message

        chance = random.Random(number)
        messages = list(received(data)) or list(received(chance.choice(self._seeds)))
        at = chance.randrange(len(messages))
        topic, message = messages[at]
        for _ in range(chance.randrange(1, 4)):
            change(message, chance)
        messages[at] = (chance.randrange(2) if chance.random() < 0.1 else topic, message)
        if chance.random() < 0.3:
            messages.insert(chance.randrange(len(messages) + 1), chance.choice(messages))
        return joined([(topic, bytes(serialize_message(message))) for topic, message in messages])


def change(message: Any, chance: random.Random) -> None:
    """Make one field of a message wrong."""
    if chance.random() < 0.35:
        name = chance.choice(("descriptor", "features"))
        setattr(message, name, array("B", bent(bytes(getattr(message, name)), chance)))
        return
    path, values = chance.choice(list(_FIELDS.items()))
    *way, last = path.split(".")
    setattr(reduce(getattr, way, message), last, chance.choice(values))


def bent(data: bytes, chance: random.Random) -> bytes:
    """Bytes that were flipped, cut, or are all the same; of features also the numbers of their camera."""
    made = bytearray(data or b"\0")
    way = chance.randrange(5)
    if way == 0:
        return bytes(made[: chance.randrange(len(made))])
    if way == 1:
        return bytes(made) + chance.randbytes(chance.randrange(1, 64))
    if way == 2 and len(made) > 60:
        at = 16 + 8 * chance.randrange(4) if chance.random() < 0.5 else chance.randrange(4, 60)
        made[at : at + 8] = struct.pack("<d", chance.choice(_FLOATS))
    elif way == 3:
        half = struct.pack("<e", chance.choice((0.0, 1.0, 6e-8, 65504.0, math.inf, math.nan)))
        at = 2 * chance.randrange(max(1, len(made) // 2))
        made[at:] = half * (len(made[at:]) // 2)
    for _ in range(chance.randrange(4) if made else 0):
        made[chance.randrange(len(made))] = chance.randrange(256)
    return bytes(made)


def require_keyframe(keyframe: Keyframe) -> None:
    """All that a keyframe promises."""
    assert 1 <= keyframe.id < 2**32
    assert 1 <= len(keyframe.session) < 256
    assert (keyframe.descriptor.dtype, keyframe.descriptor.shape) == (np.float32, (DIM,))
    assert abs(float(np.linalg.norm(keyframe.descriptor.astype(np.float64))) - 1.0) < 0.01
    assert 0.0 <= keyframe.travelled_m < math.inf
    pose = keyframe.pose
    assert pose is None or all(map(math.isfinite, (*pose.position, *pose.orientation)))
    assert -(2**63) <= keyframe.stamp_ns < 2**63
    assert keyframe.features is None or len(decode_features(keyframe.features)) >= 0


def require_candidate(candidate: Candidate) -> None:
    """All that a candidate promises to those who close loops with it."""
    from tscm_ros.messages import to_candidate

    to_candidate(candidate)
    assert candidate.robot
    assert -1.01 < candidate.similarity < 1.01
    assert math.isfinite(candidate.ratio)
    seen = candidate.relative_pose
    if seen is not None:
        assert all(map(math.isfinite, (*seen.translation, *seen.orientation, *seen.covariance)))
        assert abs(math.hypot(*seen.orientation) - 1.0) < 1e-6


@cache
def features(*, with_camera: bool) -> bytes:
    """The features of the scene, as they are sent."""
    return encode_features(small_features(60, with_camera=with_camera))


def good_keyframe(id_: int, stamp_ns: int) -> Keyframe:
    """A keyframe of the scene that is recognised."""
    vector = np.eye(1, DIM, dtype=np.float32)[0]
    return Keyframe(
        id_, "monday", stamp_ns, Pose((1.0, 2.0, 0.0)), 3.5, vector, b"", features(with_camera=id_ % 2 == 1)
    )


def robot_seeds() -> list[bytes]:
    """One robot, two robots on two topics, and more keyframes than are kept."""
    from rclpy.serialization import serialize_message

    from tscm_ros.messages import Sender, to_keyframe

    def raw(robot: str, id_: int) -> bytes:
        message = to_keyframe(good_keyframe(id_, id_ * 10**9), Sender(robot, MODEL), "camera")
        return bytes(serialize_message(message))

    red = [(0, raw("red", id_)) for id_ in range(1, 7)]
    return [joined(red[:1]), joined([*red[:2], (1, raw("blue", 1))]), joined(red)]


def split(data: bytes) -> list[tuple[int, bytes]]:
    """The messages in an input, each with the number of its topic."""
    messages: list[tuple[int, bytes]] = []
    while len(data) >= _LENGTH.size and len(messages) < _MOST_MESSAGES:
        topic, length = _LENGTH.unpack_from(data)
        messages.append((topic % 2, data[_LENGTH.size : _LENGTH.size + length]))
        data = data[_LENGTH.size + length :]
    return messages


def joined(messages: Sequence[tuple[int, bytes]]) -> bytes:
    """An input of messages."""
    return b"".join(_LENGTH.pack(topic, len(raw)) + raw for topic, raw in messages)
