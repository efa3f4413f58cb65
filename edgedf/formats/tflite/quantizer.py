"""Float ``.tflite`` → other precisions, with ai-edge-quantizer; neither torch nor TensorFlow.

int8 is static and full-integer: int8 activations, int8 weights with one scale per output channel,
int32 biases. Between the uint8 input and the float32 outputs only a CAST and a QUANTIZE at the
beginning and a DEQUANTIZE per output are not int8.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import qtyping, quantizer, recipe
from numpy.typing import NDArray

from edgedf.formats.activations import Range, never_empty, used_ranges
from edgedf.formats.layers import KeptLayers
from edgedf.formats.tflite.parsed import ParsedTFLite, operator_name
from edgedf.progress import Progress, silent
from edgedf.spec import LOGIT_BOUND

__all__ = [
    "fixed_ranges",
    "to_fp16",
    "to_int8",
    "to_int8_weights",
]

FP16_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

# The quantizer prints a summary on standard output and draws bars on standard error, one of which
# no option switches off.
_SILENT = {"enable_progress_bar": False, "enable_progress_report": False}

# Operators with weights and a bias, and the axis of the weights that is the output channel.
_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# The largest quantized bias, by the bits of activations. With 8 the accumulator has 31 bits, of
# which the sum needs some; with 16 it has 63, and the bias is stored in 31.
_BIAS_LIMITS = {8: 2.0**28, 16: 0.99 * 2.0**31}


def to_int8(
    graph: ParsedTFLite,
    images: Sequence[NDArray[np.uint8]],
    *,
    activation_bits: int = 8,
    ranges: Mapping[str, Range] | None = None,
    kept: KeptLayers | None = None,
    progress: Progress = silent,
) -> bytes:
    """Quantize weights to int8, and activations to int8 or int16.

    The range of each activation is the smallest and largest value it takes on ``images``
    (min/max). The library's default, a moving average with factor 0.95 per image, starts from
    the first image and never gets far from it: a 1 x 1 logit comes out useless. Two ranges are
    not measured: that of the input is 0 to 255, so that its scale is exactly 1, and that of the
    logit :data:`~edgedf.spec.LOGIT_BOUND` on either side.

    Args:
        graph: A float model; a spec in it is dropped.
        images: Calibration images, each uint8 RGB (N, N, 3).
        activation_bits: Of activations. With 16 they are symmetric, and XNNPACK takes no operator
            over: made for accelerators.
        ranges: Of float tensors by their names, which win over what would be measured; only what is
            not among them is measured. Names that the model does not have are refused.
        kept: Layers that stay float or get 16-bit activations.
        progress: Told about each image.

    Returns:
        The quantized flatbuffer, without a spec.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
        ConfigError: A range is given for a tensor that the model does not have, or is none.
    """
    kept = kept or KeptLayers()
    found = never_empty(used_ranges(graph, images, ranges=ranges, progress=progress))
    rules = recipe.static_wi8_ai8() if activation_bits == 8 else recipe.static_wi8_ai16()
    rules.append({"regex": ".*", "operation": "OUTPUT", "algorithm_key": "no_quantize"})
    model = _with_room_for_biases(graph.bare, found, activation_bits, kept)
    made = quantizer.Quantizer(model, rules + _rules_for(kept))
    return _quantized(made, _statistics(graph.flatbuffer, found))


def fixed_ranges(graph: ParsedTFLite) -> dict[str, Range]:
    """Ranges that are not measured: the input has 0 to 255, the logit its bound on either side.

    Args:
        graph: A float model.
    """
    inputs = dict.fromkeys(_cast_inputs(graph.flatbuffer.subgraphs[0]), (0.0, 255.0))
    logits = dict.fromkeys(_logit_tensors(graph.flatbuffer), (-LOGIT_BOUND, LOGIT_BOUND))
    return inputs | logits


def to_int8_weights(graph: ParsedTFLite, *, dynamic: bool = False) -> bytes:
    """Quantize the weights alone, to int8 with one scale per output channel.

    Args:
        graph: A float model; a spec in it is dropped.
        dynamic: Whether convolutions quantize what comes in at run time and compute in integers;
            else weights are dequantized first and arithmetic stays float32. That is how depthwise
            convolutions are computed either way: XNNPACK has no kernel for those that quantize at
            run time, and each would break its one piece in two.

    Returns:
        The flatbuffer, without a spec.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
    """
    _ = graph.flatbuffer  # a damaged one is refused here
    rules = recipe.weight_only_wi8_afp32()
    if dynamic:
        depthwise = [{**rule, "operation": "DEPTHWISE_CONV_2D"} for rule in rules]
        rules = recipe.dynamic_wi8_afp32() + depthwise
    return _quantized(quantizer.Quantizer(graph.bare, rules))


def to_fp16(graph: ParsedTFLite) -> bytes:
    """Store the weights as float16; arithmetic stays float32 unless a delegate chooses otherwise.

    Args:
        graph: A float model; a spec in it is dropped.

    Returns:
        The flatbuffer, without a spec.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
    """
    _ = graph.flatbuffer  # a damaged one is refused here
    made = quantizer.Quantizer(graph.bare)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for operator in FP16_OPERATORS:
        made.update_quantization_recipe(
            ".*",
            qtyping.TFLOperationName(operator),
            config,
            quantizer.AlgorithmName.FLOAT_CASTING,
        )
    return _quantized(made)


def _rules_for(kept: KeptLayers) -> list[dict[str, Any]]:
    """The quantizer's rules for kept layers; they follow all others, so that they count."""

    def scope(tensor: str) -> str:
        return f"^{re.escape(tensor)};$"

    (wide,) = recipe.static_wi8_ai16()
    rules = [{**wide, "regex": scope(tensor)} for tensor in sorted(kept.tensors("int8-a16"))]
    return rules + [
        {"regex": scope(tensor), "operation": "*", "algorithm_key": "no_quantize"}
        for tensor in sorted(kept.tensors("fp32"))
    ]


