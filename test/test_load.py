"""Which backend is chosen, why, what is compiled and what is taken from the cache; backends are made of a few lines."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import faiss
import numpy as np
import pytest
import torch
from shared_data import compile_default
from training_toys import ToyNetwork, register

from tscm_core.checkpoints import load_network, save_network
from tscm_core.config import ModelConfig
from tscm_core.deploy import building, device, load
from tscm_core.deploy.backend import Target
from tscm_core.deploy.building import compile_engine
from tscm_core.deploy.eager import EagerDescriber
from tscm_core.deploy.engine_cache import EngineCache
from tscm_core.deploy.load import build_engine, load_describer
from tscm_core.deploy.probe import COUNT, agreement, probe_images
from tscm_core.deploy.weights import find_weights
from tscm_core.errors import DeployError, ModelFileError, StoppedError

REMEDY = "package fast is not installed (pip install fast)"
PICTURES = probe_images((40, 30))


class FakeBackend:
    """Eager PyTorch with ``error`` added; the payload holds the weights."""

    def __init__(self, name, error=0.0, refuses="", cannot_build="", says="1.0"):
        self.name, self.error, self.refuses, self.cannot_build, self.says = name, error, refuses, cannot_build, says
        self.builds = self.loads = 0
        self.targets = []

    def refusal(self, target, *, build):
        return self.refuses or (self.cannot_build if build else "")

    def version(self):
        return f"{self.name} {self.says}"

    def options(self, target):
        return f"threads {target.threads}"

    def build(self, network, target, report):
        self.builds += 1
        return b"".join(value.numpy().tobytes() for value in network.state_dict().values())

    def load(self, payload, target):
        self.loads += 1
        self.targets.append(target)
        return FakeRunner(payload, self.error)


class FakeRunner:
    max_batch = 2

    def __init__(self, payload, error):
        self.network, start = ToyNetwork().eval().requires_grad_(False), 0
        for value in self.network.state_dict().values():
            size = value.numel() * value.element_size()
            part = np.frombuffer(payload[start : start + size], value.numpy().dtype)
            value.copy_(torch.from_numpy(part.copy()).reshape(value.shape))
            start += size
        self.error, self.sizes = error, []

    def __call__(self, images):
        assert images.dtype == np.uint8
        assert len(images) <= self.max_batch
        self.sizes.append(len(images))
        rows = EagerDescriber(self.network).describe(list(images))
        rows[:, 0] += self.error
        return rows


@pytest.fixture
def weights(tmp_path):
    register()
    torch.manual_seed(1)
    path = tmp_path / "toy.safetensors"
    save_network(ToyNetwork().eval(), path, config={}, metrics={})
    return path


@pytest.fixture
def backends(monkeypatch):
    """Names to backends; nothing else is there, and no GPU."""
    there = {}
    monkeypatch.setattr(load, "find_backend", there.__getitem__)
    monkeypatch.setattr(load, "compile_apart", lambda key, *rest: compile_engine(there[key.backend], key, *rest[:-1]))
    monkeypatch.setattr(load, "find_gpu", lambda: None)
    for name in ("tensorrt", "onnxruntime", "inductor"):
        there[name] = FakeBackend(name)
    return there


@pytest.fixture
def config(weights, tmp_path):
    return ModelConfig(weights=str(weights), engine_cache=str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads(), cv2.getNumThreads(), faiss.omp_get_max_threads()
    yield
    for setter, count in zip(
        (torch.set_num_threads, cv2.setNumThreads, faiss.omp_set_num_threads), before, strict=True
    ):
        setter(count)


def asked(config, **changes):
    return dataclasses.replace(config, **changes)


def test_auto_takes_the_first_that_works_compiles_once_and_says_so(config, backends):
    told = []
    describer = load_describer(config, told.append)
    assert describer.backend == "onnxruntime 1.0 on cpu, fp32, 1 thread"
    assert told[-1] == f"backend: {describer.backend}"
    assert any(sentence.startswith("compiled toy-") for sentence in told)
    again = build_engine(config)
    assert (backends["onnxruntime"].builds, again.was_there, again.path.is_file()) == (1, True, True)
    assert backends["inductor"].builds == backends["tensorrt"].builds == 0


def test_descriptors_are_those_of_the_network_in_batches_that_the_backend_takes(config, backends, weights):
    describer = load_describer(config)
    network = load_network(weights)
    pictures = [*PICTURES, np.full((100, 50, 3), 90, np.uint8), *PICTURES]
    expected = EagerDescriber(network).describe(pictures)
    assert describer.describe(pictures) == pytest.approx(expected, abs=1e-6)
    assert describer._runner.sizes[-4:] == [2, 2, 2, 1]
    assert (describer.dim, describer.input_size) == (6, network.input_size)
    assert describer.model_id == EagerDescriber(network).model_id == find_weights(str(weights)).model_id
    empty = describer.describe([])
    assert (empty.shape, empty.dtype) == ((0, 6), np.float32)


def test_auto_says_why_the_faster_ones_are_not_used(config, backends):
    backends["onnxruntime"].refuses = REMEDY
    backends["inductor"].cannot_build = "there is no C++ compiler (apt install g++)"
    told = []
    built = build_engine(config, told.append)
    assert (built.backend, built.info, built.path) == ("eager", None, None)
    assert built.describer.backend.startswith("eager PyTorch")
    assert [sentence for sentence in told if "not used" in sentence] == [
        f"not used: onnxruntime on cpu in fp32: {REMEDY}",
        "not used: inductor on cpu in fp32: there is no C++ compiler (apt install g++)",
    ]


@pytest.mark.parametrize("name", ["onnxruntime", "tensorrt"])
def test_one_that_is_asked_for_and_cannot_run_is_an_error_with_the_remedy(config, backends, name):
    backends[name].refuses = REMEDY
    with pytest.raises(DeployError) as caught:
        load_describer(asked(config, backend=name))
    assert str(caught.value) == f"backend {name} cannot run here: {name} on cpu in fp32: {REMEDY}"
    assert all(backend.builds == 0 for backend in backends.values())


@pytest.mark.parametrize(("error", "works"), [(0.0, True), (0.005, True), (0.03, False)])
def test_an_engine_that_says_something_else_than_the_network_is_not_used(config, backends, error, works):
    network = load_network(config.weights)
    expected = EagerDescriber(network).describe(list(PICTURES))
    other = expected + np.float32([error, 0, 0, 0, 0, 0])
    cosine = np.min(np.sum(other * expected, axis=1) / np.linalg.norm(other, axis=1))
    assert (cosine >= 0.9999) == works  # what the numbers above stand for
    backends["onnxruntime"].error = error
    built = build_engine(config)
    assert built.backend == ("onnxruntime" if works else "inductor")
    if works:
        assert built.info.agreement == pytest.approx(cosine, abs=1e-5)
    else:
        assert "to a cosine of 0.99" in built.refused[0]
        assert len(list((built.path.parent).glob("*.engine"))) == 1
        with pytest.raises(DeployError, match=r"agree with those of the network to a cosine of 0\.99"):
            load_describer(asked(config, backend="onnxruntime"))


def test_an_engine_in_the_cache_that_stopped_working_is_compiled_again(config, backends):
    build_engine(config)
    found = backends["onnxruntime"]
    broken = {"left": 1}

    def load_broken(payload, target):
        runner = FakeRunner(payload, 0.5 if broken["left"] else 0.0)
        broken["left"] = 0
        return runner

    found.load = load_broken
    told = []
    built = build_engine(config, told.append)
    assert (built.backend, built.was_there, found.builds) == ("onnxruntime", False, 2)
    assert any(sentence.startswith("the engine in the cache does not work") for sentence in told)


@pytest.mark.parametrize(
    "change",
    [
        lambda config, backend, patch: dataclasses.replace(config, threads=2),
        lambda config, backend, patch: setattr(backend, "says", "2.0"),
        lambda config, backend, patch: patch.setattr(building, "device_name", lambda _: "another processor"),
        lambda config, backend, patch: patch.setattr(building, "_program", lambda: "tscm 9"),
    ],
    ids=["options", "version", "device", "program"],
)
def test_whatever_an_engine_depends_on_makes_another_one(config, backends, monkeypatch, change):
    build_engine(config)
    changed = change(config, backends["onnxruntime"], monkeypatch) or config
    assert not build_engine(changed).was_there
    assert build_engine(changed).was_there
    assert backends["onnxruntime"].builds == 2


def test_other_weights_under_the_same_name_are_compiled_anew(config, backends, weights):
    first = build_engine(config)
    torch.manual_seed(2)
    save_network(ToyNetwork().eval(), weights, config={}, metrics={})
    second = build_engine(config)
    assert not second.was_there
    assert second.describer.model_id != first.describer.model_id


def test_on_a_gpu_half_precision_is_tried_first_and_the_cpu_last(config, backends, monkeypatch):
    gpu = device.Gpu("Toy GPU", "9.0", "12.4")
    monkeypatch.setattr(load, "find_gpu", lambda: gpu)
    monkeypatch.setattr(device, "find_gpu", lambda: gpu)
    for backend in backends.values():
        backend.cannot_build = "it does not work" if backend.name != "inductor" else ""
    backends["inductor"].refusal = lambda target, build: "" if target.device == "cpu" else "not on this GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    built = build_engine(config)
    order = [sentence.split(":")[0] for sentence in built.refused]
    assert order == [
        *(f"{name} on cuda in fp16 and fp32" for name in ("tensorrt", "onnxruntime", "inductor", "eager")),
        "onnxruntime on cpu in fp32",
    ]
    assert (built.backend, built.target.device, built.target.max_batch) == ("inductor", "cpu", 1)


def test_a_gpu_that_is_asked_for_is_not_replaced_by_the_cpu(config, backends, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for backend in backends.values():
        backend.refuses = "there is no GPU"
    with pytest.raises(
        DeployError, match=r"no backend can run here: .* eager on cuda in fp16 and fp32: PyTorch finds no GPU"
    ):
        load_describer(asked(config, device="cuda"))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_eager_runs_no_other_precision_on_a_cpu(config, backends, precision):
    with pytest.raises(DeployError, match=f"eager PyTorch does not run {precision} on a cpu"):
        load_describer(asked(config, backend="eager", precision=precision))


def test_without_room_for_the_cache_it_works_and_says_so(config, backends, monkeypatch):
    def full(cache, info, payload):
        raise DeployError("engine toy cannot be written: No space left on device")

    monkeypatch.setattr(EngineCache, "put", full)
    told = []
    built = build_engine(config, told.append)
    assert (built.backend, built.path, built.was_there) == ("onnxruntime", None, False)
    assert any("used but not kept" in sentence and "No space left" in sentence for sentence in told)


def test_a_cache_that_cannot_be_one_is_an_error_and_not_a_slower_backend(config, backends, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DeployError, match=r"cache is not a folder: remove it") as caught:
        load_describer(config)
    assert "no backend" not in str(caught.value)


def test_force_compiles_what_is_there(config, backends):
    build_engine(config)
    assert not build_engine(config, force=True).was_there
    assert backends["onnxruntime"].builds == 2


def test_missing_weights_are_one_sentence_before_anything_is_tried(config, backends, tmp_path):
    with pytest.raises(ModelFileError, match=r"absent\.safetensors does not exist"):
        load_describer(asked(config, weights=str(tmp_path / "absent.safetensors")))


def test_a_process_that_runs_a_compiled_network_never_loads_pytorch(tmp_path):
    """By the real backend for processors; what compiles is a process of its own."""
    pytest.importorskip("onnxruntime")
    code = (
        "import sys; from tscm_core.config import ModelConfig; from tscm_core.deploy.load import build_engine; "
        f"built = build_engine(ModelConfig(backend='onnxruntime', engine_cache={str(tmp_path)!r})); "
        "print(built.was_there, 'torch' in sys.modules, built.describer.model_id)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ).stdout
        for _ in range(2)
    ]
    model = find_weights("").model_id
    assert runs == [f"False False {model}\n", f"True False {model}\n"]


def test_the_probe_tells_networks_apart_and_is_always_the_same():
    images = probe_images((64, 48))
    assert (images.shape, images.dtype) == ((COUNT, 48, 64, 3), np.uint8)
    assert np.array_equal(images, probe_images((64, 48)))
    assert all(image.std() > 10 for image in images)


@pytest.mark.parametrize(
    ("found", "expected"),
    [([[1, 0]], 1.0), ([[0, 1]], 0.0), ([[-2, 0]], -1.0), ([[0, 0]], -1.0), ([[np.nan, 1]], -1.0), ([[1, 0, 0]], -1.0)],
)
def test_agreement_is_the_least_cosine_and_nonsense_agrees_with_nothing(found, expected):
    assert agreement(np.float32(found), np.float32([[1, 0]])) == pytest.approx(expected)


def test_the_worst_row_counts():
    assert agreement(np.float32([[1, 0], [1, 1]]), np.float32([[1, 0], [1, 0]])) == pytest.approx(0.5**0.5)


def test_the_processor_has_a_name_and_its_instructions_count(monkeypatch, tmp_path):
    texts = {
        "x86": "processor: 0\nmodel name\t: Quick 9\nflags\t\t: sse avx2\n",
        "flags": "processor: 0\nmodel name\t: Quick 9\nflags\t\t: sse avx2 avx512f\n",
        "arm": "processor: 0\nFeatures: fp asimd\nCPU part: 0xd42\n",
    }
    names = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(device, "_CPUINFO", tmp_path / name)
        names[name] = device.cpu_name.__wrapped__()
    monkeypatch.setattr(device, "_CPUINFO", tmp_path / "absent")
    assert names["x86"].startswith("Quick 9 ")
    assert names["arm"].startswith("0xd42 ")
    assert len({*names.values(), device.cpu_name.__wrapped__()}) == 4


def test_targets_carry_the_settings(config, backends):
    load_describer(asked(config, threads=3, workspace_mb=64))
    (width, height) = ToyNetwork().input_size
    assert set(backends["onnxruntime"].targets) == {Target("cpu", "fp32", (width, height), 3, 1, 64)}


class IntegerBackend(FakeBackend):
    """Descriptors in int8 are far from the network's."""

    def build(self, network, target, report):
        if target.precision == "int8":
            raise DeployError("int8 learns from images: tscm compile --precision int8")
        return super().build(network, target, report)

    def build_int8(self, network, target, images, report):
        self.seen = tuple(images)
        self.error = 0.2
        return super().build(network, target, report)


