"""Convolutions of a float ``.tflite``; see :mod:`edgedf.formats.weights`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgedf.formats.tflite.parsed import ParsedTFLite, data_of, operator_name, packed
from edgedf.formats.weights import Convolution, Parameters, Step

__all__ = ["TFLiteWeightGraph"]

_ACTIVATIONS = schema.ActivationFunctionType
_HARMLESS = {_ACTIVATIONS.NONE, _ACTIVATIONS.RELU}
# A positive factor of a channel passes through these unchanged.
_EACH = frozenset(
    {"ADD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RELU", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
)
# From the order in the file to (out, in, height, width), and back.
_TO_OIHW = {"CONV_2D": (0, 3, 1, 2), "DEPTHWISE_CONV_2D": (3, 0, 1, 2)}
_FROM_OIHW = {"CONV_2D": (0, 2, 3, 1), "DEPTHWISE_CONV_2D": (1, 2, 3, 0)}


class TFLiteWeightGraph:
    """See :class:`~edgedf.formats.weights.WeightGraph`.

    Args:
        model: A float model; a spec in it is dropped.
    """

    channel_axis = 3

    def __init__(self, model: ParsedTFLite) -> None:
        self._model, model_object = model, model.flatbuffer
        graph = model_object.subgraphs[0]
        self._names = [tensor.name.decode() for tensor in graph.tensors]
        self.outputs = frozenset(self._names[index] for index in graph.outputs)
        self._places: dict[str, tuple[str, int]] = {}
        steps, convolutions = [], {}
        for at, op in enumerate(graph.operators):
            name = operator_name(model_object, op)
            step = self._step(model_object, op, name)
            steps.append(step)
            if step.kind == "convolution":
                found = self._convolution(model_object, op, name)
                if found is None:
                    steps[-1] = Step("other", step.taken, step.made)
                else:
                    convolutions[found.made] = found
                    self._places[found.made] = (name, at)
        self.steps = tuple(steps)
        self.convolutions: Mapping[str, Convolution] = convolutions

    def changed(self, parameters: Mapping[str, Parameters]) -> ParsedTFLite:
        """See :meth:`edgedf.formats.weights.WeightGraph.changed`."""
        model = self._model.edited()
        graph = model.subgraphs[0]
        takers = Counter(int(index) for op in graph.operators for index in op.inputs)
        holders = Counter(tensor.buffer for tensor in graph.tensors)
        for made, values in parameters.items():
            operator, at = self._places[made]
            in_order = np.ascontiguousarray(values.weights.transpose(_FROM_OIHW[operator]))
            op = graph.operators[at]
            for place, array in enumerate((in_order, values.bias), 1):
                index = int(op.inputs[place])
                if takers[index] > 1:  # equal constants may be one tensor
                    takers[index] -= 1
                    graph.tensors.append(copy(graph.tensors[index]))
                    holders[graph.tensors[index].buffer] += 1
                    op.inputs[place] = index = len(graph.tensors) - 1
                    graph.tensors[index].name += f"_{at}".encode()
                tensor = graph.tensors[index]
                if holders[tensor.buffer] > 1:  # or one buffer
                    holders[tensor.buffer] -= 1
                    model.buffers.append(schema.BufferT())
                    tensor.buffer = len(model.buffers) - 1
                data = np.frombuffer(array.astype(np.float32).tobytes(), np.uint8)
                model.buffers[tensor.buffer].data = data
        return self._model.made(packed(model))

    def _step(self, model: Any, op: Any, name: str) -> Step:
        taken = tuple(self._names[index] for index in self._variables(model, op))
        made = tuple(self._names[index] for index in op.outputs)
        options = op.builtinOptions
        saturates = getattr(options, "fusedActivationFunction", 0) not in _HARMLESS
        if name in _TO_OIHW and len(taken) == 1:
            return Step("convolution", taken, made, saturates)
        constants = len([i for i in op.inputs if i >= 0]) - len(taken)
        # A constant that is added has no factor; the size that a resize takes is no operand.
        if name in _EACH and (constants == 0 or name.startswith("RESIZE")):
            return Step("each", taken, made, saturates)
        return Step("other", taken, made)

    def _variables(self, model: Any, op: Any) -> Iterator[int]:
        for index in map(int, op.inputs):
            if index >= 0 and data_of(model, model.subgraphs[0].tensors[index]) is None:
                yield index

    def _convolution(self, model: Any, op: Any, name: str) -> Convolution | None:
        tensors = model.subgraphs[0].tensors
        indices = [int(index) for index in op.inputs]
        if len(indices) < 3 or min(indices) < 0:
            return None
        weights, bias = (_floats(model, tensors[index]) for index in indices[1:3])
        is_depthwise = name == "DEPTHWISE_CONV_2D"
        if weights is None or bias is None or (is_depthwise and _multiplier(op) != 1):
            return None
        shaped = weights.reshape(tensors[indices[1]].shape).transpose(_TO_OIHW[name])
        made = self._names[op.outputs[0]]
        channels = tensors[indices[0]].shape[3]
        if not is_depthwise and shaped.shape[1] != channels:
            return None  # a grouped convolution
        parameters = Parameters(np.ascontiguousarray(shaped), bias.copy())
        return Convolution(made, self._names[indices[0]], is_depthwise, parameters)


def _multiplier(op: Any) -> int:
    return int(op.builtinOptions.depthMultiplier)


def _floats(model: Any, tensor: Any) -> NDArray[np.float32] | None:
    data = data_of(model, tensor)
    if data is None or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.frombuffer(data.tobytes(), np.float32)
