"""A graph that was rewritten says the same, and says it without powers, or in half precision."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tscm_core.deploy.onnx_rewriting import spell_out_powers, to_half


def model(nodes, constants, output="y"):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 5]) for name in ("x", output)]
    initializers = [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def run(made, x):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(made):
    return [node.op_type for node in made.graph.node]


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("power", [2.0, [3.0]])
def test_squares_and_cubes_are_products(x, power):
    made = model([helper.make_node("Pow", ["x", "power"], ["y"], name="p")], {"power": power})
    spell_out_powers(made)
    assert set(operators(made)) == {"Mul"}
    assert [tensor.name for tensor in made.graph.initializer] == []
    assert run(made, x) == pytest.approx(x.astype(float) ** np.max(power), rel=1e-6)


@pytest.mark.parametrize("power", [0.35, 1.6, 2.5])
def test_powers_of_what_is_clipped_above_zero_are_exponentials(x, power):
    clip = helper.make_node("Clip", ["x", "least"], ["light"], name="c")
    made = model([clip, helper.make_node("Pow", ["light", "p"], ["y"], name="p")], {"least": 1e-3, "p": power})
    spell_out_powers(made)
    assert operators(made) == ["Clip", "Log", "Mul", "Exp"]
    assert run(made, x) == pytest.approx(np.maximum(x, 1e-3).astype(float) ** power, rel=2e-6)


@pytest.mark.parametrize("least", [None, 0.0])
def test_other_powers_stay(x, least):
    clip = helper.make_node("Clip", ["x", "least"], ["light"], name="c")
    base = "x" if least is None else "light"
    constants = {"p": 1.5} if least is None else {"least": least, "p": 1.5}
    nodes = [*([] if least is None else [clip]), helper.make_node("Pow", [base, "p"], ["y"], name="p")]
    made = model(nodes, constants)
    spell_out_powers(made)
    assert operators(made)[-1] == "Pow"


def test_half_precision_is_for_products_only(x):
    """A norm of tiny numbers, which float16 cannot square, then a convolution, whose result is clipped."""
    nodes = [
        helper.make_node("Mul", ["x", "tiny"], ["small"], name="small"),
        helper.make_node("ReduceL2", ["small"], ["norm"], name="norm", keepdims=1),
        helper.make_node("Div", ["small", "norm"], ["unit"], name="unit"),
        helper.make_node("Conv", ["unit", "kernel"], ["found"], name="conv"),
        helper.make_node("Clip", ["found", "least", "most"], ["y"], name="clip"),
    ]
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype(np.float32)
    made = model(nodes, {"tiny": 1e-6, "kernel": kernel, "least": 0.0, "most": 6.0})
    whole = run(made, x)
    half = made
    to_half(half)
    onnx.checker.check_model(half, full_check=True)
    assert {tensor.name for tensor in half.graph.initializer if tensor.data_type == TensorProto.FLOAT16} == {
        "kernel_half",
        "least_half",
        "most_half",
    }
    assert [end.type.tensor_type.elem_type for end in (*half.graph.input, *half.graph.output)] == [
        TensorProto.FLOAT
    ] * 2
    found = run(half, x)
    assert found == pytest.approx(whole, abs=2e-3)
    assert np.abs(found - whole).max() > 0
    casts = [node.input[0] for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2  # into the convolution and out of the clip: nothing between
