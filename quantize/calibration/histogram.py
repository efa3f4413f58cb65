"""Where a tensor's values lie, and which range costs least when they are rounded to integers.

A histogram has bins of equal width between the smallest and the largest value. Zeros are counted
apart: rectified activations are half zeros, and a zero is always represented exactly.

Three ways to choose a range, all of which keep 0 inside:

percentile
    A share of the values is cut off at either end.
mse
    The range with the smallest expected squared error: that of rounding, a twelfth of the squared
    step for each value inside (Widrow & Kollár, "Quantization Noise", 2008, chapter 4), plus that
    of clipping for each value outside, as in Banner et al., "Post training 4-bit quantization of
    convolutional networks for rapid-deployment", NeurIPS 2019 (arXiv 1810.05723), but summed over
    the histogram instead of a fitted distribution, and with two ends.
entropy
    The range whose rounded values differ least, by the Kullback-Leibler divergence, from the
    clipped ones: Migacz, "8-bit Inference with TensorRT", GTC 2017. That method looks for one
    threshold; here the upper end is looked for first and then the lower one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "PERCENTILE", "Histogram", "by_entropy", "by_error", "by_percentile"]

BINS = 2048
PERCENTILE = 99.99
"""The percentile of the values that a range keeps, at either end."""

# Of a bin: below, its inverse is no float32.
_LEAST_WIDTH = 1e-30
# Candidates for each end, evenly spaced between 0 and the most extreme value.
_CANDIDATES = 128
# What a level without values is taken to hold, as a share of all values: its logarithm is finite.
_ALMOST_NONE = 1e-6


class Histogram:
    """Counts of a tensor's values in bins of equal width.

    Args:
        low: Smallest value.
        high: Largest value.
        bins: Number of bins, at least 1.
    """

    def __init__(self, low: float, high: float, bins: int = BINS) -> None:
        self.low, self.high = low, high
        self.counts: NDArray[np.int64] = np.zeros(bins, np.int64)
        self.zeros = 0

    @property
    def width(self) -> float:
        """Width of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the bins."""
        return np.asarray(self.low + self.width * (np.arange(len(self.counts)) + 0.5), np.float64)

    @property
    def total(self) -> int:
        """Number of values, zeros included."""
        return int(self.counts.sum()) + self.zeros

    def add(self, values: NDArray[np.float32]) -> Histogram:
        """Count values; those outside go into the outermost bins, what is not a number is left out.

        Args:
            values: An array of any shape.

        Returns:
            The histogram itself.
        """
        flat = np.asarray(values, np.float32).ravel()
        finite = np.isfinite(flat)
        if not finite.all():
            flat = flat[finite]
        zeros = flat.size - int(np.count_nonzero(flat))
        self.zeros += zeros
        last = len(self.counts) - 1
        # All values are one, or too close together for bins: they are in the first.
        scale = 0.0 if self.width < _LEAST_WIDTH else 1.0 / self.width
        low = np.float32(self.low)
        places = np.clip((flat - low) * np.float32(scale), 0, last).astype(np.int32)
        self.counts += np.bincount(places, minlength=last + 1)
        self.counts[int(np.clip((0.0 - low) * np.float32(scale), 0, last))] -= zeros
        return self

    def error(self, low: float, high: float, steps: int = 255) -> float:
        """Expected mean squared error when the values are rounded to integers of a range.

        Args:
            low: Lower end, at most 0.
            high: Upper end, at least 0.
            steps: How many steps the range has: 255 with 8 bits.
        """
        return float(_errors(self, np.array([low]), np.array([high]), steps)[0, 0])


def by_percentile(histogram: Histogram, percentile: float = PERCENTILE) -> tuple[float, float]:
    """The range that holds all values but the same small share at either end.

    Args:
        histogram: Histogram of the tensor.
        percentile: Percentile of the values that are not cut off at one end, above 50, at most 100.

    Returns:
        Low and high; 0 is inside.
    """
    if not histogram.counts.any():
        return _with_zero(histogram.low, histogram.high)
    counts = histogram.counts.astype(np.float64)
    edges = np.linspace(histogram.low, histogram.high, len(counts) + 1, dtype=np.float64)
    cut = (1.0 - percentile / 100.0) * histogram.total
    # The zeros lie at 0: below every upper end, above every lower one.
    return _with_zero(
        _where(counts, edges, cut), -_where(counts[::-1], -edges[::-1], cut), of=histogram
    )


def by_error(histogram: Histogram, steps: int = 255) -> tuple[float, float]:
    """The range with the smallest expected squared error.

    Args:
        histogram: Histogram of the tensor.
        steps: How many steps the range has.

    Returns:
        Low and high; 0 is inside.
    """
    lows, highs = _candidates(histogram)
    errors = _errors(histogram, lows, highs, steps)
    # Of equal ones the widest: candidates begin with the widest.
    best = np.unravel_index(int(errors.argmin()), errors.shape)
    return float(lows[best[0]]), float(highs[best[1]])


def by_entropy(histogram: Histogram, steps: int = 255) -> tuple[float, float]:
    """The range whose rounded values are distributed most like the values themselves.

    Args:
        histogram: Histogram of the tensor.
        steps: How many steps the range has.

    Returns:
        Low and high; 0 is inside.
    """
    lows, highs = _candidates(histogram)
    low, high = float(lows[0]), float(highs[0])
    if not histogram.counts.any() or not histogram.width > 0.0:
        return low, high
    least = math.inf
    for candidate in highs:
        divergence = _divergence(histogram, low, float(candidate), steps)
        if divergence < least:
            least, high = divergence, float(candidate)
    for candidate in lows:
        divergence = _divergence(histogram, float(candidate), high, steps)
        if divergence < least:
            least, low = divergence, float(candidate)
    return low, high


def _with_zero(low: float, high: float, of: Histogram | None = None) -> tuple[float, float]:
    """A range with 0 inside, and none of it outside the histogram it was found in."""
    if of is not None:
        low, high = max(low, of.low), min(high, of.high)
    return min(low, 0.0), max(high, 0.0)


def _where(counts: NDArray[np.float64], edges: NDArray[np.float64], cut: float) -> float:
    """The value below which ``cut`` of the values are, from the first bin on."""
    below = np.cumsum(counts)
    if cut >= below[-1]:
        return float(edges[-1])
    place = int(np.searchsorted(below, cut, side="right"))
    before = below[place] - counts[place]
    share = (cut - before) / counts[place]
    return float(edges[place] + share * (edges[place + 1] - edges[place]))


def _candidates(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends, the widest first; 0 alone where no value is on that side."""
    low, high = _with_zero(histogram.low, histogram.high)
    shares = np.arange(_CANDIDATES, 0, -1) / _CANDIDATES
    return (
        low * shares if low < 0.0 else np.zeros(1),
        high * shares if high > 0.0 else np.zeros(1),
    )


