"""Noise that quantization adds to tensors: running sums, SQNR, clipping.

SQNR is the signal-to-quantization-noise ratio, ten times the decimal logarithm of the power of the
reference over the power of the difference (e.g. Nagel et al., "A White Paper on Neural Network
Quantization", 2021, arXiv 2106.08295). Sums are kept and no values, so memory does not grow with
the number of pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ChannelNoise", "NoiseSums", "channel_noise", "decibels"]

# A channel with less than this of the strongest one's amplitude says next to nothing: a trained
# network has some without any weights, and the SQNR of those is noise over noise.
_SILENT_CHANNEL = 1e-3


def decibels(signal: float, noise: float) -> float | None:
    """SQNR of two powers, in dB.

    Args:
        signal: Power of the reference, at least 0; any unit.
        noise: Power of the difference, in the same unit.

    Returns:
        The ratio; None where it is infinite in either direction or no number, which is without
        noise, without signal, or with values that are not finite.
    """
    if not (0.0 < signal < math.inf and 0.0 < noise < math.inf):
        return None
    return 10.0 * (math.log10(signal) - math.log10(noise))


# Values that are worked on at a time: what the cache of a core holds, which is several times faster
# than whole tensors.
_CHUNK = 1 << 14


class NoiseSums:
    """Running sums over a reference tensor and what stands in its place.

    Attributes:
        count: Values so far.
        signal: Sum of the squares of the reference values.
        noise: Sum of the squares of the differences.
        max_abs: Largest difference.
        low: Smallest reference value; infinite before the first, as ``high``.
        high: Largest reference value.

    Example:
        >>> sums = NoiseSums().add(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
        >>> sums.sqnr, sums.mean_abs
        (20.0, 0.25)
    """

    def __init__(self) -> None:
        self.count = 0
        self.signal = self.noise = self._absolute = self.max_abs = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, reference: NDArray[Any], actual: NDArray[Any]) -> NoiseSums:
        """Count more values.

        Args:
            reference: What should be there.
            actual: What is there, of the same shape.

        Returns:
            This object.
        """
        # einsum and not @, which starts threads for vectors of this length and waits for them.
        all_reference, all_actual = np.ravel(reference), np.ravel(actual)
        for at in range(0, all_reference.size, _CHUNK):
            signal = all_reference[at : at + _CHUNK].astype(np.float64)
            noise = all_actual[at : at + _CHUNK] - signal
            self.signal += float(np.einsum("i,i", signal, signal))
            self.noise += float(np.einsum("i,i", noise, noise))
            self.low = min(self.low, float(signal.min()))
            self.high = max(self.high, float(signal.max()))
            np.abs(noise, out=noise)
            self._absolute += float(noise.sum())
            self.max_abs = max(self.max_abs, float(noise.max()))
        self.count += all_reference.size
        return self

    @property
    def sqnr(self) -> float | None:
        """In dB; see :func:`decibels`."""
        return decibels(self.signal, self.noise)

    @property
    def mean_abs(self) -> float:
        """Mean of the absolute differences; 0 without any value."""
        return self._absolute / self.count if self.count else 0.0


@dataclass(frozen=True)
class ChannelNoise:
    """The channel of a weight tensor that quantization does most to.

    Args:
        channel: Its index.
        sqnr: In dB.
    """

    channel: int
    sqnr: float


def channel_noise(
    reference: NDArray[Any], actual: NDArray[Any], axis: int | None
) -> ChannelNoise | None:
    """The channel with the lowest SQNR.

    Args:
        reference: Float weights.
        actual: What they are after quantization.
        axis: Of the channels; None where there are none.

    Returns:
        It, or None without several channels or without noise. Channels that have next to no
        weights, an amplitude below a thousandth of the largest channel's, are passed over.
    """
    if axis is None or reference.size == 0 or reference.shape[axis] < 2:
        return None
    rows = np.moveaxis(reference.astype(np.float64), axis, 0).reshape(reference.shape[axis], -1)
    noise = np.moveaxis(actual.astype(np.float64), axis, 0).reshape(rows.shape) - rows
    powers, noises = np.square(rows).sum(axis=1), np.square(noise).sum(axis=1)
    audible = powers > _SILENT_CHANNEL**2 * powers.max()
    figures = [
        (figure, channel)
        for channel in np.flatnonzero(audible)
        if (figure := decibels(float(powers[channel]), float(noises[channel]))) is not None
    ]
    if not figures:
        return None
    lowest, channel = min(figures)
    return ChannelNoise(int(channel), lowest)
