"""Which layers of an int8 ``.tflite`` stay float or are left to the interpreter, and remedies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from ai_edge_quantizer import quantizer, recipe
from ai_edge_quantizer.utils import tfl_interpreter_utils

from edgedf.formats.activations import never_empty
from edgedf.formats.backend import refused
from edgedf.formats.layers import KeptLayers
from edgedf.formats.lint import OTHERWISE, PICTURES, LintLayer, Problem, picture, without_advice
from edgedf.formats.operators import BOUNDARY_OPERATORS
from edgedf.formats.tflite.delegation import Delegation
from edgedf.formats.tflite.operators import AROUND, operators
from edgedf.formats.tflite.parsed import ParsedTFLite, data_of

__all__ = ["REMEDIES", "slow_layers", "try_int8"]

_COMPUTED = frozenset({"float32", "int8", "int16"})

_CURVE = "use relu or relu6"
_SMOOTH = "use relu or relu6; sigmoid, tanh and silu (x · sigmoid x) stay int8 as well"
_ALONE = "put the relu right behind a convolution or an addition, into which it is folded"
_ATTENTION = "use convolutions; attention keeps its matrix products out of the partition"
_NORM = "use batch normalisation, which is folded into the convolution before it"
_ARITHMETIC = "rewrite it with additions, subtractions and multiplications"
_UPSAMPLE = "use bilinear upsampling or a transposed convolution"
_COMPARISON = "use relu, or multiply by a mask that a convolution gives"
_LAYOUT = "use slices with step 1, reshapes, transposes and concatenations"
_DIMENSIONS = "keep tensors at 6 dimensions or fewer"
_SUM = (
    "leave constants below 0.0001 out; for the epsilon of a normalisation, use batch normalisation"
)

REMEDIES: Mapping[str, str] = {
    # Operators that XNNPACK takes in int8, in another form.
    **dict.fromkeys(
        ("CONV_2D", "DEPTHWISE_CONV_2D"),
        "give it constant weights and a bias, and relu or relu6 as its activation",
    ),
    **dict.fromkeys(
        ("TRANSPOSE_CONV", "FULLY_CONNECTED"),
        "give it constant weights, and relu or relu6 as its activation",
    ),
    **dict.fromkeys(("ADD", "SUB"), _SUM),
    "MUL": _CURVE,
    "CONCATENATION": "concatenate in two steps, at most 5 inputs each",
    "SPLIT": "split in two steps, at most 4 parts each, or use slices",
    "STRIDED_SLICE": "slice with step 1 and reshape then; for a step, use a convolution with a "
    "stride, or space-to-depth",
    "MAX_POOL_2D": "instead of a window of 1 x 1 with a stride, use a slice or a convolution with "
    "a stride",
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "SLICE"), _DIMENSIONS),
    # Operators that become int8, of which XNNPACK has at best a float kernel.
    "AVERAGE_POOL_2D": "use max pooling, a convolution with a stride, or the mean over the whole "
    "picture",
    "RELU": _ALONE,
    **dict.fromkeys(("GELU", "HARD_SWISH"), _SMOOTH),
    "RESIZE_NEAREST_NEIGHBOR": _UPSAMPLE,
    **dict.fromkeys(("SOFTMAX", "BATCH_MATMUL"), _ATTENTION),
    **dict.fromkeys(("SQRT", "RSQRT", "SQUARED_DIFFERENCE"), _NORM),
    **dict.fromkeys(("DIV", "MAXIMUM"), _ARITHMETIC),
    **dict.fromkeys(("SELECT", "SELECT_V2", "EQUAL", "NOT_EQUAL"), _COMPARISON),
    **dict.fromkeys(("GATHER", "GATHER_ND", "PACK", "UNPACK", "BROADCAST_TO"), _LAYOUT),
    **dict.fromkeys(("PADV2", "MIRROR_PAD"), _LAYOUT),
    # Operators that stay float.
    **dict.fromkeys(("LEAKY_RELU", "PRELU", "ELU", "RELU_N1_TO_1", "RELU_0_TO_1"), _CURVE),
    "RELU6": _ALONE,
    **dict.fromkeys(("ABS", "CEIL", "COS", "EXP", "FLOOR", "LOG", "MINIMUM"), _ARITHMETIC),
    **dict.fromkeys(("NEG", "ROUND", "SIN", "SQUARE", "POW", "L2_NORMALIZATION"), _ARITHMETIC),
    "REDUCE_MAX": "use the mean, or max pooling",
    "DEPTH_TO_SPACE": _UPSAMPLE,
    **dict.fromkeys(("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "WHERE"), _COMPARISON),
    "REVERSE_V2": _LAYOUT,
}
"""Operator → what to use instead, where it stays float or XNNPACK does not take it."""


def try_int8(model: ParsedTFLite) -> bytes:
    """Quantize a float model to int8, with ranges from a few pictures.

    Args:
        model: A float model, with any inputs.

    Raises:
        ArtifactUnreadable: The interpreter refuses it.
        Exception: It does not run, or the quantizer cannot quantize it.
    """
    with without_advice():
        try:
            interpreter = tfl_interpreter_utils.create_tfl_interpreter(
                model.bare, num_threads=1, preserve_all_tensors=True
            )
        except (ValueError, RuntimeError) as error:
            raise refused("tflite", "TFLite's interpreter", error) from error
        inputs = interpreter.get_input_details()
        # The quantizer gives constants ranges of their own.
        computed = {
            tensor.name.decode()
            for tensor in model.flatbuffer.subgraphs[0].tensors
            if data_of(model.flatbuffer, tensor) is None
        }
        ranges: dict[str, tuple[float, float]] = {}
        ranks: dict[str, int] = {}
        for number in range(PICTURES):
            feed = [picture(number, entry["shape"], np.dtype(entry["dtype"])) for entry in inputs]
            tfl_interpreter_utils.invoke_interpreter_once(interpreter, feed)
            tensors = tfl_interpreter_utils.get_tensor_name_to_content_map(interpreter)
            for name, values in tensors.items():
                finite = values[np.isfinite(values)] if values.dtype == np.float32 else values[:0]
                if finite.size and name in computed:
                    low, high = ranges.get(name, (0.0, 0.0))
                    ranges[name] = min(low, float(finite.min())), max(high, float(finite.max()))
                    ranks[name] = values.ndim
        statistics = {
            name: {
                end: np.full([1] * ranks[name], value, np.float32)
                for end, value in zip(("min", "max"), span)
            }
            for name, span in never_empty(ranges).items()
        }
        rules = recipe.static_wi8_ai8() + [
            {"regex": ".*", "operation": end, "algorithm_key": "no_quantize"}
            for end in ("INPUT", "OUTPUT")
        ]
        result = quantizer.Quantizer(model.bare, rules).quantize(
            statistics, enable_progress_bar=False, enable_progress_report=False
        )
    return bytes(result.quantized_model)


def slow_layers(
    model: ParsedTFLite, delegation: Delegation, names: Mapping[str, str], kept: KeptLayers
) -> Iterator[LintLayer]:
    """Read the types of the file, and what XNNPACK takes.

    Args:
        model: An int8 model.
        delegation: What XNNPACK makes of it.
        names: Tensor → name of its layer for ``--keep``.
        kept: Layers that were to stay out of int8, which are left out.

    Yields:
        The layers in order of execution.
    """
    taken = {index for partition in delegation.partitions for index in partition.operators}
    asked = kept.tensors("fp32") | kept.tensors("int8-a16")
    aside = BOUNDARY_OPERATORS | (AROUND if asked else set())
    for index, operator in enumerate(operators(model)):
        types = {*operator.inputs, *operator.outputs}
        is_float, is_left = "float32" in types, index not in taken
        name = delegation.operators[index].name
        if operator.name in aside or name in asked or not types & _COMPUTED:
            continue
        if not (is_float or is_left):
            continue
        problem: Problem = "stays float" if is_float else "left to the interpreter"
        if is_float and is_left:
            problem = "float and left to the interpreter"
        remedy = REMEDIES.get(operator.name, OTHERWISE)
        yield LintLayer(name, operator.name, problem, "", remedy, keep=names.get(name, ""))
