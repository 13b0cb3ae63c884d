"""Keyframes that other robots send: which of them are taken, and what is said about those that are not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import NameValidationException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from tscm_core.datasets.keyframe_messages import keyframe_from_message, robot_of, shown
from tscm_core.errors import ConfigError, KeyframeError, TscmError
from tscm_core.recognition.foreign_places import Added
from tscm_core.recognition.local_features import FEATURE_FORMAT
from tscm_core.recognition.records import Keyframe
from tscm_msgs.msg import Keyframe as KeyframeMessage
from tscm_ros.messages import Sender

MOST_ROBOTS = 64
"""Whoever sends more names than this makes them up."""
_MOST_SAID = 256
_LOG_PERIOD_S = 30.0
_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)

Add = Callable[[str, Keyframe], Added]
"""Takes a keyframe of a robot; raises KeyframeError, as ``ForeignPlaces.add`` does."""


@dataclass(slots=True)
class _Topic:
    """What came on one topic. ``wrong_models`` are sentences by robot, as long as they hold."""

    name: str
    robots: set[str] = field(default_factory=set)
    last_s: float | None = None
    refused: int = 0
    why: str = ""
    wrong_models: dict[str, str] = field(default_factory=dict)


class OtherRobots:
    """Subscriptions to the keyframes of other robots. Nothing that comes on them can spoil an image."""

    def __init__(
        self,
        node: Node,
        topics: Sequence[str],
        sender: Sender,
        dim: int,
        add: Add,
        counts: Callable[[], Mapping[str, int]],
        group: CallbackGroup | None = None,
    ) -> None:
        """Begin to listen.

        Args:
            node: the node that listens.
            topics: what :func:`resolve_topics` gave.
            sender: our own namespace and model.
            dim: length of a descriptor of that model.
            add: where keyframes go to.
            counts: how many of them are kept, by robot.
            group: callback group of the subscriptions.
        """
        self._node, self._sender, self._dim, self._add, self._counts = node, sender, dim, add, counts
        self._topic_of: dict[str, str] = {}
        self._said: set[tuple[str, str]] = set()
        self._topics = {name: _Topic(name) for name in topics}
        self.subscriptions = tuple(
            node.create_subscription(
                KeyframeMessage, name, partial(self._on_keyframe, topic), _QOS, callback_group=group
            )
            for name, topic in self._topics.items()
        )
        if self._topics:
            node.get_logger().info(f"listening for keyframes of other robots on {', '.join(self._topics)}")

    def destroy(self) -> None:
        """Take back the subscriptions."""
        for subscription in self.subscriptions:
            self._node.destroy_subscription(subscription)

    def texts(self) -> dict[str, str]:
        """What comes, for people, by topic."""
        counts = self._counts()
        return {name: self._text(topic, counts) for name, topic in self._topics.items()}

    def problem(self) -> str:
        """Which robots' keyframes are of another model, in sentences; empty while there is none."""
        return "; ".join(text for topic in self._topics.values() for text in tuple(topic.wrong_models.values()))

    def _text(self, topic: _Topic, counts: Mapping[str, int]) -> str:
        if topic.last_s is not None:
            kept = ", ".join(f"{robot}: {counts.get(robot, 0)} keyframes kept" for robot in sorted(topic.robots))
            text = f"{kept or 'no keyframe taken'}, last one came {time.monotonic() - topic.last_s:.1f} s ago"
        else:
            text = "none yet" + ("" if self._node.count_publishers(topic.name) else "; nobody sends any")
        return f"{text}; {topic.refused} refused, the last because {topic.why}" if topic.refused else text

    def _on_keyframe(self, topic: _Topic, message: Any) -> None:
        topic.last_s = time.monotonic()
        try:
            self._take(topic, message)
        except TscmError as error:
            self._refuse(topic, str(error))
        except Exception as error:  # noqa: BLE001 - a defect of ours must not end the thread, nor go unseen
            self._refuse(topic, f"internal error, please report: {error!r}")

    def _take(self, topic: _Topic, message: Any) -> None:
        robot = robot_of(message)
        if robot == self._sender.robot:
            self._say_own(topic)
            raise KeyframeError(f"it is of this robot itself, {robot}")
        if message.model_id != self._sender.model_id:
            raise self._wrong_model(topic, robot, str(message.model_id))
        keyframe = keyframe_from_message(message, self._dim)
        self._bind(topic, robot)
        added = self._add(robot, keyframe)
        topic.wrong_models.pop(robot, None)
        self._report(topic, robot, added)
        self._note_features(topic, robot, message)

    def _bind(self, topic: _Topic, robot: str) -> None:
        """Hear each robot on one topic alone: two of one name would wipe out each other's map."""
        bound = self._topic_of.get(robot, topic.name)
        if bound != topic.name:
            raise KeyframeError(f"robot {robot} is heard on {bound} already: give each robot a namespace of its own")
        if robot not in self._topic_of and len(self._topic_of) >= MOST_ROBOTS:
            raise KeyframeError(f"there are {MOST_ROBOTS} robots already, and this one, {robot}, would be another")
        self._topic_of[robot] = topic.name

    def _wrong_model(self, topic: _Topic, robot: str, model_id: str) -> KeyframeError:
        text = (
            f"robot {robot} on {topic.name} describes places with model {shown(model_id)}, but this robot with "
            f"{shown(self._sender.model_id)}: they cannot be compared, and its places are not looked for; run both "
            f"with the same model (parameters model.*)"
        )
        if len(topic.wrong_models) < MOST_ROBOTS or robot in topic.wrong_models:
            topic.wrong_models[robot] = text
        if self._is_news(robot, f"model {model_id}"):
            self._node.get_logger().error(text)
        return KeyframeError(f"robot {robot} describes places with another model, {shown(model_id)}")

    def _say_own(self, topic: _Topic) -> None:
        if self._is_news(topic.name, "own"):
            self._node.get_logger().warning(
                f"keyframes on {topic.name} are of this robot itself, {self._sender.robot}, and are ignored: leave the "
                f"topic out of robots.keyframe_topics, or give the other robot another namespace"
            )

    def _report(self, topic: _Topic, robot: str, added: Added) -> None:
        if robot not in topic.robots:
            topic.robots.add(robot)
            self._node.get_logger().info(f"first keyframe of robot {robot} on {topic.name}")
        elif added is Added.OF_ANOTHER_MAP:
            self._node.get_logger().info(f"robot {robot} began another map: what was known of it is forgotten")

    def _note_features(self, topic: _Topic, robot: str, message: Any) -> None:
        if message.feature_format == FEATURE_FORMAT:
            return
        if self._is_news(robot, f"features {message.feature_format}"):
            made = f"in layout {shown(message.feature_format)}" if message.feature_format else "not sent"
            self._node.get_logger().warning(
                f"local features of robot {robot} on {topic.name} are {made}: while geometry.enabled is true, none of "
                f"its places can be verified; run both robots with the same release and with geometry.enabled"
            )

    def _refuse(self, topic: _Topic, reason: str) -> None:
        topic.refused, topic.why = topic.refused + 1, reason
        self._node.get_logger().warning(
            f"keyframe on {topic.name} refused: {reason}", throttle_duration_sec=_LOG_PERIOD_S
        )

    def _is_news(self, about: str, what: str) -> bool:
        """Whether this was not said before; what comes after many different things is not said at all."""
        if (about, what) in self._said or len(self._said) >= _MOST_SAID:
            return False
        self._said.add((about, what))
        return True


