"""Each operator of the students is one that TensorRT takes: by our table, and by the package where it is installed."""

import importlib.util
import re
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from tscm_core.deploy.graph import DescribeImages
from tscm_core.deploy.half import half_trunk
from tscm_core.models.released import ReleasedStudent
from tscm_core.models.student import Student

TABLE = Path(__file__).resolve().parent.parent / "docs" / "tensorrt_operators.md"
NETWORKS = {
    "default": lambda: Student.from_spec({}),
    "paper": lambda: Student.from_spec({"trunk": "resnet50"}),
    "released": ReleasedStudent,
}
KEPT = ("linear.default", "matmul.default", "_softmax.default")
"""What torch-tensorrt does not take apart."""
slow = pytest.mark.slow
EVERY = [(name, half, strict) for name in NETWORKS for half in (False, True) for strict in (True, False)]
CASES = [pytest.param(*case, marks=() if case == ("default", True, False) else slow) for case in EVERY]
real = pytest.mark.skipif(importlib.util.find_spec("torch_tensorrt") is None, reason="needs torch-tensorrt")


@lru_cache(maxsize=1)
def exported(name, half, strict):
    """As the backend exports it for batches; ``strict`` follows every line of Python and stands no break."""
    network = NETWORKS[name]().eval()
    module = DescribeImages(half_trunk(network) if half else network)
    width, height = network.input_size
    shapes = ({0: torch.export.Dim("batch", min=1, max=8)},)
    return torch.export.export(module, (torch.zeros(2, height, width, 3),), dynamic_shapes=shapes, strict=strict)


def operators(program):
    nodes = (node for node in program.graph.nodes if node.op == "call_function")
    return {getattr(node.target, "__name__", "") if _is_python(node.target) else str(node.target) for node in nodes}


def _is_python(target):
    return not isinstance(target, torch._ops.OpOverload)


def listed():
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\| (.+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.removeprefix("operator."): by for name, by in rows}


def decompositions():
    table = torch.export.default_decompositions()
    for name in KEPT:
        table.pop(getattr(getattr(torch.ops.aten, name.split(".")[0]), name.split(".")[1]), None)
    return table


@pytest.mark.parametrize(("name", "half", "strict"), CASES)
def test_every_operator_is_in_the_table(name, half, strict):
    found = operators(exported(name, half, strict).run_decompositions(decompositions()))
    assert {"aten.convolution.default", "aten.matmul.default"} <= found
    assert found <= set(listed()), f"check these against torch-tensorrt and add them to {TABLE.name}"


def test_nothing_in_the_table_is_without_cover():
    assert len(listed()) > 30
    assert all(re.search(r"`\w+`|decomposition", by) for by in listed().values())


@real
@pytest.mark.parametrize(("name", "half", "strict"), CASES)
def test_the_package_itself_takes_every_operator(name, half, strict):
    from torch_tensorrt.dynamo import CompilationSettings
    from torch_tensorrt.dynamo.conversion import DYNAMO_CONVERTERS
    from torch_tensorrt.dynamo.lowering import get_decompositions, post_lowering, pre_export_lowering

    settings = CompilationSettings()
    program = pre_export_lowering(exported(name, half, strict), settings)
    module = post_lowering(program.run_decompositions(get_decompositions(False)).module(), settings)
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    assert nodes
    assert [str(node.target) for node in nodes if node not in DYNAMO_CONVERTERS] == []
