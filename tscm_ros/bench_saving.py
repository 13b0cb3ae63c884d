"""What saving, loading and relocalising do to the images that flow meanwhile: the real node, over DDS, on a large map.

The drive goes to and fro before one wall and closes loops all the time; the thousands of made-up places of the map are
rivals in every search, and what a save has to copy.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscm_core.bench import scenes
from tscm_core.bench.budgets import BUDGET_PLACES, DROPS, LOAD, SAVE, TOPIC
from tscm_core.bench.child import serve
from tscm_core.bench.mapping import file_system, made_up_map
from tscm_core.bench.measure import Samples
from tscm_core.bench.records import Figure, Row, Section, sampled
from tscm_core.bench.request import Request, Say
from tscm_msgs.srv import LoadMap, Relocalize, SaveMap
from tscm_ros.bench import Camera, backend_of, dropped_by, messages, running_node, settle, wait_until_it_listens
from tscm_ros.playback import NodeError, NodeProcess, Robot, wait_until

SAVED, LOADED, RELOCALIZED = "save_map", "load_map", "relocalize"
_KINDS = {SAVED: SaveMap, LOADED: LoadMap, RELOCALIZED: Relocalize}
_RATE_HZ, _LAPS, _WARM_UP_LAPS = 15, 2, 3
_QUIET_S = {SAVED: 2.0, LOADED: 3.0, RELOCALIZED: 0.4}
"""Between two calls; after a load the drive begins anew and closes loops as soon as it knows where it is."""
_PATIENCE_S, _AFTER_S = 60.0, 1.0
_WORDS = {SAVED: "save", LOADED: "load", RELOCALIZED: "relocalisation"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service: which, and its begin and end as the client saw them, in seconds of the monotonic clock."""

    what: str
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.begin_s

    def touches(self, sent_s: float, answered_s: float) -> bool:
        """Whether an image that was sent and answered at these times was on its way during the call."""
        return sent_s <= self.end_s and answered_s >= self.begin_s


@dataclass(frozen=True, slots=True)
class Sent:
    """One image: when it was sent, and when its status and its candidates came, if they did."""

    sent_s: float
    status_s: float | None
    candidates_s: float | None


