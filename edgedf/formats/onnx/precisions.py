"""What the layers of an ``.onnx`` compute in, wherever the conversions between them stand."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import onnx

from edgedf.formats.layer_names import names_of_layers
from edgedf.formats.onnx.float_island import SHIELD_SUFFIX
from edgedf.formats.onnx.layers import OUTPUT_SUFFIX
from edgedf.formats.operators import BOUNDARY_OPERATORS, LayerPrecision, Operator

__all__ = ["layer_precisions"]

# Operators with weights, which are their second input.
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Every runtime fuses them into the operator before; quantization makes them a matter of the range.
_ACTIVATIONS = ("Clip", "Relu")
_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_NO_LAYERS = BOUNDARY_OPERATORS | _MOVES
# What a file may have between stored weights and the operator that uses them.
_DECODING = ("DequantizeLinear", "Cast", "Mul", "Transpose", "Identity")
_STORED_SUFFIX = "_quantized"


def layer_precisions(
    proto: Any, executed: Sequence[tuple[str, Operator]]
) -> Iterator[LayerPrecision]:
    """Every layer; ONNX Runtime says which of them stay float on this machine.

    Args:
        proto: Any model of ours.
        executed: As :func:`edgedf.formats.onnx.operators.executed_nodes` gives it.
    """
    stays_float = {
        name
        for name, operator in executed
        if name and operator.inputs and "float" in operator.inputs[0]
    }
    reader = _Reader(proto.graph)
    found = list(reader.layers())
    names = names_of_layers([entry[0] for entry in found], [entry[3] for entry in found])
    for name, (tensor, node, computes, _, kind) in zip(names, found):
        integers = computes not in (None, "float32") and node.name not in stays_float
        yield LayerPrecision(
            tensor,
            name,
            node.op_type,
            computes if integers and computes is not None else "float32",
            kind,
        )


class _Reader:
    """Walks a graph and looks through conversions."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {
            tensor.name: onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
            for tensor in graph.initializer
        }
        self._producers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[Any]] = collections.defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._users[name].append(node)

    def layers(self) -> Iterator[tuple[str, Any, str | None, str | None, str | None]]:
        """Tensor, node, type of the integers around it, name and type of its weights."""
        for node in self._graph.node:
            variable = [name for name in node.input if name and not self._constant(name)]
            shield = node.output[0].endswith(SHIELD_SUFFIX)
            if node.op_type in _NO_LAYERS or shield or not variable or self._is_fused(node):
                continue
            made = self._behind_activation(node)
            at = 1 if node.op_type in _WEIGHTED else len(node.input)
            weights = kind = None
            if at < len(node.input) and self._constant(node.input[at]):
                weights, kind = self._stored(node.input[at])
            yield (
                made.removesuffix(OUTPUT_SUFFIX),
                node,
                self._integers_around(variable[0], made),
                weights,
                kind,
            )

    def _constant(self, name: str) -> bool:
        """Whether a tensor is a weight, or made of nothing but weights."""
        if name in self._constants:
            return True
        node = self._producers.get(name)
        if node is None:  # an input of the graph
            return False
        return all(self._constant(given) for given in node.input if given)

    def _stored(self, name: str) -> tuple[str, str]:
        """Name of a weight as its module has it, and the type in which it is stored."""
        behind = name
        while behind not in self._constants and behind in self._producers:
            node = self._producers[behind]
            if node.op_type not in _DECODING:
                break
            behind = node.input[0]
        node = self._producers.get(name)
        quantized = node is not None and node.op_type == "DequantizeLinear"
        called = behind.removesuffix(_STORED_SUFFIX) if quantized else name
        return called, self._constants.get(behind, "float32")

    def _is_fused(self, node: Any) -> bool:
        """Whether it is an activation that belongs to the layer before."""
        if node.op_type not in _ACTIVATIONS or node.input[0] not in self._producers:
            return False
        before = self._producers[node.input[0]]
        return before.op_type not in _NO_LAYERS and len(self._users[node.input[0]]) == 1

    def _behind_activation(self, node: Any) -> str:
        """The tensor that a layer makes, its activation included."""
        name = str(node.output[0])
        users = self._users[name]
        return str(users[0].output[0]) if len(users) == 1 and self._is_fused(users[0]) else name

    def _integers_around(self, taken: str, made: str) -> str | None:
        """Type of the integers that it takes; None unless it takes and makes such."""
        before, behind = self._producers.get(taken), self._users[made]
        if before is None or before.op_type != "DequantizeLinear" or not behind:
            return None
        if any(node.op_type != "QuantizeLinear" for node in behind):
            return None
        return self._constants.get(before.input[2]) if len(before.input) > 2 else None
