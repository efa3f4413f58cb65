"""The activations of a float ``.tflite``, through a graph that shows all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import strip_tflite
from edgedf.errors import MissingExtra
from edgedf.formats.tflite.layers import Graph
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
        model: A float ``.tflite`` of ours.
        threads: For the interpreter, at least 1.

    Raises:
        MissingExtra: What reads flatbuffers is not installed.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        try:
            from ai_edge_litert import schema_py_generated as schema
            from ai_edge_litert.tools import flatbuffer_utils
        except ImportError as error:
            raise MissingExtra("convert", "Calibrating a .tflite model") from error
        flatbuffer = flatbuffer_utils.read_model_from_bytearray(strip_tflite(model))
        graph = flatbuffer.subgraphs[0]
        tensors = graph.tensors
        codes = {getattr(schema.BuiltinOperator, name) for name in _MOVERS}
        self._places: dict[str, int] = {}
        moved: dict[str, str] = {}
        for op in graph.operators:
            code = flatbuffer.operatorCodes[op.opcodeIndex]
            for place in map(int, op.outputs):
                if tensors[place].type != schema.TensorType.FLOAT32:
                    continue
                name = tensors[place].name.decode()
                self._places[name] = place
                source = tensors[int(op.inputs[0])].name.decode()
                builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
                if builtin in codes and source in self._places:
                    moved[name] = source
        self.names = tuple(self._places)
        self.moved: Mapping[str, str] = moved
        graph.outputs = list(self._places.values())
        flatbuffer.signatureDefs = []  # they name tensors that are outputs no longer
        packed = bytes(flatbuffer_utils.convert_object_to_bytearray(flatbuffer))
        self._graph: Any = Graph(packed, list(map(int, graph.inputs)), threads)

    def values(self, image: RGBImage) -> Mapping[str, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.activations.Activations.values`."""
        self._graph.run({self._graph.inputs[0]: image[np.newaxis]})
        return {name: self._graph.value(place) for name, place in self._places.items()}
