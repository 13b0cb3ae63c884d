"""All sections in turn, each in a process of its own."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tscm_core.bench.channel import Apart, ProcessError
from tscm_core.bench.records import FAILED, SKIPPED, Section
from tscm_core.bench.request import Effort, Request, Say

_CORE, _ROS = "tscm_core.bench.child", "tscm_ros.bench"
_LONGER = 10
_ROS_NEEDS = ("rclpy", "tscm_msgs", "tscm_ros")


@dataclass(frozen=True, slots=True)
class Part:
    """A section: the module whose process makes it, its heading, and after how many silent seconds it is given up."""

    title: str
    module: str = _CORE
    patience_s: float = 120.0
    always: bool = True
    """Whether it runs without being named."""


PARTS = {
    "describe": Part("Describe one image", patience_s=300.0),
    "match": Part("Match one descriptor", patience_s=300.0),
    "map": Part("The map of 10,000 places"),
    "verify": Part("Verify"),
    "path": Part("The whole path in one process"),
    "dds": Part("The whole path over DDS, the node in a process of its own", _ROS),
    "startup": Part("Cold start to the first descriptor", patience_s=300.0),
    "saving": Part("Saving and loading 10,000 places while images flow", "tscm_ros.bench_saving", 300.0, always=False),
}
"""By name, in the order in which they run."""


def usual(effort: Effort) -> tuple[str, ...]:
    """The sections that run when none is named."""
    return tuple(name for name, part in PARTS.items() if part.always or effort.everything)


def run_all(names: Sequence[str], asked: bool, request: Request, say: Say) -> Iterator[Section]:
    """The sections of these names, in the order of :data:`PARTS`.

    Args:
        names: of sections.
        asked: whether the user named them; what cannot run is then an error.
        request: what is wanted of each.
        say: takes progress.
    """
    for name in (name for name in PARTS if name in names):
        yield run_one(name, asked, request, say)


def run_one(name: str, asked: bool, request: Request, say: Say, has: Callable[[str], bool] | None = None) -> Section:
    """One section; see :func:`run_all`. ``has`` tells whether a Python package is installed."""
    part, has = PARTS[name], has or _is_installed
    missing = next((package for package in _ROS_NEEDS if not has(package)), "")
    if part.module.startswith(_ROS) and missing:
        return Section(name, part.title, state=FAILED if asked else SKIPPED, reason=f"{missing} is not installed")
    module = _ROS if name == "startup" and not missing else part.module
    say(f"{name}: begins")
    begun = time.monotonic()
    patience_s = part.patience_s * (_LONGER if request.effort.everything else 1)
    try:
        with Apart(module, name) as process:
            process.send(request.to_json())
            while "section" not in (message := process.receive(patience_s)):
                say(f"{name}: {message['say']}")
    except ProcessError as error:
        return Section(name, part.title, state=FAILED, reason=str(error), seconds=time.monotonic() - begun)
    say(f"{name}: {time.monotonic() - begun:.0f} s")
    return Section.from_json(message["section"] | {"title": part.title})


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
