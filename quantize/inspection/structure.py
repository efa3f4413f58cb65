"""What a model file consists of: operators, layers and what each computes in, delegate pieces.

A *layer* is an operator that computes something, together with its weights: not one that only
changes a type or moves values. What it computes in is read off its activations and its weights,
wherever the conversions between them stand in the file. An ONNX file with QuantizeLinear and
DequantizeLinear says "float" everywhere, so ONNX Runtime is asked which of its operators stay float
on this machine.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgedf.artifact import Artifact, ModelFormat, strip_tflite
from edgedf.errors import MissingExtra
from edgedf.formats.layer_names import names_of_layers, short_name
from edgedf.formats.onnx.float_island import SHIELD_SUFFIX
from edgedf.formats.onnx.layers import OUTPUT_SUFFIX
from edgedf.quantize.inspection.operators import (
    BOUNDARY_OPERATORS,
    count_operators,
    executed_nodes,
    list_operators,
    xnnpack_partitions,
)

__all__ = ["LayerPrecision", "Structure", "structure_of"]

# Operators with weights, and which of their inputs those are.
_WEIGHTS_AT = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"), 1),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), 1),
}
# Every runtime fuses them into the operator before; quantization makes them a matter of the range.
_ACTIVATIONS = ("Clip", "Relu")
_MOVES = frozenset(
    {"RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS"}
    | {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"}
)
_NO_LAYERS = BOUNDARY_OPERATORS | _MOVES
# What a file may have between stored weights and the operator that uses them.
_DECODING = ("DequantizeLinear", "Cast", "Mul", "Transpose", "Identity")
_STORED_SUFFIX = "_quantized"
DYNAMIC = "int8 at run time"


@dataclass(frozen=True)
class LayerPrecision:
    """What one layer computes in.

    Args:
        tensor: Name of the tensor it makes; it says which layer this is.
        name: A shorter one, for people; two layers may share it.
        operator: Such as ``CONV_2D`` or ``Conv``.
        computes: Type of its activations, such as ``float32`` or ``int8``; ``int8 at run time``
            where float activations are quantized whenever the model runs (dynamic range).
        weights: Type in which its weights are stored; None where it has none.
    """

    tensor: str
    name: str
    operator: str
    computes: str
    weights: str | None

    @property
    def precision(self) -> str:
        """Both in a few words, such as ``int8`` or ``float32, weights float16``."""
        if self.weights in (None, self.computes) or self.computes == DYNAMIC:
            return self.computes
        return f"{self.computes}, weights {self.weights}"


@dataclass(frozen=True)
class Structure:
    """What a model file consists of.

    Args:
        operators: How often each operator occurs in the file, the most frequent first.
        layers: In order of execution.
        pieces: Pieces that XNNPACK, the default delegate of LiteRT, takes over; None for ONNX.
        undelegated: Operators outside them; None for ONNX.
    """

    operators: dict[str, int]
    layers: tuple[LayerPrecision, ...]
    pieces: int | None
    undelegated: int | None

    @property
    def precisions(self) -> dict[str, int]:
        """How many layers have each precision, the most frequent first."""
        counts = collections.Counter(layer.precision for layer in self.layers)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def structure_of(artifact: Artifact) -> Structure:
    """Take a model file apart.

    Args:
        artifact: A model of ours.

    Raises:
        MissingExtra: What reads the format is not installed.
    """
    model, model_format = artifact.model, artifact.format
    try:
        operators = list_operators(model, model_format)
        layers = _layers(model, model_format)
        pieces = xnnpack_partitions(model) if model_format == "tflite" else None
    except ImportError as error:
        raise MissingExtra("convert", f"Reading the layers of a .{model_format} model") from error
    taken = {index for piece in pieces or () for index in piece.operators}
    return Structure(
        count_operators(operators),
        layers,
        None if pieces is None else len(pieces),
        None if pieces is None else len(operators) - len(taken),
    )


def _layers(model: bytes, model_format: ModelFormat) -> tuple[LayerPrecision, ...]:
    return tuple(_of_tflite(model) if model_format == "tflite" else _of_onnx(model))


def _of_tflite(model: bytes) -> Iterator[LayerPrecision]:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    flatbuffer = tfl_flatbuffer_utils.read_model(strip_tflite(model))
    graph = flatbuffer.subgraphs[0]
    made = {int(index) for index in graph.inputs}
    decoded: dict[int, str] = {}  # type of the constant behind a tensor
    for op, operator in zip(graph.operators, list_operators(model, "tflite"), strict=True):
        given = [int(index) for index in op.inputs if index >= 0]
        kinds = dict(zip(given, operator.inputs, strict=True))
        variable = [index for index in given if index in made]
        if operator.name == "DEQUANTIZE" and not variable:
            decoded[int(op.outputs[0])] = operator.inputs[0]
            continue
        made.update(int(index) for index in op.outputs)
        if operator.name in _NO_LAYERS or not variable:
            continue
        at = _WEIGHTS_AT.get(operator.name, len(given))
        weights = None
        computes = kinds[variable[0]]
        if at < len(given) and given[at] not in made:
            weights = decoded.get(given[at], kinds[given[at]])
            # Integer weights without a DEQUANTIZE between: the kernel quantizes its input itself.
            if "float" in computes and weights == "int8" and given[at] not in decoded:
                computes = DYNAMIC
        tensor = graph.tensors[int(op.outputs[0])].name.decode()
        yield LayerPrecision(tensor, short_name(tensor), operator.name, computes, weights)


def _of_onnx(model: bytes) -> Iterator[LayerPrecision]:
    import onnx

    graph = onnx.load_model_from_string(model).graph
    stays_float = {
        name
        for name, operator in executed_nodes(model)
        if name and operator.inputs and "float" in operator.inputs[0]
    }
    reader = _OnnxReader(graph)
    found = list(reader.layers())
    names = names_of_layers([entry[0] for entry in found], [entry[3] for entry in found])
    for name, (tensor, node, computes, _, kind) in zip(names, found, strict=True):
        integers = computes not in (None, "float32") and node.name not in stays_float
        yield LayerPrecision(
            tensor,
            name,
            node.op_type,
            computes if integers and computes is not None else "float32",
            kind,
        )


class _OnnxReader:
    """Walks a graph and looks through conversions."""

    def __init__(self, graph: Any) -> None:
        import onnx

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
            at = _WEIGHTS_AT.get(node.op_type, len(node.input))
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
