"""A float model, repaired before it is quantized: :mod:`edgedf.quantize.repair.equalization`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.formats import ModelGraph
from edgedf.formats.activations import Activations
from edgedf.formats.weights import WeightGraph
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
    model: ModelGraph,
    images: Sequence[RGBImage],
    *,
    equalize: bool = False,
    correct_biases: bool = False,
    progress: Progress = silent,
) -> ModelGraph:
    """Change weights so that int8 costs less.

    Args:
        model: A float model of ours.
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
        graph = model.weights()
        statistics = _observed(model, graph, images, "look at channels", progress)
        model = graph.changed(equalized(graph, statistics))
    if correct_biases:
        graph = model.weights()
        statistics = _observed(model, graph, images, "look at means", progress)
        model = graph.changed(bias_corrections(graph.convolutions, statistics))
    return model


def _observed(
    model: ModelGraph,
    graph: WeightGraph,
    images: Sequence[RGBImage],
    step: str,
    progress: Progress,
) -> dict[str, ChannelStatistics]:
    values = _values(model.activations(), images, f"{step} {model.format.name}", progress)
    return observe_channels(values, graph.channel_axis)


def _values(
    activations: Activations, images: Sequence[RGBImage], step: str, progress: Progress
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    for done, image in enumerate(images, 1):
        yield activations.values(image)
        progress(step, done, len(images))