def resolve_topics(node: Node, topics: str) -> tuple[str, ...]:
    """The full names in ``robots.keyframe_topics``, which are separated by commas.

    Raises:
        ConfigError: one of them is no name of a topic, stands there twice, or is the topic of this robot itself.
    """
    own, given = node.resolve_topic_name("~/keyframes"), dict[str, str]()
    for name in filter(None, map(str.strip, topics.split(","))):
        full = _resolved(node, name)
        if full == own:
            raise ConfigError(
                f"robots.keyframe_topics: {name!r} is the topic on which this robot itself tells of its keyframes: "
                f"leave it out, or give the other robot another namespace"
            )
        if full in given:
            twice = given[full] == name
            same = f"{name!r} is there twice" if twice else f"{given[full]!r} and {name!r} are one topic, {full}"
            raise ConfigError(f"robots.keyframe_topics: {same}: give it once")
        given[full] = name
    return tuple(given)


def _resolved(node: Node, name: str) -> str:
    try:
        return str(node.resolve_topic_name(name))
    except (NameValidationException, RuntimeError) as error:  # RCLError, which rclpy does not export
        reason = str(error).rpartition("name: ")[2].partition(", at ")[0]
        raise ConfigError(
            f"robots.keyframe_topics: {name!r} is no name of a topic ({reason}): give names such as "
            f"/robot_a/tscm/keyframes, separated by commas"
        ) from error
