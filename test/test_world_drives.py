"""Rendering a drive: exact positions, the same files each time, nothing by halves; and `tscm render`."""

from __future__ import annotations

import csv
import json
import sys
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer

from tscm_core import cli
from tscm_core.commands.render import render_command
from tscm_core.datasets import synthetic_drive, world_drives
from tscm_core.datasets.positions import list_images, match_positions, read_positions
from tscm_core.datasets.world_drives import WorldDrive, render_world
from tscm_core.datasets.world_levels import read_level
from tscm_core.errors import ConfigError, DatasetError, MissingDependencyError

SHORT = WorldDrive("freedoom2:MAP01", metres=8.0, spacing=1.0, lighting=("noon", "night"), size=(96, 72), depth=True)


def silent(done, total):
    pass


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    pytest.importorskip("vizdoom")
    out = tmp_path_factory.mktemp("renders") / "drive"
    seen = []
    reports = render_world(SHORT, out, progress=lambda done, total: seen.append((done, total)))
    return out, reports, seen


def laps(out):
    for lap in ("lap1", "lap2"):
        images = list_images(out / lap)
        yield images, match_positions(images, read_positions(out / lap / "positions.csv"), out)


def test_laps_have_images_with_positions_and_nothing_else_lies_there(drive):
    out, reports, seen = drive
    assert sorted(path.name for path in out.iterdir()) == ["drive.json", "lap1", "lap2"]
    assert [path.name for path in out.parent.iterdir()] == ["drive"]
    for report, (images, positions) in zip(reports, laps(out), strict=True):
        assert report.frames == len(images) == len(positions) >= 8
        assert report.lost == 0
        assert cv2.imread(str(images[3])).shape == (72, 96, 3)
        assert (out / images[0].parent.parent / "positions.csv").read_text().startswith("image,x,y,yaw\n")
        names = sorted(path.name for path in (out / images[0].parent.parent).iterdir())
        assert names == ["camera.yaml", "depth", "images", "positions.csv"]
    assert seen[-1] == (sum(report.frames for report in reports),) * 2
    about = json.loads((out / "drive.json").read_text())
    assert about["world"] == SHORT.world
    assert about["laps"][1]["lighting"] == "night"


def test_positions_move_evenly_and_the_second_lap_runs_beside_the_first_in_the_dark(drive):
    first, second = ([(p.x, p.y) for p in positions] for _, positions in laps(drive[0]))
    steps = np.hypot(*np.diff(first, axis=0).T)
    assert steps.min() > 0.05
    assert steps.max() < 1.2
    apart = np.linalg.norm(np.array(second)[:, None] - np.array(first)[None], axis=2).min(axis=1)
    assert apart.max() < 0.75
    bright, dark = (np.mean([cv2.imread(str(path)).mean() for path in images]) for images, _ in laps(drive[0]))
    assert bright > 2 * dark > 4


def test_each_image_has_a_depth_image_of_its_size_in_millimetres(drive):
    for images, _ in laps(drive[0]):
        for image in images:
            depth = cv2.imread(str(image.parents[1] / "depth" / f"{image.stem}.png"), cv2.IMREAD_UNCHANGED)
            assert (depth.dtype, depth.shape) == (np.uint16, (72, 96))
            assert 500 < np.median(depth[depth > 0]) < 30_000
        assert len(images) == len(list((images[0].parents[1] / "depth").iterdir()))


def test_the_camera_looks_along_the_yaw_it_reports(drive):
    """Between two images with little turning, the camera moves towards where it looks."""
    _, positions = next(iter(laps(drive[0])))
    going = [np.arctan2(b.y - a.y, b.x - a.x) for a, b in pairwise(positions)]
    off = [np.angle(np.exp(1j * (way - np.radians(one.yaw_deg)))) for way, one in zip(going, positions, strict=False)]
    assert np.degrees(np.median(np.abs(off))) < 25


def test_the_same_drive_gives_the_same_files_and_none_in_the_working_folder(drive, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    again = tmp_path / "a folder" / "again"
    render_world(SHORT, again, progress=silent)
    assert list(here.iterdir()) == []
    files = {str(path.relative_to(again)): path.read_bytes() for path in again.rglob("*") if path.is_file()}
    assert files == {
        str(path.relative_to(drive[0])): path.read_bytes() for path in drive[0].rglob("*") if path.is_file()
    }


def test_a_render_that_breaks_off_leaves_what_was_there(tmp_path):
    pytest.importorskip("vizdoom")
    out = tmp_path / "out"

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_world(SHORT, out, progress=stop)
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists already: choose another name, or --overwrite"):
        render_world(SHORT, out, progress=stop)
    with pytest.raises(DatasetError, match="no rendered drive, so it is not overwritten"):
        render_world(SHORT, out, overwrite=True, progress=stop)
    (out / "mine.txt").rename(out / "drive.json")
    with pytest.raises(KeyboardInterrupt):
        render_world(SHORT, out, overwrite=True, progress=stop)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "drive.json"]