def _quantized(prepared: Any, ranges: Any = None) -> bytes:
    """What a quantizer makes, without the bar that it draws and the warning about its means."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        # It opens the model with all tensors kept: the debugging that this warning allows.
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
        return bytes(prepared.quantize(ranges, **_SILENT).quantized_model)


def _statistics(flatbuffer: Any, ranges: Mapping[str, Range]) -> dict[str, dict[str, Any]]:
    """Ranges as the quantizer wants them: arrays with as many dimensions as their tensors have."""
    graph = flatbuffer.subgraphs[0]
    ranks = {tensor.name.decode(): len(tensor.shape) for tensor in graph.tensors}
    return {
        name: {
            end: np.full([1] * ranks[name], value, np.float32)
            for end, value in zip(("min", "max"), span, strict=True)
        }
        for name, span in ranges.items()
    }


def _with_room_for_biases(
    model: bytes,
    ranges: Mapping[str, Range],
    activation_bits: int,
    kept: KeptLayers,
) -> bytes:
    """The model with weights just large enough that every bias fits into an int32.

    The step of a quantized bias is that of the input times that of the channel's weights. In a
    channel with next to no weights, as trained networks have, it is so small that the bias
    overflows: the quantizer turns it into -2**31, and the sum wraps round. Raising the largest
    weight of such a channel gives it a wider step. What that adds to the output is below
    127 * 255 / 2**28 of the bias, a thirtieth of a step of an int8 output (127 * 32767 / 2**31, a
    five-hundredth of the bias, with 16 bits).
    """
    edited = bytearray(model)  # views below write into it
    flatbuffer = schema.Model.GetRootAs(edited)
    graph = flatbuffer.Subgraphs(0)

    def values(index: int) -> NDArray[Any]:
        buffer = flatbuffer.Buffers(graph.Tensors(index).Buffer())
        return buffer.DataAsNumpy().view(np.float32)

    names = {getattr(schema.BuiltinOperator, name): name for name in _CHANNEL_AXES}
    floats, wide = (kept.tensors(p) for p in ("fp32", "int8-a16"))
    for number in range(graph.OperatorsLength()):
        op = graph.Operators(number)
        code = flatbuffer.OperatorCodes(op.OpcodeIndex())
        name = names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
        if name is None or op.InputsLength() < 3 or op.Inputs(2) < 0:
            continue
        made = graph.Tensors(op.Outputs(0)).Name().decode()
        if made in floats:
            continue
        bits = 16 if made in wide else activation_bits
        low, high = ranges[graph.Tensors(op.Inputs(0)).Name().decode()]
        lowest, highest = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
        step = (highest - lowest) / 255
        if bits == 16:  # symmetric around 0
            step = max(highest, -lowest) / 32767
        if not step > 0.0:
            continue  # an input that is always zero: whatever its weights, nothing is added
        shape = graph.Tensors(op.Inputs(1)).ShapeAsNumpy()
        weights = np.moveaxis(values(op.Inputs(1)).reshape(shape), _CHANNEL_AXES[name], 0)
        floors = np.abs(values(op.Inputs(2))) * 127 / (_BIAS_LIMITS[bits] * step)
        for channel, floor in zip(weights, floors, strict=True):
            largest = np.unravel_index(np.abs(channel).argmax(), channel.shape)
            if abs(channel[largest]) < floor:
                channel[largest] = np.copysign(floor, channel[largest])
    return bytes(edited)


def _logit_tensors(flatbuffer: Any) -> list[str]:
    """Names of the tensor that the signature calls ``fake_logit``, and of those it is shaped from.

    A reshape has the range of what goes into it, whatever is asked for behind it.
    """
    graph = flatbuffer.subgraphs[0]
    producer = {int(op.outputs[0]): op for op in graph.operators}
    (index,) = (
        int(entry.tensorIndex)
        for entry in flatbuffer.signatureDefs[0].outputs
        if entry.name == b"fake_logit"
    )
    names = []
    while True:
        names.append(str(graph.tensors[index].name.decode()))
        op = producer.get(index)
        if op is None:
            return names
        if operator_name(flatbuffer, op) != "RESHAPE":
            return names
        index = int(op.inputs[0])


def _cast_inputs(graph: Any) -> list[str]:
    """Names of the float tensors that are the model's uint8 input, cast and nothing else."""
    return [
        graph.tensors[op.outputs[0]].name.decode()
        for op in graph.operators
        if list(op.inputs) == list(graph.inputs)
    ]
