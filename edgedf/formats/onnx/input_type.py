"""The type of an ``.onnx``'s input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgedf.formats.backend import has_no_cast
from edgedf.spec import INPUT_NAME, INPUT_ZERO_POINTS, InputType

__all__ = ["with_input_type"]


def with_input_type(proto: Any, wanted: InputType) -> Any:
    """Replace the cast of the picture's bytes.

    Args:
        proto: A model with a uint8 input; changed in place.
        wanted: ``int8`` or ``float32``.

    Returns:
        The same object, without a spec.

    Raises:
        ConfigError: The model does not begin with a cast.
    """
    del proto.metadata_props[:]
    graph = proto.graph
    nodes = list(graph.node)
    cast = next((node for node in nodes if list(node.input) == [INPUT_NAME]), None)
    if cast is None or cast.op_type != "Cast":
        raise has_no_cast()
    elements = graph.input[0].type.tensor_type
    if wanted == "float32":
        elements.elem_type = onnx.TensorProto.FLOAT
        nodes.remove(cast)
        for node in nodes:
            for at, name in enumerate(node.input):
                if name == cast.output[0]:
                    node.input[at] = INPUT_NAME
    else:
        elements.elem_type = onnx.TensorProto.INT8
        scale, zero_point = (f"{INPUT_NAME}_{part}" for part in ("scale", "zero_point"))
        graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(np.array(1.0, np.float32), scale),
                onnx.numpy_helper.from_array(
                    np.array(INPUT_ZERO_POINTS[wanted], np.int8), zero_point
                ),
            ]
        )
        nodes[nodes.index(cast)] = onnx.helper.make_node(
            "DequantizeLinear",
            [INPUT_NAME, scale, zero_point],
            list(cast.output),
            f"{INPUT_NAME}_to_float",
        )
    del graph.node[:]
    graph.node.extend(nodes)
    return proto
