"""The real node, mapping images that come over DDS, is killed at random instants while it saves."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kills import KillTally, stamps

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))

from ros_helpers import IMAGE_TOPIC, LOOKS_ALONE, image_message, picture, running_node, stamp_of

from tscm_core.errors import TscmError
from tscm_msgs.srv import SaveMap

_RATE_HZ = 15.0
_PATIENCE_S = 3.0
_PARAMETERS = {**LOOKS_ALONE, "map.resume": True}


def kill_node_often(folder: Path, kills: int, seed: int = 0) -> KillTally:
    """Start the node, show it images, save, and kill it after up to four seconds; ``kills`` times on one map."""
    chance, tally, clock_ns = random.Random(seed), KillTally(), 0
    known: dict[int, int] = {}
    for _ in range(kills):
        with running_node(folder, _PARAMETERS) as rig:
            rig.clock_ns = max(rig.clock_ns, clock_ns)
            saver = threading.Thread(target=_save_until_killed, args=(rig, tally))
            saver.start()
            _show_until(rig, time.monotonic() + chance.uniform(0.3, 4.0))
            rig.process.stop(signal.SIGKILL)
            saver.join()
            said = {message.keyframe_id: stamp_of(message) for message in rig.robot.statuses if message.keyframe_id}
            clock_ns = rig.clock_ns
        tally.kills += 1
        tally.keyframes += len(said)
        known = _judge(folder, {**known, **said}, tally)
    return tally


def _show_until(rig: Any, end: float) -> None:
    number = 0
    while time.monotonic() < end:
        number += 1
        rig.robot.publish(IMAGE_TOPIC, image_message(picture(number % 40), rig.tick(1.0)))
        time.sleep(1 / _RATE_HZ)


def _save_until_killed(rig: Any, tally: KillTally) -> None:
    try:
        while rig.robot.call(SaveMap, "save_map", SaveMap.Request(), _PATIENCE_S).success:
            tally.saves += 1
            time.sleep(0.2)
    except TscmError:  # the node is gone, as is meant
        tally.while_saving += 1


def _judge(folder: Path, expected: dict[int, int], tally: KillTally) -> dict[int, int]:
    live = stamps(folder / "map.tscm.live", tally, None) if expected else {}
    lost = [number for number, stamp in expected.items() if live.get(number) != stamp]
    tally.lost += len(lost)
    if lost:
        tally.findings.append(f"kill {tally.kills}: keyframes {lost[:10]} are lost or changed")
    saved = folder / "map.tscm"
    if saved.exists() and not stamps(saved, tally, None).items() <= live.items():
        tally.findings.append(f"kill {tally.kills}: the saved map is no earlier state of the live one")
    return live