def saving(request: Request, say: Say) -> Section:
    """One node on a map of :data:`BUDGET_PLACES` places, images at 15 Hz, and calls of its services meanwhile."""
    count, saves = request.effort.map_places, request.effort.saves
    with running_node(request, "") as (process, robot):
        wait_until_it_listens(process, robot)
        camera = Camera(robot, sys.maxsize, _LAPS)
        folder = Path(process.log).parent
        say(f"a map of {count:,} places")
        _give_map(camera, request, folder)
        alone = _called(robot, LOADED, LoadMap.Request(path=str(folder / "made_up.tscm")))
        _forget(folder)
        say("images begin")
        camera.send(_WARM_UP_LAPS * scenes.LAP, 1.0 / _RATE_HZ)
        settle(process, camera)
        before = dropped_by(robot)
        rows, stamps = [], list[int]()
        for what, times in ((SAVED, saves), (RELOCALIZED, 2 * saves), (LOADED, -(-saves // 2))):
            say(f"{what} {times} times")
            sent, calls = _while_images_flow(process, camera, what, times, folder)
            stamps += sent
            rows += _rows(what, _fates(camera, sent), calls)
        rows.append(_all(len(stamps), sum(stamp in camera.status_at for stamp in stamps), dropped_by(robot) - before))
        rows.append(Row("load_map, no images", (Figure("call", "s", alone.seconds),), {"what": "load alone"}))
        return Section("saving", "Saving and loading while images flow", tuple(rows), _notes(process, count, folder))


def _give_map(camera: Camera, request: Request, folder: Path) -> None:
    """Make the map with the model of the node, which its first keyframe tells."""

    def remembered() -> bool:
        camera.send(1, 0.0)
        return bool(camera.robot.keyframes)

    wait_until(remembered, _PATIENCE_S, "the first keyframe")
    first = camera.robot.keyframes[0]
    made_up_map(folder / "made_up.tscm", request.effort.map_places, first.model_id, first.dim, request.config)


def _called(robot: Robot, what: str, asked: Any = None) -> Call:
    """Call a service of the node and wait for its answer.

    Raises:
        NodeError: it did not answer, or that it failed.
    """
    client, ended = robot.node.create_client(_KINDS[what], f"/tscm/{what}"), threading.Event()
    times = []

    def end(_: object) -> None:
        times.append(time.monotonic())
        ended.set()

    try:
        if not client.wait_for_service(_PATIENCE_S):
            raise NodeError(f"service /tscm/{what} is not there")
        time.sleep(0.1)
        times.append(time.monotonic())
        future = client.call_async(asked or _KINDS[what].Request())
        future.add_done_callback(end)
        if not ended.wait(_PATIENCE_S):
            raise NodeError(f"{what} did not answer within {_PATIENCE_S:.0f} s")
        answer: Any = future.result()
        if not answer.success:
            raise NodeError(f"{what} failed: {answer.message}")
        return Call(what, times[0], times[1])
    finally:
        robot.node.destroy_client(client)


def _while_images_flow(
    process: NodeProcess, camera: Camera, what: str, times: int, folder: Path
) -> tuple[list[int], list[Call]]:
    """Call a service so many times while images are sent; gives the stamps of those, and the calls."""

    def call() -> list[Call]:
        calls = []
        for _ in range(times):
            time.sleep(_QUIET_S[what])
            calls.append(_called(camera.robot, what))
        time.sleep(_AFTER_S)
        return calls

    with ThreadPoolExecutor(1) as caller:
        calling = caller.submit(call)
        stamps = _flow(camera, 1.0 / _RATE_HZ, calling.done)
        calls = calling.result()
    settle(process, camera)
    _forget(folder)  # not before: it keeps the disk busy
    return stamps, calls


def _flow(camera: Camera, period_s: float, ended: Callable[[], bool]) -> list[int]:
    """Send images until ``ended`` says so; gives their stamps. Each is made ready before its time."""
    stamps, due = list[int](), time.monotonic()
    while not ended():
        frame = next(camera.frames)
        prepared = messages(frame)
        due += period_s
        time.sleep(max(0.0, due - time.monotonic()))
        camera.publish(frame.stamp_ns, prepared)
        stamps.append(frame.stamp_ns)
    return stamps


def _forget(folder: Path) -> None:
    """Remove the copies of the running map that a load keeps, or the disk fills up."""
    for path in folder.glob("map.tscm.previous-*"):
        with suppress(FileNotFoundError):
            path.unlink()


def _fates(camera: Camera, stamps: Sequence[int]) -> list[Sent]:
    sent, status, candidates = camera.robot.sent_at, camera.status_at, camera.candidates_at
    return [Sent(sent[stamp], status.get(stamp), candidates.get(stamp)) for stamp in stamps]


def _rows(what: str, images: Sequence[Sent], calls: Sequence[Call]) -> list[Row]:
    """The call itself, images that were on their way during one, and the others of the same minute."""
    during = [image for image in images if any(call.touches(image.sent_s, _last_s(image)) for call in calls)]
    others = [image for image in images if image not in during]
    budget = {SAVED: SAVE, LOADED: LOAD}.get(what)
    seconds = Samples(tuple(call.seconds for call in calls))
    figure = Figure("call", "s", seconds.p50, samples=seconds.count, budget=budget)
    longest = Figure("longest", "s", max(seconds.values))
    return [
        Row(what, (figure, longest), {"what": what, "of": "call"}),
        _image_row(what, "during", during),
        _image_row(what, "between", others),
    ]


def _image_row(what: str, when: str, images: Sequence[Sent]) -> Row:
    figures = [
        Figure("images", "", len(images)),
        Figure("unanswered", "", sum(image.status_s is None for image in images), budget=DROPS),
    ]
    taken = tuple((image.candidates_s - image.sent_s) * 1e3 for image in images if image.candidates_s is not None)
    if taken:
        figures.append(sampled(Samples(taken), "to candidate", budget=TOPIC))
    words = f"during a {_WORDS[what]}" if when == "during" else f"between {_WORDS[what]}s"
    return Row(f"images {words}", tuple(figures), {"what": what, "of": when})


def _last_s(image: Sent) -> float:
    """When the last answer to an image came; when it was sent if there was none."""
    return max(image.sent_s, image.status_s or 0.0, image.candidates_s or 0.0)


def _all(sent: int, answered: int, dropped: int) -> Row:
    counts = (("images", sent, None), ("dropped", dropped, DROPS), ("lost", sent - answered - dropped, DROPS))
    return Row(
        "all images", tuple(Figure(name, "", n, budget=budget) for name, n, budget in counts), {"what": "images"}
    )


def _notes(process: NodeProcess, count: int, folder: Path) -> tuple[str, ...]:
    return (
        f"{count:,} made-up places with thumbnails and features, and the drive; the budgets are for {BUDGET_PLACES:,}; "
        f"{_RATE_HZ} Hz, {scenes.WIDTH} x {scenes.HEIGHT}, every image a keyframe; node: {backend_of(process)}",
        "an image counts as during a call if it was on its way at any time of it; times of calls are the client's",
        "what the running map holds and the loaded one does not is saved aside first, so that a load while images are "
        "remembered is a save and a load; the first one found an all but empty map and no images",
        f"in {folder} ({file_system(folder)}); set TMPDIR to measure another disk",
    )


def main() -> int:
    """Run the section."""
    return serve("saving", saving)


if __name__ == "__main__":
    sys.exit(main())
