"""A detector so small that NumPy can say what it has to answer.

The map is the mean of the red channel in each 4 x 4 block, divided by 51 and cut to [0, 6]; the
logit is 4 * (mean red - mean blue) / 255 + 0.5. Red and blue differ, so a model that gets BGR, or
a picture upside down, gives itself away.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.spec import ModelSpec
from tests.contract.specs import make_spec

SIZE = 32
MAP_SIZE = SIZE // 4
MAP_GAIN, LOGIT_GAIN, LOGIT_BIAS = 1 / 51, 4 / 255, 0.5


def expected(image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
    """Logit and map for a uint8 RGB image of SIZE x SIZE."""
    red, blue = image[:, :, 0].astype(np.float64), image[:, :, 2].astype(np.float64)
    blocks = red.reshape(MAP_SIZE, 4, MAP_SIZE, 4).mean(axis=(1, 3))
    logit = LOGIT_GAIN * (red.mean() - blue.mean()) + LOGIT_BIAS
    return float(logit), np.clip(blocks * MAP_GAIN, 0, 6).astype(np.float32)


def tiny_spec(**changes: Any) -> ModelSpec:
    """The spec that fits the tiny models."""
    return make_spec(SIZE, **{"precision": "fp32", "calibration": None, **changes})


def write_tiny(folder: Path, model_format: str, **changes: Any) -> Path:
    """Write ``tiny.<format>`` with the tiny spec and return its path."""
    spec = tiny_spec(**changes)
    path = folder / f"tiny.{model_format}"
    is_tflite = model_format == "tflite"
    path.write_bytes(
        embed_tflite(bare_tflite(), spec) if is_tflite else embed_onnx(bare_onnx(), spec)
    )
    return path


@cache
def bare_onnx() -> bytes:
    """The model as ONNX, without a spec."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value), name)

    red = np.zeros((1, 3, 1, 1), np.float32)
    red[0, 0] = MAP_GAIN
    contrast = np.array([[LOGIT_GAIN], [0], [-LOGIT_GAIN]], np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Conv", ["p", "red"], ["red_blocks"]),
        helper.make_node("Clip", ["red_blocks", "low", "high"], ["cut"]),
        helper.make_node("Transpose", ["cut"], ["defocus_map"], perm=[0, 2, 3, 1]),
        helper.make_node("GlobalAveragePool", ["nchw"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "contrast", "bias"], ["fake_logit"]),
    ]
    dense, floats = [1, MAP_SIZE, MAP_SIZE, 1], TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        # The other way round than in TFLite: nobody may rely on the order.
        [
            helper.make_tensor_value_info("fake_logit", floats, [1, 1]),
            helper.make_tensor_value_info("defocus_map", floats, dense),
        ],
        [
            constant("red", red),
            constant("low", np.float32(0)),
            constant("high", np.float32(6)),
            constant("contrast", contrast),
            constant("bias", np.array([LOGIT_BIAS], np.float32)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@cache
def bare_tflite(*, with_signature: bool = True) -> bytes:
    """The model as TFLite, without a spec; tensor names differ from the signature's, as usual."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: list[int], values: Any = None, *, kind: int = 0) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = name.encode(), shape, kind
        made.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    codes: list[int] = []

    def operator(name: str, inputs: list[int], output: int, **options: Any) -> None:
        code = getattr(schema.BuiltinOperator, name)
        if code not in codes:
            codes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = codes.index(code), inputs, [output]
        kind = options.pop("options")
        made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        made.builtinOptions = getattr(schema, f"{kind}T")()
        for key, value in options.items():
            setattr(made.builtinOptions, key, value)
        graph.operators.append(made)

    uint8, int32 = schema.TensorType.UINT8, schema.TensorType.INT32
    floats, valid = schema.TensorType.FLOAT32, schema.Padding.VALID
    relu6 = schema.ActivationFunctionType.RELU6
    red = np.zeros((1, 1, 1, 3), np.float32)
    red[..., 0] = MAP_GAIN
    contrast = np.array([[LOGIT_GAIN, 0, -LOGIT_GAIN]], np.float32)

    image = tensor("serving_default_image:0", [1, SIZE, SIZE, 3], kind=uint8)
    as_float = tensor("float", [1, SIZE, SIZE, 3])
    pooled = tensor("pooled", [1, MAP_SIZE, MAP_SIZE, 3])
    dense = tensor("StatefulPartitionedCall:1", [1, MAP_SIZE, MAP_SIZE, 1])
    means = tensor("means", [1, 3])
    logit = tensor("StatefulPartitionedCall:0", [1, 1])
    axes = tensor("axes", [2], np.array([1, 2], np.int32), kind=int32)
    red_weights = tensor("red", [1, 1, 1, 3], red)
    no_bias = tensor("no_bias", [1], np.zeros(1, np.float32))
    contrast_weights = tensor("contrast", [1, 3], contrast)
    bias = tensor("bias", [1], np.array([LOGIT_BIAS], np.float32))

    stride = {"strideW": 4, "strideH": 4, "filterWidth": 4, "filterHeight": 4, "padding": valid}
    types = {"inDataType": uint8, "outDataType": floats}
    operator("CAST", [image], as_float, options="CastOptions", **types)
    operator("AVERAGE_POOL_2D", [as_float], pooled, options="Pool2DOptions", **stride)
    operator(
        "CONV_2D",
        [pooled, red_weights, no_bias],
        dense,
        options="Conv2DOptions",
        strideW=1,
        strideH=1,
        padding=valid,
        fusedActivationFunction=relu6,
    )
    operator("MEAN", [as_float, axes], means, options="ReducerOptions", keepDims=False)
    operator(
        "FULLY_CONNECTED",
        [means, contrast_weights, bias],
        logit,
        options="FullyConnectedOptions",
    )
    graph.inputs, graph.outputs = [image], [dense, logit]
    model.subgraphs = [graph]
    for code in codes:
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = code
        made.version = 1
        model.operatorCodes = [*(model.operatorCodes or []), made]

    def named(name: str, index: int) -> Any:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = name.encode(), index
        return made

    if with_signature:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
        signature.inputs = [named("image", image)]
        signature.outputs = [named("defocus_map", dense), named("fake_logit", logit)]
        model.signatureDefs = [signature]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
