"""From the activations of a checkpoint to the tensors of its exports, by what they hold.

Quantization-aware training learns a range for each activation of the torch module. An export has
the same activations under names of its own, in a layout of its own, and more tensors besides. Both
are run on the same pictures, and what is equal is the same tensor, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import CheckpointError
from edgedf.formats import ModelGraph
from edgedf.formats.activations import Range
from edgedf.imaging import RGBImage

__all__ = ["TensorRanges", "ranges_of_tensors"]

TensorRanges = dict[str, Range]
"""By the names of a float graph's tensors."""

# Largest difference between two runtimes, as a share of the largest value.
_TOLERANCE = 1e-3


def ranges_of_tensors(
    graph: ModelGraph,
    images: Sequence[RGBImage],
    activations: Sequence[Mapping[str, NDArray[np.float32]]],
    ranges: Mapping[str, Range],
) -> TensorRanges:
    """Find the tensor, or tensors, that hold each activation.

    Args:
        graph: A float export.
        images: uint8 RGB pictures of the model's size.
        activations: For each picture, what torch makes of it: (1, C, H, W) by name.
        ranges: The range of each activation.

    Returns:
        The ranges by the names of tensors; two tensors that hold the same have the same range.

    Raises:
        CheckpointError: An activation has no tensor in this export.
        MissingExtra: The format's runtime is not installed.
    """
    shown = graph.activations()
    differences: dict[str, dict[str, float]] = {}  # by tensor and activation
    for image, made in zip(images, activations, strict=True):
        wanted = {name: _layouts(values) for name, values in made.items() if name in ranges}
        for tensor, values in shown.values(image).items():
            known = differences.get(tensor, dict.fromkeys(wanted, 0.0))
            flat = values.ravel()
            differences[tensor] = {
                name: max(off, before)
                for name, before in known.items()
                if (off := _difference(flat, wanted[name])) <= _TOLERANCE
            }
    found = {tensor: min(by, key=by.__getitem__) for tensor, by in differences.items() if by}
    matched = {name for by in differences.values() for name in by}
    lost = [name for name in ranges if name not in matched]
    if lost:
        raise CheckpointError(
            f"{len(lost)} of the {len(ranges)} activations with a learned range are nowhere in the "
            f".{graph.format.name} export, such as {lost[0]}.",
            expected="the network that the ranges were learned on",
            next_step="train it again with edgedf distill train --qat",
        )
    return {tensor: ranges[name] for tensor, name in found.items()}


def _layouts(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Flat, as NCHW and as NHWC."""
    return values.ravel(), values.transpose(0, 2, 3, 1).ravel()


def _difference(flat: NDArray[np.float32], layouts: tuple[NDArray[np.float32], ...]) -> float:
    """Largest difference as a share of the largest value; infinite where the sizes differ."""
    if flat.size != layouts[0].size:
        return float("inf")
    largest = max(float(np.abs(layouts[0]).max()), 1e-6)
    return min(float(np.abs(flat - layout).max()) for layout in layouts) / largest