def test_int8_is_a_model_of_its_own_learnt_from_images(config, backends, tmp_path):
    backends["onnxruntime"] = backend = IntegerBackend("onnxruntime")
    eager = load_describer(asked(config, backend="eager"))
    config = asked(config, precision="int8", backend="onnxruntime")
    with pytest.raises(DeployError, match="tscm compile --precision int8"):
        load_describer(config)
    images = (tmp_path / "a.jpg", tmp_path / "b.jpg")
    for image in images:
        image.write_bytes(image.name.encode())
    built = build_engine(config, calibration=images)
    assert backend.seen == images
    assert 0.8 < built.info.agreement < 0.999
    assert built.describer.model_id.startswith(f"{eager.model_id}-int8-")
    later = build_engine(config)
    assert (later.was_there, later.describer.model_id) == (True, built.describer.model_id)


def test_a_backend_without_int8_says_so(config, backends, tmp_path):
    with pytest.raises(DeployError, match="inductor has no int8"):
        build_engine(asked(config, precision="int8", backend="inductor"), calibration=(tmp_path / "a.jpg",))


def test_other_images_do_not_pass_for_those_that_an_engine_learnt_from(config, backends, tmp_path):
    backends["onnxruntime"] = IntegerBackend("onnxruntime")
    config = asked(config, precision="int8", backend="onnxruntime")
    (first := tmp_path / "first.jpg").write_bytes(b"one")
    (second := tmp_path / "second.jpg").write_bytes(b"two")
    build_engine(config, calibration=(first,))
    assert build_engine(config, calibration=(first,)).was_there
    with pytest.raises(DeployError, match="calibrated on other images; --force replaces it"):
        build_engine(config, calibration=(second,))
    assert not build_engine(config, force=True, calibration=(second,)).was_there
    assert build_engine(config, calibration=(second,)).was_there


