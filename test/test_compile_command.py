"""``tscm compile``: what it asks of the builder, what it says, and what it shows of the cache."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
import typer
from engines import KEY, engine
from rich.console import Console
from typer.testing import CliRunner

from tscm_core.commands import compile as module
from tscm_core.deploy.backend import Target
from tscm_core.deploy.engine_cache import EngineCache
from tscm_core.deploy.load import Built
from tscm_core.errors import DatasetError, DeployError


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """No cell of a table is cut, as on a wide screen."""
    monkeypatch.setattr("tscm_core.commands.support.output", Console(width=200, highlight=False))


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def asked(cache, monkeypatch):
    """Stands for the builder: notes what it is asked for, and keeps a toy engine, or not."""
    notes = SimpleNamespace(calls=[], keep=True, engine=True, refused=())

    def build_engine(config, report, force=False, calibration=()):
        notes.calls.append((config, force, tuple(calibration)))
        report("compiling [for a while]")
        target = Target(precision="fp32" if config.precision == "auto" else config.precision, threads=config.threads)
        describer = SimpleNamespace(model_id=KEY.model_id)
        if not notes.engine:
            return Built(describer, "eager", target, notes.refused, seconds=0.5)
        was_there = cache.path(KEY).is_file() and not force
        path = cache.put(engine(), b"x" * 1_000_000) if notes.keep else None
        return Built(describer, "onnxruntime", target, notes.refused, engine(), path, was_there, 3.25)

    monkeypatch.setattr("tscm_core.deploy.load.build_engine", build_engine)
    return notes


@pytest.fixture
def run(cache):
    def run(*arguments):
        app = typer.Typer()
        app.command("compile")(module.compile_command)
        return CliRunner().invoke(app, ["--set", f"model.engine_cache={cache.folder}", *map(str, arguments)])

    return run


def error(done, kind):
    assert isinstance(done.exception, kind), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


# ---------------------------------------------------------------------------------------------- compiling


def test_all_options_reach_the_builder(run, asked, tmp_path):
    done = run(
        "--backend", "inductor", "--precision", "fp32", "--device", "cpu", "--threads", 3, "--weights", "w", "--force"
    )
    assert done.exit_code == 0, done.output
    ((config, force, images),) = asked.calls
    assert (config.backend, config.precision, config.device) == ("inductor", "fp32", "cpu")
    assert (config.threads, config.weights, force, images) == (3, "w", True, ())
    assert config.engine_cache == str(tmp_path / "engines")


def test_settings_come_from_files_and_options_come_last(run, asked, tmp_path):
    (tmp_path / "robot.yaml").write_text("model: {backend: inductor, threads: 4, precision: fp32}")
    assert run("--params", tmp_path / "robot.yaml", "--set", "model.threads=3", "--backend", "eager").exit_code == 0
    ((config, force, _),) = asked.calls
    assert (config.backend, config.threads, config.precision, force) == ("eager", 3, "fp32", False)


def test_the_answer_in_figures(run, asked, cache):
    done = run("--json")
    assert json.loads(done.stdout) == {
        "backend": "onnxruntime",
        "asked_for": "auto",
        "refused": [],
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
        "model_id": KEY.model_id,
        "was_there": False,
        "seconds": 3.25,
        "version": "onnxruntime 1.32.0",
        "compile_s": 2.5,
        "agreement": 0.99998,
        "file": str(cache.path(KEY)),
        "bytes": cache.path(KEY).stat().st_size,
    }
    assert "compiling [for a while]" in done.stderr
    assert json.loads(run("--json").stdout)["was_there"] is True
    assert json.loads(run("--json", "--force").stdout)["was_there"] is False


def test_the_answer_for_people(run, asked, cache):
    asked.refused = ("tensorrt on cuda in fp16: package [tensorrt] is not installed",)
    done = run()
    assert done.stdout.split()[0] == "Compiled"
    for part in (
        asked.refused[0],
        "those before it cannot run here",
        "2.5 s",
        "3.2 s",
        "0.999980",
        str(cache.path(KEY)),
    ):
        assert part in done.stdout
    assert done.stdout.endswith(f"\n{cache.path(KEY)}\n")
    again = run("--backend", "onnxruntime").stdout
    assert again.startswith("There already: nothing was compiled ")
    assert "asked for" in again


def test_eager_pytorch_has_nothing_to_compile(run, asked, cache):
    asked.engine = False
    done = run("--backend", "eager")
    assert done.exit_code == 0
    assert "Nothing to compile: eager PyTorch" in done.stdout
    assert not cache.folder.exists()
    assert json.loads(run("--backend", "eager", "--json").stdout)["file"] is None


def test_what_is_not_kept_was_not_compiled_ahead(run, asked, cache):
    asked.keep = False
    said = error(run(), DeployError)
    assert said == f"onnxruntime was compiled, but is not kept in {cache.folder}: see the lines above"


def test_a_cache_that_cannot_be_used_is_said_before_the_work(run, asked, cache):
    cache.folder.mkdir(mode=0o700)
    cache.folder.chmod(0o777)
    assert f"engine cache {cache.folder} is writable by other users" in error(run(), DeployError)
    cache.folder.rmdir()
    cache.folder.touch()
    assert "is not a folder" in error(run(), DeployError)
    assert asked.calls == []


# ---------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "cuda"], "model.backend must be one of auto, tensorrt"),
        (["--precision", "fp8"], "model.precision must be one of"),
        (["--device", "gpu"], "model.device must be one of"),
        (["--threads", "0"], "model.threads must be from 1 to 64"),
        (["--precision", "int8"], "add --calibration DIR"),
        (["--set", "model.precision=int8"], "add --calibration DIR"),
        (["--calibration", "."], "--calibration belongs to"),
        (["--list", "--force"], "--list compiles nothing"),
        (["more"], "unexpected extra argument"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2(arguments, said, run, asked):
    done = run(*arguments)
    assert done.exit_code == 2
    words = " ".join(done.stderr.replace("│", " ").split())
    assert said in words
    assert asked.calls == []


def test_int8_takes_all_images_below_a_folder(run, asked, tmp_path):
    names = ["b/2.JPG", "a.png", "b/c/1.jpeg", "b/notes.txt", "z.jpg/inside.bmp"]
    for name in names:
        (tmp_path / "drive" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drive" / name).touch()
    assert run("--precision", "int8", "--calibration", tmp_path / "drive").exit_code == 0
    ((config, _, images),) = asked.calls
    assert config.precision == "int8"
    expected = ["a.png", "b/2.JPG", "b/c/1.jpeg", "z.jpg/inside.bmp"]
    assert [str(image.relative_to(tmp_path / "drive")) for image in images] == expected


def test_a_folder_without_images_is_one_sentence(run, asked, tmp_path):
    (tmp_path / "notes.txt").touch()
    said = error(run("--precision", "int8", "--calibration", tmp_path), DatasetError)
    assert said.startswith(f"{tmp_path} holds no images (.jpg, ")
    said = error(run("--precision", "int8", "--calibration", tmp_path / "absent"), DatasetError)
    assert said == f"{tmp_path / 'absent'} is not a folder"
    assert asked.calls == []


def test_help_has_an_example(run):
    done = run("--help")
    assert done.exit_code == 0
    assert "tscm compile --backend onnxruntime" in done.stdout


# ---------------------------------------------------------------------------------------------- --list


class ToyBackend:
    """Can run fp32 only, in the version and with the options of ``KEY``."""

    name = "onnxruntime"

    def refusal(self, target, *, build):
        assert not build
        return "" if target.precision == "fp32" else "package [half] is not installed"

    def version(self):
        return KEY.backend_version

    def options(self, target):
        return f"threads {target.threads}"


@pytest.fixture
def here(monkeypatch):
    """A machine whose processor is that of ``KEY``, with one backend; gives the key of an engine that it would load."""
    from tscm_core.deploy import building

    def find_backend(name):
        if name != "onnxruntime":
            raise DeployError(f"there is no backend {name}")
        return ToyBackend()

    def device_name(device):
        return KEY.device if device == "cpu" else "no GPU"

    monkeypatch.setattr("tscm_core.deploy.load.find_backend", find_backend)
    monkeypatch.setattr("tscm_core.deploy.device.device_name", device_name)
    monkeypatch.setattr(building, "device_name", device_name)
    from tscm_core.deploy.weights import Weights

    weights = Weights("", KEY.model_id, KEY.input_size, KEY.weights_sha256)
    return building.engine_key(ToyBackend(), Target(input_size=KEY.input_size), weights)


def test_an_empty_cache_is_said(run, asked, cache):
    assert run("--list").stdout == f"no compiled networks in {cache.folder}\n"
    assert json.loads(run("--list", "--json").stdout) == {"folder": str(cache.folder), "engines": []}
    assert asked.calls == []
    assert not cache.folder.exists()


def test_the_list_says_what_can_be_used_here_and_why_the_rest_cannot(run, cache, here):
    expected = {
        here: "",
        dataclasses.replace(here, device="NVIDIA Orin, compute capability 8.7"): "it was compiled for NVIDIA Orin, "
        "compute capability 8.7, which is not here",
        dataclasses.replace(here, backend_version="onnxruntime 1.31.0"): "its version is onnxruntime 1.31.0, "
        "not onnxruntime 1.32.0",
        dataclasses.replace(here, program="tscm 0.0.9"): f"its program is tscm 0.0.9, not {here.program}",
        dataclasses.replace(here, options="threads 2"): "its set of options is threads 2, not threads 1",
        dataclasses.replace(here, precision="fp16"): "package [half] is not installed",
        dataclasses.replace(here, backend="tflite"): "there is no backend tflite",
    }
    for key in expected:
        cache.put(engine(key), b"x" * 250_000)
    damaged = cache.put(engine(KEY), b"x")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    rows = json.loads(run("--list", "--json").stdout)["engines"]
    found = {row["file"]: (row["usable"], row["problem"]) for row in rows}
    assert found == {cache.path(key).name: (not why, why) for key, why in expected.items()} | {
        damaged.name: (False, "the one in the cache is cut off: 0 bytes of 1")
    }
    (row,) = (row for row in rows if row["usable"])
    assert row == {
        "file": cache.path(here).name,
        "bytes": cache.path(here).stat().st_size,
        "built": "2023-11-14 22:13:20+00:00",
        "model_id": KEY.model_id,
        "backend": "onnxruntime",
        "version": "onnxruntime 1.32.0",
        "precision": "fp32",
        "input_size": "320x240",
        "device": KEY.device,
        "usable": True,
        "problem": "",
    }
    first, *lines = run("--list").stdout.splitlines()
    assert first == f"compiled networks in {cache.folder}:"
    assert f"{KEY.model_id} by onnxruntime (onnxruntime 1.32.0) in fp32, 320x240" in lines
    assert f"    for {KEY.device}; built 2023-11-14 22:13:20+00:00; 0.3 MB; usable here" in lines
    assert lines[lines.index(damaged.name) + 1].endswith(
        "not usable here: the one in the cache is cut off: 0 bytes of 1"
    )
    for why in filter(None, expected.values()):
        assert sum(line.endswith(f"0.3 MB; not usable here: {why}") for line in lines) == 1
