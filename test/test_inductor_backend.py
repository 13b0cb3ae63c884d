"""AOTInductor on a toy network: one build for the whole file, since a compiler takes its time."""

import io
import os
import shutil
import tempfile
import threading
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from training_toys import HEIGHT, WIDTH, ToyNetwork

from tscm_core.deploy import inductor_backend
from tscm_core.deploy.backend import Target
from tscm_core.deploy.inductor_backend import InductorBackend, InductorRunner
from tscm_core.errors import DeployError

TARGET = Target(input_size=(WIDTH, HEIGHT), max_batch=2)
compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def toy():
    network = ToyNetwork().eval()
    norm = network.trunk[1]
    with torch.no_grad():
        for tensor, shift in ((norm.running_mean, 0.3), (norm.running_var, 2.0), (norm.weight, 1.5), (norm.bias, 0.1)):
            tensor.add_(shift * torch.linspace(0.1, 1, 4))
    return network


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The network, what was built of it, what that reported and printed, and what it left behind."""
    network, folder, reports, printed = toy(), tmp_path_factory.mktemp("scratch"), [], io.StringIO()
    before, threads, tempfile.tempdir = dict(os.environ), torch.get_num_threads(), str(folder)
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            payload = InductorBackend().build(network, TARGET, reports.append)
        left = [list(folder.iterdir()), dict(os.environ) == before, torch.get_num_threads() == threads]
    finally:
        tempfile.tempdir = None
    return network, payload, reports, printed.getvalue(), left


@pytest.fixture
def runner(built):
    return InductorBackend().load(built[1], TARGET)


def pictures(count):
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def eager(network, images):
    """Normalised in numpy, one channel after the other."""
    channels = [(images[..., c].astype(np.float32) - network.mean[c]) / network.std[c] for c in range(3)]
    with torch.no_grad():
        return network(torch.from_numpy(np.stack(channels, axis=1))).numpy()


@compiler
@pytest.mark.parametrize("count", [1, 2])
def test_what_was_compiled_gives_what_the_network_gives(built, runner, count):
    images = pictures(count)
    found = runner(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, eager(built[0], images), atol=1e-6)


@compiler
def test_a_build_reports_once_prints_nothing_and_leaves_the_process_as_it_was(built):
    _, _, reports, printed, left = built
    assert len(reports) == 1
    assert "AOTInductor" in reports[0]
    assert printed == ""
    assert left == [[], True, True]
    assert not torch._inductor.config.freezing


@compiler
def test_a_loaded_program_runs_with_its_files_gone(built, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    runner = InductorBackend().load(built[1], TARGET)
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before
    assert runner(pictures(1)).shape == (1, 6)


@compiler
def test_read_only_and_strided_images_are_taken_as_they_are(runner):
    images = pictures(2)
    images.setflags(write=False)
    np.testing.assert_array_equal(runner(images[::-1]), runner(images)[::-1])


def test_each_thread_that_calls_is_limited():
    """OpenMP's own count in the calling thread, which is what oneDNN asks for."""
    found, threads = [], torch.get_num_threads()

    def program(images):
        found.append([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"])
        return [torch.ones(1, 6)]

    runner = InductorRunner(program, Target(threads=3))
    worker = threading.Thread(target=runner, args=(pictures(1),))
    try:
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(threads)
    assert 3 in found[0]


@compiler
def test_a_damaged_package_is_refused_in_one_sentence(built):
    with pytest.raises(DeployError, match=r"inductor compiled cannot be loaded: [^\n]+; compile again$"):
        InductorBackend().load(built[1][:1000], TARGET)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target(precision="fp16"), "inductor computes in fp32 on a CPU, not in fp16 (set model.precision: fp32)"),
        (Target(precision="int8"), "inductor computes in fp32 on a CPU, not in int8 (set model.precision: fp32)"),
    ],
)
def test_only_float32_on_a_cpu(target, words):
    assert InductorBackend().refusal(target, build=False) == words


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "finds no NVIDIA GPU here" in InductorBackend().refusal(Target(device="cuda"), build=False)


@pytest.mark.parametrize(
    ("precision", "installed", "words"),
    [("fp16", True, ""), ("fp32", True, ""), ("int8", True, "not in int8"), ("fp16", False, "pip install triton")],
)
def test_on_a_gpu(monkeypatch, precision, installed, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(inductor_backend, "_has_cxx", lambda: True)
    monkeypatch.setattr(inductor_backend.importlib.util, "find_spec", lambda name: object() if installed else None)
    found = InductorBackend().refusal(Target(device="cuda", precision=precision), build=True)
    assert words in found
    assert bool(words) == bool(found)


def test_without_a_compiler_nothing_is_built_but_what_was_built_still_runs(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    assert InductorBackend().refusal(TARGET, build=True) == "there is no C++ compiler (apt install g++)"
    assert InductorBackend().refusal(TARGET, build=False) == ""


@compiler
def test_a_compiler_that_fails_is_an_error_with_the_reason(built, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("C++ compile error\n\nCommand:\ng++ and a thousand lines")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    with pytest.raises(DeployError, match=r"inductor cannot compile the network: C\+\+ compile error; or choose"):
        InductorBackend().build(built[0], TARGET, str)


def test_a_missing_compiler_is_an_error_with_the_remedy(monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    def fail(*_, **__):
        raise InvalidCxxCompiler

    monkeypatch.setattr(inductor_backend, "_compile", fail)
    with pytest.raises(DeployError, match=r"there is no C\+\+ compiler \(apt install g\+\+\)"):
        InductorBackend().build(toy(), TARGET, str)


def test_what_is_compiled_in_is_in_the_key():
    backend = InductorBackend()
    assert backend.options(Target(threads=1)) != backend.options(Target(threads=2))
    assert backend.options(Target(max_batch=1)) == backend.options(Target(max_batch=8))
    cuda = [Target(device="cuda", max_batch=size) for size in (1, 8)]
    assert backend.options(cuda[0]) != backend.options(cuda[1])
    assert backend.version() == f"torch {torch.__version__}"
