"""Into how many pieces TFLite's delegate will cut a model: the graph after quantization, simulated.

Between an int8 operator and a float one the quantizer puts a DEQUANTIZE or a QUANTIZE, which
XNNPACK takes as well. TFLite then walks the graph: from what is ready it takes all nodes of one
kind (for the delegate, or not) as long as there are any, then all of the other kind, and so on
(``PartitionGraphIntoIndependentNodeSubsets`` in TFLite's ``graph_info.cc``). Each subset for the
delegate is a piece. Only for the first subset does the order of the nodes matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.quantize.lint.graph import Graph

__all__ = ["Fate", "count_pieces"]


@dataclass(frozen=True)
class Fate:
    """What becomes of one node.

    Args:
        integer: Whether it becomes int8.
        taken: Whether XNNPACK takes it.
    """

    integer: bool
    taken: bool


@dataclass(frozen=True)
class _Step:
    """A node of the quantized graph."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taken: bool


def count_pieces(graph: Graph, fates: Sequence[Fate]) -> int:
    """How many pieces the delegate takes over.

    Args:
        graph: The float model.
        fates: What becomes of each of its nodes.
    """
    waiting = _quantized(graph, fates)
    ready = set(graph.inputs)
    pieces = 0
    while True:
        kind: bool | None = None
        before = -1
        while len(waiting) != before:
            before, again = len(waiting), []
            for step in waiting:
                if ready.issuperset(step.inputs) and kind in (None, step.taken):
                    kind = step.taken
                    ready.update(step.outputs)
                else:
                    again.append(step)
            waiting = again
        if kind is None:
            return pieces
        pieces += kind


def _quantized(graph: Graph, fates: Sequence[Fate]) -> list[_Step]:
    """The steps of the quantized model; a float tensor may be there twice, in either type."""
    pairs = list(zip(graph.nodes, fates, strict=True))
    integer = {
        name for node, fate in pairs if fate.integer for name in node.outputs if name in node.floats
    }
    converted = {
        name
        for node, fate in pairs
        for name in node.inputs
        if name in node.floats and fate.integer != (name in integer)
    }
    converted |= integer & graph.outputs

    def conversion(names: Sequence[str]) -> list[_Step]:
        return [_Step((n,), (_other(n),), taken=True) for n in names if n in converted]

    steps = conversion(sorted(graph.inputs))
    for node, fate in pairs:
        inputs = tuple(
            _other(name) if name in node.floats and fate.integer != (name in integer) else name
            for name in node.inputs
        )
        steps += [_Step(inputs, node.outputs, fate.taken), *conversion(node.outputs)]
    return steps


def _other(name: str) -> str:
    """The same tensor in the other type."""
    return f"{name} converted"
