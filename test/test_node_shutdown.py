"""How the node ends, how it cannot start, and what is left of the map."""

from __future__ import annotations

import signal
import subprocess
import sys

from ros_helpers import LOOKS_ALONE, own_graph, run_node, running_node
from test_map_store import DIM, MODEL, fill

from tscm_core.maps.map_reader import MapReader
from tscm_core.maps.map_store import MapStore
from tscm_msgs.msg import FrameStatus


def stored(path):
    with MapReader(path) as reader:
        return [keyframe.stamp_ns for keyframe in reader.keyframes()]


def require_ended_well(rig, keyframes):
    assert not rig.live_path.with_name("map.tscm.live-wal").exists()
    assert f"map closed: {keyframes} keyframes in {rig.live_path}" in rig.log
    assert "Traceback" not in rig.log, rig.log
    assert "internal error" not in rig.log, rig.log


def test_interrupted_twice_in_a_row_the_node_still_ends_with_a_complete_map(tmp_path):
    with running_node(tmp_path) as rig:
        expected = [status.header.stamp.sec * 10**9 for status in rig.show(1, 2, 3)]
        rig.process.process.send_signal(signal.SIGINT)
        rig.process.process.send_signal(signal.SIGINT)
        assert rig.process.process.wait(30.0) == 0, rig.log
        assert stored(rig.live_path) == expected
        require_ended_well(rig, 3)


def test_after_a_kill_the_next_run_recognises_the_places_and_ends_on_sigterm(tmp_path):
    with running_node(tmp_path, LOOKS_ALONE) as rig:
        killed = rig.show(1, 2, 3)[-1].session
        last = rig.clock_ns
        assert rig.process.stop(signal.SIGKILL) == -signal.SIGKILL
    assert len(stored(rig.live_path)) == 3
    with running_node(tmp_path, {**LOOKS_ALONE, "map.resume": True}) as rig:
        rig.clock_ns = last
        status = rig.show(2)[0]
        assert status.status == FrameStatus.ACCEPTED, status.reason
        assert (status.keyframe_id, status.map_size) == (4, 4)
        message = rig.candidates_at(rig.clock_ns)
        assert message.session == status.session != killed
        assert (message.candidates[0].keyframe_id, message.candidates[0].session) == (2, killed)
        refused_second(tmp_path, rig)
        assert rig.process.stop(signal.SIGTERM) == 0
        assert len(stored(rig.live_path)) == 5
        require_ended_well(rig, 5)


def refused_second(folder, rig):
    """A second node with the same map goes, and the first one stays."""
    second = run_node(folder)
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 1
    require_one_sentence(output, f"in use by process {rig.process.process.pid}")
    assert rig.show(9)[0].map_size == 5


def require_one_sentence(output, *parts):
    lines = [line for line in output.strip().splitlines() if not (line.startswith("[INFO]") and "backend: " in line)]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    for part in parts:
        assert part in lines[0]


def cut_map(folder):
    """The live map of a run before, without its last page."""
    folder.mkdir()
    path = folder / "map.tscm.live"
    with MapStore.create(path, MODEL, DIM) as store:
        fill(store)
    path.write_bytes(path.read_bytes()[:-4096])
    return path


def test_what_is_wrong_at_the_start_is_said_in_one_sentence(tmp_path):
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    live = corrupt / "map.tscm.live"
    live.write_bytes(b"\xff\xd8\xff\xe0 a picture, not a map" * 100)
    cut = cut_map(tmp_path / "cut")
    wanted = {
        "weights": (f"{tmp_path}/no such weights.pth", "does not exist"),
        "range": (
            "candidates.min_similarity",
            "Min: -1.0, Max: 1.0, value: 7.0",
        ),
        "type": ("candidates.top_places", "INTEGER"),
        "choice": ("image_transport must be one of raw, compressed, not 'theora'",),
        "corrupt": (str(live), "not a tscm map"),
        "cut": (f"map {cut}: cannot be opened: it is damaged", f"`tscm map check {cut} --repair` writes what is whole"),
        "topics": ("robots.keyframe_topics: '~/keyframes' is the topic on which this robot itself tells",),
    }
    with own_graph(tmp_path):
        started = {
            "weights": run_node(tmp_path, **{"model.weights": f"{tmp_path}/no such weights.pth"}),
            "range": run_node(tmp_path, **{"candidates.min_similarity": 7.0}),
            "type": run_node(tmp_path, **{"candidates.top_places": "many"}),
            "choice": run_node(tmp_path, image_transport="theora"),
            "corrupt": run_node(corrupt),
            "cut": run_node(cut.parent),
            "topics": run_node(tmp_path, **{"robots.keyframe_topics": "~/keyframes"}),
        }
        outputs = {name: process.communicate(timeout=60)[0] for name, process in started.items()}
    assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(started, 1)
    for name, parts in wanted.items():
        require_one_sentence(outputs[name], *parts)
    assert "backend: " not in outputs["topics"]  # the network was not loaded for nothing
    assert live.read_bytes().startswith(b"\xff\xd8\xff\xe0 a picture")
    assert not (tmp_path / "map.tscm.live").exists()


def test_without_the_messages_the_node_names_the_commands_that_build_them():
    without = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tscm_msgs":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from tscm_ros.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    require_one_sentence(ended.stderr, "colcon build", "pip install ./msg")
