"""The ONNX Runtime backend: what it compiles says what the network says, on as many threads as it was given.

There is no GPU here: what is asked of ONNX Runtime's GPU build is recorded by a module that stands in for it.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from training_toys import HEIGHT, WIDTH, ToyNetwork

from tscm_core.deploy.backend import Target
from tscm_core.deploy.graph import DescribeImages
from tscm_core.deploy.onnxruntime_backend import OnnxRuntimeBackend
from tscm_core.deploy.onnxruntime_gpu import gpu_payload
from tscm_core.errors import DeployError

SIZE = (WIDTH, HEIGHT)
BACKEND, HERE = OnnxRuntimeBackend(), Target(input_size=SIZE, max_batch=3)
GPU = Target(device="cuda", input_size=SIZE, max_batch=3, workspace_mb=512)
CUDA, TENSORRT, PROCESSOR = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


@functools.cache
def network():
    torch.manual_seed(0)
    return ToyNetwork().eval().requires_grad_(False)


@functools.cache
def payload():
    return BACKEND.build(network(), HERE, print)


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("count", [1, 3])
def test_descriptors_are_those_of_the_network(count):
    runner = BACKEND.load(payload(), HERE)
    found = runner(images(count))
    assert found.dtype == np.float32
    assert runner.max_batch == 3
    assert found == pytest.approx(DescribeImages(network())(torch.from_numpy(images(count))).numpy(), abs=1e-6)


def test_a_session_has_the_threads_of_its_target_and_none_that_waits_in_a_loop(monkeypatch):
    made = []
    whole = onnxruntime.InferenceSession

    def session(content, options, providers):
        made.append((options, providers))
        return whole(content, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    BACKEND.load(payload(), Target(input_size=SIZE, threads=2))
    ((options, providers),) = made
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert providers == [PROCESSOR]


def test_what_is_compiled_loads_and_runs_without_pytorch(tmp_path):
    (tmp_path / "engine").write_bytes(payload())
    program = f"""
import sys
from pathlib import Path
import numpy as np
from tscm_core.deploy.backend import Target
from tscm_core.deploy.onnxruntime_backend import OnnxRuntimeBackend
target = Target(input_size={SIZE})
assert not OnnxRuntimeBackend().refusal(target, build=False)
runner = OnnxRuntimeBackend().load(Path(sys.argv[1]).read_bytes(), target)
print(runner(np.zeros((1, {HEIGHT}, {WIDTH}, 3), np.uint8)).shape)
print([name for name in ("torch", "onnx", "onnxscript") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tmp_path / "engine")]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert (done.stdout, done.stderr) == ("(1, 6)\n[]\n", "")


def test_what_depends_on_the_target():
    assert BACKEND.version() == f"onnxruntime {onnxruntime.__version__}"
    assert BACKEND.options(HERE) == BACKEND.options(Target(threads=4)) == ""


