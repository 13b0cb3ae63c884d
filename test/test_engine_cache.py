"""The cache among real processes: one build for all, nothing half-written, nothing of others, and why it is stale."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from engines import KEY, OTHER, engine, with_other

from tscm_core.deploy.engine_cache import EngineCache, NotKeptError, cache_folder, get_or_build
from tscm_core.deploy.engine_locks import sweep
from tscm_core.errors import DeployError

PATIENCE_S = 20.0
PAYLOAD = bytes(range(256)) * 40
NOBODY = 65534

WORKER = textwrap.dedent(
    """
    import json, os, resource, signal, sys, time
    from pathlib import Path

    from engines import KEY, engine
    from tscm_core.deploy.engine_cache import EngineCache, NotKeptError, get_or_build

    folder, scene = Path(sys.argv[1]), sys.argv[2]
    signal.alarm(30)  # whoever waits for a word that does not come learns that it ended
    PAYLOAD = bytes(range(256)) * 40


    def say(**what):
        print(json.dumps(what), flush=True)


    def build():
        say(building=os.getpid())
        if scene == "with a child" and not (child := os.fork()):
            time.sleep(60)
            os._exit(0)
        elif scene == "with a child":
            say(child=child)
        while not (folder.parent / "go").exists():
            time.sleep(0.01)
        return engine(build_s=float(os.getpid())), PAYLOAD


    def stuck(descriptor):
        say(writing=os.fstat(descriptor).st_size)
        time.sleep(60)


    if scene == "writing":
        os.fsync = stuck
    if scene == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        info, payload, was_there = get_or_build(EngineCache(folder), KEY, build, lambda sentence: say(report=sentence))
        say(built_by=info.build_s, whole=payload == PAYLOAD, was_there=was_there)
    except NotKeptError as error:
        say(error=str(error), built_by=error.info.build_s, whole=error.payload == PAYLOAD)
    """
)


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def worker(tmp_path):
    """Starts processes that want the engine for ``KEY``; none outlives the test."""
    (tmp_path / "worker.py").write_text(WORKER)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    started = []

    def start(scene=""):
        command = [sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "engines"), scene]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths})
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process, what):
    """The next thing of this kind that a worker says."""
    for line in process.stdout:
        told = json.loads(line)
        if what in told:
            return told
    raise AssertionError(f"the worker ended without {what}")


def kill(process):
    process.send_signal(signal.SIGKILL)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL


def made(info=None, payload=PAYLOAD):
    """A builder that counts its calls."""

    def build():
        build.calls += 1
        return info or engine(), payload

    build.calls = 0
    return build


def never():
    raise AssertionError("nothing was to be built")


def ignore(_):
    pass


def parts(cache):
    return [path.name for path in cache.folder.iterdir() if path.suffix == ".part"]


# ---------------------------------------------------------------------------------------------- among processes


def test_two_at_once_build_once(cache, worker, tmp_path):
    first = worker()
    builder = said(first, "building")["building"]
    second = worker()
    waiting = said(second, "report")["report"]
    assert f"process {builder} is compiling efficientnet_lite0-320x240-" in waiting
    assert int(re.search(r"waiting for it, (\d+) s so far", waiting)[1]) >= 1
    (tmp_path / "go").touch()
    assert said(first, "whole") == {"built_by": builder, "whole": True, "was_there": False}
    assert said(second, "whole") == {"built_by": builder, "whole": True, "was_there": True}
    assert cache.get(KEY) == (engine(build_s=float(builder)), PAYLOAD)


def test_a_builder_that_is_killed_leaves_its_place_to_the_next(cache, worker, tmp_path):
    first = worker()
    said(first, "building")
    second = worker()
    said(second, "report")  # it waits
    kill(first)
    builder = said(second, "building")["building"]
    assert not cache.path(KEY).exists()
    (tmp_path / "go").touch()
    assert said(second, "whole") == {"built_by": builder, "whole": True, "was_there": False}
    assert first.stdout.read() == ""


def test_a_builder_that_is_killed_while_it_writes_leaves_nothing(cache, worker, tmp_path):
    (tmp_path / "go").touch()
    process = worker("writing")
    assert said(process, "writing")["writing"] > len(PAYLOAD)  # all is written, but it is not on the disk
    (part,) = parts(cache)
    assert not cache.path(KEY).exists()
    with cache.lock(with_other("device"), ignore):  # somebody builds another engine meanwhile
        assert parts(cache) == [part]
    kill(process)
    assert parts(cache) == [part]
    assert cache.get(KEY) == "there is none in the cache yet"
    assert cache.entries() == ()
    build = made()
    assert get_or_build(cache, KEY, build, ignore) == (engine(), PAYLOAD, False)
    assert build.calls == 1
    assert parts(cache) == []


def test_a_child_of_a_killed_builder_does_not_keep_its_lock(cache, worker):
    process = worker("with a child")
    child = said(process, "child")["child"]
    try:
        kill(process)
        os.kill(child, 0)  # it is alive
        finished = threading.Event()
        thread = threading.Thread(
            target=lambda: [get_or_build(cache, KEY, made(), ignore), finished.set()], daemon=True
        )
        thread.start()
        assert finished.wait(PATIENCE_S)
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_threads_build_once(cache):
    begun, go, answers = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        assert go.wait(PATIENCE_S)
        return engine(), PAYLOAD

    def want(build):
        answers.append(get_or_build(cache, KEY, build, ignore))

    threads = [threading.Thread(target=want, args=[slow]), threading.Thread(target=want, args=[never])]
    threads[0].start()
    assert begun.wait(PATIENCE_S)
    threads[1].start()
    time.sleep(0.1)  # as far as it gets
    go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    answers.sort(key=lambda answer: answer[2])  # who has built need not be the first to say so
    assert answers == [(engine(), PAYLOAD, False), (engine(), PAYLOAD, True)]


def test_a_file_that_is_about_to_be_locked_is_not_lost_to_a_sweep(cache, monkeypatch):
    """The instant between making a temporary file and locking it: the sweep takes it, and another is made."""
    import fcntl

    cache.prepare()
    plain, swept = fcntl.flock, []

    def flock(descriptor, kind):
        if kind == fcntl.LOCK_EX and not swept:
            swept.extend(parts(cache))
            sweep(cache.folder)
        plain(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    cache.put(engine(), PAYLOAD)
    assert len(swept) == 1
    assert cache.get(KEY) == (engine(), PAYLOAD)


# ---------------------------------------------------------------------------------------------- what is stale


def test_an_engine_is_built_once_and_then_loaded(cache):
    build, log = made(), []
    assert get_or_build(cache, KEY, build, log.append) == (engine(), PAYLOAD, False)
    assert get_or_build(cache, KEY, never, log.append) == (engine(), PAYLOAD, True)
    assert log == ["onnxruntime has to be compiled in fp32: there is none in the cache yet"]
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".engine", ".lock"]


def test_it_is_built_again_when_asked(cache):
    cache.put(engine(), b"old")
    log, newer = [], engine(build_s=7.0)
    assert get_or_build(cache, KEY, made(newer), log.append, force=True) == (newer, PAYLOAD, False)
    assert cache.get(KEY) == (newer, PAYLOAD)
    assert log[-1].endswith("as asked for, though it is there")


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "writable", "a folder"])
def test_a_damaged_engine_is_said_and_built_again(harm, cache):
    path, log = cache.put(engine(), PAYLOAD), []
    content = path.read_bytes()
    if harm == "a folder":
        path.unlink()
        path.mkdir()
    elif harm == "writable":
        path.chmod(0o666)
    else:
        changed = {"cut": content[: len(content) // 2], "flipped": content[:-9] + b"?" + content[-8:], "empty": b""}
        path.write_bytes(changed[harm])
    found = cache.get(KEY)
    expected = {
        "cut": "cut off",
        "empty": "cut off",
        "flipped": "damaged",
        "writable": "mode 666",
        "a folder": "Is a directory",
    }
    assert expected[harm] in found
    if harm == "a folder":
        with pytest.raises(NotKeptError, match="cannot be written: Is a directory"):
            get_or_build(cache, KEY, made(), log.append)
        return
    assert get_or_build(cache, KEY, made(), log.append) == (engine(), PAYLOAD, False)
    assert log == [f"onnxruntime has to be compiled in fp32: {found}"]
    assert get_or_build(cache, KEY, never, log.append)[2]


def test_an_engine_of_another_gpu_is_not_loaded(cache):
    """Neither beside our own nor under its name."""
    other = with_other("device")
    there = cache.put(engine(other), b"code for another GPU")
    said = f"its device is {OTHER['device']}, not {KEY.device}"
    assert cache.get(KEY) == f"the one in the cache does not fit: {said}"
    shutil.copy(there, cache.path(KEY))
    assert cache.get(KEY) == f"the one in the cache is another: {said}"
    assert get_or_build(cache, KEY, made(), ignore) == (engine(), PAYLOAD, False)
    assert cache.get(other) == (engine(other), b"code for another GPU")


@pytest.mark.parametrize("field", OTHER)
def test_every_field_of_the_key_has_an_engine_of_its_own(field, cache):
    cache.put(engine(), PAYLOAD)
    other = with_other(field)
    assert isinstance(cache.get(other), str)
    assert get_or_build(cache, other, made(engine(other), b"other"), ignore) == (engine(other), b"other", False)
    assert cache.get(KEY) == (engine(), PAYLOAD)


def test_the_newest_of_its_kind_says_what_changed(cache):
    for built_at, version in ((10, "1.29"), (12, "1.31"), (11, "1.30")):
        cache.put(engine(dataclasses.replace(KEY, backend_version=version), built_at=built_at), b"")
    cache.path(KEY).with_stem("damaged").write_bytes(b"?")
    assert cache.get(KEY) == "the one in the cache does not fit: its version is 1.31, not onnxruntime 1.32.0"


def test_a_build_that_fails_leaves_nothing_and_frees_its_place(cache):
    def failing():
        raise DeployError("no such operator")

    for _ in range(2):
        with pytest.raises(DeployError, match="no such operator"):
            get_or_build(cache, KEY, failing, ignore)
    assert cache.entries() == ()
    assert get_or_build(cache, KEY, made(), ignore)[2] is False


def test_what_is_there_is_listed(cache):
    assert cache.entries() == ()
    paths = [cache.put(engine(key), b"12345") for key in (KEY, with_other("precision"))]
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    entries = {entry.path: entry for entry in cache.entries()}
    assert set(entries) == set(paths)
    assert (entries[paths[0]].info, entries[paths[0]].problem) == (engine(), "")
    assert entries[paths[0]].size == paths[0].stat().st_size
    assert (entries[paths[1]].info, entries[paths[1]].problem) == (
        None,
        "the one in the cache is cut off: 4 bytes of 5",
    )


# ---------------------------------------------------------------------------------------------- no cache to be had


@pytest.fixture
def as_nobody():
    """A folder of a user whom permissions hold, root or not; and this process as that user."""
    folder = Path(tempfile.mkdtemp())
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield folder
    if os.getuid() == 0:
        os.seteuid(0)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o700) if path.is_dir() else None
    shutil.rmtree(folder)


def test_a_full_disk_gives_the_engine_all_the_same(cache, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotKeptError, match="cannot be written: No space left on device; make room") as caught:
        get_or_build(cache, KEY, made(), ignore)
    assert isinstance(caught.value, DeployError)
    assert (caught.value.info, caught.value.payload) == (engine(), PAYLOAD)
    assert "\n" not in str(caught.value)
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


def test_a_disk_that_is_full_in_the_middle(cache, worker, tmp_path):
    (tmp_path / "go").touch()
    told = said(worker("full disk"), "error")
    assert told["whole"]
    assert "cannot be written: File too large" in told["error"]
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written(as_nobody):
    cache = EngineCache(as_nobody / "engines")
    cache.put(engine(), PAYLOAD)
    cache.folder.chmod(0o500)
    assert get_or_build(cache, KEY, never, ignore) == (engine(), PAYLOAD, True)
    other = with_other("precision")
    with pytest.raises(NotKeptError, match=r"engine cache \S+/engines cannot be used: Permission denied; ") as caught:
        get_or_build(cache, other, made(engine(other)), ignore)
    assert caught.value.info == engine(other)
    for attempt in (cache.prepare, lambda: cache.put(engine(), b"")):
        with pytest.raises(DeployError, match=r"set model\.engine_cache to another folder"):
            attempt()


def test_a_folder_that_cannot_be_looked_into(as_nobody):
    inner = as_nobody / "home"
    cache = EngineCache(inner / "engines")
    cache.put(engine(), PAYLOAD)
    inner.chmod(0)
    cache.check()
    assert cache.get(KEY) == "the one in the cache cannot be read: Permission denied"
    with pytest.raises(DeployError, match="cannot be used: Permission denied"):
        cache.entries()
    with pytest.raises(NotKeptError):
        get_or_build(cache, KEY, made(), ignore)


# ---------------------------------------------------------------------------------------------- whose folder it is


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_an_error(mode, cache):
    cache.put(engine(), PAYLOAD)
    cache.folder.chmod(mode)
    for attempt in (lambda: cache.get(KEY), cache.entries, cache.prepare, lambda: cache.put(engine(), b"")):
        with pytest.raises(
            DeployError, match=rf"writable by other users \(mode {mode:o}\).*chmod go-w {cache.folder}, or"
        ):
            attempt()
    with pytest.raises(DeployError) as caught:
        get_or_build(cache, KEY, never, ignore)
    assert not isinstance(caught.value, NotKeptError)


def test_a_folder_of_another_user_is_an_error(cache, monkeypatch):
    cache.put(engine(), PAYLOAD)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DeployError, match=rf"belongs to user {os.getuid()}, not to .*: take it over with chown, or"):
        cache.get(KEY)


def test_an_engine_of_another_user_in_our_folder_is_built_again(as_nobody):
    if os.getuid():
        pytest.skip("only root can give a file to somebody else")
    cache = EngineCache(as_nobody / "engines")
    path = cache.put(engine(), PAYLOAD)
    os.seteuid(0)
    os.chown(path, 0, 0)
    path.chmod(0o644)
    os.seteuid(NOBODY)
    assert cache.get(KEY) == f"the one in the cache belongs to user 0, not to {NOBODY} who runs this"
    assert get_or_build(cache, KEY, made(), ignore) == (engine(), PAYLOAD, False)
    assert cache.get(KEY) == (engine(), PAYLOAD)


def test_the_folder_is_ours_alone_whatever_the_umask(cache):
    before = os.umask(0)
    try:
        path = cache.put(engine(), PAYLOAD)
        with cache.lock(KEY, ignore):
            pass
    finally:
        os.umask(before)
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (path, path.with_suffix(".lock"))} == {0o600}


def test_what_is_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    for attempt in (EngineCache(tmp_path / "file").prepare, EngineCache(tmp_path / "file").entries):
        with pytest.raises(DeployError, match=r"engine cache .*file is not a folder: remove it, or set"):
            attempt()
    with pytest.raises(DeployError, match=rf"cannot be used: File exists \({tmp_path}/file\); make room"):
        EngineCache(tmp_path / "file" / "engines").prepare()
    assert EngineCache(tmp_path / "file" / "engines").get(KEY) == "the one in the cache cannot be read: Not a directory"


# ---------------------------------------------------------------------------------------------- where it is


@pytest.mark.parametrize(
    ("setting", "xdg", "expected"),
    [
        ("", None, "/home/robot/.cache/tscm/engines"),
        ("", "", "/home/robot/.cache/tscm/engines"),
        ("", "relative", "/home/robot/.cache/tscm/engines"),
        ("", "/var/cache/robot", "/var/cache/robot/tscm/engines"),
        ("/data/engines", "/var/cache/robot", "/data/engines"),
        ("~/engines", None, "/home/robot/engines"),
    ],
)
def test_the_folder_that_is_meant(setting, xdg, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/robot")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_folder(setting) == Path(expected)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(DeployError, match=r"no home folder .*: set model\.engine_cache"):
        cache_folder("~no_such_user_here/engines")
