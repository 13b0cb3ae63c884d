"""What ``tscm bench --only saving`` makes of times and answers, and, slowly, the section itself."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from types import SimpleNamespace

import pytest
import ros_helpers  # noqa: F401 - skips where the node cannot run

from tscm_core.bench import scenes
from tscm_core.bench.request import Effort, Request
from tscm_core.config import Config
from tscm_ros import bench_saving
from tscm_ros.bench_saving import LOADED, SAVED, Call, Sent
from tscm_ros.playback import NodeError

CALLS = [Call(SAVED, 10.0, 11.0), Call(SAVED, 20.0, 23.0)]


@pytest.mark.parametrize(
    ("sent_s", "answered_s", "during"),
    [
        (9.0, 9.9, False),
        (9.99, 10.01, True),
        (10.2, 10.3, True),
        (10.9, 11.5, True),
        (11.01, 11.05, False),
        (9.0, 30.0, True),
    ],
)
def test_an_image_is_during_a_call_if_it_was_on_its_way_at_any_time_of_it(sent_s, answered_s, during):
    assert CALLS[0].touches(sent_s, answered_s) is during


def image(sent_s, status_ms=None, candidates_ms=None):
    after = [None if ms is None else sent_s + ms / 1e3 for ms in (status_ms, candidates_ms)]
    return Sent(sent_s, *after)


def test_images_during_calls_are_told_from_the_others_and_the_unanswered_ones_are_counted():
    images = [
        image(9.0, 20, 21),
        image(9.99, 40, 41),
        image(10.5, 60, 61),
        image(10.6),
        image(12.0, 30),
        image(15.0, 22, 23),
        image(22.9, 200, 201),
    ]
    call, during, between = bench_saving._rows(SAVED, images, CALLS)
    assert (call.figure("call").value, call.figure("call").met) == (2.0, True)
    assert call.figure("longest").value == 3.0
    assert (during.figure("images").value, during.figure("unanswered").value) == (4, 1)
    assert during.figure("unanswered").met is False
    assert during.figure("to candidate").value == pytest.approx(61)
    assert (during.figure("to candidate").samples, during.figure("to candidate").met) == (3, False)
    assert (between.figure("images").value, between.figure("unanswered").met) == (3, True)
    assert (during.what, between.what) == ("images during a save", "images between saves")
    assert between.figure("to candidate").value == pytest.approx(22)
    assert (between.figure("to candidate").samples, between.figure("to candidate").met) == (2, True)


def test_without_an_answer_there_is_no_time():
    during = bench_saving._rows(LOADED, [image(10.5), image(10.6)], [Call(LOADED, 10.0, 14.0)])[1]
    assert [figure.name for figure in during.figures] == ["images", "unanswered"]


def test_what_neither_was_dropped_nor_answered_is_lost():
    row = bench_saving._all(100, 90, 7)
    assert [row.figure(name).value for name in ("images", "dropped", "lost")] == [100, 7, 3]
    assert [row.figure(name).met for name in ("images", "dropped", "lost")] == [None, False, False]


def test_images_flow_in_order_until_all_calls_are_done():
    published, frames = [], scenes.drive(10, laps=1)
    camera = SimpleNamespace(frames=frames, publish=lambda stamp_ns, prepared: published.append((stamp_ns, prepared)))
    answers = iter([False, False, False, True])
    stamps = bench_saving._flow(camera, 0.0, lambda: next(answers))
    assert stamps == [scenes.FIRST_NS + number * scenes.STEP_NS for number in range(3)]
    assert [stamp_ns for stamp_ns, _ in published] == stamps
    seconds = [prepared[2].header.stamp.sec * 10**9 + prepared[2].header.stamp.nanosec for _, prepared in published]
    assert seconds == stamps


def test_only_copies_that_a_load_kept_are_removed(tmp_path):
    names = ("map.tscm", "map.tscm.live", "made_up.tscm", "map.tscm.previous-20260101T000000Z")
    for name in names:
        (tmp_path / name).touch()
    bench_saving._forget(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[:3])


class Node:
    """Offers a service that answers at once, or is not there."""

    def __init__(self, success, there=True):
        self.future, self.there, self.destroyed = Future(), there, 0
        self.future.set_result(SimpleNamespace(success=success, message="the disk is full"))

    def create_client(self, kind, name):
        return SimpleNamespace(wait_for_service=lambda timeout: self.there, call_async=lambda request: self.future)

    def destroy_client(self, client):
        self.destroyed += 1


@pytest.mark.parametrize(
    ("node", "error"),
    [(Node(False), "save_map failed: the disk is full"), (Node(True, there=False), "service /tscm/save_map is not")],
)
def test_a_call_that_fails_ends_the_section_with_what_the_node_said(node, error):
    with pytest.raises(NodeError, match=error):
        bench_saving._called(SimpleNamespace(node=node), SAVED)
    assert node.destroyed == 1


def test_a_call_knows_its_begin_and_end():
    node, before = Node(True), time.monotonic()
    call = bench_saving._called(SimpleNamespace(node=node), SAVED)
    assert call.what == SAVED
    assert before <= call.begin_s <= call.end_s <= time.monotonic()
    assert call.seconds == call.end_s - call.begin_s
    assert node.destroyed == 1


@pytest.mark.slow
def test_saves_and_loads_are_measured_while_images_flow(monkeypatch):
    monkeypatch.setattr(bench_saving, "_RATE_HZ", 4)
    request = Request(Config().replace({"recency.seconds": 0.0}), replace(Effort(), map_places=60, saves=1))
    section = bench_saving.saving(request, lambda text: None)
    called = [row.tags["what"] for row in section.rows if row.tags.get("of") == "call"]
    assert called == ["save_map", "relocalize", "load_map"]
    everything = section.rows[-2]
    assert everything.figure("images").value >= 4 * 5
    assert everything.figure("lost").value == 0
    candidates = [row.figure("to candidate") for row in section.rows if row.tags.get("of") == "between"]
    assert all(figure is not None and figure.value > 0 for figure in candidates)
