"""Work that takes long and must not be felt: what copies a large map gives way to what looks at images.

Copying needs no interpreter lock, but a processor; on two of them it takes the one on which the next image would have
been looked at, or its message received. Nothing else in the process waits for what a copy holds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_NICER, _NICEST = 10, 19
"""A tenth of the share of the others where all want the processor; 19, a seventieth, would make saving take for ever
beside a SLAM that never rests."""


def gently(work: Callable[[], Result]) -> Result:
    """Do ``work`` in a thread of less priority and wait for it; gives what it gives, raises what it raises.

    In a thread of its own, since only root may raise a priority again.
    """
    return gently_until_told(lambda tell: work())


def gently_until_told(work: Callable[[Callable[[Result], None]], Result]) -> Result:
    """The same for work that tells its result before it has tidied up: what comes after that is not waited for."""
    done: Future[Result] = Future()

    def run() -> None:
        _give_way()
        try:
            result = work(done.set_result)
            if not done.done():
                done.set_result(result)
        except BaseException as error:
            if done.done():
                raise  # it was told that all went well: nobody waits any more, so that Python says it
            done.set_exception(error)

    threading.Thread(target=run, name="tscm-gently", daemon=True).start()
    return done.result()


def _give_way() -> None:
    """Lower the priority of this thread; on systems where that would be the whole process's, let it be."""
    with suppress(OSError, AttributeError):
        thread = threading.get_native_id()
        if Path(f"/proc/self/task/{thread}").exists():
            nice = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(_NICEST, nice + _NICER))
