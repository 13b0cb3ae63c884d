"""What the README tells a reader to type works, and what it names is there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tscm_core.cli import app
from tscm_core.datasets.bag_writer import bag_from_images
from tscm_core.maps.map_store import MapStore

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The folder of somebody who has images, and has run the demo."""
    (tmp_path / "drive").mkdir()
    rng = np.random.default_rng(0)
    names = [f"{number}.jpg" for number in range(3)]
    for name in names:
        cv2.imwrite(str(tmp_path / "drive" / name), rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    rows = [f"{name},{number},0" for number, name in enumerate(names)]
    (tmp_path / "drive" / "positions.csv").write_text("\n".join(["image,x,y", *rows]))
    assert list(bag_from_images(tmp_path / "drive", tmp_path / "demo_output" / "drive_1", 2.0)) == [1, 2, 3]
    MapStore.create(tmp_path / "live", "toy", 4).save_copy(tmp_path / "demo_output" / "map.tscm")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_without_ros_run_one_after_the_other(reader):
    lines = next(block for block in blocks("sh") if "tscm replay" in block).splitlines()
    assert len(lines) == 9
    for line in lines:
        command = [
            sys.executable,
            "-c",
            "from tscm_core.cli import main; main()",
            *shlex.split(line, comments=True)[1:],
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert (reader / "replay_output" / "observations.jsonl").read_text().count("\n") == 3
    assert np.load(reader / "descriptors.npy").shape == (3, 2048)


def test_the_python_example_runs(reader, capsys):
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("MAP_TOO_YOUNG") == 3


def test_make_targets_and_files_that_it_names_are_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"`?make ([a-z-]+)", README)) <= targets
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not leads_somewhere(link)] == []


def leads_somewhere(link):
    """To a file, and to a heading in it if one is named."""
    path, _, heading = link.partition("#")
    if not (ROOT / path).exists() or not heading:
        return (ROOT / path).exists()
    titles = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    return heading in {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_command_of_the_command_line_is_in_it():
    commands = [command.name for command in app.registered_commands]
    assert commands
    assert [name for name in commands if f"tscm {name}" not in README and f"make {name}" not in README] == []
