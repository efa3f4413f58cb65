"""A float model, repaired before it is quantized: :mod:`edgedf.quantize.repair.equalization`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat
from edgedf.formats.activations import Activations
from edgedf.formats.weights import WeightGraph, open_weight_graph
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.repair.equalization import (
    ChannelStatistics,
    bias_corrections,
    equalized,
    observe_channels,
)

__all__ = ["repaired"]


def repaired(
    model: bytes,
    model_format: ModelFormat,
    images: Sequence[RGBImage],
    *,
    equalize: bool = False,
    correct_biases: bool = False,
    progress: Progress = silent,
) -> bytes:
    """Change weights so that int8 costs less.

    Args:
        model: A float ``.tflite`` or ``.onnx`` file of ours.
        model_format: Which of the two.
        images: Calibration images, uint8 RGB of the model's size.
        equalize: Make the channels of a tensor equally large. The model computes what it did, but
            for float rounding.
        correct_biases: Make up for the mean error of rounded weights. The model no longer computes
            what it did; with int8 weights it does, on average.
        progress: Told about each image.

    Returns:
        A float model, without a spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: What reads the format is not installed.
    """
    if equalize:
        graph = open_weight_graph(model, model_format)
        statistics = _observed(model, model_format, graph, images, "look at channels", progress)
        model = graph.changed(equalized(graph, statistics))
    if correct_biases:
        graph = open_weight_graph(model, model_format)
        statistics = _observed(model, model_format, graph, images, "look at means", progress)
        model = graph.changed(bias_corrections(graph.convolutions, statistics))
    return model


def _observed(
    model: bytes,
    model_format: ModelFormat,
    graph: WeightGraph,
    images: Sequence[RGBImage],
    step: str,
    progress: Progress,
) -> dict[str, ChannelStatistics]:
    from edgedf.formats.onnx import quantizer as onnx
    from edgedf.formats.tflite import quantizer as tflite

    open_activations = tflite.activations if model_format == "tflite" else onnx.activations
    values = _values(open_activations(model), images, f"{step} {model_format}", progress)
    return observe_channels(values, graph.channel_axis)


def _values(
    activations: Activations, images: Sequence[RGBImage], step: str, progress: Progress
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    for done, image in enumerate(images, 1):
        yield activations.values(image)
        progress(step, done, len(images))
