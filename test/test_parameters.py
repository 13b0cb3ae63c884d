"""Parameters, through the services that ``ros2 param`` calls: complete, described, held within their ranges."""

from __future__ import annotations

import math

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from ros_helpers import EASY, image_message, picture, running_node

from tscm_core.config import Config
from tscm_msgs.msg import FrameStatus

SETTINGS = {name: (default, limits) for name, default, limits in Config().settings()}
TYPES = {bool: "bool_value", int: "integer_value", float: "double_value", str: "string_value"}
NUMBERS = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Given ``5`` and not ``5.0`` for a number, as people type it."""
    with running_node(tmp_path_factory.mktemp("node"), {**EASY, "input.silence_s": 5, "recency.metres": 0}) as rig:
        yield rig


@pytest.fixture
def rig(running):
    yield running
    results = set_all(running, {"candidates.min_similarity": 0.95, "candidates.top_places": 5})
    assert all(result.successful for result in results)


def parameter(name, value):
    return Parameter(name=name, value=ParameterValue(type=NUMBERS[type(value)], **{TYPES[type(value)]: value}))


def set_all(rig, values):
    request = SetParameters.Request(parameters=[parameter(name, value) for name, value in values.items()])
    return rig.robot.call(SetParameters, "set_parameters", request).results


def set_one(rig, name, value):
    return set_all(rig, {name: value})[0]


def get(rig, name):
    value = rig.robot.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values[0]
    return next(getattr(value, TYPES[kind]) for kind in TYPES if NUMBERS[kind] == value.type)


def test_every_setting_is_listed(rig):
    listed = rig.robot.call(ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert set(SETTINGS) <= set(listed)


def test_every_setting_is_described_with_its_range(rig):
    request = DescribeParameters.Request(names=list(SETTINGS))
    described = rig.robot.call(DescribeParameters, "describe_parameters", request).descriptors
    for item, (name, (default, limits)) in zip(described, SETTINGS.items(), strict=True):
        assert (item.name, item.read_only) == (name, not limits.live)
        assert item.description.startswith(limits.description)
        assert len(item.description) > 15
        if isinstance(default, float):
            assert [(r.from_value, r.to_value) for r in item.floating_point_range] == [(limits.minimum, limits.maximum)]
        elif type(default) is int:
            assert [(r.from_value, r.to_value) for r in item.integer_range] == [(limits.minimum, limits.maximum)]
        elif limits.choices:
            assert all(choice in item.additional_constraints for choice in limits.choices)


def test_defaults_are_those_of_the_core(rig):
    given = {*EASY, "map_path", "input.silence_s"}
    assert {name: get(rig, name) for name in SETTINGS if name not in given} == {
        name: default for name, (default, _) in SETTINGS.items() if name not in given
    }


def test_a_live_setting_counts_from_the_next_image_on(rig):
    rig.show(1)
    assert rig.send(image_message(picture(1) // 2 + 60, rig.tick())).status == FrameStatus.ACCEPTED
    assert set_one(rig, "candidates.min_similarity", 1.0).successful
    status = rig.send(image_message(picture(1) // 2 + 70, rig.tick()))
    assert status.status == FrameStatus.LOW_SIMILARITY
    assert "is below candidates.min_similarity 1" in status.reason
    assert set_one(rig, "keyframes.min_interval_s", 100.0).successful
    assert rig.show(1)[0].status == FrameStatus.NOT_KEYFRAME
    assert set_one(rig, "keyframes.min_interval_s", 0.0).successful
    assert rig.show(1)[0].is_keyframe


def test_a_whole_number_is_as_good_as_a_double(rig):
    assert get(rig, "input.silence_s") == 5
    assert set_one(rig, "candidates.min_similarity", 1).successful
    assert get(rig, "candidates.min_similarity") == 1
    rig.show(2)
    assert "candidates.min_similarity 1" in rig.send(image_message(picture(2) // 2 + 65, rig.tick())).reason


@pytest.mark.parametrize("name", ["autostart", "image_transport", "map.resume", "model.threads"])
def test_a_setting_that_needs_a_restart_is_read_only_and_says_so(rig, name):
    value = {"autostart": False, "image_transport": "compressed", "map.resume": False, "model.threads": 2}[name]
    result = set_one(rig, name, value)
    assert not result.successful
    assert "read-only" in result.reason
    assert name in result.reason
    assert get(rig, name) == SETTINGS[name][0]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("candidates.min_similarity", 1.5, "1"),
        ("candidates.min_similarity", -2, "-1"),
        ("candidates.min_similarity", math.nan, "1"),
        ("candidates.min_similarity", math.inf, "1"),
        ("candidates.min_similarity", "high", "float"),
        ("candidates.min_similarity", True, "float"),
        ("candidates.top_places", 0, "1"),
        ("candidates.top_places", 101, "100"),
        ("candidates.top_places", 5.0, "integer"),
    ],
)
def test_an_unfit_value_is_refused_with_the_reason_and_changes_nothing(rig, name, value, allowed):
    before = get(rig, name)
    result = set_one(rig, name, value)
    assert not result.successful
    assert allowed in result.reason.lower()
    assert get(rig, name) == before


def test_of_several_set_at_once_either_all_change_or_none(rig):
    wanted = {"candidates.top_places": 7, "candidates.min_similarity": 5.0}
    request = SetParametersAtomically.Request(parameters=[parameter(*item) for item in wanted.items()])
    assert not rig.robot.call(SetParametersAtomically, "set_parameters_atomically", request).result.successful
    assert (get(rig, "candidates.top_places"), get(rig, "candidates.min_similarity")) == (5, 0.95)


def test_an_unknown_parameter_is_refused_and_the_node_goes_on(rig):
    result = set_one(rig, "candidates.min_simliarity", 0.5)
    assert not result.successful
    assert "undeclared" in result.reason
    assert rig.show(1)[0].is_keyframe
    assert "Traceback" not in rig.log
