"""Whether activation ranges fit images: what lies outside them, and how much of them is used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedf.formats.activations import Activations, Range
from edgedf.formats.layer_names import short_name
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent

__all__ = ["TensorCoverage", "coverage"]


@dataclass(frozen=True)
class TensorCoverage:
    """One activation's range against the values it takes on images.

    Args:
        tensor: Its name, as :attr:`edgedf.spec.Calibration.ranges` has it but for a number.
        low: Lower end of the range, 0 included.
        high: Upper end.
        seen_low: Smallest value on the images.
        seen_high: Largest one.
        outside: Share of the values that are outside the range by more than half a step of 8 bits.
        lost: Squared error of clipping, divided by the sum of the squared values.
        used: Share of the range between the smallest and the largest value, at most 1.
    """

    tensor: str
    low: float
    high: float
    seen_low: float
    seen_high: float
    outside: float
    lost: float
    used: float


class _Sums:
    def __init__(self, span: Range) -> None:
        self.low, self.high = min(span[0], 0.0), max(span[1], 0.0)
        self.seen_low = self.seen_high = 0.0
        self.count = self.outside = 0
        self.lost = self.power = 0.0

    def add(self, values: np.ndarray) -> None:
        flat = values.ravel()
        over = np.maximum(flat - np.float32(self.high), np.float32(self.low) - flat)
        over = over[over > (self.high - self.low) / 510.0]
        self.count += flat.size
        self.outside += over.size
        self.lost += float(np.dot(over, over))
        self.power += float(np.dot(flat, flat))
        self.seen_low = min(self.seen_low, float(flat.min()))
        self.seen_high = max(self.seen_high, float(flat.max()))

    def result(self, name: str) -> TensorCoverage:
        inside = min(self.seen_high, self.high) - max(self.seen_low, self.low)
        width = self.high - self.low
        return TensorCoverage(
            tensor=short_name(name),
            low=self.low,
            high=self.high,
            seen_low=self.seen_low,
            seen_high=self.seen_high,
            outside=self.outside / max(self.count, 1),
            lost=self.lost / self.power if self.power > 0.0 else 0.0,
            used=min(inside / width, 1.0) if width > 0.0 else 1.0,
        )


def coverage(
    activations: Activations,
    ranges: Mapping[str, Range],
    images: Sequence[RGBImage],
    *,
    fixed: Collection[str] = (),
    step: str = "range coverage",
    progress: Progress = silent,
) -> tuple[TensorCoverage, ...]:
    """Hold ranges against images that they were not found on.

    Args:
        activations: The float model.
        ranges: Ranges by the names of tensors; those without one are passed over.
        images: uint8 RGB of the model's size, at least one.
        fixed: Tensors whose ranges do not come from images. They are passed over, as is what is
            only moved about: what is true of its source is true of it.
        step: What this is called where progress is told.
        progress: Told about each image.

    Returns:
        One entry a tensor, in order of execution.
    """
    sums = {
        name: _Sums(ranges[name])
        for name in activations.names
        if name in ranges and name not in fixed and name not in activations.moved
    }
    for done, image in enumerate(images, 1):
        values = activations.values(image)
        for name, entry in sums.items():
            entry.add(values[name])
        progress(step, done, len(images))
    return tuple(entry.result(name) for name, entry in sums.items())