def _errors(
    histogram: Histogram, lows: NDArray[np.float64], highs: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Expected mean squared error for every pair of ends: rows are lows, columns highs."""
    counts, centres = histogram.counts.astype(np.float64), histogram.centres
    below = np.maximum(lows[:, np.newaxis] - centres, 0.0)
    above = np.maximum(centres - highs[:, np.newaxis], 0.0)
    clipped = (below**2 @ counts)[:, np.newaxis] + (above**2 @ counts)[np.newaxis, :]
    inside = counts.sum() - ((below > 0) @ counts)[:, np.newaxis] - ((above > 0) @ counts)
    step = (highs[np.newaxis, :] - lows[:, np.newaxis]) / steps
    return np.asarray((clipped + inside * step**2 / 12.0) / max(histogram.total, 1))


def _divergence(histogram: Histogram, low: float, high: float, steps: int) -> float:
    """Kullback-Leibler divergence of the clipped values from the rounded ones, zeros left out."""
    centres = histogram.centres
    first, last = np.searchsorted(centres, [low, high])
    # As TensorRT: with fewer bins than levels, rounding would seem to cost nothing.
    if last - first <= min(steps, len(centres) - 1):
        return math.inf
    inside = histogram.counts[first:last].astype(np.float64)
    clipped = inside.copy()
    clipped[0] += histogram.counts[:first].sum()
    clipped[-1] += histogram.counts[last:].sum()
    step = (high - low) / steps
    levels = np.rint((centres[first:last] - low) / step).astype(np.int64)
    # What a level holds is spread evenly over those of its bins that hold anything.
    occupied = clipped > 0
    held = np.bincount(levels, weights=inside)
    shared = np.bincount(levels, weights=occupied)
    rounded = np.where(occupied, held[levels] / np.maximum(shared[levels], 1.0), 0.0)
    p, q = clipped / clipped.sum(), rounded / max(rounded.sum(), 1.0)
    q = np.maximum(q, _ALMOST_NONE)
    return float(np.sum(p[occupied] * np.log(p[occupied] / q[occupied])))
