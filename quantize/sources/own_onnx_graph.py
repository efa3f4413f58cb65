"""Changes to a user's ONNX graph: bytes in NHWC go in, ``fake_logit`` and ``defocus_map`` come out.

A score gives way to the logit that its last sigmoid or softmax is made of. Where there is no such
curve, the logit is computed from the probability. That and all that makes the probability of a few
values is left in float by :mod:`edgedf.formats.onnx.quantizer`: it costs nothing, and a probability
near 0 or 1 has no integers to spare.

Normalisation goes into the first convolution where the graph lets it. Zeros that a convolution
pads with stand for the mean there, so that with padding only the division can go in; the
subtraction is then an addition in front, of which ONNX Runtime has an integer kernel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgedf.formats.onnx.float_island import CURVE_PREFIX
from edgedf.quantize.sources.own_onnx_score import SCORE_ENDS, Score
from edgedf.spec import INPUT_NAME, MAP_MAXIMUM, MAP_STRIDE, OUTPUT_NAMES

__all__ = ["Ends", "contract_graph"]

Step = tuple[str, dict[str, Any]]  # operator; attributes, and its constants

_LOGIT, _MAP = OUTPUT_NAMES
_OURS = "edgedf_"
# What makes few values of many, and therefore has integer kernels that are worth it.
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_FEW = 64


@dataclass
class Ends:
    """The ends of a user's graph.

    Args:
        image: Name of the input.
        layout: Of the input.
        side: Its side in pixels.
        normalisation: Mean and std in grey levels; None where bytes go in.
        score: What says whether a picture is fake.
        dense: Name of the output with the map.
        renamed: What the three are called once our names are free.
    """

    image: str
    layout: Literal["NCHW", "NHWC"]
    side: int
    normalisation: tuple[Any, Any] | None
    score: Score
    dense: str
    renamed: dict[str, str] = field(default_factory=dict)


def contract_graph(proto: Any, ends: Ends) -> None:
    """Change a model in place so that it has our input and our outputs.

    Args:
        proto: An ``onnx.ModelProto`` with a fixed input shape.
        ends: Its ends; ``renamed`` is filled.
    """
    import onnx

    from edgedf.formats.onnx.parsed import without_metadata

    without_metadata(proto)
    graph = proto.graph
    _rename(graph, ends)
    tail = _logit_tail(graph, ends) + _map_tail(graph, ends)
    head = _head(graph, ends)
    nodes = [*head, *graph.node, *tail]
    del graph.node[:]
    graph.node.extend(nodes)
    small = ends.side // MAP_STRIDE
    kinds = onnx.TensorProto
    value = onnx.helper.make_tensor_value_info
    del graph.input[:], graph.output[:]
    graph.input.append(value(INPUT_NAME, kinds.UINT8, (1, ends.side, ends.side, 3)))
    graph.output.append(value(_LOGIT, kinds.FLOAT, (1, 1)))
    graph.output.append(value(_MAP, kinds.FLOAT, (1, small, small, 1)))
    _drop_unused(graph)
    if ends.score.is_probability:
        _leave_in_float(proto)
    onnx.checker.check_model(proto, full_check=True)


def _rename(graph: Any, ends: Ends) -> None:
    """Free our names: whatever the model calls so gets a prefix."""

    def free(name: str) -> str:
        taken = name in (INPUT_NAME, _LOGIT, _MAP) or name.startswith(_OURS)
        return f"model_{name}" if taken else name

    for node in graph.node:
        node.name = free(node.name)
        node.input[:] = [free(name) for name in node.input]
        node.output[:] = [free(name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = free(value.name)
    ends.renamed = {n: free(n) for n in (ends.image, ends.score.tensor, ends.dense)}


def _head(graph: Any, ends: Ends) -> list[Any]:
    """The nodes in front; the model's own input becomes the last one's output."""
    image = ends.renamed[ends.image]
    steps: list[Step] = [] if ends.normalisation is None else [("Cast", {"to": 1})]
    if ends.layout == "NCHW":
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}))
    if ends.normalisation is not None:
        mean, std = (np.asarray(v, np.float32) for v in ends.normalisation)
        scale, offset = _fold(graph, image, ends.layout, 1 / std, -mean)
        shape = (1, 3, 1, 1) if ends.layout == "NCHW" else (1, 1, 1, 3)
        if offset.any():
            steps.append(("Add", {"constant": offset.reshape(shape)}))
        if (scale != 1).any():
            steps.append(("Mul", {"constant": scale.reshape(shape)}))
    return _chain(graph, INPUT_NAME, steps or [("Identity", {})], image, "input")


def _fold(graph: Any, image: str, layout: str, scale: Any, offset: Any) -> tuple[Any, Any]:
    """Put (byte + offset) * scale into the convolutions that read the input, as far as it goes.

    Returns:
        What is left of scale and offset.
    """
    import onnx

    readers = [node for node in graph.node if image in node.input]
    planes = readers and all(_makes_planes(node) for node in readers)
    if layout == "NHWC" and planes:
        layout, images = "NCHW", {node.output[0] for node in readers}
        readers = [node for node in graph.node if images.intersection(node.input)]
    else:
        images = {image}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    users: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    if layout != "NCHW" or not all(
        node.op_type == "Conv"
        and node.input[0] in images
        and node.input[1] in constants
        and all(name in constants and users[name] == 1 for name in node.input[1:] if name)
        and constants[node.input[1]].dims[1] == 3
        for node in readers
    ):
        return scale, offset
    padded = any(_is_padded(node) for node in readers)
    for number, node in enumerate(readers):
        weights = constants[node.input[1]]
        values = onnx.numpy_helper.to_array(weights).astype(np.float32) * scale.reshape(1, 3, 1, 1)
        weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weights.name))
        if padded or not offset.any():
            continue
        shift = (values.astype(np.float64) * offset.reshape(1, 3, 1, 1)).sum(axis=(1, 2, 3))
        if len(node.input) > 2 and node.input[2]:
            bias = constants[node.input[2]]
            shift += onnx.numpy_helper.to_array(bias)
            bias.CopyFrom(onnx.numpy_helper.from_array(shift.astype(np.float32), bias.name))
        else:
            name = f"{_OURS}bias_{number}"
            graph.initializer.append(onnx.numpy_helper.from_array(shift.astype(np.float32), name))
            node.input[:] = [*node.input[:2], name]
    return np.ones_like(scale), offset if padded else np.zeros_like(offset)


def _makes_planes(node: Any) -> bool:
    """Whether it does nothing but change NHWC into NCHW."""
    return node.op_type == "Transpose" and any(
        attribute.name == "perm" and list(attribute.ints) == [0, 3, 1, 2]
        for attribute in node.attribute
    )


def _is_padded(node: Any) -> bool:
    import onnx

    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    automatic = given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return automatic or any(given.get("pads", ()))


def _logit_tail(graph: Any, ends: Ends) -> list[Any]:
    """From the model's logit or probability, or two, to one logit of shape (1, 1)."""
    score, steps = ends.score, list[Step]()
    if score.shape is None:
        steps.append(("Cast", {"to": 1}))
    if score.shape != (1, 2):
        steps.append(("Reshape", {"constant": np.array([1, score.classes], np.int64)}))
    is_fake = score.fake_class == 1
    if not score.is_probability:
        factors = [[1.0]] if score.classes == 1 else [[-1.0], [1.0]]
        if score.classes == 2 or not is_fake:
            matrix = np.array(factors, np.float32) * (1 if is_fake else -1)
            steps.append(("MatMul", {"constant": matrix}))
    else:
        if score.classes == 2:
            place = np.array([score.fake_class], np.int64)
            steps.append(("Gather", {"constant": place, "axis": 1}))
        # The logit of p is -log(1 / p - 1).
        bounds = [np.array(end, np.float32) for end in SCORE_ENDS]
        steps += [("Clip", {"constants": bounds}), ("Reciprocal", {})]
        steps += [("Sub", {"constant": np.array(1, np.float32)}), ("Log", {})]
        if score.classes == 2 or is_fake:
            steps.append(("Neg", {}))
    return _chain(graph, ends.renamed[score.tensor], steps, _LOGIT, "logit")


