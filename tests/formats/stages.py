"""Formats for tests that have a model as bytes and want one as bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgedf.formats import format_named, open_graph
from edgedf.formats.activations import Range, used_ranges
from edgedf.formats.layers import Graphs, KeptLayers, NamedLayer
from edgedf.formats.operators import FoundKept, Operator, Partition
from edgedf.formats.weights import WeightGraph
from edgedf.imaging import RGBImage
from edgedf.precision import PrecisionName
from edgedf.progress import Progress, silent
from edgedf.quantize.making import kept_layers as kept_layers_module
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.repair import apply
from edgedf.spec import InputType, ModelSpec


class Stage:
    """One format."""

    def __init__(self, name: str) -> None:
        self.name = name

    def activations(self, model: bytes, *, threads: int = 1) -> Any:
        return open_graph(model, self.name).activations(threads=threads)

    def fixed_ranges(self, model: bytes) -> dict[str, Range]:
        return open_graph(model, self.name).fixed_ranges()

    def used_ranges(
        self,
        model: bytes,
        images: Sequence[RGBImage],
        *,
        ranges: Mapping[str, Range] | None = None,
        progress: Progress = silent,
    ) -> dict[str, Range]:
        graph = open_graph(model, self.name)
        return used_ranges(graph, images, ranges=ranges, progress=progress)

    def to_int8(
        self,
        model: bytes,
        images: Sequence[RGBImage],
        *,
        activation_bits: int = 8,
        ranges: Mapping[str, Range] | None = None,
        keep: Sequence[str | Keep] = (),
        progress: Progress = silent,
    ) -> bytes:
        graph = open_graph(model, self.name)
        precision: PrecisionName = "int8" if activation_bits == 8 else "int8-a16"
        kept = kept_layers_module.kept_layers(graph, keep, precision)
        made = graph.to_int8(
            images, activation_bits=activation_bits, ranges=ranges, kept=kept, progress=progress
        )
        return made.file

    def to_int8_weights(self, model: bytes, *, dynamic: bool = False) -> bytes:
        return open_graph(model, self.name).to_int8_weights(dynamic=dynamic).file

    def to_fp16(self, model: bytes) -> bytes:
        return open_graph(model, self.name).to_fp16().file

    def output_quantization(self, model: bytes) -> Mapping[str, tuple[float, int]]:
        return open_graph(model, self.name).output_quantization()

    def named_layers(self, model: bytes) -> tuple[NamedLayer, ...]:
        return open_graph(model, self.name).named_layers()

    def embed(self, model: bytes, spec: ModelSpec) -> bytes:
        return format_named(self.name).embed(model, spec)


tflite, onnx = Stage("tflite"), Stage("onnx")


def list_operators(model: bytes, model_format: str) -> tuple[Operator, ...]:
    return open_graph(model, model_format).operators()


def executed_operators(model: bytes) -> tuple[Operator, ...]:
    return open_graph(model, "onnx").computed()


def xnnpack_partitions(model: bytes) -> tuple[Partition, ...]:
    found = open_graph(model, "tflite").partitions()
    assert found is not None
    return found


def kept_layers(
    model: bytes, model_format: str, keep: Sequence[str | Keep], precision: PrecisionName
) -> KeptLayers:
    return kept_layers_module.kept_layers(open_graph(model, model_format), keep, precision)


def found_kept(operators: Sequence[Operator], kept: KeptLayers, model_format: str) -> FoundKept:
    return open_graph(b"", model_format).found_kept(operators, kept)


def open_weight_graph(model: bytes, model_format: str) -> WeightGraph:
    return open_graph(model, model_format).weights()


def graphs(artifact: bytes, parent: bytes, model_format: str, *, threads: int = 1) -> Graphs:
    return open_graph(artifact, model_format).against(
        open_graph(parent, model_format), threads=threads
    )


def repaired(model: bytes, model_format: str, images: Sequence[RGBImage], **options: Any) -> bytes:
    return apply.repaired(open_graph(model, model_format), images, **options).file


def with_input_type(model: bytes, model_format: str, wanted: InputType) -> bytes:
    return open_graph(model, model_format).with_input_type(wanted).file
