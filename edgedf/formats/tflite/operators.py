"""The operators of a ``.tflite``, which has the type of each tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgedf.formats.layer_names import short_name
from edgedf.formats.layers import KeptLayers
from edgedf.formats.operators import (
    BOUNDARY_OPERATORS,
    DYNAMIC,
    FoundKept,
    LayerPrecision,
    Operator,
    TypeChanges,
    float_operators,
    kept_found,
)
from edgedf.formats.tflite.parsed import ParsedTFLite, operator_name

__all__ = ["AROUND", "found_kept", "layer_precisions", "operators"]

_TYPES = {
    value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)
}
# Operators with weights, which are their second input.
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
_NO_LAYERS = BOUNDARY_OPERATORS | {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"}
# Operators that no runtime drops, so that each that was kept has to be there.
_HEAVY = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
AROUND = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE"})
"""What stands around kept layers: conversions, and what is as its input is."""


def operators(model: ParsedTFLite) -> tuple[Operator, ...]:
    """All operators with the types that the file gives their tensors.

    Args:
        model: Any model.
    """
    flatbuffer = model.flatbuffer
    graph = flatbuffer.subgraphs[0]

    def types(indices: Any) -> tuple[str, ...]:
        return tuple(_TYPES[graph.tensors[index].type] for index in indices if index >= 0)

    ends = TypeChanges(graph.inputs, graph.outputs)
    found = []
    for op in graph.operators:
        name = operator_name(flatbuffer, op)
        boundary = ends.has(name, op.inputs, op.outputs)
        found.append(Operator(name, types(op.inputs), types(op.outputs), boundary))
    return tuple(found)


def layer_precisions(model: ParsedTFLite) -> Iterator[LayerPrecision]:
    """What each layer computes in, by the types of its activations and weights.

    Args:
        model: Any model of ours.
    """
    graph = model.flatbuffer.subgraphs[0]
    made = {int(index) for index in graph.inputs}
    decoded: dict[int, str] = {}  # type of the constant behind a tensor
    for op, operator in zip(graph.operators, operators(model)):
        given = [int(index) for index in op.inputs if index >= 0]
        kinds = dict(zip(given, operator.inputs))
        variable = [index for index in given if index in made]
        if operator.name == "DEQUANTIZE" and not variable:
            decoded[int(op.outputs[0])] = operator.inputs[0]
            continue
        made.update(int(index) for index in op.outputs)
        if operator.name in _NO_LAYERS or not variable:
            continue
        at = 1 if operator.name in _WEIGHTED else len(given)
        weights = None
        computes = kinds[variable[0]]
        if at < len(given) and given[at] not in made:
            weights = decoded.get(given[at], kinds[given[at]])
            # Integer weights without a DEQUANTIZE between: the kernel quantizes its input itself.
            if "float" in computes and weights == "int8" and given[at] not in decoded:
                computes = DYNAMIC
        tensor = graph.tensors[int(op.outputs[0])].name.decode()
        yield LayerPrecision(tensor, short_name(tensor), operator.name, computes, weights)


def found_kept(operators: Sequence[Operator], kept: KeptLayers) -> FoundKept:
    """Compare what was to be kept with what the file has, operator by operator.

    Args:
        operators: Of the file.
        kept: What was to be kept.
    """
    is_asked = bool(kept.layers)
    tolerated = AROUND if is_asked else frozenset[str]()
    wanted, wanted_wide = kept.operators("fp32"), kept.operators("int8-a16")
    counted = Counter(operator.name for operator in float_operators(operators))
    wide = Counter(
        operator.name
        for operator in operators
        if not operator.boundary and "int16" in (*operator.inputs, *operator.outputs)
    )
    misplaced = {n for n, c in counted.items() if n not in tolerated and c > wanted[n]}
    missing = {n for n in _HEAVY if counted[n] < wanted[n] or wide[n] < wanted_wide[n]}
    seen = counted + (wide if wanted_wide else Counter())
    return kept_found(seen, misplaced, missing, is_asked)
