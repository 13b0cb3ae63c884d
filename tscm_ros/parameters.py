"""ROS parameters, made from the core's settings by iteration: no default stands here."""

from __future__ import annotations

from collections.abc import Callable, Collection

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from tscm_core.config import Config, Limits, Value
from tscm_core.errors import ConfigError

_ROS_OWN = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare_parameters(node: Node) -> Config:
    """Declare every setting on ``node`` and return the settings with the values that the user gave.

    Raises:
        ConfigError: a value is out of range or of the wrong type.
    """
    changes: dict[str, object] = {}
    for name, default, limits in Config().settings():
        try:
            changes[name] = node.declare_parameter(name, default, _descriptor(default, limits)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f"parameter {name}: {error}") from error
    for name in sorted(_foreign(node, changes)):
        node.get_logger().warning(f"parameter {name} is no setting of this node and changes nothing")
    return Config().replace(changes)


def _foreign(node: Node, known: Collection[str]) -> set[str]:
    given = getattr(node, "_parameter_overrides", {})  # rclpy offers no other way to see what nobody declared
    return {name for name in given if name not in known and not name.startswith(_ROS_OWN)}


def _descriptor(default: Value, limits: Limits) -> ParameterDescriptor:
    described = ParameterDescriptor(description=_description(limits), read_only=not limits.live)
    if limits.choices:
        described.additional_constraints = f"one of {', '.join(limits.choices)}"
    if isinstance(default, float):
        described.dynamic_typing = True  # so that 5 is as good as 5.0; the range is held by ParameterWatch
        described.floating_point_range = [FloatingPointRange(from_value=limits.minimum, to_value=limits.maximum)]
    elif limits.minimum is not None and limits.maximum is not None:
        described.integer_range = [IntegerRange(from_value=int(limits.minimum), to_value=int(limits.maximum), step=1)]
    return described


def _description(limits: Limits) -> str:
    return limits.description if limits.live else f"{limits.description} Read only: to change it, start the node anew."


class ParameterWatch:
    """Refuses unfit parameters with the reason, and hands the settings on when fit ones are set."""

    def __init__(self, node: Node, config: Config, changed: Callable[[Config], None]) -> None:
        self.config = config
        self._changed = changed
        self._known = {name for name, _, _ in config.settings()}
        node.add_on_set_parameters_callback(self._set)

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {item.name: item.value for item in parameters if item.name in self._known}
        try:
            self.config = self.config.replace(changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if changes:
            self._changed(self.config)
        return SetParametersResult(successful=True)
