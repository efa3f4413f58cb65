"""One file from a float model, by a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from edgedf.formats import ModelFormat, ModelGraph
from edgedf.formats.activations import Range
from edgedf.formats.layers import KeptLayers
from edgedf.imaging import RGBImage
from edgedf.precision import CALIBRATED, PRECISIONS
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.ranges import recorded_ranges, search_ranges
from edgedf.quantize.making.input_type import described_input
from edgedf.quantize.making.kept_layers import kept_layers
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.repair.apply import repaired
from edgedf.quantize.sources.describe import describe_converted
from edgedf.spec import Calibration, ModelSpec

__all__ = ["MadeFile", "make_file"]


@dataclass(frozen=True, eq=False)
class MadeFile:
    """What :func:`make_file` makes.

    Args:
        graph: The model, without a spec.
        spec: Its spec.
        file: The finished file, the spec inside.
        prepared: The float model that was quantized: the given one, or that repaired.
        ranges: Of its activations, by the names of its tensors; empty where none are calibrated.
        kept: Its layers that stay out of the precision.
    """

    graph: ModelGraph
    spec: ModelSpec
    file: bytes
    prepared: ModelGraph
    ranges: Mapping[str, Range]
    kept: KeptLayers

    @property
    def format(self) -> ModelFormat:
        """Name of the file's format."""
        return self.graph.format.name

    def with_spec(self, spec: ModelSpec) -> MadeFile:
        """The same model with another spec."""
        return replace(self, spec=spec, file=self.graph.format.embed(self.graph.file, spec))


def make_file(
    source: ModelGraph,
    parent: ModelSpec,
    recipe: Recipe,
    images: Sequence[RGBImage],
    calibration: Calibration,
    *,
    learned: Mapping[str, Range] = MappingProxyType({}),
    progress: Progress = silent,
) -> MadeFile:
    """Make a file and describe it.

    Args:
        source: A float model of ours.
        parent: Its spec.
        recipe: How.
        images: Calibration images, uint8 RGB of the model's size.
        calibration: Which images those are.
        learned: Ranges of 8-bit activations that training found, by the names of the model's
            tensors; the recipe's method finds those of the others alone.
        progress: Told about each step.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: It cannot be made that way.
        MissingExtra: What makes it is not installed.
    """
    precision, name = recipe.precision, source.format.name
    behind: Mapping[str, tuple[float, int]] | None = None
    described: Calibration | None = None
    graph = prepared = source
    ranges = dict[str, Range]()
    kept = kept_layers(source, recipe.keep, precision)
    step = f"quantize {name}"
    progress(step, 0, 1)
    if precision in CALIBRATED:
        prepared = repaired(
            source,
            images,
            equalize=recipe.equalize,
            correct_biases=recipe.correct_biases,
            progress=progress,
        )
        bits = PRECISIONS[precision].activation_bits or 8
        ranges = search_ranges(
            prepared.activations(),
            images,
            recipe.measured_by,
            fixed={**learned, **prepared.fixed_ranges()},
            bits=bits,
            name=name,
            progress=progress,
        )
        described = replace(
            calibration,
            method="qat" if learned else recipe.measured_by,
            equalized=recipe.equalize,
            corrected_biases=recipe.correct_biases,
            ranges=recorded_ranges(ranges),
        )
        graph = prepared.to_int8(
            images, activation_bits=bits, ranges=ranges, kept=kept, progress=progress
        )
        behind = graph.output_quantization()
    elif precision in ("int8-dynamic", "int8-weights"):
        graph = source.to_int8_weights(dynamic=precision == "int8-dynamic")
    elif precision == "fp16":
        graph = source.to_fp16()
    spec = describe_converted(
        parent, source.format, precision, quantization=behind, calibration=described
    )
    spec = spec.with_changes(
        input=described_input(spec.input, recipe.input_type), overrides=kept.overrides
    )
    graph = graph.with_input_type(recipe.input_type)
    finished = source.format.embed(graph.file, spec)
    progress(step, 1, 1)
    return MadeFile(graph, spec, finished, prepared, ranges, kept)
