"""All around TensorRT: what it is asked, and what is done with its answers. The package itself is a stand-in."""

import importlib.util
import inspect
import sys
import tempfile

import numpy as np
import pytest
import torch
from fake_torch_tensorrt import COMPILE, INPUT, SAVE, empty, fake
from training_toys import HEIGHT, WIDTH, ToyNetwork

from tscm_core.deploy.backend import Target
from tscm_core.deploy.tensorrt_backend import TensorRtBackend
from tscm_core.errors import DeployError

VERSIONS = sorted(COMPILE)
TYPING = {"enabled_precisions", "use_explicit_typing"}


def target(**settings):
    """The stand-in computes on the CPU."""
    return Target(input_size=(WIDTH, HEIGHT), device="cpu", **settings)


@pytest.fixture
def install(monkeypatch):
    def install(version="2.14.0", **settings):
        module = fake(version, **settings)
        monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
        monkeypatch.setitem(sys.modules, "tensorrt", empty("tensorrt", "10.3.0"))
        return module

    return install


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def pictures(count):
    return np.random.default_rng(count).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def eager(network, images):
    channels = [(images[..., c].astype(np.float32) - network.mean[c]) / network.std[c] for c in range(3)]
    with torch.no_grad():
        return network(torch.from_numpy(np.stack(channels, axis=1))).numpy()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("most", [1, 4])
def test_the_way_there_and_back_gives_what_the_network_gives(install, version, most):
    install(version)
    network, backend = ToyNetwork().eval(), TensorRtBackend()
    payload = backend.build(network, target(max_batch=most), str)
    runner = backend.load(payload, target(max_batch=most))
    for count in {1, most}:
        found = runner(pictures(count))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, eager(network, pictures(count)), atol=1e-6)
    assert runner.max_batch == most


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_compiler_is_asked(install, version):
    module = install(version)
    TensorRtBackend().build(ToyNetwork().eval(), target(max_batch=4, workspace_mb=256), str)
    asked = module.calls["compile"]
    assert asked["workspace_size"] == 256 * 1024 * 1024
    assert asked["require_full_compilation"] is True
    assert asked["min_block_size"] == 1
    assert not asked["cache_built_engines"]
    assert not asked["reuse_cached_engines"]
    (images,) = asked["arg_inputs"]
    shapes = [images.settings[name] for name in ("min_shape", "opt_shape", "max_shape")]
    assert shapes == [(1, HEIGHT, WIDTH, 3), (1, HEIGHT, WIDTH, 3), (4, HEIGHT, WIDTH, 3)]
    assert images.settings["dtype"] == torch.float32
    saved = module.calls["save"]
    assert (saved["output_format"], saved["retrace"]) == ("exported_program", False)


def test_one_image_at_a_time_is_compiled_with_every_size_known(install):
    module = install()
    TensorRtBackend().build(ToyNetwork().eval(), target(), str)
    asked = module.calls["compile"]
    assert asked["arg_inputs"][0].settings["shape"] == (1, HEIGHT, WIDTH, 3)
    assert asked["exported_program"].range_constraints == {}


@pytest.mark.parametrize(
    ("version", "precision", "typing"),
    [
        ("2.5.0", "fp32", {"enabled_precisions": {torch.float32}}),
        ("2.5.0", "fp16", {"enabled_precisions": {torch.float32, torch.float16}}),
        ("2.8.0", "fp32", {"use_explicit_typing": True}),
        ("2.8.0", "fp16", {"use_explicit_typing": True}),
        ("2.14.0", "fp16", {}),
    ],
)
def test_the_types_of_the_graph_are_kept_in_the_way_of_each_version(install, version, precision, typing):
    module, network = install(version), ToyNetwork().eval()
    TensorRtBackend().build(network, target(precision=precision), str)
    asked = module.calls["compile"]
    assert {name: value for name, value in asked.items() if name in TYPING} == typing
    halves = [name for name, value in asked["exported_program"].state_dict.items() if value.dtype == torch.float16]
    assert bool(halves) == (precision == "fp16")
    assert all(".trunk." in name for name in halves)
    assert all(value.dtype == torch.float32 for value in network.parameters())


