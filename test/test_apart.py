"""What compiles is a process of its own: whatever becomes of it, there is an engine or one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tscm_core.config import ModelConfig
from tscm_core.deploy import apart
from tscm_core.deploy.apart import compile_apart
from tscm_core.deploy.backend import Target
from tscm_core.deploy.engine_file import EngineInfo, EngineKey
from tscm_core.deploy.load import build_engine
from tscm_core.deploy.weights import find_weights
from tscm_core.errors import DeployError, ModelFileError, StoppedError

KEY = EngineKey("toy-40x30-0123456789ab", "aa", "toy", "toy 1", "a processor", "fp32", (40, 30), "tscm 1")
WRITES = """
import json, sys
from pathlib import Path
from tscm_core.deploy.engine_file import EngineInfo, EngineKey, write_engine
order = json.load(sys.stdin)
key = EngineKey(**{name: tuple(value) if isinstance(value, list) else value for name, value in order["key"].items()})
print("a library prints this")
print(json.dumps({"say": "half of it is done"}))
print("[1, 2]")
write_engine(Path(order["out"]), EngineInfo(key, key.model_id, 2, bytes(8), 1.0, 1, 0.5), b"payload")
"""


def compiling(monkeypatch, code):
    """Compile with ``code`` in the place of the compiler; gives what was made, and what was said."""
    monkeypatch.setattr(apart, "_COMMAND", ("-c", code))
    told = []
    return compile_apart(KEY, find_weights(""), Target(input_size=(40, 30)), (Path("a.jpg"),), told.append), told


def test_the_engine_and_what_is_said_come_back(monkeypatch):
    (info, payload), told = compiling(monkeypatch, WRITES)
    assert (info, payload) == (EngineInfo(KEY, KEY.model_id, 2, bytes(8), 1.0, 1, 0.5), b"payload")
    assert told == ["half of it is done"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"the compiler was ended by SIGKILL \(not enough memory\?\)"),
        ("import os; os.kill(os.getpid(), 11)", "the compiler was ended by SIGSEGV"),
        ("import sys; sys.stdin.read(); raise SystemExit('no room')", "the compiler failed: no room"),
        ("import sys; sys.stdin.close(); sys.exit(3)", "the compiler failed: exit code 3"),
        ("import json; print(json.dumps({'error': 'it is too large'})); raise SystemExit(1)", "^it is too large$"),
        ("", "the compiler ended without an engine"),
        (WRITES.replace("**{", "**{'options': '', **{").replace("items()}", "items()}, 'device': 'other'}"), "device"),
    ],
)
def test_whatever_becomes_of_it_is_one_sentence(monkeypatch, code, sentence):
    with pytest.raises(DeployError, match=sentence) as caught:
        compiling(monkeypatch, code)
    assert "\n" not in str(caught.value)


def ends(pid, seconds):
    """Whether a process ends in time, though nobody may ask for its exit code."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_it_ends_with_the_process_that_wanted_it(tmp_path):
    """A node that is killed while it compiles leaves no compiler behind that takes the robot's memory."""
    mark = tmp_path / "pid"
    sleeper = (
        "import os, sys, time; sys.argv = ['x']; from tscm_core.deploy import apart; "
        f"apart._compile = lambda order: (open({str(mark)!r}, 'w').write(str(os.getpid())), time.sleep(60)); "
        "apart.main()"
    )
    parent = (
        "from tscm_core.deploy import apart; from tscm_core.deploy.backend import Target; "
        "from tscm_core.deploy.engine_file import EngineKey; from tscm_core.deploy.weights import find_weights; "
        f"apart._COMMAND = ('-c', {sleeper!r}); "
        "key = EngineKey('toy', 'aa', 'toy', '1', 'cpu', 'fp32', (4, 3), 'x'); "
        "apart.compile_apart(key, find_weights(''), Target(), (), print)"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        deadline = time.monotonic() + 60
        while not (mark.is_file() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        compiler = psutil.Process(int(mark.read_text()))
        process.kill()
        process.wait()
        assert ends(compiler.pid, 20)


def test_errors_of_ours_and_of_others_come_back_as_a_sentence(tmp_path):
    config = ModelConfig(backend="onnxruntime", engine_cache=str(tmp_path / "cache"), precision="int8")
    with pytest.raises(DeployError, match="onnxruntime on cpu in int8: int8 learns the range"):
        build_engine(config)
    (tmp_path / "none.jpg").write_text("no image")
    with pytest.raises(DeployError, match=r"none\.jpg cannot be read"):
        build_engine(config, calibration=(tmp_path / "none.jpg",))
    assert not list((tmp_path / "cache").glob("*.engine"))


def test_a_damaged_network_file_is_told_as_such(tmp_path):
    damaged = tmp_path / "net.safetensors"
    damaged.write_bytes(find_file()[:-1000] + bytes(1000))
    with pytest.raises(ModelFileError, match=r"^network file .*net\.safetensors is damaged"):
        build_engine(ModelConfig(weights=str(damaged), engine_cache=str(tmp_path / "cache")))


def find_file():
    from tscm_core.network_header import SHIPPED

    return SHIPPED.read_bytes()


def test_it_is_called_off_at_once_with_the_compilers_that_it_started(monkeypatch, tmp_path):
    mark = tmp_path / "pid"
    code = (
        "import subprocess, sys, time; sleep = 'import time; time.sleep(60)'; "
        "child = subprocess.Popen([sys.executable, '-c', sleep]); "
        f"open({str(mark)!r}, 'w').write(str(child.pid)); time.sleep(60)"
    )
    monkeypatch.setattr(apart, "_COMMAND", ("-c", code))
    begun = time.monotonic()
    with pytest.raises(StoppedError, match="stopped while the network was being compiled"):
        compile_apart(
            KEY, find_weights(""), Target(), (), lambda _: None, lambda: bool(mark.is_file() and mark.read_text())
        )
    assert time.monotonic() - begun < 30
    number = int(mark.read_text())
    assert ends(number, 10)


def test_what_killed_processes_left_is_swept_and_what_the_living_use_is_not(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    for name in (f"tscm_compile_{ended.pid}_x", f"tscm_compile_{os.getpid()}_x", "tscm_compile_other_x"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("half of it")
    compiling(monkeypatch, WRITES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [f"tscm_compile_{os.getpid()}_x", "tscm_compile_other_x"]
    )


def test_the_compilers_own_files_go_with_it(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leaves = "import tempfile; open(tempfile.mkdtemp() + '/half', 'w').write('x'); raise SystemExit('it failed')"
    with pytest.raises(DeployError, match="it failed"):
        compiling(monkeypatch, leaves)
    assert not list(tmp_path.iterdir())


def test_a_compiler_whose_node_is_gone_already_does_not_begin():
    done = subprocess.run(
        [sys.executable, "-m", "tscm_core.deploy.apart"],
        input='{"parent": 1}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