def test_overwriting_replaces_the_old_folder(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "drive.json").touch()
    with world_drives.fresh_folder(out, overwrite=True) as (target, scratch):
        (target / "new").touch()
        (scratch / "rubbish").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new"]


def test_a_place_where_nobody_can_stand_is_lost_and_counted(tmp_path, monkeypatch):
    vizdoom = pytest.importorskip("vizdoom")
    level = read_level(Path(vizdoom.__file__).parent / "freedoom2.wad", "MAP01")
    pillar = level.obstacles[0, :2] / 32
    original = world_drives.lap_poses
    monkeypatch.setattr(world_drives, "lap_poses", lambda *given: np.vstack([[[*pillar, 0.0]], original(*given)[:1]]))
    (report,) = render_world(WorldDrive(SHORT.world, 8.0, lighting=("day",)), tmp_path / "out", progress=silent)
    assert (report.frames, report.lost) == (1, 1)
    rows = list(csv.reader((tmp_path / "out" / "lap1" / "positions.csv").open()))
    assert [row[0] for row in rows] == ["image", "000001.jpg"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"lighting": ("noon", "disco")}, "no lighting is called 'disco'"),
        ({"lighting": ()}, "lighting"),
        ({"metres": 1.0}, "5 to 10000 m long"),
        ({"metres": float("nan")}, "5 to 10000 m long"),
        ({"spacing": 0.0}, "between images"),
        ({"size": (641, 480)}, "not 641x480"),
        ({"lateral_m": 3.0}, "aside"),
        ({"turn_deg": -1.0}, "aside"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        WorldDrive(**{"world": "freedoom2:MAP01", **wrong})


def test_unknown_worlds_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    for world in ("freedoom2:MAP99", "freedoom3:MAP01", "MAP01", ""):
        with pytest.raises(ConfigError, match=r"no world is called .*--list"):
            render_world(WorldDrive(world), tmp_path / "out", progress=silent)

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(synthetic_drive, "import_module", absent)
    with pytest.raises(MissingDependencyError, match="pip install vizdoom"):
        render_world(SHORT, tmp_path / "out", progress=silent)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def render(monkeypatch, capfd):
    """Runs ``tscm render`` with arguments; gives exit code, standard output and standard error."""
    pytest.importorskip("vizdoom")
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.callback()(lambda: None)
    app.command("render")(render_command)
    monkeypatch.setattr(cli, "app", app)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tscm", "render", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_a_lap_without_images_is_refused(monkeypatch, tmp_path):
    pytest.importorskip("vizdoom")
    monkeypatch.setattr(world_drives.WorldCamera, "shoot", lambda *_: None)
    with pytest.raises(DatasetError, match="could stand nowhere on lap 1"):
        render_world(SHORT, tmp_path / "out", progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_the_command_lists_worlds(render):
    code, out, _ = render("--list", "--json")
    known = json.loads(out)
    assert code == 0
    assert len(known["worlds"]) == 69
    assert {"freedoom1:E1M1", "freedoom2:MAP32", "tscm:corridors"} <= set(known["worlds"])
    assert "night" in known["lighting"]
    code, out, _ = render("--list")
    assert "worlds: freedoom1:E1M1 " in out


def test_the_command_renders_laps_in_turn_of_their_lightings(render, tmp_path):
    code, out, _ = render(tmp_path / "out", "--metres", 5, "--spacing", 2, "--laps", 3, "--size", "64x48", "--json")
    assert code == 0
    report = json.loads(out)
    assert {path.name for path in (tmp_path / "out" / "lap1").iterdir()} == {"camera.yaml", "images", "positions.csv"}
    assert [lap["lighting"] for lap in report["laps"]] == ["noon", "dusk", "noon"]
    assert report["laps"][2]["frames"] == len(list_images(tmp_path / "out" / "lap3"))


def test_the_command_renders_depth_in_our_own_world(render, tmp_path):
    arguments = ("--world", "tscm:corridors", "--metres", 5, "--spacing", 2, "--size", "64x48", "--depth")
    code, _, err = render(tmp_path / "out", *arguments)
    assert (code, err.strip()) == (0, "")
    lap = tmp_path / "out" / "lap1"
    assert [path.stem for path in sorted((lap / "depth").iterdir())] == [path.stem for path in list_images(lap)]


def test_the_command_refuses_in_a_sentence(render, tmp_path):
    for arguments, expected, sentence in (
        ((tmp_path / "out", "--world", "freedoom2:MAP77"), 1, "no world is called 'freedoom2:MAP77'"),
        ((tmp_path / "out", "--size", "large"), 1, "WIDTHxHEIGHT"),
        ((tmp_path, "--metres", 5), 1, "exists already"),
        ((tmp_path / "out", "--lighting", "sun"), 1, "no lighting is called 'sun'; there are"),
        ((tmp_path / "out", "--lighting", ""), 1, "no lighting is called ''; there are"),
        ((), 2, "name a folder to write, or take --list"),
    ):
        code, out, err = render(*arguments)
        assert (code, out) == (expected, "")
        assert sentence in err
        assert "Traceback" not in err