def test_a_damaged_file_is_one_sentence(capfd):
    with pytest.raises(DeployError, match="onnxruntime cannot load it"):
        BACKEND.load(payload()[: len(payload()) // 2], HERE)
    assert capfd.readouterr().err == ""


def test_what_cannot_run_says_what_to_install(monkeypatch):
    assert BACKEND.refusal(HERE, build=True) == ""
    half = Target(precision="fp16", input_size=SIZE)
    assert BACKEND.refusal(half, build=False) == "onnxruntime runs fp16 on a GPU only (set model.precision to fp32)"
    refused = "onnxruntime has no CUDAExecutionProvider here (pip install onnxruntime-gpu instead of onnxruntime)"
    assert BACKEND.refusal(GPU, build=False) == refused
    for package in ("onnx", "onnxscript"):
        find_spec = "tscm_core.deploy.onnxruntime_backend.importlib.util.find_spec"
        with monkeypatch.context() as patch:
            patch.setattr(find_spec, lambda name, absent=package: None if name == absent else object())
            assert BACKEND.refusal(HERE, build=False) == ""
            assert BACKEND.refusal(HERE, build=True) == f"package {package} is not installed (pip install {package})"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused = "package onnxruntime is not installed (pip install onnxruntime)"
    assert BACKEND.refusal(HERE, build=False) == BACKEND.refusal(HERE, build=True) == refused


class Ends:
    """An input or output."""

    def __init__(self, name):
        self.name = name


class Model:
    """An ``onnx.ModelProto`` as far as it is asked for anything."""

    def SerializeToString(self):  # noqa: N802
        return b"the\nmodel"


@pytest.fixture
def gpu_build(monkeypatch):
    """ONNX Runtime's GPU build: ``offered`` providers, ``working`` ones among them, and what was asked of it."""
    module = types.ModuleType("onnxruntime")
    module.offered, module.working, module.asked = [TENSORRT, CUDA, PROCESSOR], [TENSORRT, CUDA], []
    module.ends = {b"the\nmodel": "images", b"the engine": "images"}

    class Session:
        def __init__(self, content, options, providers, enable_fallback):
            module.asked.append((content, providers, enable_fallback))
            tensorrt = dict(providers).get(TENSORRT, {})
            self.content = content
            self.providers = [name for name, _ in providers if name in module.working] + [PROCESSOR]
            if TENSORRT in self.providers and tensorrt.get("trt_dump_ep_context_model"):
                Path(tensorrt["trt_ep_context_file_path"]).write_bytes(b"the engine")

        def get_providers(self):
            return self.providers

        def get_inputs(self):
            return [Ends(module.ends[self.content])]

        def get_outputs(self):
            return [Ends("descriptors")]

        def run(self, outputs, feed):
            return [np.full((len(feed["images"]), 6), len(self.content), np.float32)]

    class Options:
        def add_session_config_entry(self, name, value):
            pass

    module.InferenceSession, module.SessionOptions = Session, Options
    module.ExecutionMode, module.GraphOptimizationLevel = onnxruntime.ExecutionMode, onnxruntime.GraphOptimizationLevel
    module.get_available_providers = lambda: module.offered
    module.__version__ = "1.32.0"
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    return module


def test_on_a_gpu_tensorrt_compiles_once_and_its_engine_is_what_is_kept(gpu_build):
    assert BACKEND.refusal(GPU, build=False) == ""
    assert BACKEND.options(GPU) == "TensorrtExecutionProvider, up to 3 images, 512 MiB"
    kept = gpu_payload(Model(), GPU, pytest.fail)
    (content, ((name, tensorrt), (second, cuda)), fallback), (again, *_) = gpu_build.asked
    assert (content, again, name, second, fallback) == (b"the\nmodel", b"the engine", TENSORRT, CUDA, 0)
    assert not Path(tensorrt.pop("trt_ep_context_file_path")).parent.exists()
    assert tensorrt == {
        "device_id": 0,
        "trt_max_workspace_size": 512 * 1024 * 1024,
        "trt_fp16_enable": False,
        "trt_layer_norm_fp32_fallback": True,
        "trt_engine_cache_enable": False,
        "trt_timing_cache_enable": False,
        "trt_dump_ep_context_model": True,
        "trt_ep_context_embed_mode": 1,
        "trt_profile_min_shapes": "images:1x18x24x3",
        "trt_profile_opt_shapes": "images:1x18x24x3",
        "trt_profile_max_shapes": "images:3x18x24x3",
    }
    assert cuda == {
        "device_id": 0,
        "gpu_mem_limit": 2 * 1024**3,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": False,
    }
    gpu_build.asked.clear()
    assert BACKEND.load(kept, GPU)(images(2)).tolist() == [[len(b"the engine")] * 6] * 2
    ((content, ((name, tensorrt), _), _),) = gpu_build.asked
    assert (content, name, tensorrt) == (b"the engine", TENSORRT, {"device_id": 0})


@pytest.mark.parametrize("broken", ["cannot start", "part of the network", "not offered"])
def test_where_tensorrt_does_not_work_the_cuda_provider_runs_and_that_is_said(gpu_build, broken):
    said = []
    if broken == "cannot start":
        gpu_build.working = [CUDA]
    elif broken == "part of the network":
        gpu_build.ends[b"the engine"] = "inner_17"
    else:
        gpu_build.offered = [CUDA, PROCESSOR]
    kept = gpu_payload(Model(), GPU, said.append)
    gpu_build.asked.clear()
    BACKEND.load(kept, GPU)
    ((content, ((name, _),), _),) = gpu_build.asked
    assert (content, name) == (b"the\nmodel", CUDA)
    assert len(said) == (broken != "not offered")
    assert all("uses its CUDA provider" in sentence and broken in sentence for sentence in said)


def test_a_gpu_that_onnx_runtime_silently_does_without_is_an_error(gpu_build):
    gpu_build.offered = [CUDA, PROCESSOR]
    kept = gpu_payload(Model(), GPU, pytest.fail)
    gpu_build.working = []
    with pytest.raises(DeployError, match="offers its CUDAExecutionProvider but cannot start it: see that"):
        BACKEND.load(kept, GPU)


def test_int8_is_for_processors(gpu_build):
    eight = Target(device="cuda", precision="int8", input_size=SIZE)
    assert "int8 on a CPU only" in BACKEND.refusal(eight, build=False)
    with pytest.raises(DeployError, match="int8 on a CPU only"):
        BACKEND.build_int8(network(), eight, [], print)
