"""What a bench finds: budgets on both sides, JSON, tables, the picture, the header."""

from __future__ import annotations

import io
import json

import cv2
import pytest
from rich.console import Console

from tscm_core.bench import budgets
from tscm_core.bench.budgets import Budget
from tscm_core.bench.header import header, is_busy, warnings_of
from tscm_core.bench.measure import Samples
from tscm_core.bench.plot import draw
from tscm_core.bench.records import FAILED, SKIPPED, Figure, Row, Section, bench_json, known, sampled
from tscm_core.bench.table import header_lines, number, remarks, section_table, summary

HEADER = {
    "tscm": "0.1.0", "date": "2026-01-02T03:04:05+0000", "python": "3.10.1", "packages": {"torch": "2.13.0"},
    "system": "Linux 6", "processor": "Some [processor]", "flags": ["avx2"], "cores": 2, "gpu": None,
    "load_average": 0.1, "busy": False,
}  # fmt: skip


def section(*rows, **changes):
    return Section(**{"name": "match", "title": "Match", "rows": rows, "notes": ("a note",), **changes})


def row(value=1.0, p95=2.0, budget=None, what="10 places", **tags):
    return Row(what, (Figure("time", "ms", value, p95, 30, budget),), tags)


def shown(table):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


@pytest.mark.parametrize(
    ("budget", "value", "p95", "met"),
    [
        (Budget(5.0, "p50"), 5.0, 50.0, True),
        (Budget(5.0, "p50"), 5.001, 5.001, False),
        (Budget(5.0, "p95"), 1.0, 5.0, True),
        (Budget(5.0, "p95"), 1.0, 5.1, False),
        (Budget(99.5, at_least=True), 99.5, None, True),
        (Budget(99.5, at_least=True), 99.4, None, False),
        (Budget(0.0), 0.0, None, True),
        (Budget(0.0), 1.0, None, False),
    ],
)
def test_a_budget_is_judged_on_both_sides(budget, value, p95, met):
    figure = Figure("time", "ms", value, p95, 9, budget)
    assert figure.met is met
    assert ("met" if met else "missed") in shown(section_table(section(Row("x", (figure,)))))
    assert bench_json(HEADER, [section(Row("x", (figure,)))])["missed"] == ([] if met else ["match: x: time"])


def test_the_budgets_are_those_of_the_design():
    assert (budgets.DESCRIBE.limit, budgets.DESCRIBE_GPU.limit, budgets.PAPER_STUDENT.limit) == (15.0, 1.3, 0.75)
    assert {size: limit.limit for size, limit in budgets.MATCH.items()} == {10**4: 0.6, 10**5: 2.0, 10**6: 10.0}
    assert {size: limit.limit for size, limit in budgets.AGREEMENT.items()} == {10**4: 99.5, 10**5: 99.0, 10**6: 99.0}
    assert (budgets.TOPIC.limit, budgets.TOPIC.of, budgets.ADD.limit, budgets.ADD.of) == (40.0, "p95", 5.0, "p95")
    assert (budgets.MEMORY.limit, budgets.SAVE.limit, budgets.LOAD.limit) == (10.0, 2.0, 3.0)


def test_json_says_all_and_reads_back_the_same():
    samples = sampled(Samples((1.0, 2.0, 3.0)), budget=Budget(2.5, "p50"))
    found = section(
        Row("10 places", (samples, *known(("memory", "MiB", 7.25), ("unknown", "s", None))), {"places": 10}),
        seconds=1.5,
    )
    told = json.loads(json.dumps(found.to_json()))
    assert told["rows"][0] == {
        "what": "10 places",
        "tags": {"places": 10},
        "figures": [
            {
                "name": "time", "unit": "ms", "p50": 2.0, "p95": 2.9, "samples": 3,
                "budget": {"limit": 2.5, "of": "p50", "at_least": False}, "met": True,
            },
            {"name": "memory", "unit": "MiB", "value": 7.25, "samples": 1},
        ],
    }  # fmt: skip
    assert Section.from_json(told) == found
    whole = bench_json(HEADER, [found, section(state=FAILED, reason="why")])
    assert whole["header"] == HEADER
    assert whole["failed"] == ["match"]


def test_the_table_shows_figures_samples_and_budgets_side_by_side():
    text = shown(section_table(section(row(0.5, 0.75, Budget(0.6, "p50")), row(3.0, 123.4, what="[b]20"))))
    line = next(line for line in text.splitlines() if "10 places" in line)
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["10 places", "0.5 / 0.75", "30", "≤ 0.6 ms p50: met"]
    assert "3 / 123" in text
    assert "[b]20" in text


@pytest.mark.parametrize(
    ("value", "text"), [(123.4, "123"), (2.0, "2"), (0.12345, "0.123"), (99.54, "99.5"), (2e-7, "2e-07"), (0.0, "0")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_what_did_not_run_says_why_and_the_summary_names_what_is_missed():
    assert remarks(section(state=SKIPPED, reason="rclpy is not installed")) == [
        "Match: not run: rclpy is not installed"
    ]
    assert remarks(section()) == ["a note"]
    found = [section(row(budget=Budget(0.5, "p50")), row(budget=Budget(9.0, "p95")))]
    assert summary([section(row())]) == "none of these figures has a budget"
    assert summary(found) == "1 of 2 budgets met; missed: match: 10 places, time"


def test_the_header_knows_this_machine():
    facts = header()
    json.dumps(facts)
    assert facts["cores"] >= 1
    assert facts["packages"]["numpy"]
    assert any(str(facts["packages"]["torch"]) in line for line in header_lines(facts))


@pytest.mark.parametrize(
    ("cpuinfo", "name", "flags"),
    [
        (
            "processor : 0\nmodel name : A: fast one\nflags : fpu avx2 sse avx512f\n\nmodel name : B\nflags : none\n",
            "A: fast one",
            ["avx2", "avx512f"],
        ),
        ("Model : Board 5\nFeatures : fp asimd asimddp\n", "Board 5", ["asimd", "asimddp"]),
    ],
)
def test_the_processor_is_named_with_the_flags_that_matter(tmp_path, monkeypatch, cpuinfo, name, flags):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr("tscm_core.deploy.device._CPUINFO", tmp_path / "cpuinfo")
    facts = header()
    assert (facts["processor"], facts["flags"]) == (name, flags)


def test_a_busy_machine_is_warned_about():
    assert is_busy(1.0, 2)
    assert not is_busy(0.4, 2)
    assert "busy" in warnings_of(HEADER | {"busy": True, "load_average": 3.0})[0]
    assert not warnings_of(HEADER)


def test_the_picture_has_a_panel_for_each_of_the_three_and_none_without_them(tmp_path):
    describe = [row(20.0, what="e", student="default", backend="eager", threads=1),
                row(8.0, 90.0, what="o", student="default", backend="onnxruntime", threads=1)]  # fmt: skip
    stages = [row(what="describe", stage="describe"), row(3.0, what="all", stage="all")]
    sections = [
        section(*describe, name="describe"), section(row(places=1000), row(0.1, places=10_000)),
        section(*stages, name="path"),
    ]  # fmt: skip
    assert draw(HEADER, sections, tmp_path / "three.png")
    assert draw(HEADER, sections[1:2], tmp_path / "one.png")
    wide, narrow = (cv2.imread(str(tmp_path / name)).shape[1] for name in ("three.png", "one.png"))
    assert wide == 3 * narrow
    assert not draw(HEADER, [section(state=FAILED)], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
