"""What is done to the node beside sending images, each every so many frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from soak_robot import SoakRobot
from soak_series import Record
from std_srvs.srv import Trigger

from tscm_core.config import Config
from tscm_msgs.srv import LoadMap, Relocalize, SaveMap

_TURNS: tuple[Mapping[str, Any], ...] = (
    {"mode": "localization"},
    {"mode": "mapping", "candidates.sessions": "between"},
    {"candidates.sessions": "within", "geometry.min_inliers": 40},
    {"candidates.sessions": "all", "candidates.min_similarity": 0.97},
    {"keyframes.min_distance_m": 0.1, "keyframes.min_interval_s": 0.0},
    {"geometry.places": 1, "temporal.min_support": 2},
    {"geometry.features": 300, "recency.seconds": 30.0},
)
"""Each is set on top of the one before; then everything is set back. With the fourth nothing is recognised, so that
every keyframe is new to the map and a bounded one must give others up; with the fifth they come four times as often."""
_REFUSED = {"candidates.min_similarity": 7.0}
_CYCLE = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)


@dataclass(frozen=True, slots=True)
class Every:
    """After how many frames each is done; 0: never."""

    save: int = 900
    relocalize: int = 150
    parameters: int = 300
    look: int = 450
    load: int = 3000
    cycle: int = 6000

    def within(self, frames: int) -> Every:
        """At most a twelfth of a run, so that each quarter has three of each, and the first one all kinds."""
        return Every(*(min(getattr(self, item.name), frames // 12) for item in fields(self)))


class Chores:
    """Asks and goes on sending images; only new sessions and lifecycle cycles wait for their answers."""

    def __init__(self, robot: SoakRobot, record: Record, map_path: Path, picture: Image, every: Every) -> None:
        self._robot, self._record, self._map_path, self._picture = robot, record, map_path, picture
        self._plan: tuple[tuple[str, int, int, Callable[[], None]], ...] = (
            ("save", every.save, 0, self._save),
            ("relocalize", every.relocalize, 3, self._relocalize),
            ("parameters", every.parameters, 5, self._set_parameters),
            ("look", every.look, 7, self._look),
            ("load", every.load, every.load // 2, self._load),
            ("cycle", every.cycle, every.cycle // 2, self._cycle),
        )
        """Name, period, and the frame of the period, so that not all come at once."""
        self._turns, self._looks, self._asks_newest = _endless_turns(), False, False

    def after(self, number: int) -> None:
        """Do what is due after this image."""
        self._robot.collect()
        for name, every, at, chore in self._plan:
            if every and number % every == at % every and number > at:
                if name in ("load", "cycle"):
                    self._record.marks.setdefault(name, []).append(number)
                chore()

    def new_session(self) -> None:
        """Begin another drive and wait for it: the next image is of another place."""
        self._robot.wait_for_status(20.0)
        self._robot.ask(Trigger, "new_session", Trigger.Request(), _failure)
        self._robot.collect(60.0)

    def _save(self) -> None:
        self._robot.ask(SaveMap, "save_map", SaveMap.Request(), _failure)

    def _load(self) -> None:
        """What the map held beyond the saved one is kept by the node each time: a soak must not fill the disk."""
        if not self._map_path.exists():
            return
        for kept in self._map_path.parent.glob(f"{self._map_path.name}.previous-*"):
            kept.unlink()
        self._robot.ask(LoadMap, "load_map", LoadMap.Request(), _failure)

    def _relocalize(self) -> None:
        self._asks_newest = not self._asks_newest
        request = Relocalize.Request() if self._asks_newest else Relocalize.Request(image=self._picture)
        self._robot.ask(Relocalize, "relocalize", request, _failure)

    def _set_parameters(self) -> None:
        changes, taken = next(self._turns)
        request = SetParameters.Request(parameters=[_parameter(*item) for item in changes.items()])

        def problem(answer: Any) -> str:
            wrong = [result.reason or "taken" for result in answer.results if result.successful != taken]
            return f"{changes}: {wrong[0]}" if wrong else ""

        self._robot.ask(SetParameters, "set_parameters", request, problem)

    def _look(self) -> None:
        self._looks = not self._looks
        self._robot.look(self._looks)

    def _cycle(self) -> None:
        self._robot.collect(60.0)
        self._robot.settle()
        for transition in _CYCLE:
            self._change(transition)
        self._robot.wait_until_gone()
        self._change(Transition.TRANSITION_CONFIGURE)
        self._robot.wait_for_node()
        self._change(Transition.TRANSITION_ACTIVATE)
        self._asks_newest = True  # so that the next time an image is sent: the node may have none yet

    def _change(self, transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        self._robot.ask(ChangeState, "change_state", request, _failure)
        self._robot.collect(60.0)
        time.sleep(0.1)


def _failure(answer: Any) -> str:
    """What is wrong with an answer that has ``success``, and mostly a message."""
    return "" if answer.success else str(getattr(answer, "message", "")) or "it answered that it did not succeed"


def _endless_turns() -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Changes of parameters, and whether the node must take them."""
    usual = {name: value for name, value, _ in Config().settings()}
    back = {name: usual[name] for turn in _TURNS for name in turn}
    while True:
        for turn in _TURNS:
            yield turn, True
        yield back, True
        yield _REFUSED, False


def _parameter(name: str, value: Any) -> Parameter:
    given = {
        bool: {"type": ParameterType.PARAMETER_BOOL, "bool_value": value},
        int: {"type": ParameterType.PARAMETER_INTEGER, "integer_value": value},
        float: {"type": ParameterType.PARAMETER_DOUBLE, "double_value": value},
        str: {"type": ParameterType.PARAMETER_STRING, "string_value": value},
    }[type(value)]
    return Parameter(name=name, value=ParameterValue(**given))
