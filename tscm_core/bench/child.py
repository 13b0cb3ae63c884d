"""A section in a process of its own, so that neither its memory nor its end touches the others."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module

from tscm_core.bench.channel import Channel
from tscm_core.bench.records import FAILED, Section
from tscm_core.bench.request import Request, Say
from tscm_core.errors import TscmError

Run = Callable[[Request, Say], Section]
MODULES = {
    "describe": "tscm_core.bench.describe",
    "match": "tscm_core.bench.match",
    "map": "tscm_core.bench.mapping",
    "verify": "tscm_core.bench.verify",
    "path": "tscm_core.bench.path",
    "startup": "tscm_core.bench.startup",
}
"""Where the ``run`` of each section stands; each is imported only in its own process."""


def serve(name: str, run: Run) -> int:
    """Answer one request with one section."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what it made and started goes with it
    channel = Channel()
    shown = channel.receive()
    if shown is None:
        return 1
    section = conclude(name, run, Request.from_json(shown), lambda text: channel.send({"say": text}))
    channel.send({"section": section.to_json()})
    return 0


def conclude(name: str, run: Run, request: Request, say: Say) -> Section:
    """What ``run`` finds, and how long it took; if it fails, why."""
    start = time.monotonic()
    try:
        section = run(request, say)
    except TscmError as error:
        section = Section(name, name, state=FAILED, reason=str(error))
    except ImportError as error:
        section = Section(name, name, state=FAILED, reason=f"Python package {error.name} is not installed")
    except Exception as error:  # noqa: BLE001 - the other sections go on, and this one says why it does not
        section = Section(name, name, state=FAILED, reason=f"internal error, please report: {error!r}")
    return dataclasses.replace(section, name=name, seconds=time.monotonic() - start)


def main(modules: Mapping[str, str] = MODULES) -> int:
    """Run the section that the first argument names."""
    name = sys.argv[1]
    return serve(name, import_module(modules[name]).run)


if __name__ == "__main__":
    sys.exit(main())
