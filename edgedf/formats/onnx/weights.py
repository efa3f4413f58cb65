"""Convolutions of a float ``.onnx``; see :mod:`edgedf.formats.weights`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from edgedf.formats.onnx.parsed import ParsedOnnx, copied, without_metadata
from edgedf.formats.weights import Convolution, Parameters, Step

__all__ = ["OnnxWeightGraph"]

# A positive factor of a channel passes through these unchanged.
_EACH = frozenset({"Add", "AveragePool", "GlobalAveragePool", "MaxPool", "Relu", "Resize"})


class OnnxWeightGraph:
    """See :class:`~edgedf.formats.weights.WeightGraph`.

    Args:
        model: A float model; a spec in it is dropped.
    """

    channel_axis = 1

    def __init__(self, model: ParsedOnnx) -> None:
        self._model, graph = model, model.proto.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = frozenset(output.name for output in graph.output)
        steps, convolutions = [], {}
        for node in graph.node:
            found = self._convolution(node)
            if found is not None:
                convolutions[found.made] = found
            steps.append(self._step(node, found is not None))
        self.steps = tuple(steps)
        self.convolutions: Mapping[str, Convolution] = convolutions

    def changed(self, parameters: Mapping[str, Parameters]) -> ParsedOnnx:
        """See :meth:`edgedf.formats.weights.WeightGraph.changed`."""
        model = without_metadata(copied(self._model.proto))
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        users = Counter(name for node in model.graph.node for name in node.input)
        makers = {node.output[0]: node for node in model.graph.node}
        for made, values in parameters.items():
            node = makers[made]
            if len(node.input) == 2 and values.bias.any():
                node.input.append("")
            for place, array in enumerate(values[: len(node.input) - 1], 1):
                name = node.input[place]
                if not name or users[name] > 1:  # equal constants are stored once
                    users[name] -= 1
                    name = node.input[place] = f"{made}_{('weight', 'bias')[place - 1]}"
                    constants[name] = model.graph.initializer.add()
                constants[name].CopyFrom(
                    onnx.numpy_helper.from_array(array.astype(np.float32), name)
                )
        return self._model.made(model)

    def _step(self, node: Any, is_convolution: bool) -> Step:
        taken = tuple(name for name in node.input if name and name not in self._constants)
        made = tuple(name for name in node.output if name)
        if is_convolution:
            return Step("convolution", taken, made)
        constants = len([name for name in node.input if name in self._constants])
        # A constant that is added has no factor; the size that a resize takes is no operand.
        is_each = node.op_type in _EACH and (constants == 0 or node.op_type == "Resize")
        return Step("each" if is_each else "other", taken, made)

    def _convolution(self, node: Any) -> Convolution | None:
        if node.op_type != "Conv" or any(name not in self._constants for name in node.input[1:]):
            return None
        arrays = [onnx.numpy_helper.to_array(self._constants[name]) for name in node.input[1:]]
        weights = arrays[0]
        bias = arrays[1] if len(arrays) > 1 else np.zeros(len(weights), np.float32)
        groups = next((int(a.i) for a in node.attribute if a.name == "group"), 1)
        is_depthwise = groups > 1
        if weights.dtype != np.float32 or weights.ndim != 4:
            return None
        if is_depthwise and (weights.shape[1] != 1 or len(weights) != groups):
            return None
        return Convolution(
            node.output[0], node.input[0], is_depthwise, Parameters(weights.copy(), bias.copy())
        )
