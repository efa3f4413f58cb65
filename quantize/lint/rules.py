"""What becomes of each operator in an int8 model: one table a format, learnt by experiment.

TFLite: ai-edge-quantizer turns some operators into integer ones and leaves the others in float
between a DEQUANTIZE and a QUANTIZE; XNNPACK, the CPU's delegate, takes over some of either kind. It
has float kernels that it has no int8 ones for, so that a layer which *was* quantized may be the one
that cuts the graph into pieces. ONNX: the quantizer puts QuantizeLinear and DequantizeLinear
around operators, and ONNX Runtime fuses them where it has an integer kernel.

Found with ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0 and onnxruntime 1.32.0 on one operator at
a time, between two convolutions; ``benchmarks/lint.py`` holds them against whole networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "FLOAT_IN_ONNX_RUNTIME",
    "KEEPS_SIGN",
    "NEVER_NEGATIVE",
    "ONNX",
    "TFLITE",
    "Limit",
    "Node",
    "OnnxRule",
    "TfliteRule",
    "onnx_rule",
    "tflite_rule",
]


@dataclass(frozen=True)
class Node:
    """An operator of a float model, as far as the rules look at it.

    Args:
        operator: Such as ``CONV_2D`` (TFLite) or ``Conv`` (ONNX).
        name: Name of the first tensor that it makes (TFLite), or its own (ONNX).
        inputs: Tensors that it takes, without constants and absent ones.
        outputs: Tensors that it makes.
        floats: Which of these are of a float type.
        absent: Positions of inputs that are left out.
        constants: Values of the constant inputs by position; only small ones are read.
        fixed: Positions of all constant inputs.
        rank: Largest number of dimensions of a tensor that goes in or comes out.
        attributes: Options of the operator that are numbers or words.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    floats: frozenset[str]
    absent: frozenset[int]
    constants: Mapping[int, Any]
    fixed: frozenset[int]
    rank: int
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Limit:
    """Something about an operator that a runtime has no integer kernel for although it has one.

    Args:
        when: Whether that is so.
        what: It, in words.
        remedy: What to do instead.
    """

    when: Callable[[Node], bool]
    what: str
    remedy: str


@dataclass(frozen=True)
class TfliteRule:
    """What becomes of a TFLite operator.

    Args:
        integer: Whether ai-edge-quantizer makes it an int8 operator.
        taken: Whether XNNPACK takes it as it then is: int8 where ``integer``, else float.
        remedy: What to do instead; empty where nothing is wrong with it.
        limits: When XNNPACK does not take it after all.
    """

    integer: bool
    taken: bool
    remedy: str = ""
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class OnnxRule:
    """What becomes of an ONNX operator.

    Args:
        kind: ``computes``: it is quantized, and has an integer kernel. ``quantized``: it is
            quantized, but computed in float between conversions. ``follows``: it is as its first
            input is. ``joins``: as all its inputs are. ``maximum``: integer where what it takes
            the maximum of is never below 0, as the range is the same then. ``float``: it stays
            float.
        remedy: What to do instead; empty where nothing is wrong with it.
        limits: When it is quantized, but computed in float after all.
    """

    kind: Literal["computes", "quantized", "follows", "joins", "maximum", "float"]
    remedy: str = ""
    limits: tuple[Limit, ...] = ()


_CURVE = "use relu or relu6"
_SMOOTH = "use relu or relu6; sigmoid, tanh and silu (x · sigmoid x) stay int8 as well"
_SMOOTH_ONNX = (
    "use relu or relu6; leaky relu, sigmoid and silu (x · sigmoid x) stay integer as well"
)
_ALONE = "put the relu right behind a convolution or an addition, into which it is folded"
_ATTENTION = "use convolutions; attention keeps its matrix products out of the partition"
_NORM = "use batch normalisation, which is folded into the convolution before it"
_ARITHMETIC = "rewrite it with additions, subtractions and multiplications"
_UPSAMPLE = "use bilinear upsampling or a transposed convolution"
_POOL = "use max pooling, a convolution with a stride, or the mean over the whole picture"
_COMPARISON = "use relu, or multiply by a mask that a convolution gives"
_LAYOUT = "use slices with step 1, reshapes, transposes and concatenations"
_BUILTIN = "use the operators of the table on edgedf convert's page"

# TfLite's ActivationFunctionType: none, relu, relu_n1_to_1, relu6.
_FUSED = (0, 1, 2, 3)
_MOST_DIMENSIONS = 6

# A constant is quantized to 255 steps of its own. XNNPACK adds tensors only if neither step is
# below a 1024th of the sum's; this constant would be, in any sum whose range is over 0.1.
_SMALL = 1e-4

