"""The activations of a float ``.tflite``, through a graph that shows all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgedf.formats.tflite.layers import Graph
from edgedf.formats.tflite.parsed import ParsedTFLite, operator_name, packed
from edgedf.imaging import RGBImage

__all__ = ["TFLiteActivations"]

# What ai-edge-quantizer gives the scale of its input, and what only moves values about.
_MOVERS = frozenset(
    {
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "PAD",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)


class TFLiteActivations:
    """See :class:`~edgedf.formats.activations.Activations`.

    The values are those of the CPU's kernels, bit for bit what ai-edge-quantizer's own calibrator
    sees, and several times as fast.

    Args:
        model: A float model.
        threads: For the interpreter, at least 1.
    """

    def __init__(self, model: ParsedTFLite, *, threads: int = 1) -> None:
        flatbuffer = model.edited()
        graph = flatbuffer.subgraphs[0]
        tensors = graph.tensors
        self._places: dict[str, int] = {}
        moved: dict[str, str] = {}
        for op in graph.operators:
            for place in map(int, op.outputs):
                if tensors[place].type != schema.TensorType.FLOAT32:
                    continue
                name = tensors[place].name.decode()
                self._places[name] = place
                source = tensors[int(op.inputs[0])].name.decode()
                if operator_name(flatbuffer, op) in _MOVERS and source in self._places:
                    moved[name] = source
        self.names = tuple(self._places)
        self.moved: Mapping[str, str] = moved
        self.cut: Mapping[str, str] = {}
        graph.outputs = list(self._places.values())
        flatbuffer.signatureDefs = []  # they name tensors that are outputs no longer
        self._shown, self._threads = flatbuffer, threads

    @cached_property
    def _graph(self) -> Graph:
        # Opened when it is run: names and what moves are often all that is asked for.
        inputs = list(map(int, self._shown.subgraphs[0].inputs))
        return Graph(packed(self._shown), inputs, self._threads)

    def values(self, image: RGBImage) -> Mapping[str, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.activations.Activations.values`."""
        self._graph.run({self._graph.inputs[0]: image[np.newaxis]})
        return {name: self._graph.value(place) for name, place in self._places.items()}