def _leave_in_float(proto: Any) -> None:
    """Mark the nodes that make the logit of a few values: all behind the last layer."""
    import onnx

    graph = proto.graph
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    constants = {tensor.name for tensor in graph.initializer}
    few = {
        value.name
        for value in (*inferred.value_info, *inferred.output)
        if 0 < math.prod(d.dim_value for d in value.type.tensor_type.shape.dim) <= _FEW
    }
    takers: dict[str, list[str]] = {_LOGIT: []}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node.name)
    marked: set[str] = set()
    for node in reversed(graph.node):
        data = [name for name in node.input if name and name not in constants]
        leads_there = all(
            name in takers and marked.issuperset(takers[name]) for name in node.output
        )
        if leads_there and node.op_type not in _LAYERS and few.issuperset(data):
            marked.add(node.name)
    for node in graph.node:
        if node.name in marked:
            node.name = CURVE_PREFIX + node.name


def _map_tail(graph: Any, ends: Ends) -> list[Any]:
    """From the model's output to a map (1, N / 4, N / 4, 1) within [0, 6]."""
    name = ends.renamed[ends.dense]
    side = ends.side // MAP_STRIDE
    bounds = [np.array(0, np.float32), np.array(MAP_MAXIMUM, np.float32)]
    shape = np.array([1, side, side, 1], np.int64)
    steps: list[Step] = [("Clip", {"constants": bounds}), ("Reshape", {"constant": shape})]
    return _chain(graph, name, steps, _MAP, "map")


def _chain(graph: Any, start: str, steps: list[Step], end: str, title: str) -> list[Any]:
    """Nodes one behind the other, their constants among the graph's initializers."""
    import onnx

    nodes, before = [], start
    for number, (operator, options) in enumerate(steps):
        attributes = dict(options)
        constants = attributes.pop("constants", [])
        if "constant" in attributes:
            constants = [attributes.pop("constant")]
        names = []
        for place, value in enumerate(constants):
            names.append(f"{_OURS}{title}_{number}_{place}")
            graph.initializer.append(onnx.numpy_helper.from_array(value, names[-1]))
        after = end if number == len(steps) - 1 else f"{_OURS}{title}_{number}"
        nodes.append(
            onnx.helper.make_node(
                operator, [before, *names], [after], f"{_OURS}{title}_{operator}", **attributes
            )
        )
        before = after
    return nodes


def _drop_unused(graph: Any) -> None:
    """Remove what no output needs, such as other outputs of the model."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    used = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(used)
