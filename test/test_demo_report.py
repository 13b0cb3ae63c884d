"""What the demo makes of the messages: nothing that went wrong may pass."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tscm_ros.demo_report import Session, figures, judge, verdict

GOOD = {"name": "first drive", "images_sent": 9, "images_received": 9, "correct": 3, "wrong": 0}


def message(key, x, **more):
    place, turn = SimpleNamespace(x=x, y=0.0, z=0.0), SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
    pose = SimpleNamespace(
        pose=SimpleNamespace(position=place, orientation=turn), header=SimpleNamespace(frame_id="odom")
    )
    return SimpleNamespace(id=key, pose=pose, **more)


def status(key, searched, dropped=0):
    return SimpleNamespace(
        keyframe_id=key, status=0, searched=searched, is_keyframe=True, images_dropped=dropped, images_refused=0,
        stage_times=[SimpleNamespace(stage="describe", milliseconds=20.0 + key)], latency_ms=30.0, model_id="toy",
    )  # fmt: skip


def loop(key, *matches):
    candidates = [SimpleNamespace(keyframe_id=match, status=kind) for match, kind in matches]
    return SimpleNamespace(keyframe_id=key, candidates=candidates)


def drives():
    """Four keyframes at 0, 10, 20 and 30 m; then three on another day at 0, 10 and 90 m."""
    first = Session(
        "first drive", 4, tuple(status(key, 0) for key in (1, 2, 3, 4)),
        tuple(message(key, 10.0 * (key - 1)) for key in (1, 2, 3, 4)), (), (),
    )  # fmt: skip
    second = Session(
        "second drive", 4, tuple(status(key, 4, dropped=1) for key in (5, 6, 7)),
        (message(5, 0.5), message(6, 10.0), message(7, 90.0)),
        (loop(5, (1, 0), (3, 3)), loop(6, (4, 0)), loop(7, (2, 3))), (25.0, 35.0),
    )  # fmt: skip
    return first, second


def test_loops_are_judged_against_the_keyframes_of_both_drives():
    found = judge(drives(), 1)
    assert (found.revisits, found.accepted, found.correct, found.wrong) == (2, 2, 1, 1)
    assert found.correct_pairs == ((4, 0),)
    assert found.wrong_pairs == ((5, 3),)
    assert judge(drives(), 0).revisits == 0


def test_figures_count_what_arrived_and_what_it_cost():
    sessions = drives()
    result = figures(sessions, [judge(sessions, 0), judge(sessions, 1)])
    assert [item["images_received"] for item in result["sessions"]] == [4, 4]  # three answered, one dropped
    assert [item["images_dropped"] for item in result["sessions"]] == [0, 1]
    assert result["latency_ms"]["describe"] == {"p50": 24.0, "p95": 26.7}
    assert result["latency_ms"]["image topic to candidate topic"]["p50"] == 30.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images_received": 8}, "only 8 of 9 images arrived"),
        ({"correct": 0}, "no place was recognised"),
        ({"wrong": 2}, "2 loops are wrong"),
    ],
)
def test_what_went_wrong_is_said(change, sentence):
    assert verdict({"sessions": [GOOD, GOOD]}) == []
    assert verdict({"sessions": [GOOD, GOOD | change]}) == [f"first drive: {sentence}"]