def test_no_file_is_left_and_nothing_is_printed(install, monkeypatch, tmp_path, capsys):
    install()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    backend, reports = TensorRtBackend(), []
    backend.load(backend.build(ToyNetwork().eval(), target(), reports.append), target())
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert len(reports) == 1


@pytest.mark.parametrize("engines", [0, 2])
def test_a_network_that_did_not_become_one_engine_is_refused(install, engines):
    install(engines=engines)
    with pytest.raises(DeployError, match="not all of the network became one TensorRT engine"):
        TensorRtBackend().build(ToyNetwork().eval(), target(), str)


def test_what_the_compiler_says_is_in_the_error_without_its_traceback(install):
    install(error=AssertionError("require_full_compilation=True was specified, but model is not fully supported\nmore"))
    with pytest.raises(DeployError, match=r"cannot compile the network: require_full_[^\n]+supported; where memory"):
        TensorRtBackend().build(ToyNetwork().eval(), target(), str)


def test_a_damaged_engine_is_refused(install):
    install()
    with pytest.raises(DeployError, match=r"TensorRT compiled cannot be loaded: [^\n]+; compile again$"):
        TensorRtBackend().load(b"not an engine", target())


def test_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    backend = TensorRtBackend()
    assert backend.refusal(Target(), build=True) == "TensorRT needs an NVIDIA GPU, and there is none here"
    assert "finds no NVIDIA GPU" in backend.refusal(Target(device="cuda"), build=True)


@pytest.mark.usefixtures("gpu")
def test_where_the_package_is_missing_or_broken(monkeypatch, install):
    backend, cuda = TensorRtBackend(), Target(device="cuda", precision="fp16")
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    assert "torch-tensorrt is not installed (pip install torch-tensorrt" in backend.refusal(cuda, build=False)

    def broken(*_):
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr("tscm_core.deploy.tensorrt_backend._torch_tensorrt", broken)
    assert "cannot be imported: libnvinfer.so.10" in backend.refusal(cuda, build=False)


@pytest.mark.usefixtures("gpu")
def test_where_all_is_there(install):
    install()
    backend = TensorRtBackend()
    assert backend.refusal(Target(device="cuda", precision="fp16"), build=True) == ""
    assert backend.refusal(Target(device="cuda"), build=True) == ""
    assert "not in int8" in backend.refusal(Target(device="cuda", precision="int8"), build=True)


def test_all_versions_and_all_that_is_compiled_in_are_in_the_key(install):
    install("2.8.0")
    backend = TensorRtBackend()
    assert backend.version() == f"torch-tensorrt 2.8.0, tensorrt 10.3.0, torch {torch.__version__}"
    assert len({backend.options(Target(max_batch=b, workspace_mb=m)) for b in (1, 2) for m in (64, 128)}) == 4


@pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is None, reason="needs torch-tensorrt")
def test_the_stand_in_has_the_arguments_of_the_package():
    import torch_tensorrt

    newest = VERSIONS[-1] if "enabled_precisions" not in _names(torch_tensorrt.dynamo.compile) else "2.8.0"
    used = {"workspace_size", "require_full_compilation", "min_block_size", "truncate_double", "arg_inputs",
            "cache_built_engines", "reuse_cached_engines", "timing_cache_path"}  # fmt: skip
    assert used <= set(COMPILE[newest])
    assert used <= _names(torch_tensorrt.dynamo.compile)
    assert {"output_format", "arg_inputs", "retrace"} <= _names(torch_tensorrt.save) & set(SAVE[newest])
    assert "file_path" in _names(torch_tensorrt.load)
    torch_tensorrt.Input(shape=(1, 2), dtype=torch.float32)
    torch_tensorrt.Input(min_shape=(1, 2), opt_shape=(1, 2), max_shape=(3, 2), dtype=torch.float32)
    assert {"shape", "min_shape", "opt_shape", "max_shape", "dtype"} <= set(INPUT)


def _names(function):
    return set(inspect.signature(function).parameters)
