"""``tscm replay``: what is given to it, what it prints, what it writes."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from bag_messages import (
    IMAGE,
    ODOMETRY,
    SECOND,
    STAMPED,
    image_message,
    odometry_message,
    stamped_message,
    write_messages,
)
from toys import ToyDescriber, picture
from typer.testing import CliRunner

from tscm_core.cli import app
from tscm_core.datasets.bag_writer import bag_from_images
from tscm_core.errors import DatasetError, TscmError

STAGES = ("geometry", "temporal", "odometry")
LOOKS = (*(f"--set={stage}.enabled=false" for stage in STAGES), "--radius", "1", "--no-report")
FILES = ["observations.jsonl", "report.html", "result.json"]


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr("tscm_core.deploy.load.load_describer", lambda config, report: ToyDescriber())


def drive(folder, change=0, count=24):
    """A walk along a circle of twelve places, twice."""
    folder.mkdir(parents=True)
    lines = ["image,x,y"]
    for number in range(count):
        name = f"{number:03}.png"
        image = picture(number % 12, change + 20 * (number // 12))
        cv2.imwrite(str(folder / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        angle = 2 * np.pi * (number % 12) / 12
        lines.append(f"{name},{20 * np.cos(angle):.3f},{20 * np.sin(angle):.3f}")
    (folder / "positions.csv").write_text("\n".join(lines))
    return folder


def run(*arguments):
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    if isinstance(done.exception, TscmError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_and_its_bag_give_the_same(tmp_path):
    images = drive(tmp_path / "walk")
    assert list(bag_from_images(images, tmp_path / "bag" / "walk", 1.0))[-1] == 24
    results = [
        json.loads(run(path, "--out", tmp_path / "out", "--rate", 1, "--json", *LOOKS))
        for path in (images, tmp_path / "bag" / "walk")
    ]
    ours, theirs = ({**result, "latency_ms": 0, "drives": 0} for result in results)
    assert ours == theirs
    assert (ours["revisits"], ours["correct"], ours["wrong"], ours["missed"]) == (12, 12, 0, 0)
    assert (ours["recall_at_100_precision"], ours["auc"], ours["f1"]) == (1.0, 1.0, 1.0)


def test_the_rate_is_that_of_the_images(tmp_path):
    images = drive(tmp_path / "walk", count=5)
    for rate in (1, 4):
        run(images, "--out", tmp_path / "out", "--rate", rate, *LOOKS)
        lines = (tmp_path / "out" / "observations.jsonl").read_text().splitlines()
        stamps = [json.loads(line)["stamp_ns"] for line in lines]
        assert set(np.diff(stamps)) == {1_000_000_000 // rate}


def test_several_drives_are_pooled_or_share_a_map(tmp_path):
    paths = [drive(tmp_path / day, change, 12) for day, change in (("monday", 0), ("tuesday", 10))]
    command = [*paths, "--out", tmp_path / "out", "--rate", 1, *LOOKS]
    apart = json.loads(run(*command, "--json"))
    together = json.loads(run(*command, "--json", "--one-map"))
    assert [(one["session"], one["keyframes"]) for one in apart["drives"]] == [("monday", 12), ("tuesday", 12)]
    assert (apart["revisits"], apart["accepted"], apart["recall"], apart["one_map"]) == (0, 0, None, False)
    assert (together["revisits"], together["correct"], together["wrong"]) == (12, 12, 0)
    printed = run(*command, "--one-map")
    assert re.search(r"tuesday +12 +12 +12 +0 +1\.000 +1\.000", printed)


def test_ablate_prints_and_writes_a_row_for_each_variant(tmp_path):
    command = [drive(tmp_path / "walk"), "--out", tmp_path / "out", "--rate", 1, "--ablate", *LOOKS]
    printed = run(*command)
    for name in ("top-1", "ratio", r"\+ temporal", r"\+ geometry", r"\+ geometry \+ temporal", "as configured"):
        assert re.search(rf"^{name} +\d", printed, re.MULTILINE), name
    assert re.search(r"^top-1 +1\.000 +1\.000 +1\.000 +1\.000 +12 +0 +1\.000 +\d+\.\d$", printed, re.MULTILINE)
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["ablation"]
    assert (rows[0]["variant"], rows[0]["recall"], rows[-1]["settings"]) == ("top-1", 1.0, {})
    assert rows[3]["stages"] == ["search", "geometry"]


def test_the_report_is_written_unless_it_is_not_wanted(tmp_path):
    """Then one of before, which tells of other figures, does not stay either."""
    command = [drive(tmp_path / "walk", count=14), "--out", tmp_path / "out", "--rate", 1]
    printed = run(*command, *LOOKS)
    assert files_in(tmp_path / "out") == ["observations.jsonl", "result.json"]
    assert "report.html" not in printed
    printed = run(*command, *LOOKS[:-1])
    assert files_in(tmp_path / "out") == FILES
    for name in FILES:
        assert str(tmp_path / "out" / name) in printed.replace("\n", "")
    run(*command, *LOOKS)
    assert files_in(tmp_path / "out") == ["observations.jsonl", "result.json"]


def test_what_fails_leaves_the_results_of_before(tmp_path, monkeypatch):
    command = [drive(tmp_path / "walk", count=5), "--out", tmp_path / "out", *LOOKS[:-1]]

    def fail(*arguments):
        raise TscmError("no ink")

    run(*command)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in FILES}

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", full)
        with pytest.raises(TscmError, match=rf"written to {tmp_path / 'out'}: No space left on device$"):
            run(*command)
    monkeypatch.setattr("tscm_core.evaluation.report.report_page", fail)
    with pytest.raises(TscmError, match="no ink"):
        run(*command)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_what_is_no_drive_is_said_before_anything_is_made(tmp_path):
    good = drive(tmp_path / "walk", count=3)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(DatasetError, match=f"{path.name} .*bag.*KITTI.*folder of images"):
            run(good, path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_printed_names_what_was_nearest(tmp_path):
    images = drive(tmp_path / "walk")
    lines = (images / "positions.csv").read_text().splitlines()
    apart = [f"{line.split(',')[0]},{30 * number},0" for number, line in enumerate(lines[1:])]
    (images / "positions.csv").write_text("\n".join([lines[0], *apart]))
    printed = run(images, "--out", tmp_path / "out", "--rate", 1, *LOOKS)
    assert re.search(r"nearest wrong: similarity 0\.98\d, ACCEPTED, images at \d+\.000 s and \d+\.000 s", printed)


def test_the_detector_may_have_worse_odometry_than_its_judge(tmp_path):
    """Odometry that is 100 % off puts the second lap elsewhere; the loops are as right as they were."""
    command = [drive(tmp_path / "walk"), "--out", tmp_path / "out", "--rate", 1, "--json", *LOOKS]
    results = {}
    for name, options in (("as truth", ()), ("drift 100 %", ("--drift", 100)), ("none", ("--no-odometry",))):
        results[name] = json.loads(run(*command, *options))
        assert results[name]["odometry"] == results[name]["drives"][0]["odometry"] == name
    for result in results.values():
        assert (result["revisits"], result["correct"], result["wrong"]) == (12, 12, 0)
        assert result["keyframes_without_pose"] == 0
    with_odometry = [*command[: -len(LOOKS)], "--radius", 1, "--set=geometry.enabled=false"]
    refused = json.loads(run(*with_odometry, "--set=odometry.max_drift=0", "--set=odometry.reach_m=1", "--drift", 100))
    assert (refused["revisits"], refused["correct"]) == (12, 0)


def test_a_topic_of_a_bag_may_judge(tmp_path):
    """Odometry says that the robot drove a line; the truth is two laps around a circle, and judges."""
    messages, level = [], (0.0, 0.0, 0.0, 1.0)
    for number in range(24):
        stamp, angle = (number + 1) * SECOND, 2 * np.pi * number / 12
        around = (20 * np.cos(angle), 20 * np.sin(angle), 0.0)
        messages += [
            ("/odom", ODOMETRY, stamp, odometry_message((10.0 * number, 0.0, 0.0), level, stamp)),
            ("/gt", STAMPED, stamp, stamped_message(around, level, stamp)),
            ("/image", IMAGE, stamp, image_message(stamp, picture(number % 12, 20 * (number // 12)))),
        ]
    write_messages(tmp_path / "walk", messages)
    command = [tmp_path / "walk", "--out", tmp_path / "out", "--json", *LOOKS]
    by_odometry, by_truth = (json.loads(run(*command, *more)) for more in ((), ("--truth-topic", "/gt")))
    assert (by_odometry["odometry"], by_odometry["revisits"], by_odometry["wrong"]) == ("as truth", 0, 12)
    assert (by_truth["odometry"], by_truth["revisits"], by_truth["correct"]) == ("/odom (odometry)", 12, 12)
    assert by_truth["wrong"] == 0
    turned = json.loads(run(*command, "--pose-topic", "/gt", "--truth-topic", "/odom"))
    assert (turned["odometry"], turned["revisits"], turned["wrong"]) == ("/gt (pose)", 0, 12)


def test_what_the_detector_has_for_odometry_stands_on_the_page(tmp_path):
    printed = run(drive(tmp_path / "walk"), "--out", tmp_path / "out", "--rate", 1, "--drift", 5, *LOOKS[:-1])
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"odometry of the detector *(<[^>]*>|\s)*drift 5 %", page)
    assert re.search(r"odometry +│ +drift 5 %", printed)


def test_only_one_odometry_can_be_asked_for(tmp_path):
    images = drive(tmp_path / "walk", count=3)
    wrong = (
        ("--drift", 1, "--no-odometry"),
        ("--truth-topic", "/truth", "--drift", 0),
        ("--drift", -1),
        ("--drift", "nan"),
    )
    for options in wrong:
        done = CliRunner().invoke(app, ["replay", *map(str, [images, "--out", tmp_path / "out", *options])])
        assert done.exit_code == 2
    with pytest.raises(DatasetError, match=r"walk is no bag and has no topic /truth"):
        run(images, "--out", tmp_path / "out", "--truth-topic", "/truth")
    assert not (tmp_path / "out").exists()
