"""All that can be asked of a ``.tflite`` model, and made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edgedf.errors import MissingExtra
from edgedf.formats.base import ModelGraph
from edgedf.formats.tflite import operators
from edgedf.formats.tflite.activations import TFLiteActivations
from edgedf.formats.tflite.delegation import Delegation, read_delegation
from edgedf.formats.tflite.input_type import with_input_type
from edgedf.formats.tflite.layers import TFLiteGraphs, named_layers
from edgedf.formats.tflite.parsed import ParsedTFLite
from edgedf.formats.tflite.weights import TFLiteWeightGraph
from edgedf.spec import InputType

if TYPE_CHECKING:
    from edgedf.formats.activations import Activations, Range
    from edgedf.formats.layers import Graphs, KeptLayers, NamedLayer
    from edgedf.formats.lint import LintLayer
    from edgedf.formats.operators import FoundKept, LayerPrecision, Operator, Partition
    from edgedf.formats.weights import WeightGraph

__all__ = ["TFLiteGraph"]


class TFLiteGraph(ParsedTFLite):
    """See :class:`~edgedf.formats.base.ModelGraph`."""

    def activations(self, *, threads: int = 1) -> Activations:
        """See :class:`~edgedf.formats.base.ModelGraph`, as for all that follows."""
        return TFLiteActivations(self, threads=threads)

    def fixed_ranges(self) -> dict[str, Range]:
        """See above."""
        ranges: dict[str, Range] = _quantizer().fixed_ranges(self)
        return ranges

    def named_layers(self) -> tuple[NamedLayer, ...]:
        """See above; layers are named after the tensors that they make."""
        return named_layers(self)

    def weights(self) -> WeightGraph:
        """See above."""
        return TFLiteWeightGraph(self)

    def to_int8(self, images: Sequence[NDArray[np.uint8]], **options: Any) -> TFLiteGraph:
        """See :func:`edgedf.formats.tflite.quantizer.to_int8`."""
        return self.made(_quantizer().to_int8(self, images, **options))

    def try_int8(self) -> TFLiteGraph:
        """See :func:`edgedf.formats.tflite.lint.try_int8`."""
        _quantizer()
        from edgedf.formats.tflite.lint import try_int8

        return self.made(try_int8(self))

    def to_int8_weights(self, *, dynamic: bool = False) -> TFLiteGraph:
        """See :func:`edgedf.formats.tflite.quantizer.to_int8_weights`."""
        return self.made(_quantizer().to_int8_weights(self, dynamic=dynamic))

    def to_fp16(self) -> TFLiteGraph:
        """See :func:`edgedf.formats.tflite.quantizer.to_fp16`."""
        return self.made(_quantizer().to_fp16(self))

    def with_input_type(self, wanted: InputType) -> TFLiteGraph:
        """See above; the very same graph where ``wanted`` is uint8."""
        return self if wanted == "uint8" else self.made(with_input_type(self, wanted))

    def output_quantization(self) -> Mapping[str, tuple[float, int]]:
        """See above."""
        graph = self.flatbuffer.subgraphs[0]
        producer = {int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators}
        found = {}
        for entry in self.flatbuffer.signatureDefs[0].outputs:
            behind = graph.tensors[producer[entry.tensorIndex]]
            if behind.type in (schema.TensorType.INT8, schema.TensorType.INT16):
                quantization = behind.quantization
                scale, zero_point = quantization.scale[0], quantization.zeroPoint[0]
                found[entry.name.decode()] = float(scale), int(zero_point)
        return found

    def operators(self) -> tuple[Operator, ...]:
        """See above; the file says of each tensor what type it has."""
        return operators.operators(self)

    def partitions(self) -> tuple[Partition, ...]:
        """See above."""
        return self.delegation.partitions

    @cached_property
    def delegation(self) -> Delegation:
        """See :func:`edgedf.formats.tflite.delegation.read_delegation`."""
        return read_delegation(self.bare)

    def layer_precisions(self) -> tuple[LayerPrecision, ...]:
        """See above."""
        return tuple(operators.layer_precisions(self))

    def slow_layers(self, names: Mapping[str, str], kept: KeptLayers) -> tuple[LintLayer, ...]:
        """See above."""
        from edgedf.formats.tflite.lint import slow_layers

        return tuple(slow_layers(self, self.delegation, names, kept))

    def found_kept(self, computed: Sequence[Operator], kept: KeptLayers) -> FoundKept:
        """See above."""
        return operators.found_kept(computed, kept)

    def against(self, parent: ModelGraph, *, threads: int = 1) -> Graphs:
        """See above."""
        assert isinstance(parent, TFLiteGraph)
        return TFLiteGraphs(self, parent, threads=threads)


def _quantizer() -> Any:
    try:
        import ai_edge_quantizer  # noqa: F401
    except ImportError as error:
        raise MissingExtra("convert", "Quantizing a .tflite model") from error
    from edgedf.formats.tflite import quantizer

    return quantizer
