"""What ``/diagnostics`` says about the node, once a second."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from tscm_core.maps.live_answers import Fullness
from tscm_ros.statistics import InputStatistics, StageStatistics

_LOST_SHARE = 0.1
"""From this share of missing images on, diagnostics warn."""
_REFUSAL_COUNTS_S = 30.0
"""For so long after an image was refused, diagnostics warn."""
_PROFILE_HINT = (
    "Fast DDS loses large images unless FASTRTPS_DEFAULT_PROFILES_FILE names the profile "
    "config/fastdds_large_images.xml in every process, the camera's first of all"
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of one moment."""

    topic: str
    silence_limit_s: float
    active: bool
    received: int
    dropped: int
    dropped_share: float
    refused: int
    last_refusal: str
    refuses_s: float
    map_path: str
    map_size: int
    session: str
    mode: str
    fault: str
    fullness: Fullness
    robots: dict[str, str]
    robots_problem: str
    companions: dict[str, str]
    model_id: str
    backend: str


def diagnose(node: Node, now: Snapshot, inputs: InputStatistics, stages: StageStatistics) -> DiagnosticArray:
    """The message with one status for each of: images, processing, map, and other robots if we listen to any."""
    message = DiagnosticArray()
    message.header.stamp = node.get_clock().now().to_msg()
    name = node.get_fully_qualified_name().lstrip("/")
    message.status = [
        _status(f"{name}: images", now.topic, *_judge_images(node, now, inputs), _image_values(now, inputs)),
        _status(f"{name}: processing", now.backend, *_judge_processing(node, now), _processing_values(now, stages)),
        _status(f"{name}: map", now.map_path, *_judge_map(now), _map_values(now)),
    ]
    if now.robots:
        message.status.append(_status(f"{name}: other robots", "", *_judge_robots(now), dict(now.robots)))
    return message


def _status(name: str, hardware: str, level: bytes, text: str, values: dict[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=text, hardware_id=hardware, values=pairs)


def _judge_images(node: Node, now: Snapshot, inputs: InputStatistics) -> tuple[bytes, str]:
    if not now.active:
        return DiagnosticStatus.OK, "inactive: activate the node to process images"
    if inputs.silence_s > now.silence_limit_s:
        return DiagnosticStatus.WARN, silence_text(node, now.topic, inputs.silence_s)
    if inputs.lost_share > _LOST_SHARE:
        return DiagnosticStatus.WARN, (
            f"about {inputs.lost_share:.0%} of the images of {now.topic} are lost on the way: {_PROFILE_HINT}"
        )
    return DiagnosticStatus.OK, f"{inputs.rate_hz:.1f} Hz"


def silence_text(node: Node, topic: str, seconds: float) -> str:
    """Why no image may have come: who publishes the topic, and with which QoS."""
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return (
            f"no image on {topic} for {seconds:.0f} s; publishers: none; is the topic right? see `ros2 topic list -t`"
        )
    who = ", ".join(_endpoint(item) for item in publishers)
    return f"no image on {topic} for {seconds:.0f} s; publishers: {who}; if they do send: {_PROFILE_HINT}"


def _endpoint(item: object) -> str:
    qos = item.qos_profile  # type: ignore[attr-defined]
    name = f"{item.node_namespace.rstrip('/')}/{item.node_name}"  # type: ignore[attr-defined]
    kind = item.topic_type  # type: ignore[attr-defined]
    return f"{name} ({kind}, QoS: {qos.reliability.name.lower()}, {qos.durability.name.lower()})"


def _image_values(now: Snapshot, inputs: InputStatistics) -> dict[str, object]:
    return {
        "rate [Hz]": f"{inputs.rate_hz:.2f}",
        "received": now.received,
        "dropped, newer image came first": now.dropped,
        "refused": now.refused,
        "last refusal": now.last_refusal or "none",
        "lost on the way, estimated [%]": f"{inputs.lost_share * 100:.1f}",
        **now.companions,
    }


def _judge_processing(node: Node, now: Snapshot) -> tuple[bytes, str]:
    twins = count_namesakes(node)
    if twins:
        return DiagnosticStatus.ERROR, (
            f"{twins} more node{'s' * (twins > 1)} named {node.get_fully_qualified_name()}: "
            "give each robot a namespace of its own"
        )
    if now.dropped_share > _LOST_SHARE:
        return (
            DiagnosticStatus.WARN,
            f"{now.dropped_share:.0%} of the last images dropped: they come faster than they can be processed",
        )
    if now.refuses_s < _REFUSAL_COUNTS_S:
        return DiagnosticStatus.WARN, f"{now.refused} images refused, the last because: {now.last_refusal}"
    return DiagnosticStatus.OK, "running" if now.active else "inactive"


def _processing_values(now: Snapshot, stages: StageStatistics) -> dict[str, object]:
    times = {f"{stage} p50 / p95 [ms]": f"{p50:.2f} / {p95:.2f}" for stage, (p50, p95) in stages.percentiles().items()}
    return {"model": now.model_id, "backend": now.backend, **times}


def _judge_map(now: Snapshot) -> tuple[bytes, str]:
    if now.fault:
        return DiagnosticStatus.ERROR, f"the last keyframe could not be stored: {now.fault}"
    if now.fullness.problem:
        return DiagnosticStatus.WARN, f"new places are not remembered: {now.fullness.problem}"
    mode = ", localization: none is added" if now.mode == "localization" else ""
    return DiagnosticStatus.OK, f"{now.map_size} keyframes{mode}"


def _judge_robots(now: Snapshot) -> tuple[bytes, str]:
    if now.robots_problem:
        return DiagnosticStatus.ERROR, now.robots_problem
    return DiagnosticStatus.OK, "listening"


def count_namesakes(node: Node) -> int:
    """How many other nodes of the same full name are on the graph."""
    same = (node.get_name(), node.get_namespace())
    return sum(found == same for found in node.get_node_names_and_namespaces()) - 1


def _map_values(now: Snapshot) -> dict[str, object]:
    return {
        "keyframes": now.map_size,
        "session": now.session,
        "file": now.map_path,
        "mode": now.mode,
        "keyframes given up for newer ones": now.fullness.thinned,
        "images of known places not remembered, for want of room": now.fullness.passed_over,
    }
