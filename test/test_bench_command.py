"""``tscm bench``: which sections run, what is printed and written, and how it ends."""

from __future__ import annotations

import json
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

from tscm_core.bench import run as sections
from tscm_core.bench.budgets import Budget
from tscm_core.bench.channel import ProcessError
from tscm_core.bench.records import DONE, FAILED, SKIPPED, Figure, Row, Section
from tscm_core.bench.request import Effort, Request
from tscm_core.commands.bench import bench_command

app = typer.Typer()
app.command()(bench_command)


@pytest.fixture
def asked(monkeypatch):
    """What was asked for; ``verify`` fails, ``dds`` cannot run, and all else is done in no time."""
    calls = []

    def run_one(name, named, request, say, has=None):
        calls.append((name, named, request))
        say(f"{name}: begins")
        if name == "verify":
            return Section(name, name, state=FAILED, reason="the camera is upside down")
        if name == "dds":
            return Section(name, name, state=SKIPPED, reason="rclpy is not installed")
        figure = Figure("time", "ms", 2.0, 3.0, 30, Budget(1.0, "p50"))
        return Section(name, f"Title of {name}", (Row("a thing", (figure,), {"places": 10}),), (f"note of {name}",))

    monkeypatch.setattr(sections, "run_one", run_one)
    return calls


def bench(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_an_unknown_section_is_wrong_usage_and_the_known_ones_are_named(asked):
    result = bench("--only", "match,wings")
    assert result.exit_code == 2
    assert "wings" in result.stderr
    assert "describe" in result.stderr
    assert asked == []


def test_only_what_is_named_runs_in_the_order_of_the_bench(asked):
    result = bench("--only", "map, match")
    assert result.exit_code == 0
    assert [(name, named) for name, named, _ in asked] == [("match", True), ("map", True)]
    assert "Title of match" in result.stdout
    assert "≤ 1 ms p50: missed" in result.stdout
    assert "note of map" in result.stdout
    assert "match: begins" in result.stderr
    assert "0 of 2 budgets met" in result.stdout


def test_all_run_by_default_though_one_fails_and_then_the_exit_is_1(asked):
    result = bench()
    assert result.exit_code == 1
    assert [name for name, _, _ in asked] == [name for name in sections.PARTS if name != "saving"]
    assert not any(named for _, named, _ in asked)
    assert "verify: the camera is upside down" in result.stderr
    assert "not run: rclpy is not installed" in result.stdout
    assert "Title of startup" in result.stdout


@pytest.mark.parametrize("arguments", [("--all",), ("--only", "saving")])
def test_what_takes_long_runs_if_it_is_named_or_all_is_asked_for(asked, arguments):
    bench(*arguments)
    assert asked[-1][:2] == ("saving", "--only" in arguments)


def test_json_is_one_object_and_nothing_else_on_standard_output(asked):
    result = bench("--only", "match,dds", "--json")
    told = json.loads(result.stdout)
    assert [item["name"] for item in told["sections"]] == ["match", "dds"]
    assert [item["state"] for item in told["sections"]] == [DONE, SKIPPED]
    assert told["missed"] == ["match: a thing: time"]
    assert told["failed"] == []
    assert told["header"]["cores"] >= 1
    assert result.exit_code == 0


def test_files_are_written_where_they_are_asked_for(asked, tmp_path):
    out = tmp_path / "a" / "b"
    result = bench("--only", "match", "--out", str(out), "--json")
    assert result.exit_code == 0
    assert json.loads((out / "bench.json").read_text()) == json.loads(result.stdout)
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["bench.json", "bench.png"]


def test_settings_and_effort_reach_the_sections(asked, tmp_path):
    bench("--only", "match", "--all", "--images", str(tmp_path), "--set", "model.threads=2")
    request = asked[0][2]
    assert request.effort.everything
    assert 1_000_000 in request.effort.match_sizes
    assert request.config.model.threads == 2
    assert request.images == tmp_path
    bench("--only", "match")
    assert asked[1][2].effort == Effort()


@pytest.mark.parametrize("name", ["dds", "saving"])
@pytest.mark.parametrize(("named", "state"), [(False, SKIPPED), (True, FAILED)])
def test_without_ros_the_node_is_not_measured_and_that_is_an_error_only_if_it_was_asked_for(name, named, state):
    found = sections.run_one(name, named, Request(), print, has=lambda package: package != "rclpy")
    assert (found.state, found.reason) == (state, "rclpy is not installed")


class Process:
    """Says something twice, then gives the section; or ends."""

    ends = False
    started = None

    def __init__(self, module, name):
        self.started.append(module)
        self.messages = iter([{"say": "one"}, {"say": "two"}, {"section": Section(name, "?").to_json()}])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def send(self, message):
        assert Request.from_json(message) == Request()

    def receive(self, timeout_s):
        if self.ends:
            raise ProcessError("it ended with exit code 139: no words")
        return next(self.messages)


@pytest.fixture
def process(monkeypatch):
    monkeypatch.setattr(sections, "Apart", Process)
    monkeypatch.setattr(Process, "started", [])
    return Process


def test_a_section_runs_in_a_process_of_its_own_and_its_progress_is_told(process):
    said = []
    found = sections.run_one("match", False, Request(), said.append)
    assert (found.state, found.title) == (DONE, sections.PARTS["match"].title)
    assert said[:3] == ["match: begins", "match: one", "match: two"]
    assert process.started == ["tscm_core.bench.child"]
    sections.run_one("saving", True, Request(), said.append, has=lambda package: True)
    assert process.started[1:] == ["tscm_ros.bench_saving"]


def test_the_start_of_the_node_is_measured_where_ros_is_and_that_of_the_network_where_not(process):
    sections.run_one("startup", False, Request(), print, has=lambda package: True)
    sections.run_one("startup", False, Request(), print, has=lambda package: False)
    assert process.started == ["tscm_ros.bench", "tscm_core.bench.child"]


def test_a_process_that_dies_fails_its_section_alone(process, monkeypatch):
    monkeypatch.setattr(process, "ends", True)
    found = sections.run_one("match", False, Request(), print)
    assert (found.state, found.reason) == (FAILED, "it ended with exit code 139: no words")


def test_without_matplotlib_there_is_no_picture_and_that_is_said(asked, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tscm_core.bench.plot", types.ModuleType("plot"))
    broken = sys.modules["tscm_core.bench.plot"]
    monkeypatch.setattr(broken, "__getattr__", _missing, raising=False)
    result = bench("--only", "match", "--out", str(tmp_path))
    assert "no bench.png: Python package matplotlib is not installed" in result.stderr
    assert result.exit_code == 0
    assert (tmp_path / "bench.json").is_file()


def _missing(name):
    if name == "draw":
        raise ImportError("No module named 'matplotlib'", name="matplotlib")
    raise AttributeError(name)