def test_weights_that_are_replaced_while_they_are_read_are_not_taken_for_the_others(config, backends, monkeypatch):
    """The name of the model is read first and the weights later, when the compiler has started."""
    old = find_weights(config.weights)
    torch.manual_seed(5)
    save_network(ToyNetwork().eval(), config.weights, config={}, metrics={})
    monkeypatch.setattr(load, "find_weights", lambda _: old)
    with pytest.raises(ModelFileError, match="were replaced while they were read"):
        load_describer(config)
    assert not list(EngineCache(load.cache_folder(config.engine_cache)).entries())


def test_a_backend_that_loads_but_does_not_run_is_passed_over(config, backends):
    def fails(payload, target):
        def run(images):
            raise RuntimeError("no kernel image is available\nfor this device")

        run.max_batch = 1
        return run

    backends["onnxruntime"].load = fails
    built = build_engine(config)
    assert built.backend == "inductor"
    assert built.refused == ("onnxruntime on cpu in fp32: it does not run: RuntimeError: no kernel image is available",)


def test_half_precision_in_eager_pytorch_is_checked_too(config, monkeypatch):
    class Half(EagerDescriber):
        def __init__(self, network, size, device="cpu", half=False):
            super().__init__(network, size)
            self.half = half

        def describe(self, images):
            return super().describe(images) + np.float32([[0.2 if self.half else 0.0, 0, 0, 0, 0, 0]])

    monkeypatch.setattr("tscm_core.deploy.eager.EagerDescriber", Half)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeployError, match=r"eager on cuda in fp16: .* agree with float32 to a cosine of 0\.9"):
        load_describer(asked(config, backend="eager", device="cuda", precision="fp16"))


