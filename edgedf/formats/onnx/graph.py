"""All that can be asked of an ``.onnx`` model, and made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedf.errors import MissingExtra
from edgedf.formats.base import ModelGraph
from edgedf.formats.onnx import operators, stored
from edgedf.formats.onnx.activations import OnnxActivations
from edgedf.formats.onnx.input_type import with_input_type
from edgedf.formats.onnx.layers import OnnxGraphs, named_layers
from edgedf.formats.onnx.parsed import ParsedOnnx, copied
from edgedf.formats.onnx.precisions import layer_precisions
from edgedf.formats.onnx.weights import OnnxWeightGraph
from edgedf.formats.operators import Operator
from edgedf.spec import OUTPUT_NAMES, InputType

if TYPE_CHECKING:
    from edgedf.formats.activations import Range
    from edgedf.formats.layers import Graphs, KeptLayers, NamedLayer
    from edgedf.formats.lint import LintLayer
    from edgedf.formats.operators import FoundKept, LayerPrecision
    from edgedf.formats.weights import WeightGraph

__all__ = ["OnnxGraph"]


class OnnxGraph(ParsedOnnx):
    """See :class:`~edgedf.formats.base.ModelGraph`."""

    def activations(self, *, threads: int = 1) -> OnnxActivations:
        """See :class:`~edgedf.formats.base.ModelGraph`, as for all that follows."""
        return OnnxActivations(self.proto, threads=threads)

    def fixed_ranges(self) -> dict[str, Range]:
        """See above."""
        from edgedf.formats.onnx.quantizer import fixed_ranges

        return fixed_ranges(self.proto)

    def named_layers(self) -> tuple[NamedLayer, ...]:
        """See above; layers with weights are named after these."""
        return named_layers(self.proto)

    def weights(self) -> WeightGraph:
        """See above."""
        return OnnxWeightGraph(self)

    def to_int8(self, images: Sequence[NDArray[np.uint8]], **options: Any) -> OnnxGraph:
        """See :func:`edgedf.formats.onnx.quantizer.to_int8`."""
        try:
            from edgedf.formats.onnx import quantizer
        except ImportError as error:
            raise MissingExtra("convert", "Quantizing a .onnx model") from error
        return self.made(quantizer.to_int8(self, images, **options))

    def try_int8(self) -> OnnxGraph:
        """See :func:`edgedf.formats.onnx.lint.try_int8`."""
        from edgedf.formats.onnx.lint import try_int8

        return self.made(try_int8(self))

    def to_int8_weights(self, *, dynamic: bool = False) -> OnnxGraph:
        """See :func:`edgedf.formats.onnx.stored.to_int8_weights`."""
        return self.made(stored.to_int8_weights(copied(self.proto)))

    def to_fp16(self) -> OnnxGraph:
        """See :func:`edgedf.formats.onnx.stored.to_fp16`."""
        return self.made(stored.to_fp16(copied(self.proto)))

    def with_input_type(self, wanted: InputType) -> OnnxGraph:
        """See above; the very same graph where ``wanted`` is uint8."""
        return self if wanted == "uint8" else self.made(with_input_type(copied(self.proto), wanted))

    def output_quantization(self) -> Mapping[str, tuple[float, int]]:
        """See above."""
        graph = self.proto.graph
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        producer = {name: node for node in graph.node for name in node.output}
        found = {}
        for output in OUTPUT_NAMES:
            node = producer[output]
            # A change of layout after the last DequantizeLinear does not change the values.
            while node.op_type in ("Transpose", "Reshape"):
                node = producer[node.input[0]]
            if node.op_type == "DequantizeLinear":
                scale, zero_point = (constants[name] for name in node.input[1:3])
                found[output] = (float(scale), int(zero_point))
        return found

    def operators(self) -> tuple[Operator, ...]:
        """See above; the file says of none in which type it computes."""
        # Without type inference: QDQ says "float" everywhere, whatever a runtime makes of it.
        return tuple(Operator(node.op_type, (), ()) for node in self.proto.graph.node)

    def computed(self) -> tuple[Operator, ...]:
        """See above; the runtime is asked, on this machine's CPU."""
        return tuple(operator for _, operator in self.executed)

    @cached_property
    def executed(self) -> tuple[tuple[str, Operator], ...]:
        """See :func:`edgedf.formats.onnx.operators.executed_nodes`."""
        return operators.executed_nodes(self)

    def layer_precisions(self) -> tuple[LayerPrecision, ...]:
        """See above."""
        return tuple(layer_precisions(self.proto, self.executed))

    def slow_layers(self, names: Mapping[str, str], kept: KeptLayers) -> tuple[LintLayer, ...]:
        """See above."""
        from edgedf.formats.onnx.lint import slow_layers

        return slow_layers(self, self.computed(), names, kept)

    def found_kept(self, computed: Sequence[Operator], kept: KeptLayers) -> FoundKept:
        """See above."""
        return operators.found_kept(computed, kept)

    def against(self, parent: ModelGraph, *, threads: int = 1) -> Graphs:
        """See above."""
        assert isinstance(parent, OnnxGraph)
        return OnnxGraphs(self.proto, parent.proto, threads=threads)
