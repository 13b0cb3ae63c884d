"""What ``tscm bench`` does around the real node: messages, what a process uses, and, slowly, a section itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from ros_helpers import SECOND, stamp_of

from tscm_core.bench import scenes
from tscm_core.bench.request import Effort, Request
from tscm_core.config import Config
from tscm_core.datasets.image_messages import rgb_from_message
from tscm_core.datasets.pose_messages import intrinsics_from_message
from tscm_ros import bench


def test_what_is_sent_is_the_frame():
    frame = next(iter(scenes.drive(1)))
    odometry, info, image = bench.messages(frame)
    assert {stamp_of(message) for message in (odometry, info, image)} == {frame.stamp_ns}
    assert np.array_equal(rgb_from_message(image), frame.image)
    camera = intrinsics_from_message(info)
    assert (camera.width, camera.fx, camera.cx, camera.cy) == (640, 500.0, 319.5, 239.5)
    position, turn = odometry.pose.pose.position, odometry.pose.pose.orientation
    assert (position.x, position.y, position.z) == frame.pose.position
    assert (turn.x, turn.y, turn.z, turn.w) == frame.pose.orientation
    assert odometry.header.frame_id == frame.pose.frame_id


def test_what_a_process_used_is_what_psutil_says():
    """One of its own: what other tests left in this one may end between two looks."""
    code = (
        "import threading, time; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "while time.process_time() < 0.3: pass\n"
        "print('worked', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "worked\n"
        used, told = bench.used_by(process.pid), psutil.Process(process.pid)
        times, threads, resident = told.cpu_times(), told.num_threads(), told.memory_info().rss
        print(file=process.stdin, flush=True)
    assert used.cpu_s == pytest.approx(times.user + times.system, abs=0.1)
    assert times.user + times.system > 0.2
    assert used.threads == threads == 2
    assert used.memory_mib == pytest.approx(resident / 2**20, rel=0.02)


def test_only_images_that_were_answered_have_a_latency():
    robot = SimpleNamespace(
        sent_at={1: 10.0, 2: 20.0, 3: 30.0}, node=SimpleNamespace(create_subscription=lambda *_: None)
    )
    camera = bench.Camera(robot, 0)
    camera.status_at.update({1: 10.5, 3: 30.25, 7: 99.0})
    assert camera.latencies_ms([1, 2, 3], camera.status_at).values == (500.0, 250.0)


def test_the_log_tells_what_runs_the_network(tmp_path):
    log = tmp_path / "node.log"
    log.write_text("[INFO] backend: one\n[INFO] map\n[INFO] backend: two on cpu\n")
    process = SimpleNamespace(log=log)
    assert bench.backend_of(process) == "two on cpu"
    log.write_text("nothing")
    assert bench.backend_of(process) == "its log does not say what runs the network"


@pytest.mark.slow
def test_the_node_is_measured_over_dds(monkeypatch):
    monkeypatch.setattr(bench, "RATES_HZ", (4,))
    request = Request(
        Config().replace({"model.backend": "eager", "recency.seconds": 0.0}), replace(Effort(), dds_seconds=10.0)
    )
    section = bench.dds(request, lambda text: None)
    counts = next(row for row in section.rows if row.tags["what"] == "images")
    assert counts.figure("sent").value == 40
    assert counts.figure("lost").value == 0
    answered = next(row for row in section.rows if row.tags["what"] == "image to status")
    assert answered.figure("time").samples == 40 - counts.figure("dropped").value
    assert 0 < answered.figure("time").value < 10 * SECOND / 1e6
    assert any(row.tags["what"] == "node" for row in section.rows)