def test_compiling_is_called_off_and_nothing_else_is_tried(config, backends, monkeypatch):
    def called_off(key, weights, target, calibration, report, stop):
        assert stop()
        raise StoppedError("stopped while the network was being compiled")

    monkeypatch.setattr(load, "compile_apart", called_off)
    with pytest.raises(StoppedError):
        load_describer(config, stop=lambda: True)


def test_one_image_at_a_time_is_described_whoever_asks(config, backends):
    describer = load_describer(config)
    inside, most = [0], [0]

    def slow(images):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        inside[0] -= 1
        return np.ones((len(images), 6), np.float32)

    slow.max_batch = 2
    describer._runner = slow
    threads = [threading.Thread(target=describer.describe, args=(list(PICTURES),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_an_engine_depends_on_what_our_code_says_and_not_on_its_names_alone(tmp_path):
    (one := tmp_path / "a.py").write_text("x = 1")
    before = building.digest_of([one])
    one.write_text("x = 2")
    assert building.digest_of([one]) != before
    assert building._program().endswith(building.digest_of(_sources()))


def _sources():
    home = Path(building.__file__).parent
    return [*home.glob("*.py"), *(home.parent / "models").glob("*.py")]


def test_eager_pytorch_is_limited_though_it_was_not_loaded_before(tmp_path):
    code = (
        "from tscm_core.config import ModelConfig; from tscm_core.deploy.load import load_describer; "
        "load_describer(ModelConfig(backend='eager')); import torch; print(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout == "1\n"


def test_onnx_runtime_leaves_nothing_in_the_home_of_the_user(tmp_path):
    """It has telemetry, which makes a number for the device and a database of events."""
    cache = shared_cache()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = (
        "from tscm_core.config import ModelConfig; from tscm_core.deploy.load import build_engine; "
        f"print(build_engine(ModelConfig(backend='onnxruntime', engine_cache={cache!r})).was_there)"
    )
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | home)
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def shared_cache():
    """Where the default network is compiled already."""
    return str(compile_default().path.parent)
