"""One form for what exporters write in several, so that what comes behind knows only that one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ArtifactUnreadable

__all__ = ["check_names", "make_plain", "use_one_domain"]

# The first format version in which weights need not be inputs as well.
_WEIGHTS_APART = 4
# Operators that take a batch normalisation behind them in.
_TAKE_IN = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Rank, and the axes of height and width; those may be flattened into one.
_SPATIAL = {(4, (2, 3)): "NCHW", (4, (1, 2)): "NHWC", (3, (2,)): "NCHW"}


def use_one_domain(proto: Any) -> None:
    """Change a model in place so that it calls ONNX's own domain ``""`` alone, not ``ai.onnx`` too.

    Args:
        proto: An ``onnx.ModelProto``; one that has several versions of that domain keeps them.
    """
    for node in proto.graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
    opsets = {("" if e.domain == "ai.onnx" else e.domain, e.version) for e in proto.opset_import}
    del proto.opset_import[:]
    for domain, version in sorted(opsets):
        proto.opset_import.add(domain=domain, version=version)


def make_plain(proto: Any) -> Any:
    """Change a model in place so that it computes the same, and is written in one way.

    - ONNX's own operators are imported as ``""`` alone.
    - Weights are initializers: neither inputs of the graph as well nor made by ``Constant``.
    - Each node has a name, and no two have the same.
    - What is float16 is float32. A Cast of float32 to float32 is not there.
    - Constants are added and multiplied with, not subtracted or divided by, and so is a batch
      normalisation that no convolution before it takes in.
    - The mean over the whole picture is a ``GlobalAveragePool``, of which ONNX Runtime has an
      integer kernel, and no ``ReduceMean``.

    Args:
        proto: An ``onnx.ModelProto`` that the checker accepts.

    Returns:
        The same object.

    Raises:
        ArtifactUnreadable: A name in it is no text.
    """
    check_names(proto)
    use_one_domain(proto)
    graph = proto.graph
    _store_constants(graph)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, _WEIGHTS_APART)
    _widen_halves(graph)
    _drop_casts(proto)
    _add_and_multiply(proto)
    _pool_globally(proto)
    _name_nodes(graph)
    return proto


def check_names(message: Any) -> None:
    """Refuse names that are no text; where they should be text, protobuf gives them as bytes.

    Args:
        message: An ``onnx.ModelProto``, or a part of one.

    Raises:
        ArtifactUnreadable: There is one.
    """
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            for name in [value] if isinstance(value, (str, bytes)) else value:
                if isinstance(name, bytes):
                    raise ArtifactUnreadable(
                        f"The .onnx model has a name that is no text: {name[:40]!r}.",
                        expected="names in UTF-8",
                        next_step="copy or download it again, or export it again",
                    )
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                check_names(part)


def _store_constants(graph: Any) -> None:
    import onnx

    kept = []
    for node in graph.node:
        values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type != "Constant":
            kept.append(node)
        elif "value" in values:
            tensor = graph.initializer.add()
            tensor.CopyFrom(values["value"])
            tensor.name = node.output[0]
        elif len(values) == 1 and not {"sparse_value", "value_string"}.intersection(values):
            ((kind, value),) = values.items()
            dtype = np.float32 if kind.startswith("value_float") else np.int64
            tensor = onnx.numpy_helper.from_array(np.array(value, dtype), node.output[0])
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _widen_halves(graph: Any) -> None:
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT

    def widen(tensor: Any) -> None:
        if tensor.data_type == half:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    for tensor in graph.initializer:
        widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if attribute.name in ("to", "dtype") and attribute.i == half:
                attribute.i = single


def _drop_casts(proto: Any) -> None:
    """Remove what casts float32 to float32."""
    import onnx

    graph, single = proto.graph, onnx.TensorProto.FLOAT
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    floats = {tensor.name for tensor in graph.initializer if tensor.data_type == single}
    for value in (*inferred.input, *inferred.value_info):
        if value.type.tensor_type.elem_type == single:
            floats.add(value.name)
    ends = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        to = next((a.i for a in node.attribute if a.name == "to"), 0)
        is_needless = node.op_type == "Cast" and to == single and node.input[0] in floats
        if is_needless and node.output[0] not in ends:
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _add_and_multiply(proto: Any) -> None:
    import onnx

    graph, ranks = proto.graph, _ranks(proto)
    to_array, from_array = onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    constants = {
        tensor.name: tensor
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    convolved = {node.output[0] for node in graph.node if node.op_type in _TAKE_IN}
    nodes: list[Any] = []

    def chain(node: Any, *steps: tuple[str, NDArray[np.floating]]) -> None:
        before = node.input[0]
        for number, (operator, values) in enumerate(steps, 1):
            after = node.output[0]
            name = f"{after}_{operator}"
            graph.initializer.append(from_array(values.astype(np.float32), f"{name}_constant"))
            after = after if number == len(steps) else name
            nodes.append(
                onnx.helper.make_node(operator, [before, f"{name}_constant"], [after], node.name)
            )
            before = after

    for node in graph.node:
        if node.op_type not in ("Sub", "Div", "BatchNormalization"):
            nodes.append(node)
            continue
        data = [to_array(constants[name]) for name in node.input[1:] if name in constants]
        first = node.input[0]
        if first in constants or not data:
            nodes.append(node)
        elif node.op_type == "Sub":
            chain(node, ("Add", -data[0]))
        elif node.op_type == "Div" and data[0].all():
            chain(node, ("Mul", 1 / data[0]))
        elif _is_scaling(node) and len(data) == 4 and first not in convolved and first in ranks:
            gain, shift, mean, variance = data
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            gain = gain / np.sqrt(variance + epsilon)
            shape = (1, -1, *[1] * (ranks[first] - 2))
            shift = shift - mean * gain
            chain(node, ("Mul", gain.reshape(shape)), ("Add", shift.reshape(shape)))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _is_scaling(node: Any) -> bool:
    """Whether it is a batch normalisation that does not learn any more."""
    learns = any(a.name == "training_mode" and a.i for a in node.attribute)
    return node.op_type == "BatchNormalization" and not learns


def _ranks(proto: Any) -> dict[str, int]:
    """How many dimensions tensors have, where that is known."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info)
        if value.type.tensor_type.HasField("shape")
    }


