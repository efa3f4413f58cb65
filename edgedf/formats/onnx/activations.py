"""The activations of a float ``.onnx``, through a graph that shows all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedf.formats.onnx.float_island import CURVE_PREFIX
from edgedf.formats.onnx.layers import Graph
from edgedf.imaging import RGBImage
from edgedf.spec import INPUT_NAME

__all__ = ["OnnxActivations"]

# What onnxruntime gives the scale of its input, and what only moves values about.
_MOVERS = frozenset(
    {
        "AveragePool",
        "Flatten",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_CUTTERS = ("Clip", "Relu")


class OnnxActivations:
    """See :class:`~edgedf.formats.activations.Activations`.

    Nothing is fused, so the values are bit for bit what onnxruntime's own calibrators see. What a
    Clip or Relu alone takes is left out: it gets the range of what that makes of it. So is what
    makes a probability and its logit, which stays in float.

    Attributes:
        cut: Tensors that are left out for that, with the name of what is made of them.

    Args:
        model: A float ``ModelProto``.
        threads: For the session, at least 1.
    """

    def __init__(self, model: Any, *, threads: int = 1) -> None:
        proto = onnx.shape_inference.infer_shapes(model)
        kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*proto.graph.value_info, *proto.graph.output)
        }
        nodes = [node for node in proto.graph.node if not node.name.startswith(CURVE_PREFIX)]
        uses = Counter(name for node in proto.graph.node for name in node.input)
        uses.update(value.name for value in proto.graph.output)
        self.cut: Mapping[str, str] = {
            node.input[0]: node.output[0]
            for node in nodes
            if node.op_type in _CUTTERS and uses[node.input[0]] == 1
        }
        names: dict[str, None] = {}
        moved: dict[str, str] = {}
        for node in nodes:
            for name in node.output:
                if kinds.get(name) != onnx.TensorProto.FLOAT or name in self.cut:
                    continue
                names[name] = None
                if node.op_type in _MOVERS and node.input[0] in names:
                    moved[name] = node.input[0]
        self.names = tuple(names)
        self.moved: Mapping[str, str] = moved
        del proto.graph.output[:]
        # Without a type: the runtime infers it.
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        self._shown, self._threads = proto, threads

    @cached_property
    def _graph(self) -> Graph:
        # Opened when it is run: names and what moves are often all that is asked for.
        return Graph(self._shown.SerializeToString(), self._threads, optimize=False)

    def values(self, image: RGBImage) -> Mapping[str, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.activations.Activations.values`."""
        return dict(self._graph.run({INPUT_NAME: image[np.newaxis]}))
