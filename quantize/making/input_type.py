"""The type of a model's input: bytes, or what spares an app or a delegate the conversion.

A model begins with a cast of the picture's bytes to float32. Here that first operator of a finished
model, float or quantized, is replaced; nothing is exported, calibrated or quantized again.

=========  =================  ======================================================================
name       value              meant for
=========  =================  ======================================================================
uint8      byte               apps: no arithmetic at all
int8       byte - 128         accelerators that take int8 alone: CAST and QUANTIZE are gone
float32    byte, as a float   delegates that want floats, such as GPUs; still 0 to 255
=========  =================  ======================================================================
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from typing import Any

import numpy as np

from edgedf.artifact import ModelFormat, strip_tflite
from edgedf.errors import ConfigError, MissingExtra
from edgedf.quantize.sources.describe import INPUT_NAME
from edgedf.spec import INPUT_TYPES, INPUT_ZERO_POINTS, InputSpec, InputType, Precision

__all__ = ["check_input_type", "described_input", "input_type_named", "with_input_type"]

_NO_CAST = "a model whose first operator is a cast of its uint8 input, as edgedf exports them"


def input_type_named(name: str) -> InputType:
    """The input type of that name.

    Raises:
        ConfigError: There is none; the nearest is suggested.
    """
    if name in INPUT_TYPES:
        return name
    nearest = difflib.get_close_matches(name, INPUT_TYPES, 1)
    raise ConfigError(
        f"There is no input type {name!r}.",
        expected=f"one of {', '.join(INPUT_TYPES)}",
        next_step=f"--io {nearest[0]}" if nearest else "edgedf convert --help",
    )


def check_input_type(wanted: InputType, precision: Precision) -> None:
    """Refuse an int8 input where there is no int8 behind it.

    Args:
        wanted: Of the input.
        precision: Of the model.

    Raises:
        ConfigError: The precision does not compute in int8.
    """
    if wanted == "int8" and precision != "int8":
        raise ConfigError(
            f"There is no int8 input for {precision}: an int8 input spares int8 operators the "
            "conversion in front of them, and this model begins with others.",
            expected="--io uint8 or --io float32, or --precision int8",
            next_step="leave --io out: every precision takes the bytes as they are",
        )


def described_input(spec: InputSpec, wanted: InputType) -> InputSpec:
    """The spec of an input of another type.

    Args:
        spec: Of the model as it was.
        wanted: The type it gets.
    """
    return replace(spec, dtype=wanted, zero_point=INPUT_ZERO_POINTS[wanted])


def with_input_type(model: bytes, model_format: ModelFormat, wanted: InputType) -> bytes:
    """A model with an input of another type.

    Args:
        model: A ``.tflite`` or ``.onnx`` of ours with a uint8 input; a spec in it is dropped.
        model_format: Which of the two.
        wanted: The type it gets.

    Returns:
        The model without a spec; the very same bytes where ``wanted`` is uint8.

    Raises:
        ConfigError: The model does not begin with a cast.
        MissingExtra: What edits the graph is not installed.
    """
    if wanted == "uint8":
        return model
    try:
        return _tflite(model, wanted) if model_format == "tflite" else _onnx(model, wanted)
    except ImportError as error:
        doing = f"Changing the input of a .{model_format} model"
        raise MissingExtra("convert", doing) from error


def _tflite(model: bytes, wanted: InputType) -> bytes:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    flatbuffer = flatbuffer_utils.read_model_from_bytearray(strip_tflite(model))
    graph = flatbuffer.subgraphs[0]
    (image,) = map(int, graph.inputs)

    def code(op: Any) -> int:
        entry = flatbuffer.operatorCodes[op.opcodeIndex]
        return int(max(entry.builtinCode, entry.deprecatedBuiltinCode))

    cast = next((op for op in graph.operators if list(op.inputs) == [image]), None)
    if cast is None or code(cast) != schema.BuiltinOperator.CAST:
        raise _has_no_cast()
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
            and code(op) == schema.BuiltinOperator.QUANTIZE
            and _is_step_of_one(graph.tensors[op.outputs[0]], schema, zero_point)
        ]
        same = {int(op.outputs[0]): image for op in spared}
        gone += spared
    kept = [op for op in graph.operators if not any(op is other for other in gone)]
    for op in kept:
        op.inputs = [same.get(int(index), int(index)) for index in op.inputs]
    if wanted == "int8" and any(bytes_as_float in op.inputs for op in kept):
        # Layers that are kept in float take grey levels.
        kept.insert(0, _dequantize(flatbuffer, schema, image, bytes_as_float))
    graph.operators = kept
    return bytes(flatbuffer_utils.convert_object_to_bytearray(flatbuffer))


def _is_step_of_one(tensor: Any, schema: Any, zero_point: int) -> bool:
    behind = tensor.quantization
    return (
        tensor.type == schema.TensorType.INT8
        and list(behind.scale) == [1.0]
        and list(behind.zeroPoint) == [zero_point]
    )


def _dequantize(flatbuffer: Any, schema: Any, taken: int, made: int) -> Any:
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


def _onnx(model: bytes, wanted: InputType) -> bytes:
    import onnx

    proto = onnx.load_model_from_string(model)
    del proto.metadata_props[:]
    graph = proto.graph
    nodes = list(graph.node)
    cast = next((node for node in nodes if list(node.input) == [INPUT_NAME]), None)
    if cast is None or cast.op_type != "Cast":
        raise _has_no_cast()
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
    return bytes(proto.SerializeToString(deterministic=True))


def _has_no_cast() -> ConfigError:
    return ConfigError(
        "The type of the model's input cannot be changed.",
        expected=_NO_CAST,
        next_step="leave --io out, or convert the checkpoint it was made from",
    )
