"""Layers of a ``.tflite`` and of its parent, through graphs that show or cut their tensors.

Every tensor of interest becomes an output of the graph. The interpreter could keep all tensors
instead, but only without the default delegate, and so with other kernels than a device runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgedf.formats.backend import as_input
from edgedf.formats.layer_names import numbered, short_name
from edgedf.formats.layers import Answer, Layer, NamedLayer, Seen, Steps, Weight
from edgedf.formats.tflite.backend import TFLiteBackend
from edgedf.formats.tflite.parsed import ParsedTFLite, data_of, operator_name, packed
from edgedf.imaging import RGBImage

__all__ = ["Graph", "TFLiteGraphs", "named_layers"]

# What ai-edge-quantizer appends to the name of a tensor beside which it puts another type of it.
_SUFFIXES = ("_quantized", "_dequant")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
# Where the output channels of a weight are, if one scale serves them all.
_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
_INTEGERS = {
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


def named_layers(model: ParsedTFLite) -> tuple[NamedLayer, ...]:
    """The layers of a float model, in order of execution.

    Args:
        model: The model.
    """
    flatbuffer = model.flatbuffer
    graph = flatbuffer.subgraphs[0]
    constants = {i for i, t in enumerate(graph.tensors) if data_of(flatbuffer, t) is not None}

    def tensors(indices: Any, without: Collection[int] = ()) -> tuple[str, ...]:
        wanted = (int(i) for i in indices if i >= 0 and int(i) not in without)
        return tuple(graph.tensors[index].name.decode() for index in wanted)

    made = [tensors(op.outputs) for op in graph.operators]
    names = numbered([short_name(outputs[-1]) for outputs in made])
    return tuple(
        NamedLayer(name, (operator_name(flatbuffer, op),), outputs, tensors(op.inputs, constants))
        for name, outputs, op in zip(names, made, graph.operators)
    )


class TFLiteGraphs:
    """See :class:`~edgedf.formats.layers.Graphs`.

    Args:
        artifact: A quantized model.
        parent: The float one that it was made from.
        threads: For the interpreters, at least 1.
    """

    def __init__(self, artifact: ParsedTFLite, parent: ParsedTFLite, *, threads: int = 1) -> None:
        self._artifact, self._parent = artifact, parent
        self._threads = threads
        self._index: dict[str, int] = {}  # of the parent's tensors
        self._places: dict[str, int] = {}  # in the artifact, of the tensor that is looked at
        self._quantization: dict[str, Any] = {}
        self._find()
        self._runs: tuple[Graph, Graph, Graph] | None = None

    def compare(self, image: RGBImage) -> Iterator[Seen]:
        """See :meth:`edgedf.formats.layers.Graphs.compare`."""
        if self._runs is None:
            self._runs = self._shown(), self._shown_artifact(), self._cut()
        parent, artifact, cut = self._runs
        parent.run({parent.inputs[0]: parent.batch(image)})
        artifact.run({artifact.inputs[0]: artifact.batch(image)})
        values = {layer.tensor: self._real(layer, artifact) for layer in self.layers}
        given = {index: values[name] for name, index in self._given.items()}
        cut.run({cut.inputs[0]: cut.batch(image), **given})
        for layer in self.layers:
            index = self._index[layer.tensor]
            yield Seen(layer, parent.value(index), values[layer.tensor], cut.value(index))

    def isolated(self, tensors: Collection[str]) -> Answer:
        """See :meth:`edgedf.formats.layers.Graphs.isolated`."""
        model = self._parent.edited()
        graph = model.subgraphs[0]
        for layer in self.layers:
            if layer.tensor not in tensors:
                continue
            for weight in layer.weights:
                tensor = graph.tensors[self._index[weight.name]]
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(weight.artifact.tobytes(), np.uint8)
                model.buffers.append(buffer)
                tensor.buffer = len(model.buffers) - 1
            if layer.steps is not None:
                self._round(model, layer)
        return TFLiteBackend(packed(model), threads=self._threads).run

    def _find(self) -> None:
        """Match the artifact's tensors with the parent's, by name."""
        parent, artifact = self._parent.flatbuffer, self._artifact.flatbuffer
        known = _unique(parent.subgraphs[0].tensors)
        layers = named_layers(self._parent)
        short = {tensor: layer.name for layer in layers for tensor in layer.tensors}
        made = {int(i) for op in parent.subgraphs[0].operators for i in op.outputs}
        graph = artifact.subgraphs[0]
        floats = schema.TensorType.FLOAT32
        found: dict[str, Layer] = {}
        unmatched: dict[str, None] = {}
        unmatched_weights: dict[str, None] = {}
        order = -1
        for op in graph.operators:
            operator = operator_name(artifact, op)
            order += operator not in _CONVERSIONS
            weights = tuple(self._weights(artifact, op, operator, parent, known, unmatched_weights))
            taken = (graph.tensors[i].name.decode() for i in op.inputs if i >= 0)
            inputs = tuple(n for n in (_without_suffix(t, known) for t in taken) if n in found)
            for place in map(int, op.outputs):
                tensor = graph.tensors[place]
                name = _without_suffix(tensor.name.decode(), known)
                index = known.get(name)
                counterpart = None if index is None else parent.subgraphs[0].tensors[index]
                if (
                    index not in made
                    or counterpart is None
                    or counterpart.type != floats
                    or list(counterpart.shape) != list(tensor.shape)
                ):
                    unmatched[name] = None
                    continue
                steps = self._steps(tensor)
                if name in found:
                    # Another type of the same tensor: the integers are what is looked at.
                    if steps is None or found[name].steps is not None:
                        continue
                    found[name] = replace(found[name], steps=steps)
                else:
                    found[name] = Layer(
                        max(order, 0), operator, name, short[name], inputs, steps, weights
                    )
                self._index[name], self._places[name] = int(index), place
                self._quantization[name] = tensor.quantization, tensor.type
        self._index.update({w.name: known[w.name] for la in found.values() for w in la.weights})
        self.layers = tuple(found.values())
        self.unmatched = tuple(unmatched)
        self.unmatched_weights = tuple(unmatched_weights)

    def _weights(
        self,
        artifact: Any,
        op: Any,
        operator: str,
        parent: Any,
        known: dict[str, int],
        unmatched: dict[str, None],
    ) -> Iterator[Weight]:
        tensors = artifact.subgraphs[0].tensors
        for tensor in (tensors[index] for index in op.inputs if index >= 0):
            integers = data_of(artifact, tensor)
            steps = self._steps(tensor)
            if integers is None or steps is None:
                continue
            name = _without_suffix(tensor.name.decode(), known)
            index = known.get(name)
            counterpart = None if index is None else parent.subgraphs[0].tensors[index]
            wanted = None if counterpart is None else data_of(parent, counterpart)
            if (
                counterpart is None
                or wanted is None
                or counterpart.type != schema.TensorType.FLOAT32
                or list(counterpart.shape) != list(tensor.shape)
            ):
                unmatched[name] = None
                continue
            shape = tuple(tensor.shape)
            axis = steps.axis if steps.scale.size > 1 else _CHANNEL_AXES.get(operator)
            yield Weight(
                name,
                wanted.view(np.float32).reshape(shape),
                steps.values(integers.view(steps.dtype).reshape(shape)),
                8 * steps.dtype.itemsize,
                axis if axis is not None and axis < len(shape) else None,
            )

    def _steps(self, tensor: Any) -> Steps | None:
        behind = tensor.quantization
        if tensor.type not in _INTEGERS or behind is None or behind.scale is None:
            return None
        if not len(behind.scale):
            return None
        return Steps(
            np.asarray(behind.scale, np.float32),
            np.asarray(behind.zeroPoint, np.int64),
            np.dtype(_INTEGERS[tensor.type]),
            int(behind.quantizedDimension),
        )

    def _real(self, layer: Layer, artifact: Graph) -> NDArray[np.float32]:
        values = artifact.value(self._places[layer.tensor])
        return values if layer.steps is None else layer.steps.values(values)

    def _shown(self) -> Graph:
        model = self._parent.edited()
        model.subgraphs[0].outputs = [self._index[layer.tensor] for layer in self.layers]
        return self._graph(model)

    def _shown_artifact(self) -> Graph:
        model = self._artifact.edited()
        model.subgraphs[0].outputs = list(self._places.values())
        return self._graph(model)

    def _cut(self) -> Graph:
        """The parent, each operator of which takes its inputs from outside."""
        model = self._parent.edited()
        graph = model.subgraphs[0]
        self._given: dict[str, int] = {}
        names = {self._index[layer.tensor]: layer.tensor for layer in self.layers}
        for op in graph.operators:
            inputs = []
            for index in map(int, op.inputs):
                name = names.get(index)
                if name is not None and name not in self._given:
                    self._given[name] = _another(graph, index, "_given")
                inputs.append(index if name is None else self._given[name])
            op.inputs = inputs
        graph.inputs = [*map(int, graph.inputs), *self._given.values()]
        graph.outputs = list(names)
        return self._graph(model)

    def _round(self, model: Any, layer: Layer) -> None:
        """Send a float tensor through the integers that the artifact has in its place."""
        graph = model.subgraphs[0]
        index = self._index[layer.tensor]
        integers = _another(graph, index, "_integers")
        again = _another(graph, index, "_again")
        quantization, kind = self._quantization[layer.tensor]
        graph.tensors[integers].quantization = quantization
        graph.tensors[integers].type = kind
        at = 0
        for number, op in enumerate(graph.operators):
            if index in map(int, op.outputs):
                at = number + 1
            op.inputs = [again if i == index else int(i) for i in op.inputs]
        graph.operators[at:at] = [
            self._operator(model, "QUANTIZE", index, integers),
            self._operator(model, "DEQUANTIZE", integers, again),
        ]
        graph.outputs = [again if i == index else int(i) for i in graph.outputs]
        for entry in model.signatureDefs[0].outputs:
            if entry.tensorIndex == index:
                entry.tensorIndex = again

    def _operator(self, model: Any, name: str, taken: int, made: int) -> Any:
        code = getattr(schema.BuiltinOperator, name)
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        entry.version = 2  # the first with int16; later ones add types that are not used here
        model.operatorCodes.append(entry)
        op = schema.OperatorT()
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.inputs, op.outputs = [taken], [made]
        options = {"QUANTIZE": "QuantizeOptions", "DEQUANTIZE": "DequantizeOptions"}[name]
        op.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        op.builtinOptions = getattr(schema, f"{options}T")()
        return op

    def _graph(self, model: Any) -> Graph:
        graph = model.subgraphs[0]
        model.signatureDefs = []  # they name tensors that are inputs and outputs no longer
        return Graph(packed(model), list(map(int, graph.inputs)), self._threads)


class Graph:
    """A graph that is fed and read by the indices of its tensors."""

    def __init__(self, model: bytes, inputs: Sequence[int], threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self.inputs = inputs
        self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()

    def batch(self, image: RGBImage) -> NDArray[Any]:
        """The picture as the first input takes it."""
        details = self._interpreter.get_input_details()
        kind = next(d["dtype"] for d in details if d["index"] == self.inputs[0])
        return as_input(image, np.dtype(kind).name)

    def run(self, feed: dict[int, NDArray[Any]]) -> None:
        """Compute everything from tensors by index."""
        for index, values in feed.items():
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()

    def value(self, index: int) -> NDArray[Any]:
        """A copy of one tensor."""
        return np.asarray(self._interpreter.get_tensor(index))


def _unique(tensors: Sequence[Any]) -> dict[str, int]:
    """Indices by name, without names that more than one tensor has: nothing says which is meant."""
    found: dict[str, list[int]] = {}
    for index, tensor in enumerate(tensors):
        found.setdefault(tensor.name.decode(), []).append(index)
    return {name: indices[0] for name, indices in found.items() if len(indices) == 1}


def _without_suffix(name: str, known: dict[str, int]) -> str:
    """The parent's name of a tensor of the artifact."""
    while name not in known:
        shorter = next((name.removesuffix(s) for s in _SUFFIXES if name.endswith(s)), name)
        if shorter == name:
            break
        name = shorter
    return name


def _another(graph: Any, index: int, suffix: str) -> int:
    """A tensor like another one that no operator makes yet."""
    made = copy(graph.tensors[index])
    made.name = made.name + suffix.encode()
    made.buffer = 0
    graph.tensors.append(made)
    return len(graph.tensors) - 1
