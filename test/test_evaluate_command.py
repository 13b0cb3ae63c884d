"""``tscm evaluate``: figures on standard output, one sentence on standard error, and an exit code that tells."""

from __future__ import annotations

import json
import sys

import cv2
import numpy as np
import pytest
import typer
from shared_data import shared
from toys import ToyDescriber, picture

from tscm_core import cli
from tscm_core.commands.evaluate import evaluate_command
from tscm_core.errors import TscmError

KEYS = ["recall", "queries", "queries_with_positive", "database", "radius_m", "model_id", "dim", "describe_ms_p50"]


@pytest.fixture
def evaluate(monkeypatch, capfd):
    """Runs ``tscm evaluate`` with arguments; gives exit code, standard output and standard error."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.callback()(lambda: None)
    app.command("evaluate")(evaluate_command)
    monkeypatch.setattr(cli, "app", app)
    level = cv2.utils.logging.setLogLevel(0)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tscm", "evaluate", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capfd.readouterr()
        return code, out, err

    yield run
    cv2.utils.logging.setLogLevel(level)


@pytest.fixture
def asked(monkeypatch):
    """The model settings that a describer was asked for with."""
    configs = []
    monkeypatch.setattr(
        "tscm_core.deploy.load.load_describer", lambda config, report: configs.append(config) or ToyDescriber()
    )
    return configs


def drive(folder, change, places=range(10), yaw=None):
    folder.mkdir()
    lines = ["image,x,y" + (",yaw" if yaw is not None else "")]
    for number, place in enumerate(places):
        cv2.imwrite(str(folder / f"{number:03}.png"), cv2.cvtColor(picture(place, change), cv2.COLOR_RGB2BGR))
        lines.append(f"{number:03}.png,{10 * number},0" + (f",{yaw}" if yaw is not None else ""))
    (folder / "positions.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def folders(tmp_path, asked):
    """Ten places, ten metres apart; on tuesday the last two look like the first two."""
    return "--database", drive(tmp_path / "monday", 0), "--queries", drive(tmp_path / "tuesday", 9, [*range(8), 0, 1])


def sentence(result, *parts):
    """The one line that went wrong with, with nothing else around it."""
    assert (result[0], result[1]) == (1, ""), result
    lines = [line for line in result[2].splitlines() if line.strip()]
    assert len(lines) == 1, result[2]
    assert lines[0].startswith("error: ")
    for part in map(str, parts):
        assert part in lines[0]


def test_json_holds_the_figures_and_nothing_else(evaluate, folders):
    code, out, err = evaluate(*folders, "--radius", 2, "--json")
    assert (code, err.strip()) == (0, "")
    figures = json.loads(out)
    assert list(figures) == KEYS
    assert figures["recall"] == {"1": 0.8, "5": figures["recall"]["5"], "10": 1.0, "20": 1.0}
    assert {key: figures[key] for key in KEYS[1:7]} == {
        "queries": 10,
        "queries_with_positive": 10,
        "database": 10,
        "radius_m": 2.0,
        "model_id": "toy",
        "dim": 64,
    }
    assert 0 < figures["describe_ms_p50"] < 1000


def test_the_default_radius_is_25_metres_and_stands_in_the_table(evaluate, folders):
    code, out, err = evaluate(*folders)
    assert (code, err.strip()) == (0, "")
    assert "Recall within 25 m" in out
    assert "10 of 10" in out
    assert "recall@1" in out
    assert "headings" not in out
    assert json.loads(evaluate(*folders, "--json")[1])["radius_m"] == 25.0


def test_queries_without_a_right_image_are_counted(evaluate, folders):
    lines = ["image,x,y", *(f"{n:03}.png,{10 * n if n < 6 else 1000},0" for n in range(10))]
    (folders[3] / "positions.csv").write_text("\n".join(lines))
    figures = json.loads(evaluate(*folders, "--radius", 2, "--json")[1])
    assert (figures["queries"], figures["queries_with_positive"], figures["recall"]["1"]) == (10, 6, 1.0)
    assert "6 of 10" in evaluate(*folders, "--radius", 2)[1]


def test_one_folder_as_both_never_matches_an_image_with_itself(evaluate, folders):
    figures = json.loads(evaluate("--database", folders[1], "--queries", folders[1], "--radius", 10, "--json")[1])
    assert figures["queries_with_positive"] == 10
    assert figures["recall"]["1"] < 1.0  # ten different places: the nearest in looks is rarely the neighbour
    sentence(evaluate("--database", folders[1], "--queries", folders[1], "--radius", 9), "none of the 10 queries")


def test_headings(evaluate, tmp_path, asked):
    folders = ("--database", drive(tmp_path / "a", 0, yaw=-175), "--queries", drive(tmp_path / "b", 9, yaw=170))
    figures = json.loads(evaluate(*folders, "--radius", 2, "--max-yaw", 15, "--json")[1])
    assert list(figures) == [*KEYS[:5], "max_yaw_deg", *KEYS[5:]]
    assert (figures["max_yaw_deg"], figures["recall"]["1"]) == (15.0, 1.0)
    assert "15 degrees" in evaluate(*folders, "--max-yaw", 15)[1]
    sentence(evaluate(*folders, "--radius", 2, "--max-yaw", 14), "none of the 10 queries")


def test_headings_that_are_not_there(evaluate, folders):
    sentence(evaluate(*folders, "--max-yaw", 30), "20 of 20 images have no yaw", "000.png", "leave the limit out")


def test_the_sheet_is_written(evaluate, folders, tmp_path):
    code, out, _ = evaluate(*folders, "--radius", 2, "--wrong", tmp_path / "wrong.png")
    assert code == 0
    assert "2 wrong predictions" in out
    assert cv2.imread(str(tmp_path / "wrong.png")).shape[0] == 76 + 2 * 332
    assert json.loads(evaluate(*folders, "--radius", 2, "--wrong", tmp_path / "wrong.png", "--json")[1])


def test_a_sheet_that_cannot_be_written_is_said_first(evaluate, folders, tmp_path, asked):
    sentence(evaluate(*folders, "--wrong", tmp_path / "absent" / "wrong.png"), "cannot be written", "absent")
    assert asked == []


def test_a_folder_in_the_place_of_the_sheet_is_said_first(evaluate, folders, tmp_path, asked):
    (tmp_path / "wrong.png").mkdir()
    sentence(evaluate(*folders, "--wrong", tmp_path / "wrong.png"), "cannot be written", "it is a folder")
    assert asked == []


def test_a_sheet_that_fails_at_the_end_does_not_cost_the_figures(evaluate, folders, tmp_path, monkeypatch):
    def full(*_):
        raise TscmError("picture cannot be written: No space left on device")

    monkeypatch.setattr("tscm_core.evaluation.wrong_sheet.write_wrong_sheet", full)
    code, out, err = evaluate(*folders, "--wrong", tmp_path / "wrong.png", "--json")
    assert (code, list(json.loads(out))) == (1, KEYS)
    assert "No space left" in err


def test_settings_and_weights_reach_the_network(evaluate, folders, asked, tmp_path):
    evaluate(*folders, "--weights", "my.safetensors", "--set", "model.threads=2", "--json")
    assert (asked[-1].weights, asked[-1].threads) == ("my.safetensors", 2)
    sentence(evaluate(*folders, "--set", "model.nonsense=2"), "model.nonsense")


def test_a_network_that_is_not_there_is_one_sentence(evaluate, tmp_path):
    folders = "--database", drive(tmp_path / "a", 0), "--queries", drive(tmp_path / "b", 9)
    sentence(evaluate(*folders, "--weights", tmp_path / "absent.pth"), "absent.pth")


def test_bad_data_is_one_sentence(evaluate, folders, tmp_path):
    sentence(evaluate("--database", tmp_path / "absent", *folders[2:]), "absent", "is not a folder")
    sentence(evaluate(*folders, "--positions", tmp_path / "absent.csv"), "absent.csv", "cannot be read")
    sentence(evaluate(*folders, "--positions", folders[1] / "positions.csv"), "10 names stand for two images")
    (folders[3] / "004.png").write_bytes(b"no image")
    sentence(evaluate(*folders), "tuesday/004.png", "cannot be decoded")
    (folders[3] / "positions.csv").unlink()
    sentence(evaluate(*folders), "10 of 10 images have no position", "000.png")
    (folders[3] / "positions.csv").write_text("image,x,y\n000.png,nan,0")
    sentence(evaluate(*folders), "line 2", "finite")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "--database"),
        (["--database", "a"], "belong together"),
        (["--queries", "a"], "belong together"),
        (["--positions", "a"], "belong together"),
        (["--database", "a", "--queries", "b", "--dataset", "pitts30k"], "either"),
        (["--database", "a", "--queries", "b", "--split", "test"], "either"),
        (["--dataset", "pitts30k", "--source", "x.yaml"], "either"),
        (["--dataset", "nordland"], "pitts250k"),
        (["--split", "test"], "--dataset"),
        (["--dataset", "pitts30k", "--split", "best"], "--split"),
        (["--source", "x.yaml", "--radius", "0"], "--radius"),
        (["--source", "x.yaml", "--radius", "-1"], "--radius"),
        (["--source", "x.yaml", "--radius", "nan"], "--radius"),
        (["--source", "x.yaml", "--radius", "inf"], "--radius"),
        (["--source", "x.yaml", "--radius", "far"], "--radius"),
        (["--source", "x.yaml", "--max-yaw", "181"], "--max-yaw"),
        (["--source", "x.yaml", "--max-yaw", "nan"], "--max-yaw"),
        (["--source", "x.yaml", "--wrong", "x.pdf"], ".png"),
        (["one", "two"], "argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_2(evaluate, arguments, part):
    code, out, err = evaluate(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "Usage" in err
    assert part in err


def test_a_source_says_its_own_radius(evaluate, folders, tmp_path):
    source = tmp_path / "source.yaml"
    parts = [
        {"kind": "positions", "folder": str(folder), "positive_radius": 2.0, "area": "street", "role": role}
        for folder, role in ((folders[1], "database"), (folders[3], "query"))
    ]
    source.write_text(json.dumps(parts))
    plain = json.loads(evaluate(*folders, "--radius", 2, "--json")[1])
    figures = json.loads(evaluate("--source", source, "--json")[1])
    assert {**figures, "describe_ms_p50": 0} == {**plain, "describe_ms_p50": 0}
    assert json.loads(evaluate("--source", source, "--radius", 11, "--json")[1])["radius_m"] == 11.0
    sentence(evaluate("--source", source, "--max-yaw", 30), "20 of 20 images have no yaw")


def test_frames_of_videos_are_counted_in_frames(evaluate, folders, tmp_path):
    folder = folders[1]
    lines = [f"{n:03}.png,walk,{n},hall" for n in range(10)]
    (folder / "frames.csv").write_text("\n".join(["image,video,frame,floor", *lines]))
    source = tmp_path / "source.yaml"
    source.write_text(f"kind: frames\nfolder: {folder}\npositive_radius: 3\nprotocol: held_out\n")
    code, out, err = evaluate("--source", source)
    assert (code, err.strip()) == (0, "")
    assert "Recall within 3 frames" in out
    figures = json.loads(evaluate("--source", source, "--json")[1])
    assert (figures["radius_m"], figures["unit"]) == (3.0, "frames")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "cannot be read"),
        ("a: [", "is not YAML"),
        ("7", "must hold settings"),
        ("[]", "must hold settings"),
        ("kind: nonsense", "nonsense"),
        ("{kind: positions, folder: x, colour: red}", "colour"),
        ("{kind: positions, folder: absent_folder}", "absent_folder"),
    ],
)
def test_a_bad_source_is_one_sentence(evaluate, tmp_path, asked, text, part):
    source = tmp_path / "source.yaml"
    if text is not None:
        source.write_text(text)
    sentence(evaluate("--source", source), part)


def test_pittsburgh_that_is_not_there_says_where_it_comes_from(evaluate, asked, tmp_path):
    sentence(evaluate("--dataset", "pitts30k", "--split", "test", "--data", tmp_path), "pitts30k_test.mat", "http")
    sentence(evaluate("--dataset", "pitts250k", "--data", tmp_path), "pitts250k_test.mat")


def test_pittsburgh_is_judged_at_25_metres(evaluate, asked, tmp_path):
    """A struct like the released ones, with three database images and two queries."""
    from scipy.io import savemat

    (tmp_path / "000").mkdir()
    (tmp_path / "queries_real" / "000").mkdir(parents=True)
    names = [f"000/{n}.png" for n in range(3)]
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), cv2.cvtColor(picture(number), cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(tmp_path / "queries_real" / name), cv2.cvtColor(picture(number, 9), cv2.COLOR_RGB2BGR))

    def cells(listed):
        column = np.empty((len(listed), 1), object)
        column[:, 0] = listed
        return column

    struct = {
        "whichSet": "train",
        "dbImageFns": cells(names),
        "utmDb": np.array([[0.0, 100.0, 200.0], [0.0, 0.0, 0.0]]),
        "qImageFns": cells(names[:2]),
        "utmQ": np.array([[25.0, 126.0], [0.0, 0.0]]),
        "numImages": 3.0,
        "numQueries": 2.0,
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
        "nonTrivPosDistSqThr": 100.0,
    }
    for split in ("test", "train"):  # whose own radius is 10 m
        savemat(tmp_path / f"pitts30k_{split}.mat", {"dbStruct": struct})
        result = evaluate("--dataset", "pitts30k", "--split", split, "--data", tmp_path, "--json")
        figures = json.loads(result[1])
        assert (figures["radius_m"], figures["queries"], figures["queries_with_positive"]) == (25.0, 2, 1)
        assert figures["recall"]["1"] == 1.0
    (tmp_path / "000" / "2.png").unlink()
    sentence(evaluate("--dataset", "pitts30k", "--data", tmp_path), "1 of 5 images are missing", "000/2.png")


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_second_lap_of_the_corridor_finds_the_first(evaluate, tmp_path):
    corridor = shared("corridor_two_laps")
    for number, image in enumerate(sorted((corridor / "images").glob("*.jpg"))[:80]):
        lap = tmp_path / f"lap_{1 + number // 40}"
        lap.mkdir(exist_ok=True)
        (lap / image.name).symlink_to(image)
    laps = ("--database", tmp_path / "lap_1", "--queries", tmp_path / "lap_2")
    code, out, _ = evaluate(*laps, "--positions", corridor / "positions.csv", "--radius", 2, "--json")
    assert code == 0
    figures = json.loads(out)
    assert (figures["queries"], figures["queries_with_positive"], figures["database"]) == (40, 40, 40)
    assert figures["recall"]["1"] >= 0.8
    assert figures["recall"]["20"] >= figures["recall"]["10"] >= figures["recall"]["5"] >= figures["recall"]["1"]
