"""What the node says about itself: silence, losses, drops, namesakes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from ros_helpers import EASY, IMAGE_TOPIC, image_message, picture, running_node, values_of

from tscm_core.maps.live_answers import Fullness
from tscm_core.recognition.records import StageTime
from tscm_ros.diagnostics import Snapshot, diagnose
from tscm_ros.statistics import InputStatistics, StageStatistics

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
QUIET = Snapshot(
    topic="/image", silence_limit_s=5.0, active=True, received=0, dropped=0, dropped_share=0.0, refused=0,
    last_refusal="", refuses_s=math.inf, map_path="/maps/map.tscm.live", map_size=3, session="monday",
    mode="mapping", fault="", fullness=Fullness(), robots={}, robots_problem="", companions={"odometry": "none"},
    model_id="model-1", backend="a backend",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("node"), {**EASY, "input.silence_s": 0.3}) as rig:
        yield rig


def test_silence_names_the_topic_and_who_publishes_it(rig):
    def names_us(parts):  # a little later than that there is a publisher it knows whose it is
        return parts["images"].level == WARN and "publishers: /tscm_robot (" in parts["images"].message

    report = rig.wait_for_report(names_us)["images"]
    assert report.name == "tscm: images"
    assert report.hardware_id == IMAGE_TOPIC
    assert report.message.startswith(f"no image on {IMAGE_TOPIC} for ")
    assert "publishers: /tscm_robot (sensor_msgs/msg/Image, QoS: reliable, volatile)" in report.message
    rig.wait_for_log(f"no image on {IMAGE_TOPIC}")


def test_what_came_and_what_was_dropped_is_counted(rig):
    rig.show(1, 2)
    stamps = [rig.tick(0.1) for _ in range(30)]
    messages = [image_message(picture(number), stamp) for number, stamp in enumerate(stamps)]
    for message in messages:
        rig.robot.publish(IMAGE_TOPIC, message)
    last = rig.status_at(stamps[-1])
    assert last.images_dropped > 0

    def all_counted(parts):
        return int(values_of(parts["images"])["dropped, newer image came first"]) == last.images_dropped

    report = rig.wait_for_report(all_counted)
    values = values_of(report["images"])
    assert int(values["received"]) == len(rig.robot.statuses) + last.images_dropped
    assert float(values["rate [Hz]"]) > 0
    assert values["last refusal"] == "none"
    assert report["processing"].level == WARN
    assert "of the last images dropped" in report["processing"].message
    times = values_of(report["processing"])
    assert {"describe p50 / p95 [ms]", "search p50 / p95 [ms]", "store p50 / p95 [ms]"} <= set(times)
    assert times["model"] == last.model_id
    assert values_of(report["map"])["keyframes"] == str(last.map_size)


def test_a_node_of_the_same_name_is_an_error_until_it_goes(rig):
    context = rclpy.Context()
    rclpy.init(context=context, args=[])
    twin = Node("tscm", context=context, start_parameter_services=False)
    report = rig.wait_for_report(lambda parts: parts["processing"].level == ERROR)["processing"]
    assert report.message == "1 more node named /tscm: give each robot a namespace of its own"
    rig.wait_for_log(report.message)
    twin.destroy_node()
    context.try_shutdown()
    rig.wait_for_report(lambda parts: parts["processing"].level != ERROR, 60.0)  # until its lease ends if need be


# --- the verdicts, without a graph


def node(*, publishers=(), names=(("tscm", "/"),)):
    return SimpleNamespace(
        get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(to_msg=lambda: Time(sec=7))),
        get_fully_qualified_name=lambda: "/tscm",
        get_name=lambda: "tscm",
        get_namespace=lambda: "/",
        get_node_names_and_namespaces=lambda: list(names),
        get_publishers_info_by_topic=lambda topic: list(publishers),
    )


def inputs(stamps=(), silent_s=0.0):
    statistics = InputStatistics()
    statistics.started -= silent_s
    for stamp in stamps:
        statistics.add(stamp)
    return statistics


def judge(now=QUIET, statistics=None, around=None):
    message = diagnose(around or node(), now, statistics or inputs(), StageStatistics())
    return {status.name.rpartition(": ")[2]: (status.level, status.message) for status in message.status}


def test_all_is_well():
    assert judge() == {"images": (OK, "0.0 Hz"), "processing": (OK, "running"), "map": (OK, "3 keyframes")}


def test_inactive_is_no_fault_however_long_no_image_came():
    judged = judge(replace(QUIET, active=False), inputs(silent_s=100.0))
    assert judged["images"] == (OK, "inactive: activate the node to process images")
    assert judged["processing"] == (OK, "inactive")


def test_silence_without_a_publisher_says_how_to_look_for_the_topic(monkeypatch):
    monkeypatch.setattr("tscm_ros.statistics.time", SimpleNamespace(monotonic=lambda: 100.0))
    level, text = judge(statistics=inputs(silent_s=12.2))["images"]
    assert level == WARN
    assert text == "no image on /image for 12 s; publishers: none; is the topic right? see `ros2 topic list -t`"


def test_images_lost_on_the_way_name_the_profile():
    stamps = [number * 10**8 for number in range(100) if number % 4]
    level, text = judge(statistics=inputs(stamps))["images"]
    assert level == WARN
    assert text.startswith("about 25% of the images of /image are lost on the way")
    assert "config/fastdds_large_images.xml" in text
    few = [number * 10**8 for number in range(100) if number % 20]
    assert judge(statistics=inputs(few))["images"][0] == OK


def test_many_drops_and_recent_refusals_are_warnings():
    assert judge(replace(QUIET, received=10**6, dropped=10**5, dropped_share=0.1))["processing"][0] == OK  # long ago
    assert judge(replace(QUIET, received=10**6, dropped=9, dropped_share=0.11))["processing"][0] == WARN
    refused = replace(QUIET, received=100, refused=1, last_refusal="it is purple", refuses_s=29.0)
    assert judge(refused)["processing"] == (WARN, "1 images refused, the last because: it is purple")
    assert judge(replace(refused, refuses_s=31.0))["processing"] == (OK, "running")


def test_a_keyframe_that_could_not_be_stored_is_an_error():
    judged = judge(replace(QUIET, fault="disk is full"))
    assert judged["map"] == (ERROR, "the last keyframe could not be stored: disk is full")


@pytest.mark.parametrize(
    ("names", "count"), [([("tscm", "/"), ("tscm", "/red"), ("other", "/")], 0), ([("tscm", "/")] * 3, 2)]
)
def test_namesakes_are_those_of_the_same_namespace(names, count):
    assert judge(around=node(names=names))["processing"] == (
        (ERROR, "2 more nodes named /tscm: give each robot a namespace of its own") if count else (OK, "running")
    )


def test_stage_times_are_shown_as_percentiles():
    stages = StageStatistics()
    for number in range(101):
        stages.add([StageTime("describe", float(number))])
    message = diagnose(node(), QUIET, inputs(), stages)
    assert values_of(message.status[1])["describe p50 / p95 [ms]"] == "50.00 / 95.00"
    assert message.header.stamp.sec == 7
