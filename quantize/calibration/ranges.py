"""The range of every activation: which methods there are, and what each one finds.

One search for both formats: the float model runs twice on the calibration images with all its
activations shown, once for the smallest and largest value of each, once for a histogram between
them (:mod:`~edgedf.quantize.calibration.histogram`). No more than one image's activations and the
histograms are in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from edgedf.formats.activations import Activations, Range, merged_ranges
from edgedf.formats.layer_names import short_name
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.histogram import Histogram, by_entropy, by_error, by_percentile
from edgedf.quantize.calibration.settings import Method

__all__ = ["recorded_ranges", "search_ranges"]


def search_ranges(
    activations: Activations,
    images: Sequence[RGBImage],
    method: Method,
    *,
    fixed: Mapping[str, Range],
    bits: Literal[8, 16] = 8,
    name: str = "",
    progress: Progress = silent,
) -> dict[str, Range]:
    """The range of every activation by a method.

    What is only moved about (reshaped, resized, pooled) has the range of what it is moved from:
    both formats give the two the same scale.

    Args:
        activations: The float model.
        images: Calibration images, uint8 RGB of the model's size, at least one.
        method: How ranges are chosen.
        fixed: Ranges that stay as they are, whatever the values.
        bits: Bits of an activation.
        name: Name of the format, where progress is told.
        progress: Told about each image.

    Returns:
        A range for each activation, in order of execution, both ends float32 numbers. With a method
        other than ``minmax``, 0 is inside.
    """
    widest = merged_ranges(
        activations, images, given={}, fixed=fixed, step=f"calibrate {name}", progress=progress
    )
    if method == "minmax":
        return widest
    sought = [n for n in activations.names if n not in fixed and n not in activations.moved]
    histograms = {n: Histogram(*widest[n]) for n in sought}
    for done, image in enumerate(images, 1):
        values = activations.values(image)
        for tensor, histogram in histograms.items():
            histogram.add(values[tensor])
        progress(f"histograms {name}", done, len(images))
    ranges = dict(widest)
    for tensor, histogram in histograms.items():
        ranges[tensor] = _rounded(_chosen(histogram, method, 2**bits - 1))
    for tensor in activations.names:
        source = activations.moved.get(tensor)
        if source is not None and tensor not in fixed:
            ranges[tensor] = ranges[source]
    return ranges


def recorded_ranges(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges as a spec records them: by short names, in the fewest digits that give the float32.

    Args:
        ranges: Ranges by the names of tensors, in order of execution.

    Returns:
        The same ranges. The names that litert-torch gives are paths of modules, of which the
        innermost are kept; where that leaves two tensors with one name, the second gets ``#2``.
    """
    recorded: dict[str, Range] = {}
    for name, (low, high) in ranges.items():
        short = unique = short_name(name)
        number = 1
        while unique in recorded:
            number += 1
            unique = f"{short} #{number}"
        recorded[unique] = (float(str(np.float32(low))), float(str(np.float32(high))))
    return recorded


def _chosen(histogram: Histogram, method: Method, steps: int) -> Range:
    if method == "percentile":
        return by_percentile(histogram)
    return by_error(histogram, steps) if method == "mse" else by_entropy(histogram, steps)


def _rounded(span: Range) -> Range:
    """The range in float32, which is what the files hold."""
    return float(np.float32(span[0])), float(np.float32(span[1]))