_TOO_MANY_DIMENSIONS = Limit(
    lambda node: node.rank > _MOST_DIMENSIONS,
    f"more than {_MOST_DIMENSIONS} dimensions",
    f"keep tensors at {_MOST_DIMENSIONS} dimensions or fewer",
)
_ODD_ACTIVATION = Limit(
    lambda node: node.attributes.get("fusedActivationFunction", 0) not in _FUSED,
    "a fused activation other than relu and relu6",
    _CURVE,
)
_NO_BIAS = Limit(
    lambda node: 2 in node.absent or len(node.inputs) + len(node.fixed) < 3,
    "no bias",
    "give the convolution a bias",
)
_COMPUTED_WEIGHTS = Limit(
    lambda node: 1 not in node.fixed,
    "weights that are computed",
    "use weights that are constant",
)
_TINY_CONSTANT = Limit(
    lambda node: any(_largest(value) < _SMALL for value in node.constants.values()),
    f"a constant below {_SMALL:g}, too small a step beside the sum's",
    "leave the constant out; for the epsilon of a normalisation, use batch normalisation",
)
_POINT_POOL = Limit(
    lambda node: (
        node.attributes.get("filterHeight") == node.attributes.get("filterWidth") == 1
        and max(node.attributes.get("strideH", 1), node.attributes.get("strideW", 1)) > 1
    ),
    "a window of 1 x 1 with a stride",
    "use a slice or a convolution with a stride",
)
_STEPS = Limit(
    lambda node: 3 not in node.constants or bool((node.constants[3] != 1).any()),
    "a step other than 1",
    "use a convolution with a stride, or space-to-depth",
)
_MASKS = Limit(
    lambda node: any(
        node.attributes.get(mask, 0) for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask")
    ),
    "a slice that adds or drops a dimension",
    "slice first, then reshape",
)
_MANY_PARTS = Limit(
    lambda node: len(node.outputs) > 4, "more than 4 parts", "split in two steps, or use slices"
)
_MANY_INPUTS = Limit(
    lambda node: len(node.inputs) + len(node.fixed) > 5,
    "more than 5 inputs",
    "concatenate in two steps",
)

_WEIGHTED = (_NO_BIAS, _COMPUTED_WEIGHTS, _ODD_ACTIVATION)


def _good(*limits: Limit) -> TfliteRule:
    """Integer, and taken unless a limit says otherwise."""
    return TfliteRule(True, True, "", (*limits, _TOO_MANY_DIMENSIONS))


def _left(remedy: str) -> TfliteRule:
    """Integer, but left to the interpreter: XNNPACK has at best a float kernel."""
    return TfliteRule(True, False, remedy)


def _floats(remedy: str, *, taken: bool) -> TfliteRule:
    """Stays float."""
    return TfliteRule(False, taken, remedy)


