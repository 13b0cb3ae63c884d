"""Changes to an exported ONNX graph that ONNX Runtime does not make by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_IN_HALF = ("Conv", "Gemm", "MatMul")
"""Where the time goes; sums of products, which GPUs add up in float32 whatever they multiply."""
_AFTER_HALF = ("Relu", "Clip", "Add", "MaxPool")
"""May follow these in half precision, so that nothing is converted there and back."""
_FLOAT, _HALF = 1, 10
"""ONNX's numbers of float32 and float16."""


def spell_out_powers(model: Any) -> None:
    """Replace powers by what is faster: ``x * x``, ``x * x * x``, and ``exp(y * log(x))`` where x was clipped above 0.

    ONNX Runtime works powers out number by number. Gamma and GeM, which clip before, take half the time so, and agree
    to the rounding of float32.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    constants = _constants(model)
    makers = {output: node for node in model.graph.node for output in node.output}
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes += list(_power(node, constants, makers)) if node.op_type == "Pow" else [node]
    _keep(model, nodes)


def _power(node: Any, constants: dict[str, Any], makers: dict[str, Any]) -> Iterator[Any]:
    base, exponent = node.input
    power = constants.get(exponent)
    if power is not None and power.size == 1 and power.item() in {2.0, 3.0}:
        yield from _product(node, base, int(power.item()))
    elif _is_positive(makers.get(base), constants):
        log, scaled = f"{node.output[0]}_log", f"{node.output[0]}_scaled"
        yield _node("Log", [base], log)
        yield _node("Mul", [log, exponent], scaled)
        yield _node("Exp", [scaled], node.output[0])
    else:
        yield node


def _product(node: Any, base: str, power: int) -> Iterator[Any]:
    square = node.output[0] if power == 2 else f"{node.output[0]}_square"
    yield _node("Mul", [base, base], square)
    if power == 3:
        yield _node("Mul", [square, base], node.output[0])


def _is_positive(maker: Any, constants: dict[str, Any]) -> bool:
    if maker is None or maker.op_type != "Clip" or len(maker.input) < 2:
        return False
    least = constants.get(maker.input[1])
    return least is not None and bool(least.min() > 0)


def to_half(model: Any) -> None:
    """Multiply matrices and convolve in float16; the rest, and what goes in and out, stays as it is.

    Powers, sums of squares, means and divisions stay in float32, and what goes from one to the next does: small numbers
    vanish in float16, squares of large ones are infinite.

    Args:
        model: ``onnx.ModelProto``; changed in place.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == _FLOAT}
    halves = _halves(model)
    twins: dict[str, str] = {}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.output[0] not in halves:
            nodes.append(node)
            continue
        for position, name in enumerate(node.input):
            if name and name not in twins:
                twins[name] = f"{name}_half"
                if name in weights:
                    _add_half(model, weights[name], twins[name])
                else:
                    nodes.append(_cast(name, twins[name], _HALF))
            node.input[position] = twins.get(name, name)
        whole = node.output[0]
        twins[whole] = node.output[0] = f"{whole}_half"
        nodes += [node, _cast(twins[whole], whole, _FLOAT)]
    _keep(model, nodes)


def _halves(model: Any) -> set[str]:
    """What is worked out in half precision."""
    made: set[str] = set()
    for node in model.graph.node:
        if node.op_type in _IN_HALF or (node.op_type in _AFTER_HALF and not made.isdisjoint(node.input)):
            made.add(node.output[0])
    return made


def _add_half(model: Any, tensor: Any, name: str) -> None:
    import numpy as np
    from onnx import numpy_helper

    half = numpy_helper.to_array(tensor).astype(np.float16)
    model.graph.initializer.append(numpy_helper.from_array(half, name))


def _cast(name: str, output: str, kind: int) -> Any:
    from onnx import helper

    return helper.make_node("Cast", [name], [output], name=f"{output}_Cast", to=kind)


def _keep(model: Any, nodes: list[Any]) -> None:
    """Make these the nodes of the graph, without what nobody takes: casts and weights that are no longer needed."""
    taken = {name for node in nodes for name in node.input} | {end.name for end in model.graph.output}
    del model.graph.node[:]
    model.graph.node.extend(node for node in nodes if not taken.isdisjoint(node.output))
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in taken]:
        model.graph.initializer.remove(tensor)


def _constants(model: Any) -> dict[str, Any]:
    """Arrays by name."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _node(operator: str, inputs: list[str], output: str) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=f"{output}_{operator}")
