"""One file from a float model, by a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from edgedf.artifact import ModelFormat, embed_onnx, embed_tflite
from edgedf.formats.activations import Range
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.ranges import recorded_ranges, search_ranges
from edgedf.quantize.making.input_type import described_input, with_input_type
from edgedf.quantize.making.kept_layers import kept_layers
from edgedf.quantize.precision import CALIBRATED
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.repair.apply import repaired
from edgedf.quantize.sources.describe import describe_converted
from edgedf.spec import Calibration, ModelSpec

__all__ = ["MadeFile", "make_file"]


@dataclass(frozen=True, eq=False)
class MadeFile:
    """What :func:`make_file` makes.

    Args:
        file: The finished file.
        spec: The spec inside it.
        format: ``tflite`` or ``onnx``.
        prepared: The float model that was quantized: the given one, or that repaired.
        ranges: Of its activations, by the names of its tensors; empty where none are calibrated.
    """

    file: bytes
    spec: ModelSpec
    format: ModelFormat
    prepared: bytes
    ranges: Mapping[str, Range]


def make_file(
    model: bytes,
    parent: ModelSpec,
    model_format: ModelFormat,
    recipe: Recipe,
    images: Sequence[RGBImage],
    calibration: Calibration,
    *,
    learned: Mapping[str, Range] = MappingProxyType({}),
    progress: Progress = silent,
) -> MadeFile:
    """Make a file and describe it.

    Args:
        model: A float ``.tflite`` or ``.onnx`` file of ours.
        parent: Its spec.
        model_format: Which of the two.
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
    from edgedf.formats.onnx import quantizer as onnx
    from edgedf.formats.tflite import quantizer as tflite

    stage: Any = tflite if model_format == "tflite" else onnx
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    precision, behind, described = recipe.precision, None, None
    prepared, ranges = model, dict[str, Range]()
    kept = kept_layers(model, model_format, recipe.keep, precision)
    step = f"quantize {model_format}"
    progress(step, 0, 1)
    if precision in CALIBRATED:
        model = prepared = repaired(
            model,
            model_format,
            images,
            equalize=recipe.equalize,
            correct_biases=recipe.correct_biases,
            progress=progress,
        )
        bits: Literal[8, 16] = 16 if precision == "int8-a16" else 8
        ranges = search_ranges(
            stage.activations(model),
            images,
            recipe.method,
            fixed={**learned, **stage.fixed_ranges(model)},
            bits=bits,
            name=model_format,
            progress=progress,
        )
        described = replace(
            calibration,
            method="qat" if learned else recipe.method,
            equalized=recipe.equalize,
            corrected_biases=recipe.correct_biases,
            ranges=recorded_ranges(ranges),
        )
        model = stage.to_int8(
            model, images, activation_bits=bits, ranges=ranges, keep=recipe.keep, progress=progress
        )
        behind = stage.output_quantization(model)
    elif precision == "int8-dynamic":
        model = tflite.to_int8_weights(model, dynamic=True)
    elif precision == "int8-weights":
        model = stage.to_int8_weights(model)
    elif precision == "fp16":
        model = stage.to_fp16(model)
    spec = describe_converted(
        parent, model_format, precision, quantization=behind, calibration=described
    )
    spec = spec.with_changes(
        input=described_input(spec.input, recipe.input_type), overrides=kept.overrides
    )
    finished = embed(with_input_type(model, model_format, recipe.input_type), spec)
    progress(step, 1, 1)
    return MadeFile(finished, spec, model_format, prepared, ranges)