TFLITE: Mapping[str, TfliteRule] = {
    "CONV_2D": _good(*_WEIGHTED),
    "DEPTHWISE_CONV_2D": _good(*_WEIGHTED),
    "TRANSPOSE_CONV": _good(_COMPUTED_WEIGHTS, _ODD_ACTIVATION),
    "FULLY_CONNECTED": _good(_COMPUTED_WEIGHTS, _ODD_ACTIVATION),
    "ADD": _good(_TINY_CONSTANT, _ODD_ACTIVATION),
    "SUB": _good(_TINY_CONSTANT, _ODD_ACTIVATION),
    "MUL": _good(_ODD_ACTIVATION),
    "CONCATENATION": _good(_MANY_INPUTS),
    "SPLIT": _good(_MANY_PARTS),
    "SLICE": _good(),
    "STRIDED_SLICE": _good(_STEPS, _MASKS),
    "MAX_POOL_2D": _good(_POINT_POOL),
    **dict.fromkeys(("LOGISTIC", "TANH", "MEAN", "SUM", "REDUCE_MIN", "PAD"), _good()),
    **dict.fromkeys(("RESHAPE", "TRANSPOSE", "RESIZE_BILINEAR", "SPACE_TO_DEPTH"), _good()),
    "AVERAGE_POOL_2D": _left(_POOL),
    "RELU": _left(_ALONE),
    "GELU": _left(_SMOOTH),
    "HARD_SWISH": _left(_SMOOTH),
    "RESIZE_NEAREST_NEIGHBOR": _left(_UPSAMPLE),
    **dict.fromkeys(("SOFTMAX", "BATCH_MATMUL"), _left(_ATTENTION)),
    **dict.fromkeys(("SQRT", "RSQRT", "SQUARED_DIFFERENCE"), _left(_NORM)),
    **dict.fromkeys(("DIV", "MAXIMUM"), _left(_ARITHMETIC)),
    **dict.fromkeys(("SELECT", "SELECT_V2", "EQUAL", "NOT_EQUAL"), _left(_COMPARISON)),
    **dict.fromkeys(
        ("GATHER", "GATHER_ND", "PACK", "UNPACK", "BROADCAST_TO", "PADV2", "MIRROR_PAD"),
        _left(_LAYOUT),
    ),
    **dict.fromkeys(("DYNAMIC_UPDATE_SLICE", "STABLEHLO_COMPOSITE"), _left(_BUILTIN)),
    **dict.fromkeys(("LEAKY_RELU", "PRELU", "ELU", "RELU_N1_TO_1"), _floats(_CURVE, taken=True)),
    "RELU6": _floats(_ALONE, taken=True),
    **dict.fromkeys(
        ("ABS", "CEIL", "COS", "EXP", "FLOOR", "LOG", "MINIMUM", "NEG", "ROUND", "SIN", "SQUARE"),
        _floats(_ARITHMETIC, taken=True),
    ),
    "REDUCE_MAX": _floats("use the mean, or max pooling", taken=True),
    "DEPTH_TO_SPACE": _floats(_UPSAMPLE, taken=True),
    **dict.fromkeys(
        ("GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "WHERE"),
        _floats(_COMPARISON, taken=False),
    ),
    **dict.fromkeys(("POW", "L2_NORMALIZATION"), _floats(_ARITHMETIC, taken=False)),
    "RELU_0_TO_1": _floats(_CURVE, taken=False),
    "REVERSE_V2": _floats(_LAYOUT, taken=False),
}
"""Operator → what becomes of it; what is not here stays float and is left to the interpreter."""

_UNKNOWN_TFLITE = _floats(_BUILTIN, taken=False)

_COMPUTES, _FOLLOWS = OnnxRule("computes"), OnnxRule("follows")
_INTERPOLATES = Limit(
    lambda node: node.attributes.get("mode", b"nearest") != b"nearest",
    "interpolation",
    "use nearest upsampling, at best with a convolution behind it",
)
_FILLS = Limit(lambda node: True, "padding that no convolution takes in", "pad in a convolution")
_REDUCE = "use the mean over the whole picture (GlobalAveragePool), a pooling or a convolution"

ONNX: Mapping[str, OnnxRule] = {
    **dict.fromkeys(("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "Sigmoid"), _COMPUTES),
    **dict.fromkeys(("LeakyRelu", "Softmax", "GlobalAveragePool", "AveragePool"), _COMPUTES),
    "Split": _COMPUTES,
    "Pad": OnnxRule("computes", limits=(_FILLS,)),
    "Resize": OnnxRule("follows", limits=(_INTERPOLATES,)),
    **dict.fromkeys(("Relu", "Clip", "Reshape", "Transpose", "Squeeze", "Unsqueeze"), _FOLLOWS),
    **dict.fromkeys(("Flatten", "MaxPool", "Slice", "Gather", "DepthToSpace"), _FOLLOWS),
    "Where": OnnxRule("joins", _COMPARISON),
    **dict.fromkeys(
        ("InstanceNormalization", "LayerNormalization", "BatchNormalization"),
        OnnxRule("quantized", _NORM),
    ),
    **dict.fromkeys(("HardSwish", "HardSigmoid"), OnnxRule("float", _SMOOTH_ONNX)),
    **dict.fromkeys(("Gelu", "Erf", "Tanh", "Softplus", "Mish"), OnnxRule("float", _SMOOTH_ONNX)),
    **dict.fromkeys(("PRelu", "Elu", "Selu", "Celu"), OnnxRule("float", _CURVE)),
    **dict.fromkeys(("Sqrt", "Reciprocal", "Pow"), OnnxRule("float", _NORM)),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMin"), OnnxRule("float", _REDUCE)),
    "ReduceMax": OnnxRule("maximum", "put a relu before it, or " + _REDUCE),
    **dict.fromkeys(("Sub", "Div", "Neg", "Abs", "Exp", "Log"), OnnxRule("float", _ARITHMETIC)),
    **dict.fromkeys(("Max", "Min"), OnnxRule("float", _ARITHMETIC)),
    **dict.fromkeys(("Greater", "Less", "Equal"), OnnxRule("float", _COMPARISON)),
    "ConvTranspose": OnnxRule("quantized", "use nearest upsampling and a convolution"),
}
"""Operator → what becomes of it; what is not here stays float."""

FLOAT_IN_ONNX_RUNTIME = frozenset({"Resize"})
"""Where ONNX Runtime has no integer kernel on a CPU for something that every student needs."""

NEVER_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax"})
"""Operators whose results are at least 0."""

KEEPS_SIGN = frozenset(
    {"Mul", "Add", "Concat", "GlobalAveragePool", "AveragePool", "MaxPool", "ReduceMax"}
    | {"ReduceMean", "Reshape", "Transpose", "Slice", "Split", "Resize", "Squeeze", "Unsqueeze"}
)
"""Operators whose results are at least 0 where all that goes in is."""

_UNKNOWN_ONNX = OnnxRule("float", _BUILTIN)


def tflite_rule(operator: str) -> TfliteRule:
    """The rule for a TFLite operator; one that is unknown stays float."""
    return TFLITE.get(operator, _UNKNOWN_TFLITE)


def onnx_rule(operator: str) -> OnnxRule:
    """The rule for an ONNX operator; one that is unknown stays float."""
    return ONNX.get(operator, _UNKNOWN_ONNX)


def _largest(value: Any) -> float:
    return float(abs(value).max()) if value.size else 0.0
