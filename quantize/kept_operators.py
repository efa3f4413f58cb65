"""What became of kept layers: which operators of a finished model are not int8, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.artifact import ModelFormat
from edgedf.quantize.keep import KeptLayers
from edgedf.quantize.operators import Operator, float_operators

__all__ = ["FoundKept", "found_kept"]

# Operators that no runtime drops, fuses or moves, so that each that was kept has to be there.
_HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "Conv", "ConvTranspose", "Gemm")
# What stands around kept layers: conversions, and what moves data between them.
_AROUND = frozenset(
    (
        *("QUANTIZE", "DEQUANTIZE", "RESHAPE", "QuantizeLinear", "DequantizeLinear", "Clip"),
        *("Reshape", "Transpose", "ReorderInput", "ReorderOutput"),
    )
)
# What ONNX Runtime calls operators that it has fused with others or given another layout.
_FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm", "Upsample": "Resize"}


@dataclass(frozen=True)
class FoundKept:
    """What became of kept layers in a model that was made.

    Args:
        operators: How many operators of each name are not int8 because of them.
        misplaced: Names of those that compute in float without being asked to.
        missing: Names of those that should not, but compute in int8.
    """

    operators: dict[str, int]
    misplaced: tuple[str, ...]
    missing: tuple[str, ...]


def found_kept(
    operators: Sequence[Operator], kept: KeptLayers, model_format: ModelFormat
) -> FoundKept:
    """Compare what was to be kept with what is computed.

    Runtimes fuse and rename, so operators are counted by name.

    Args:
        operators: Of the model: those of a ``.tflite``, or those that ONNX Runtime executes.
        kept: What was to be kept in it.
        model_format: Which of the two.
    """
    floats = Counter(_FUSED.get(op.name, op.name) for op in float_operators(operators))
    wanted = Counter(kept.operators.get("fp32", Counter()))
    is_wide = model_format == "tflite"
    sixteen = Counter(
        operator.name
        for operator in operators
        if is_wide and not operator.boundary and "int16" in (*operator.inputs, *operator.outputs)
    )
    asked_wide = kept.operators.get("int8-a16", Counter())
    if not is_wide:  # ONNX Runtime computes them in float, between conversions
        wanted += asked_wide
    tolerated = _AROUND if kept.asked else frozenset()
    misplaced = sorted(n for n, c in floats.items() if n not in tolerated and c > wanted[n])
    missing = {n for n in _HEAVY if floats[n] < wanted[n]}
    if is_wide:
        missing |= {n for n in _HEAVY if sixteen[n] < asked_wide[n]}
    seen = (floats if kept.asked else Counter()) + (sixteen if asked_wide else Counter())
    return FoundKept(
        {n: seen[n] for n in sorted(seen, key=lambda n: (-seen[n], n)) if n not in misplaced},
        tuple(misplaced),
        tuple(sorted(missing)),
    )
