"""The command line: figures on standard output, one sentence on standard error, and an exit code that tells."""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
import textwrap
import time
import zlib

import cv2
import numpy as np
import pytest
import torch
from toys import ToyDescriber, frame, picture

from tscm_core import cli
from tscm_core.config import Config
from tscm_core.datasets.rosbag import DriveBag
from tscm_core.maps.live_map import open_live_map

COMMANDS = [[], ["bag"], ["bag", "from-images"], ["replay"], ["describe"], ["map"], ["map", "info"], ["map", "check"]]


@pytest.fixture
def tscm(monkeypatch, capfd):
    """Runs ``tscm`` with arguments as a shell would; gives exit code, standard output and standard error."""

    level = cv2.utils.logging.setLogLevel(0)  # OpenCV read OPENCV_LOG_LEVEL long ago, when the tests imported it

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tscm", *map(str, arguments)])
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
def toys(monkeypatch):
    monkeypatch.setattr("tscm_core.deploy.load.load_describer", lambda config, report: ToyDescriber())


@pytest.fixture
def images(tmp_path):
    """Sixty pictures: two laps of thirty places, with their positions."""
    folder = tmp_path / "drive"
    folder.mkdir()
    lines = ["image,x,y"]
    for number in range(60):
        name = f"{number:03}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(picture(number % 30, 20 * (number // 30)), cv2.COLOR_RGB2BGR))
        angle = 2 * np.pi * (number % 30) / 30
        lines.append(f"{name},{20 * np.cos(angle):.3f},{20 * np.sin(angle):.3f}")
    (folder / "positions.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def bag(tscm, images, tmp_path):
    assert tscm("bag", "from-images", images, "--out", tmp_path / "bag", "--rate", 1)[0] == 0
    return tmp_path / "bag"


@pytest.fixture
def map_file(tmp_path):
    with open_live_map(tmp_path / "map.tscm", True, ToyDescriber(), Config(), "monday") as live:
        for number in range(5):
            live.observe(frame(number, number, x=float(number)))
        live.save()
    return tmp_path / "map.tscm"


def only_json(out):
    """The one JSON object that standard output holds."""
    value = json.loads(out)
    assert isinstance(value, dict)
    return value


def sentence(result, *parts, code=1):
    """The one line that went wrong with, with nothing else around it."""
    assert result[0] == code, result
    assert result[1] == ""
    lines = [line for line in result[2].splitlines() if line.strip()]
    assert len(lines) == 1, result[2]
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result[2]
    for part in map(str, parts):
        assert part in lines[0]


# ---------------------------------------------------------------------------------------------- help and usage


@pytest.mark.parametrize("command", [*COMMANDS, ["demo"]], ids=" ".join)
def test_help_is_there_with_an_example(tscm, command):
    code, out, err = tscm(*command, "--help")
    assert (code, err) == (0, "")
    assert "Usage" in out
    assert command in ([], ["bag"], ["map"]) or "Example" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["replay"],
        ["replay", "bag"],
        ["replay", "bag", "--out", "x", "--radius", "-1"],
        ["replay", "bag", "--out", "x", "--radius", "far"],
        ["replay", "bag", "--out", "x", "--max-yaw", "181"],
        ["bag", "from-images", "x", "--out", "y", "--rate", "0"],
        ["bag", "from-images", "x", "--out", "y", "--format", "bag"],
        ["describe", "--out", "x.npy"],
        ["map", "info"],
        ["map", "check", "a", "b"],
        ["demo", "three-days"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(tscm, arguments):
    code, out, err = tscm(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "Usage" in err


def test_the_installed_command_is_this_one(tmp_path):
    command = shutil.which("tscm", path=str(sys.prefix) + "/bin")
    if command is None:
        pytest.skip("tscm is not installed beside this Python")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    arguments = ["bag", "from-images", tmp_path, "--out", tmp_path / "bag"]
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.strip().startswith("error: image ")
    assert done.stderr.strip().count("\n") == 0  # and not what OpenCV says of its own accord


def raising(error):
    def app():
        raise error

    return app


def test_a_missing_package_is_a_sentence_and_a_defect_of_ours_is_none(tscm, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(ImportError("no faiss", name="faiss")))
    sentence(tscm("replay"), "package faiss is not installed")
    for error in (ImportError("gone", name="tscm_core.gone"), ImportError("cannot import"), ZeroDivisionError()):
        monkeypatch.setattr(cli, "app", raising(error))
        with pytest.raises(type(error)):
            tscm("replay")


def test_an_interrupt_is_exit_130(tscm, monkeypatch):
    monkeypatch.setattr(cli, "app", raising(KeyboardInterrupt()))
    assert tscm("replay") == (130, "", "")


# ---------------------------------------------------------------------------------------------- bag from-images


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_images_become_a_bag(tscm, images, tmp_path, storage):
    out = tmp_path / "bag"
    code, printed, _ = tscm("bag", "from-images", images, "--out", out, "--rate", 4, "--format", storage)
    assert (code, printed) == (0, f"{out}: 60 images at 4 Hz\n")
    assert len(list(out.glob("*.mcap" if storage == "mcap" else "*.db3"))) == 1
    with DriveBag(out) as drive:
        frames = list(drive.frames())
    assert [item.stamp_ns - frames[0].stamp_ns for item in frames[:3]] == [0, 250_000_000, 500_000_000]
    assert np.array_equal(frames[31].image, picture(1, 20))
    assert frames[0].pose.position == (20.0, 0.0, 0.0)


def test_a_bag_is_replaced_only_when_asked_and_only_by_a_whole_one(tscm, images, bag):
    again = ["bag", "from-images", images, "--out", bag]
    sentence(tscm(*again), bag, "exists already", "--overwrite")
    (images / "007.png").write_bytes(b"no image")
    before = {path.name: path.read_bytes() for path in bag.iterdir()}
    sentence(tscm(*again, "--overwrite"), "007.png", "cannot be decoded")
    assert {path.name: path.read_bytes() for path in bag.iterdir()} == before
    assert sorted(path.name for path in bag.parent.iterdir()) == ["bag", "drive"]
    (images / "007.png").unlink()
    assert tscm(*again, "--overwrite")[0] == 0
    with DriveBag(bag) as drive:
        assert drive.image_count == 59


def damage_images(images, what):
    if what == "no folder":
        shutil.rmtree(images)
    elif what == "empty folder":
        for path in images.iterdir():
            path.unlink()
    elif what == "unreadable image":
        (images / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    elif what == "too large image":
        (images / "003.png").write_bytes(png_of_ten_gigapixels())
    else:
        (images / "positions.csv").write_text(what)


def png_of_ten_gigapixels():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("no folder", "is not a folder"),
        ("empty folder", "holds no images"),
        ("unreadable image", "003.png"),
        ("too large image", "003.png"),
        ("", "must have a first line image,x,y"),
        ("image,x\n000.png,1\n", "must have a first line image,x,y"),
        ("image,x,y\n", "lines below it"),
        ("image,x,y\n000.png,1,north\n", "line 2: could not convert string to float: 'north'"),
        ("image,x,y\n000.png,1,2\n001.png,nan,2\n", "line 3: x, y and yaw must be finite"),
        ("image,x,y\n000.png,1,2\n", "lacks 59 of 60 images: 001.png"),
    ],
    ids=["no folder", "empty folder", "unreadable", "too large", "empty", "no y", "no lines", "text", "nan", "missing"],
)
def test_unusable_images_and_positions_are_one_sentence_and_leave_no_bag(tscm, images, tmp_path, what, part):
    damage_images(images, what)
    sentence(tscm("bag", "from-images", images, "--out", tmp_path / "bag"), part)
    assert not (tmp_path / "bag").exists()


def test_named_positions_are_used_and_must_exist(tscm, images, tmp_path):
    command = ["bag", "from-images", images, "--out", tmp_path / "bag", "--positions"]
    sentence(tscm(*command, tmp_path / "absent.csv"), "absent.csv", "No such file")
    sentence(tscm(*command, images), "Is a directory")
    moved = (images / "positions.csv").rename(tmp_path / "moved.csv")
    assert tscm(*command, moved)[0] == 0
    with DriveBag(tmp_path / "bag") as drive:
        assert next(drive.frames()).pose is not None


def test_bags_that_cannot_be_written_are_one_sentence(tscm, images, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    command = ["bag", "from-images", images, "--out"]
    sentence(tscm(*command, tmp_path / "file"), "exists already")
    sentence(tscm(*command, tmp_path / "file", "--overwrite"), "is not a bag")
    sentence(tscm(*command, tmp_path / "folder", "--overwrite"), "is not a bag")
    sentence(tscm(*command, tmp_path / "file" / "bag"), "cannot be written")
    sentence(tscm(*command, tmp_path / "drive.bag"), "ROS 1")
    assert (tmp_path / "file").read_text() == "x"
    assert list((tmp_path / "folder").iterdir()) == []


# ---------------------------------------------------------------------------------------------- replay

LOOKS = [f"--set={stage}.enabled=false" for stage in ("geometry", "temporal", "odometry")]
"""The toys have no local features."""


@pytest.mark.usefixtures("toys")
def test_replay_answers_in_json_and_in_files(tscm, bag, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = tscm("replay", bag, "--out", out, "--radius", 1, "--json", *LOOKS)
    result = only_json(printed)
    assert code == 0
    assert (result["frames"], result["revisits"], result["correct"], result["wrong"]) == (60, 30, 30, 0)
    assert (result["radius_m"], result["precision"], result["recall"]) == (1.0, 1.0, 1.0)
    assert json.loads((out / "result.json").read_text()) == result
    assert len((out / "observations.jsonl").read_text().splitlines()) == 60
    assert sorted(path.name for path in out.iterdir()) == ["observations.jsonl", "report.html", "result.json"]


@pytest.mark.usefixtures("toys")
def test_replay_prints_tables(tscm, bag, tmp_path):
    code, printed, _ = tscm("replay", bag, "--out", tmp_path / "[bold]out[/x]", "--radius", 1, *LOOKS)
    assert code == 0
    for part in ("precision", "1.000", "radius_m", "ACCEPTED", "describe", "p95", "[bold]out[/x]"):
        assert part in printed
    with pytest.raises(json.JSONDecodeError):
        json.loads(printed)


@pytest.mark.usefixtures("toys")
def test_replay_takes_settings_from_a_file_and_then_from_pairs(tscm, bag, tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    candidates: {min_similarity: 0.99}\n")
    command = ["replay", bag, "--out", tmp_path / "out", "--json", "--no-report", "--params", params, *LOOKS]
    assert only_json(tscm(*command)[1])["accepted"] == 0
    accepted = only_json(tscm(*command, "--set", "candidates.min_similarity=0.9", "--set", "map.resume=false")[1])
    assert accepted["accepted"] == 30


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("pair", "parts"),
    [
        ("candidates.similarity=0.9", ["unknown setting candidates.similarity"]),
        ("candidates.min_similarty=0.9", ["did you mean candidates.min_similarity?"]),
        ("candidates.min_similarity", ["NAME=VALUE"]),
        ("candidates.min_similarity=", ["must be a float, not ''"]),
        ("candidates.min_similarity=much", ["must be a float, not 'much'"]),
        ("candidates.min_similarity=2", ["must be from -1 to 1, not 2"]),
        ("candidates.min_similarity=.nan", ["must be from -1 to 1, not nan"]),
        ("recency.seconds=1" + "0" * 400, ["must be from 0 to 86400"]),
        ("candidates.min_similarity={a", ["is not a value"]),
        ("map_path=2020-13-45", ["is not a value"]),
        ("[/red]=1", ["unknown setting [/red]"]),
        ("\\[/red]=1", ["unknown setting \\[/red]"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_unfit_settings_are_one_sentence(tscm, bag, tmp_path, pair, parts):
    sentence(tscm("replay", bag, "--out", tmp_path / "out", "--set", pair), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("text", ["a: [", "- 1", "nonsense: 1", None], ids=str)
def test_unfit_settings_files_are_one_sentence(tscm, bag, tmp_path, text):
    params = tmp_path / "params.yaml"
    if text is not None:
        params.write_text(text)
    sentence(tscm("replay", bag, "--out", tmp_path / "out", "--params", params), params)


@pytest.mark.usefixtures("toys")
def test_unusable_bags_and_folders_are_one_sentence(tscm, bag, tmp_path):
    out = ["--out", tmp_path / "out"]
    sentence(tscm("replay", tmp_path / "absent", *out), "absent", "does not exist")
    (tmp_path / "empty").mkdir()
    sentence(tscm("replay", tmp_path / "empty", *out), "empty")
    (tmp_path / "text.mcap").write_text("no bag at all")
    sentence(tscm("replay", tmp_path / "text.mcap", *out), "text.mcap", "cannot be read")
    sentence(tscm("replay", bag, *out, "--image-topic", "/front"), "no image topic /front", "/camera/image_raw")
    sentence(tscm("replay", bag, *out, "--odometry-topic", "/wheels"), "no pose topic /wheels", "/odometry")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("x")
    sentence(tscm("replay", bag, "--out", tmp_path / "file"), "results cannot be written to", tmp_path / "file")
    sentence(tscm("replay", bag, "--out", tmp_path / "file" / "out"), "results cannot be written to")


# ---------------------------------------------------------------------------------------------- describe


@pytest.mark.parametrize(
    ("settings", "dim", "name"),
    [
        ((), 2048, "student-efficientnet_lite0-"),
        (("--set", "model.weights=imagenet"), 1280, "efficientnet_lite0-gem-320x240-"),
    ],
    ids=["shipped", "imagenet"],
)
def test_describe_writes_what_the_network_says(tscm, images, tmp_path, settings, dim, name):
    out = tmp_path / "descriptors.npy"
    code, printed, _ = tscm("describe", images / "000.png", images / "001.png", "--out", out, "--json", *settings)
    result = only_json(printed)
    rows = np.load(out)
    assert (code, rows.dtype, rows.shape) == (0, np.float32, (2, dim))
    assert result == {"file": str(out), "images": 2, "dim": dim, "model_id": result["model_id"]}
    assert result["model_id"].startswith(name)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


@pytest.mark.usefixtures("toys")
def test_describe_takes_a_folder_in_the_order_of_names(tscm, images, tmp_path):
    code, printed, _ = tscm("describe", images, "--out", tmp_path / "all.npy")
    assert code == 0
    assert printed == f"{tmp_path / 'all.npy'}: 60 descriptors of 64 numbers by toy\n"
    expected = ToyDescriber().describe([picture(number % 30, 20 * (number // 30)) for number in range(60)])
    assert np.array_equal(np.load(tmp_path / "all.npy"), expected)


@pytest.mark.usefixtures("toys")
def test_describe_refuses_in_one_sentence(tscm, images, tmp_path):
    out = tmp_path / "out.npy"
    here = images / "000.png"
    missing = [images / f"no{number}.png" for number in range(3)]
    sentence(tscm("describe", here, *missing, "--out", out), "3 of 4 images do not exist", "no0.png", "no2.png")
    sentence(tscm("describe", tmp_path / "absent", "--out", out), "absent")
    damage_images(images, "unreadable image")
    sentence(tscm("describe", images / "003.png", "--out", out), "003.png", "cannot be decoded")
    damage_images(images, "too large image")
    sentence(tscm("describe", images / "003.png", "--out", out), "003.png", "cannot be decoded")
    (tmp_path / "empty").mkdir()
    sentence(tscm("describe", tmp_path / "empty", "--out", out), "holds no images")
    assert not out.exists()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "x.npy", tmp_path / "absent" / "x.npy", tmp_path / "empty"):
        sentence(tscm("describe", here, "--out", place), f"descriptors cannot be written to {place}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drive", "empty", "file"]


def test_missing_and_wrong_model_files_are_one_sentence(tscm, images, tmp_path):
    command = ["describe", images / "000.png", "--out", tmp_path / "out.npy", "--set"]
    sentence(tscm(*command, f"model.weights={tmp_path}/absent.pth"), "absent.pth does not exist")
    (tmp_path / "text.pth").write_text("no weights")
    sentence(tscm(*command, f"model.weights={tmp_path}/text.pth"), "text.pth is not a PyTorch state dict")
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    sentence(tscm(*command, f"model.weights={tmp_path}/other.pth"), "other.pth is not of EfficientNet-Lite0")
    sentence(tscm(*command, f"model.weights={tmp_path}/absent.safetensors"), "absent.safetensors does not exist")
    (tmp_path / "text.safetensors").write_text("no weights")
    sentence(tscm(*command, f"model.weights={tmp_path}/text.safetensors"), "text.safetensors is damaged or no network")
    assert not (tmp_path / "out.npy").exists()


# ---------------------------------------------------------------------------------------------- maps


def test_map_info_tells_what_is_there(tscm, map_file):
    code, printed, err = tscm("map", "info", map_file, "--json")
    info = only_json(printed)
    assert (code, err) == (0, "")
    assert (info["keyframes"], info["keyframes_with_pose"], info["loops"], info["model_id"]) == (5, 5, 0, "toy")
    assert [(item["name"], item["keyframes"]) for item in info["sessions"]] == [("monday", 5)]
    code, printed, _ = tscm("map", "info", map_file)
    assert code == 0
    assert "session monday: 5 keyframes" in printed
    assert str(map_file) in printed


def test_map_check_says_yes_or_no(tscm, map_file):
    assert tscm("map", "check", map_file) == (0, f"map {map_file} is whole\n", "")
    code, printed, _ = tscm("map", "check", map_file, "--json")
    assert (code, only_json(printed)) == (0, {"file": str(map_file), "ok": True, "problems": []})
    with sqlite3.connect(map_file) as database:
        database.execute("UPDATE keyframes SET travelled_m = travelled_m + 1 WHERE id = 3")
    database.close()
    code, printed, err = tscm("map", "check", map_file)
    assert (code, printed) == (1, "")
    assert "keyframe 3" in err
    code, printed, err = tscm("map", "check", map_file, "--json")
    result = only_json(printed)
    assert (code, result["ok"], err) == (1, False, "")
    assert any("keyframe 3" in problem for problem in result["problems"])


def spoil_map(path, how):
    if how == "absent":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "foreign":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE songs (title TEXT)")
        database.close()
    else:
        raw = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello" * 99, "cut": raw[: len(raw) // 2]}[how])


@pytest.mark.parametrize("how", ["absent", "folder", "foreign", "empty", "text", "cut"])
def test_what_is_no_map_is_one_sentence(tscm, map_file, how):
    spoil_map(map_file, how)
    for command in ("info", "check"):
        if (how, command) != ("cut", "check"):
            sentence(tscm("map", command, map_file), map_file)
    code, printed, _ = tscm("map", "check", map_file, "--json")
    assert (code, only_json(printed)["ok"]) == (1, False)


def test_names_with_brackets_come_out_as_they_are(tscm, map_file, tmp_path):
    odd = tmp_path / "[red]map[/nothing].tscm"
    odd.parent.mkdir()
    map_file.rename(odd)
    assert tscm("map", "check", odd) == (0, f"map {odd} is whole\n", "")
    assert str(odd) in tscm("map", "info", odd)[1]
    odd.unlink()
    sentence(tscm("map", "info", odd), odd)


# ---------------------------------------------------------------------------------------------- demo


def test_demo_says_what_is_missing(tscm, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    sentence(tscm("demo"), "package rclpy is not installed")


def test_demo_gives_its_exit_code_on(tscm, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("tscm_core.cli._run_to_the_end", lambda command: calls.append(command) or 1)
    assert tscm("demo", "--out", tmp_path, "--json")[0] == 1
    assert calls == [[sys.executable, "-m", "tscm_ros.demo", "--out", str(tmp_path), "--json"]]
    for kind in ("two-days", "two-robots"):
        assert tscm("demo", kind, "--out", tmp_path)[0] == 1
        assert calls[-1] == [sys.executable, "-m", "tscm_ros.demo", kind, "--out", str(tmp_path)]


def test_sigterm_just_after_the_start_reaches_what_a_command_runs():
    """It comes when the command runs already, and its end is not waited for yet."""
    script = """
        import os, signal, subprocess, sys
        from tscm_core import cli

        class ToldAtOnce(subprocess.Popen):
            def __init__(self, command):
                super().__init__(command)
                os.kill(os.getpid(), signal.SIGTERM)

        cli.subprocess.Popen = ToldAtOnce
        print(cli._run_to_the_end([sys.executable, "-c", "import time; time.sleep(60)"]))
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as outer:
        told = outer.communicate(timeout=45)[0]
    assert (outer.returncode, told) == (0, "-15\n")


def test_sigterm_reaches_what_a_command_runs(tmp_path):
    """Whoever ends ``tscm demo`` must not leave the robot driving."""
    inner = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); open(sys.argv[1], 'w'); time.sleep(60)"
    )
    outer = (
        "import sys; from tscm_core.cli import _run_to_the_end as run; "
        f"sys.exit(run([sys.executable, '-c', {inner!r}, sys.argv[1]]))"
    )
    with subprocess.Popen([sys.executable, "-c", outer, str(tmp_path / "ready")]) as process:
        deadline = time.monotonic() + 30.0
        while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30.0) == 7