def _name_nodes(graph: Any) -> None:
    taken: set[str] = set()
    for node in graph.node:
        name = node.name or f"{node.op_type}_{next(filter(None, node.output), '')}"
        number = 1
        while name in taken:
            number += 1
            name = f"{node.name or node.op_type}_{number}"
        node.name = name
        taken.add(name)


def _pool_globally(proto: Any) -> None:
    import onnx

    graph = proto.graph
    if all(node.op_type != "ReduceMean" for node in graph.node):
        return
    ranks = _ranks(proto)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    for node in graph.node:
        layout = None
        rank = ranks.get(node.input[0], 0) if node.op_type == "ReduceMean" else 0
        if rank:
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            axes = given.get("axes", ())
            if len(node.input) > 1 and node.input[1] in constants:
                axes = onnx.numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
            layout = _SPATIAL.get((rank, tuple(sorted(int(axis) % rank for axis in axes))))
        nodes += [node] if layout is None else _pooling(node, layout, given.get("keepdims", 1))
    del graph.node[:]
    graph.node.extend(nodes)


def _pooling(node: Any, layout: str, keeps_dimensions: int) -> list[Any]:
    """What computes the same as a ReduceMean over height and width."""
    import onnx

    steps: list[tuple[str, dict[str, Any]]] = [("GlobalAveragePool", {})]
    if layout == "NHWC":
        steps.insert(0, ("Transpose", {"perm": [0, 3, 1, 2]}))
    if not keeps_dimensions:
        steps.append(("Flatten", {"axis": 1}))
    elif layout == "NHWC":
        steps.append(("Transpose", {"perm": [0, 2, 3, 1]}))
    nodes, before = [], node.input[0]
    for number, (operator, attributes) in enumerate(steps, 1):
        after = node.output[0] if number == len(steps) else f"{node.output[0]}_{operator}"
        nodes.append(onnx.helper.make_node(operator, [before], [after], **attributes))
        before = after
    return nodes
