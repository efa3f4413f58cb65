"""Operators that break an int8 model, found before a minute is spent on quantizing it.

Some have no int8 kernel and stay float islands with a conversion on either side; some have one, but
the CPU's delegate does not take it, so that the graph falls into pieces. Either can make int8
slower than float: hard-swish with squeeze-and-excitation gave 33 delegate partitions and a model
four times slower.
"""

from __future__ import annotations

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError, MissingExtra
from edgedf.quantize.operators import count_operators, list_operators

__all__ = ["HOSTILE", "check_int8_friendly"]

_SLOW_CURVE = "use relu or relu6"
_NORM = "fold it into the convolution before it (batch normalisation), or leave it out"
_SHUFFLE = "use bilinear or nearest upsampling, or a transposed convolution"
_ATTENTION = "use convolutions; attention and gates keep float islands"

HOSTILE: dict[ModelFormat, dict[str, str]] = {
    "tflite": {
        **dict.fromkeys(("HARD_SWISH", "GELU", "ELU", "LEAKY_RELU", "PRELU", "TANH"), _SLOW_CURVE),
        **dict.fromkeys(("LOGISTIC", "SOFTMAX", "BATCH_MATMUL", "DIV", "EXP"), _ATTENTION),
        **dict.fromkeys(("RSQRT", "SQRT", "SQUARED_DIFFERENCE", "L2_NORMALIZATION"), _NORM),
        **dict.fromkeys(("DEPTH_TO_SPACE", "SPACE_TO_DEPTH", "GATHER", "GATHER_ND"), _SHUFFLE),
        **dict.fromkeys(("CUSTOM", "STABLEHLO_COMPOSITE"), "use built-in operators"),
    },
    "onnx": {
        **dict.fromkeys(("HardSwish", "Gelu", "Erf", "Elu", "PRelu", "Tanh", "Mish"), _SLOW_CURVE),
        **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "MatMul", "Div", "Exp"), _ATTENTION),
        **dict.fromkeys(
            ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "Sqrt"), _NORM
        ),
        **dict.fromkeys(("DepthToSpace", "SpaceToDepth", "Gather", "GatherND"), _SHUFFLE),
    },
}
"""Operator → remedy, by format."""


def check_int8_friendly(model: bytes, model_format: ModelFormat) -> None:
    """Refuse a float model that would not become a good int8 one.

    Args:
        model: A float ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.

    Raises:
        ConfigError: It has operators known to break int8; all are named, with the remedies.
        MissingExtra: The package that reads the format is not installed.
    """
    hostile = HOSTILE[model_format]
    try:
        operators = list_operators(model, model_format)
    except ImportError as error:
        raise MissingExtra("convert", f"Reading a .{model_format} model") from error
    found = {name: count for name, count in count_operators(operators).items() if name in hostile}
    if not found:
        return
    listed = ", ".join(f"{count} {name}" for name, count in found.items())
    remedies = "; ".join(f"instead of {name}: {hostile[name]}" for name in found)
    raise ConfigError(
        f"The .{model_format} model has operators that break int8: {listed}.",
        expected="convolutions, relu or relu6, additions, pooling, bilinear or nearest upsampling",
        next_step=f"{remedies}; or convert it with --precision fp16",
    )
