"""Two repairs of a float model before it is quantized: equal channels and corrected biases.

*Cross-layer equalization.* A tensor of activations has one scale for all its channels. A channel
a hundred times as large as the others leaves them two or three of 255 steps. Dividing a channel by
a factor where it is made, and multiplying the weights that take it, changes nothing in float
(Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, arXiv
1906.04721, section 4.1). Weights have one scale per output channel, so where a channel is made the
factor costs nothing; where it is taken, a large one would leave other weights few steps. The factor
therefore is the root of the two ranges' ratio, that of the activations and that of the weights
(Xiao et al., "SmoothQuant", 2023, arXiv 2211.10438, equation 4, with alpha = 1/2).

*Bias correction.* Rounding moves the mean of what a convolution gives by the error of its weights
times the mean of what it takes; its bias takes that away (Nagel et al., section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.formats.weights import Convolution, Parameters, WeightGraph

__all__ = [
    "ChannelStatistics",
    "bias_corrections",
    "channel_groups",
    "equalized",
    "observe_channels",
    "rounded_weights",
]

# Of a channel's factor, so that one without any weight behind it stays a number.
_LARGEST_FACTOR = 1e4
_WEIGHT_LIMIT = 127


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """What the channels of a tensor hold, over pictures and pixels.

    Args:
        mean: float64, (channels,).
        largest: Largest absolute value, float64, (channels,).
    """

    mean: NDArray[np.float64]
    largest: NDArray[np.float64]


def observe_channels(
    values: Iterable[Mapping[str, NDArray[np.float32]]], channel_axis: int
) -> dict[str, ChannelStatistics]:
    """Statistics of the channels of every tensor with four axes.

    Args:
        values: What the tensors hold, a picture at a time; the same tensors each time.
        channel_axis: Which axis the channels are.
    """
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    pictures = 0
    for found in values:
        pictures += 1
        for name, array in found.items():
            if array.ndim != 4:
                continue
            axes = tuple(axis for axis in range(4) if axis != channel_axis)
            mean = array.mean(axis=axes, dtype=np.float64)
            largest = np.abs(array).max(axis=axes).astype(np.float64)
            if name in sums:
                before_mean, before_largest = sums[name]
                mean, largest = before_mean + mean, np.maximum(before_largest, largest)
            sums[name] = mean, largest
    return {
        name: ChannelStatistics(mean / pictures, largest) for name, (mean, largest) in sums.items()
    }


def channel_groups(graph: WeightGraph) -> tuple[frozenset[str], ...]:
    """Tensors whose channels have to share their factors, where they can have any.

    What is added up, pooled or resized has the factors of what it is made from. A group can have
    factors where convolutions make all of it, no saturation follows, convolutions take all of it,
    and none of it leaves the model.

    Args:
        graph: The model.

    Returns:
        The groups that can have factors.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    fixed: set[str] = set(graph.outputs)
    made_by_graph: set[str] = set()
    for step in graph.steps:
        made_by_graph.update(step.made)
        if step.kind == "each":
            for name in (*step.taken, *step.made[1:]):
                parent[root(name)] = root(step.made[0])
        elif step.kind == "other":
            fixed.update(step.taken, step.made)
        if step.saturates:
            fixed.update(step.made)
    names = {name for step in graph.steps for name in (*step.taken, *step.made)}
    fixed.update(names - made_by_graph)
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(root(name), set()).add(name)
    free = [group for group in groups.values() if not group & fixed]
    return tuple(frozenset(group) for group in sorted(free, key=sorted))


def equalized(
    graph: WeightGraph, statistics: Mapping[str, ChannelStatistics]
) -> dict[str, Parameters]:
    """Weights with which the channels of a tensor are about as large as each other.

    Args:
        graph: The model.
        statistics: From :func:`observe_channels`.

    Returns:
        The changed parameters, by the name of the tensor that a convolution makes.
    """
    changed = {made: conv.parameters for made, conv in graph.convolutions.items()}
    touched: set[str] = set()
    for group in channel_groups(graph):
        makers = [conv for conv in graph.convolutions.values() if conv.made in group]
        takers = [conv for conv in graph.convolutions.values() if conv.taken in group]
        ranges = [statistics[name].largest for name in sorted(group) if name in statistics]
        if not makers or not takers or not ranges:
            continue
        factors = _factors(np.max(ranges, axis=0), takers, changed)
        for conv in makers:
            before = changed[conv.made]
            along = factors.astype(np.float32)
            changed[conv.made] = Parameters(
                before.weights / along[:, None, None, None], before.bias / along
            )
        for conv in takers:
            before = changed[conv.made]
            along = factors.astype(np.float32)
            shaped = along[:, None, None, None] if conv.depthwise else along[None, :, None, None]
            changed[conv.made] = before._replace(weights=before.weights * shaped)
        touched.update(conv.made for conv in (*makers, *takers))
    return {made: changed[made] for made in graph.convolutions if made in touched}


def _factors(
    ranges: NDArray[np.float64],
    takers: Iterable[Convolution],
    parameters: Mapping[str, Parameters],
) -> NDArray[np.float64]:
    """What each channel is divided by, at least 1 for the largest of activations' ranges."""
    weights = [
        np.abs(parameters[conv.made].weights).max(axis=(0, 2, 3))
        for conv in takers
        if not conv.depthwise
    ]
    dead = ranges <= 0
    activations = np.where(dead, 1.0, ranges)
    if not weights:  # a filter of its own has a scale of its own: all channels may be equal
        factors = activations
    else:
        taken = np.max(weights, axis=0).astype(np.float64)
        largest = taken.max()
        taken = np.maximum(taken, (largest if largest > 0 else 1.0) / _LARGEST_FACTOR)
        factors = np.sqrt(activations / taken)
    # Only ratios matter; around 1 the numbers stay what they were.
    factors = factors / np.exp(np.log(factors).mean())
    factors = np.clip(factors, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    return np.where(dead, 1.0, factors)


def rounded_weights(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """What int8 with one symmetric scale per output channel leaves of weights.

    Args:
        weights: (output channels, ...).
    """
    rows = weights.reshape(len(weights), -1)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    least = np.finfo(np.float32).tiny  # below, a step would be no number to divide by
    steps = np.where(largest > least, largest / _WEIGHT_LIMIT, least).astype(np.float32)
    whole = np.clip(np.rint(rows / steps), -_WEIGHT_LIMIT, _WEIGHT_LIMIT)
    return np.asarray((whole * steps).reshape(weights.shape), np.float32)


def bias_corrections(
    convolutions: Mapping[str, Convolution], statistics: Mapping[str, ChannelStatistics]
) -> dict[str, Parameters]:
    """Biases that make up for the mean error of rounded weights; weights stay.

    Args:
        convolutions: By the name of the tensor that each makes.
        statistics: From :func:`observe_channels`, of the model with these weights. Zeros around a
            picture count as if they were like the rest of it.

    Returns:
        The changed parameters; without those that have no error, or take a tensor that was not
        observed.
    """
    changed = {}
    for made, conv in convolutions.items():
        if conv.taken not in statistics:
            continue
        mean = statistics[conv.taken].mean
        weights = conv.parameters.weights
        error = (rounded_weights(weights).astype(np.float64) - weights).sum(axis=(2, 3))
        moved = error[:, 0] * mean if conv.depthwise else error @ mean
        if np.any(moved):
            bias = (conv.parameters.bias - moved).astype(np.float32)
            changed[made] = Parameters(weights, bias)
    return changed
