"""The type of a ``.tflite``'s input."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgedf.formats.backend import has_no_cast
from edgedf.formats.tflite.parsed import ParsedTFLite, operator_name, packed
from edgedf.spec import INPUT_ZERO_POINTS, InputType

__all__ = ["with_input_type"]


def with_input_type(model: ParsedTFLite, wanted: InputType) -> bytes:
    """Replace the cast of the picture's bytes, and what is spared with it.

    Args:
        model: A model with a uint8 input.
        wanted: ``int8`` or ``float32``.

    Raises:
        ConfigError: The model does not begin with a cast.
    """
    flatbuffer = model.edited()
    graph = flatbuffer.subgraphs[0]
    (image,) = map(int, graph.inputs)

    cast = next((op for op in graph.operators if list(op.inputs) == [image]), None)
    if cast is None or operator_name(flatbuffer, cast) != "CAST":
        raise has_no_cast()
    bytes_as_float = int(cast.outputs[0])
    gone = [cast]
    if wanted == "float32":
        graph.tensors[image].type = schema.TensorType.FLOAT32
        same = {bytes_as_float: image}
    else:
        zero_point = INPUT_ZERO_POINTS[wanted]
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.array([1.0], np.float32)
        quantization.zeroPoint = np.array([zero_point], np.int64)
        graph.tensors[image].type = schema.TensorType.INT8
        graph.tensors[image].quantization = quantization
        # What quantizes the bytes in just this way makes what the input is already.
        spared = [
            op
            for op in graph.operators
            if list(op.inputs) == [bytes_as_float]
            and operator_name(flatbuffer, op) == "QUANTIZE"
            and _is_step_of_one(graph.tensors[op.outputs[0]], zero_point)
        ]
        same = {int(op.outputs[0]): image for op in spared}
        gone += spared
    kept = [op for op in graph.operators if not any(op is other for other in gone)]
    for op in kept:
        op.inputs = [same.get(int(index), int(index)) for index in op.inputs]
    if wanted == "int8" and any(bytes_as_float in op.inputs for op in kept):
        # Layers that are kept in float take grey levels.
        kept.insert(0, _dequantize(flatbuffer, image, bytes_as_float))
    graph.operators = kept
    return packed(flatbuffer)


def _is_step_of_one(tensor: Any, zero_point: int) -> bool:
    behind = tensor.quantization
    return (
        tensor.type == schema.TensorType.INT8
        and list(behind.scale) == [1.0]
        and list(behind.zeroPoint) == [zero_point]
    )


def _dequantize(flatbuffer: Any, taken: int, made: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode = entry.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    entry.version = 2  # the first with int8
    flatbuffer.operatorCodes.append(entry)
    op = schema.OperatorT()
    op.opcodeIndex = len(flatbuffer.operatorCodes) - 1
    op.inputs, op.outputs = [taken], [made]
    op.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    op.builtinOptions = schema.DequantizeOptionsT()
    return op
