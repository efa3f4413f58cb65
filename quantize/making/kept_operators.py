"""What became of kept layers: which operators of a finished model are not int8, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgedf.artifact import ModelFormat
from edgedf.formats.onnx.layers import OUTPUT_SUFFIX
from edgedf.quantize.inspection.operators import BOUNDARY_OPERATORS, Operator, float_operators
from edgedf.quantize.lint.rules import ONNX
from edgedf.quantize.making.kept_layers import KeptLayers

__all__ = ["FoundKept", "found_kept"]

# Operators that no runtime drops, fuses or moves, so that each that was kept has to be there.
_HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "Conv", "ConvTranspose", "Gemm")
# What stands around kept layers: conversions, and what is as its input is.
_AROUND: Mapping[ModelFormat, frozenset[str]] = {
    "tflite": frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE"}),
    "onnx": frozenset({"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"})
    | {name for name, rule in ONNX.items() if rule.kind == "follows"},
}
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

    A ``.tflite`` has each operator under its own name, so that they are counted. ONNX Runtime
    fuses, splits and renames, so that there it is told by the tensor which an operator makes.

    Args:
        operators: Of the model: those of a ``.tflite``, or those that ONNX Runtime executes.
        kept: What was to be kept in it.
        model_format: Which of the two.
    """
    floats = float_operators(operators)
    tolerated = _AROUND[model_format] if kept.asked else frozenset()
    wanted, asked_wide = kept.operators("fp32"), kept.operators("int8-a16")
    if model_format == "tflite":
        counted = Counter(operator.name for operator in floats)
        wide = Counter(
            operator.name
            for operator in operators
            if not operator.boundary and "int16" in (*operator.inputs, *operator.outputs)
        )
        misplaced = {n for n, c in counted.items() if n not in tolerated and c > wanted[n]}
        missing = {n for n in _HEAVY if counted[n] < wanted[n] or wide[n] < asked_wide[n]}
        seen = counted + (wide if asked_wide else Counter())
    else:
        wanted += asked_wide  # ONNX Runtime computes 16 bits in float, between conversions
        asked = kept.tensors("fp32") | kept.tensors("int8-a16")
        found = [(_FUSED.get(op.name, op.name), op.tensor) for op in floats]
        found = [(name, tensor.removesuffix(OUTPUT_SUFFIX)) for name, tensor in found]
        misplaced = {n for n, tensor in found if n not in tolerated and tensor not in asked}
        seen = Counter(name for name, _ in found)
        made = {tensor for name, tensor in found if name not in BOUNDARY_OPERATORS}
        missing = {
            name
            for layers in kept.layers.values()
            for layer in layers
            for name in layer.operators
            if name in _HEAVY and seen[name] < wanted[name] and made.isdisjoint(layer.tensors)
        }
    counts = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    return FoundKept(
        {n: count for n, count in counts if kept.asked and n not in misplaced},
        tuple(sorted(misplaced)),
        tuple(sorted(missing)),
    )
