"""A ``torch_tensorrt`` that takes what the real one takes, compiles nothing, and writes down what it was asked.

The names of the parameters are those of the wheels of 2.5.0, 2.8.0 and 2.14.0; ``test_tensorrt_backend`` compares those
of 2.14 and later with the package itself where that is installed.
"""

import inspect
import types
from importlib import machinery

import torch
from torch import nn

ALWAYS = {
    "inputs": None,
    "arg_inputs": None,
    "kwarg_inputs": None,
    "device": None,
    "disable_tf32": False,
    "num_avg_timing_iters": 1,
    "workspace_size": 0,
    "truncate_double": False,
    "require_full_compilation": False,
    "min_block_size": 5,
    "version_compatible": False,
    "optimization_level": None,
    "dryrun": False,
    "hardware_compatible": False,
    "timing_cache_path": "",
    "lazy_engine_init": False,
    "cache_built_engines": False,
    "reuse_cached_engines": False,
}
COMPILE = {
    "2.5.0": ALWAYS | {"enabled_precisions": (), "make_refittable": False, "debug": False},
    "2.8.0": ALWAYS
    | {"enabled_precisions": (), "use_explicit_typing": False, "immutable_weights": True, "use_fp32_acc": False},
    "2.14.0": ALWAYS | {"immutable_weights": True, "use_fp32_acc": False, "decompose_attention": False},
}
SAVE = {
    "2.5.0": ("output_format", "inputs", "arg_inputs", "kwarg_inputs", "retrace"),
    "2.8.0": ("output_format", "inputs", "arg_inputs", "kwarg_inputs", "retrace", "pickle_protocol"),
    "2.14.0": ("extra_files", "output_format", "inputs", "arg_inputs", "kwarg_inputs", "retrace", "use_legacy_exporter",
               "pickle_protocol", "dynamic_shapes"),
}  # fmt: skip
INPUT = ("shape", "min_shape", "opt_shape", "max_shape", "dtype", "format", "tensor_domain", "torch_tensor", "name")


class Compiled(nn.Module):
    """What ``dynamo.compile`` returns: a graph with one engine, or with what could not be made one."""

    def __init__(self, program, engines=1):
        super().__init__()
        self.program = program
        for number in range(engines):
            self.add_module(f"_run_on_acc_{number}", nn.Identity())


class Input:
    def __init__(self, **settings):
        assert set(settings) <= set(INPUT)
        self.settings = settings


def empty(name, version):
    """A package that is installed, as far as torch looks."""
    module = types.ModuleType(name)
    module.__spec__, module.__version__ = machinery.ModuleSpec(name, None), version
    return module


def fake(version, engines=1, error=None):
    """The module, for ``sys.modules``; ``calls`` has one dictionary of arguments for each call."""
    module, calls = empty("torch_tensorrt", version), {}

    def compiling(exported_program, **settings):
        calls["compile"] = {"exported_program": exported_program, **settings}
        if error is not None:
            raise error
        return Compiled(exported_program, engines)

    def save(compiled, file_path="", **settings):
        assert set(settings) <= set(SAVE[version]), "an argument that this version does not have"
        calls["save"] = settings
        torch.export.save(compiled.program, file_path)

    def load(file_path=""):
        return torch.export.load(file_path)

    compiling.__signature__ = inspect.Signature(
        [inspect.Parameter("exported_program", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        + [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=d) for name, d in COMPILE[version].items()]
    )
    module.calls = calls
    module.Input, module.save, module.load = Input, save, load
    module.dynamo = types.SimpleNamespace(compile=_checked(compiling))
    return module


def _checked(function):
    """As the real function would: an argument that this version does not have is an error."""

    def call(*arguments, **settings):
        function.__signature__.bind(*arguments, **settings)
        return function(*arguments, **settings)

    call.__signature__ = function.__signature__
    return call
