"""A process that maps and saves is killed at random instants, goes on, is killed again, and so on.

What it tells through a pipe before it dies is what the map must hold afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from durable import CONFIG, LARGE, TINY, ToyDescriber, content, frame

from tscm_core.maps.live_map import LiveMap, open_live_map

KILLS_OF_ONE_MAP = 25
"""Then a new map begins, so that reading all of it after each kill stays quick."""
_SAVE_EVERY_S = 0.05
_REAL = CONFIG.replace({"geometry.enabled": True})


@dataclass
class KillTally:
    """What came of the kills."""

    kills: int = 0
    while_saving: int = 0
    keyframes: int = 0
    lost: int = 0
    saves: int = 0
    unfinished_saves: int = 0
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Said:
    """What the process said: stamps of keyframes by id, keyframes at its saves, and its size at the save under way."""

    opened: int | None
    keyframes: dict[int, int]
    saved: int | None
    saving: int | None
    saves: int


def kill_often(folder: Path, kills: int, seed: int = 0, *, tiny: bool = False) -> KillTally:
    """Kill a mapping process ``kills`` times at random instants; the maps lie in ``folder``."""
    chance, tally = random.Random(seed), KillTally()
    describer = TINY if tiny else LARGE
    while tally.kills < kills:
        number, within = divmod(tally.kills, KILLS_OF_ONE_MAP)
        place = folder / f"map{number}"
        if not within:
            if number:
                shutil.rmtree(folder / f"map{number - 1}")
            place.mkdir()
            known, saved = {}, 0
        said = _run_and_kill(place, within, describer, chance.uniform(0.0, 0.6 if tiny else 1.2))
        tally.kills += 1
        known, saved = _judge(place, said, known, saved, tally)
    return tally


def _run_and_kill(folder: Path, run: int, describer: ToyDescriber, seconds: float) -> Said:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _map_until_killed(folder, run, describer, lambda text: os.write(writing, f"{text}\n".encode()))
    os.close(writing)
    lines: list[str] = []
    listener = threading.Thread(target=lambda: lines.extend(os.fdopen(reading, encoding="ascii").read().split("\n")))
    listener.start()
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    listener.join()
    return _understood(lines)


def _map_until_killed(folder: Path, run: int, describer: ToyDescriber, say: Callable[[str], object]) -> None:
    """Map as fast as possible and save again and again; said is only what is done."""
    try:
        config = CONFIG if describer is TINY else _REAL
        live = open_live_map(folder / "map.tscm", True, describer, config, f"run {run}")
        say(f"opened {live.size}")
        threading.Thread(target=_save_until_killed, args=(live, say), daemon=True).start()
        for number in range(10**9):
            keyframe = live.observe(frame(number, describer)).keyframe
            if keyframe is None:
                say(f"refused {live.fault or 'it is no keyframe'}")
            else:
                say(f"keyframe {keyframe.id} {keyframe.stamp_ns}")
    except BaseException as error:  # noqa: BLE001 - the parent must see it
        say(f"refused {error!r}")
    os._exit(1)


def _save_until_killed(live: LiveMap, say: Callable[[str], object]) -> None:
    try:
        while True:
            say(f"saving {live.size}")
            say(f"saved {live.save().keyframes}")
            time.sleep(_SAVE_EVERY_S)
    except BaseException as error:  # noqa: BLE001
        say(f"refused {error!r}")
    os._exit(1)


def _understood(lines: list[str]) -> Said:
    opened = saved = saving = None
    keyframes: dict[int, int] = {}
    saves = 0
    for line in lines:
        what, _, rest = line.partition(" ")
        if what == "opened":
            opened = int(rest)
        elif what == "keyframe":
            keyframes[int(rest.split()[0])] = int(rest.split()[1])
        elif what == "saving":
            saving = int(rest)
        elif what == "saved":
            saved, saving, saves = int(rest), None, saves + 1
        elif what:
            raise AssertionError(f"the process that maps {line}")
    return Said(opened, keyframes, saved, saving, saves)


def _judge(folder: Path, said: Said, known: dict[int, int], saved: int, tally: KillTally) -> tuple[dict[int, int], int]:
    """Compare the files with what was said; gives what is known now: stamps by id, and keyframes of the saved map."""
    expected = {**known, **said.keyframes}
    tally.keyframes += len(said.keyframes)
    tally.saves += said.saves
    tally.while_saving += said.saving is not None
    live = stamps(folder / "map.tscm.live", tally) if expected or (folder / "map.tscm.live").exists() else {}
    if said.opened is not None and said.opened != len(known):
        tally.findings.append(f"kill {tally.kills}: opened with {said.opened} of {len(known)} keyframes")
    lost = [number for number, stamp in expected.items() if live.get(number) != stamp]
    tally.lost += len(lost)
    if lost or sorted(live) != list(range(1, len(live) + 1)):
        tally.findings.append(f"kill {tally.kills}: keyframes {lost[:10]} are lost or changed")
    target = folder / "map.tscm"
    saved = said.saved if said.saved is not None else saved
    copied = stamps(target, tally) if target.exists() else {}
    is_new = said.saving is not None and len(copied) >= said.saving
    tally.unfinished_saves += len(copied) != saved
    if (len(copied) != saved and not is_new) or not copied.items() <= live.items():
        tally.findings.append(f"kill {tally.kills}: the saved map has {len(copied)} keyframes instead of {saved}")
    return live, len(copied)


def stamps(path: Path, tally: KillTally, model_id: str | None = "toy") -> dict[int, int]:
    """The stamps of all keyframes of a map by id, read with everything verified; a refusal is told to the tally."""
    try:
        return {number: row[3] for (kind, number, _), row in content(path, model_id).items() if kind == "keyframe"}
    except Exception as error:  # noqa: BLE001
        tally.findings.append(f"kill {tally.kills}: {path.name} is refused: {error}")
        return {}
