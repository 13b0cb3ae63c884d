"""``tscm calibrate`` on folders of drawn images: what it prints, refuses and writes."""

import json

import cv2
import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from tscm_core.commands.calibrate import calibrate_command
from tscm_core.config import Config, load_config
from tscm_core.errors import ConfigError, DatasetError, TscmError
from tscm_core.evaluation import calibration_grid
from tscm_core.recognition.image import resize

PLACES = 20


class PixelDescriber:
    """The grey pixels of a small picture, as a direction."""

    dim, model_id, input_size = 192, "pixels", (16, 12)

    def describe(self, images):
        rows = np.stack([resize(image, self.input_size).mean(axis=2).reshape(-1) for image in images])
        rows -= rows.mean(axis=1, keepdims=True)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw(place, lap):
    coarse = np.random.default_rng(place).integers(40, 216, (18, 24), np.uint8)
    image = cv2.resize(coarse, (240, 180), interpolation=cv2.INTER_NEAREST).astype(np.int64)
    noise = np.random.default_rng((place, lap)).integers(-6, 7, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def write_drive(folder, places, lap=0, poses=True):
    (folder / "images").mkdir(parents=True)
    rows = ["image,x,y"]
    for number, place in enumerate(places):
        cv2.imwrite(str(folder / "images" / f"{number:04d}.png"), draw(place, (lap, number)))
        rows.append(f"{number:04d}.png,{3 * place},0")
    if poses:
        (folder / "positions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def laps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drives")
    for name, poses in (("posed", True), ("blind", False)):
        write_drive(folder / name / "lap1", range(PLACES), 1, poses)
        write_drive(folder / name / "lap2", [*range(PLACES), *range(90, 96)], 2, poses)
    return folder


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr("tscm_core.deploy.load.load_describer", lambda config, report: PixelDescriber())
    monkeypatch.setattr(calibration_grid, "MIN_INLIERS", (20, 40))
    monkeypatch.setattr(calibration_grid, "MIN_SUPPORT", (1, 3))
    app = typer.Typer()
    app.command()(calibrate_command)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def both_laps(folder):
    return f"{folder / 'lap1'},{folder / 'lap2'}"


def test_proven_thresholds_are_written_and_load(run, laps, tmp_path):
    out = tmp_path / "params.yaml"
    done = run(both_laps(laps / "posed"), "--precision", 0.2, "--radius", 2, "--out", out)
    assert done.exit_code == 0, done.output
    assert f" of {PLACES}" in done.output
    assert "right, 0 wrong, in 2 episodes" in done.output
    assert "(*: chosen)" in done.output
    config = load_config(out)
    text = out.read_text(encoding="utf-8")
    assert "Claim: precision of at least 0.2 in places like these, with 95 % confidence" in text
    assert "newest image of 2023-11-14 22:13:32 UTC, network pixels, places told apart by poses" in text
    written = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert set(written) == {"candidates", "geometry", "temporal"}
    assert config.geometry.min_inliers == written["geometry"]["min_inliers"]
    assert not list(tmp_path.glob(".*part*"))


def test_the_same_drives_give_the_same_file(run, laps, tmp_path):
    texts = []
    for name in ("a.yaml", "b.yaml"):
        run(both_laps(laps / "posed"), "--precision", 0.2, "--radius", 2, "--out", tmp_path / name)
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]


def test_what_is_not_proven_is_shown_and_not_written(run, laps, tmp_path):
    out = tmp_path / "params.yaml"
    done = run(both_laps(laps / "posed"), "--radius", 2, "--out", out)
    assert done.exit_code == 1
    assert isinstance(done.exception, TscmError)
    assert "episodes without a wrong one support a precision of" in str(done.exception)
    assert "0.99 needs 299 independent episodes" in str(done.exception)
    assert "(*: best, not proven)" in done.output
    assert not out.exists()


def test_anyway_writes_it_with_the_sentence(run, laps, tmp_path):
    out = tmp_path / "params.yaml"
    done = run(both_laps(laps / "posed"), "--radius", 2, "--out", out, "--anyway")
    assert done.exit_code == 0
    assert "# NOT PROVEN: " in out.read_text(encoding="utf-8")
    assert load_config(out).candidates.min_similarity > 0


def test_json_is_one_object(run, laps):
    done = run(both_laps(laps / "posed"), "--precision", 0.2, "--radius", 2, "--json")
    found = json.loads(done.stdout)
    assert found["proven"] is True
    assert found["refusal"] is None
    assert found["figures"]["recall"] == found["figures"]["found"] / PLACES >= 0.9
    assert found["figures"]["wrong"] == 0
    assert found["figures"]["strangers"] >= 6
    assert found["figures"]["false_alarms"] == 0
    assert Config().replace(found["thresholds"]).geometry.min_inliers == found["figures"]["min_inliers"]


def test_drives_without_poses_label_themselves_and_say_what_that_misses(run, laps):
    done = run(both_laps(laps / "blind"), "--precision", 0.2)
    assert done.exit_code == 0, done.output
    assert "self-labelling" in done.output
    assert "cannot see two places so alike" in done.output


def test_separate_drives_have_separate_maps(run, laps):
    done = run(laps / "posed" / "lap1", laps / "posed" / "lap2", "--radius", 2)
    assert done.exit_code == 1
    assert "no keyframe sees a place again" in str(done.exception)


def test_settings_that_were_given_go_into_the_file(run, laps, tmp_path):
    out = tmp_path / "params.yaml"
    run(both_laps(laps / "posed"), "--precision", 0.2, "--radius", 2, "--out", out, "--set", "recency.metres=7")
    assert load_config(out).recency.metres == 7.0


def test_a_file_that_is_there_is_not_replaced(run, laps, tmp_path):
    out = tmp_path / "params.yaml"
    out.write_text("mine", encoding="utf-8")
    done = run(both_laps(laps / "posed"), "--out", out)
    assert isinstance(done.exception, TscmError)
    assert "is there already: give another name, or --overwrite" in str(done.exception)
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_is_not_there_is_told_before_the_work(run, tmp_path):
    done = run(tmp_path / "no drive", "--out", tmp_path / "none" / "params.yaml")
    assert "there is no folder" in str(done.exception)


def test_a_drive_that_is_none_is_refused(run, tmp_path):
    done = run(tmp_path / "no drive")
    assert isinstance(done.exception, DatasetError)


def test_stages_that_are_off_cannot_be_calibrated(run, laps):
    done = run(laps / "posed" / "lap1", "--set", "geometry.enabled=false")
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--precision", 1), "--precision"),
        (("--confidence", 0), "--confidence"),
        (("--radius", 0), "--radius"),
        (("--max-yaw", 181), "--max-yaw"),
        (("--anyway",), "--anyway belongs to --out"),
    ],
)
def test_wrong_usage(run, arguments, problem):
    done = run("drive", *arguments)
    assert done.exit_code == 2
    assert problem in done.output
