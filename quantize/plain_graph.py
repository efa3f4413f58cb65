"""One form for what exporters write in several, so that what comes behind knows only that one."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedf.errors import ArtifactUnreadable

__all__ = ["make_plain", "use_one_domain"]

# The first format version in which weights need not be inputs as well.
_WEIGHTS_APART = 4
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
    - The mean over the whole picture is a ``GlobalAveragePool``, of which ONNX Runtime has an
      integer kernel, and no ``ReduceMean``.

    Args:
        proto: An ``onnx.ModelProto`` that the checker accepts.

    Returns:
        The same object.

    Raises:
        ArtifactUnreadable: A name in it is no text.
    """
    _check_names(proto)
    use_one_domain(proto)
    graph = proto.graph
    _store_constants(graph)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, _WEIGHTS_APART)
    _pool_globally(proto)
    _name_nodes(graph)
    return proto


def _check_names(message: Any) -> None:
    """Refuse names that are no text; where they should be text, protobuf gives them as bytes."""
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
                _check_names(part)


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
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info)
        if value.type.tensor_type.HasField("shape")
    }
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
    made, before = [], node.input[0]
    for number, (operator, attributes) in enumerate(steps, 1):
        after = node.output[0] if number == len(steps) else f"{node.output[0]}_{operator}"
        made.append(onnx.helper.make_node(operator, [before], [after], **attributes))
        before = after
    return made
