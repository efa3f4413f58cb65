"""The resize of the preprocessing, defined to the last bit for every language and processor."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError

__all__ = ["resize_exact"]

_SUMS_AT_ONCE = 1 << 15


def resize_exact(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a square to ``size`` x ``size``, defined to the last bit.

    Both kernels are separable with integer weights, so the sum below is an integer whatever the
    order of additions, and every language and processor gets the same bytes. With side S and
    size N, and per axis for output index i:

    * S >= N (area average): source pixel s has weight
      ``max(0, min((i + 1) * S, (s + 1) * N) - max(i * S, s * N))``; the weights sum to D = S.
    * S < N (bilinear, half-pixel centres): with ``t = (2 * i + 1) * S - N``, ``a = floor(t / 2N)``
      and ``f = t - 2N * a``, source pixel a has weight 2N - f and pixel a + 1 weight f, both
      indices clamped to [0, S - 1]; D = 2N.

    The output is ``floor((2 * sum + D * D) / (2 * D * D))``: round half up.

    Args:
        image: uint8, (S, S, channels), at most four channels.
        size: N, at least 1.

    Returns:
        uint8, (N, N, channels).

    Raises:
        ConfigError: The image is not square, has more channels, or ``size`` is below 1.
    """
    if image.ndim != 3 or image.shape[0] != image.shape[1] or image.shape[2] not in range(1, 5):
        raise ConfigError(
            f"resize_exact got shape {image.shape}.",
            expected="a square image of one to four channels",
            next_step="crop it first (center_square_crop)",
        )
    if size < 1:
        raise ConfigError(
            f"Cannot resize to {size}.",
            expected="a size of at least 1",
            next_step="pass the side of the model's input",
        )
    side, channels = image.shape[0], image.shape[2]
    if side == size:
        return np.ascontiguousarray(image)
    sources, weights = _axis_weights(side, size)
    # Divided by what they have in common they give the same output from smaller sums: those of
    # the usual ratios, such as 384 to 256, then fit 16 bits.
    weights //= np.gcd.reduce(weights, axis=None)
    denominator = int(weights[0].sum())
    area = denominator * denominator
    # Sums are integers that the type holds exactly, so their order does not matter. A quotient
    # below 256 is rounded in float32 as well, but not up to a whole number: both ends of this
    # bound say that at least one float lies between.
    dtype: type[np.generic] = np.float64
    if 511 * area < 1 << 16:
        dtype = np.uint16
    elif 512 * area <= 1 << 24:
        dtype = np.float32
    rows_dtype = np.float32 if dtype is np.float64 and 255 * denominator < 1 << 24 else dtype
    flat = np.ascontiguousarray(image).reshape(side, side * channels)
    rows = _weighted(flat, sources, weights, rows_dtype).reshape(size, side, channels)
    columns = cv2.transpose(rows).reshape(side, size * channels)
    sums = _weighted(columns, sources, weights, dtype)
    sums *= dtype(2)
    sums += dtype(area)
    divide = np.floor_divide if dtype is np.uint16 else np.divide  # the cast below rounds down
    divide(sums, dtype(2 * area), out=sums)
    square = sums.astype(np.uint8).reshape(size, size, channels)
    return np.asarray(cv2.transpose(square).reshape(size, size, channels), np.uint8)


def _axis_weights(side: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per output index of one axis: source indices and their integer weights, (size, taps) each."""
    out = np.arange(size, dtype=np.int64)[:, np.newaxis]
    if side >= size:
        first, last = out * side // size, ((out + 1) * side - 1) // size
        source = first + np.arange((last - first).max() + 1)
        overlap = np.minimum((out + 1) * side, (source + 1) * size) - np.maximum(
            out * side, source * size
        )
        # Most have fewer taps than the longest: weight 0, of any pixel.
        return np.minimum(source, side - 1), np.maximum(overlap, 0)
    first, fraction = np.divmod((2 * out + 1) * side - size, 2 * size)
    # Beyond the border the outermost pixel is repeated: both weights fall on it.
    source = np.clip(first + np.arange(2), 0, side - 1)
    return source, np.concatenate([2 * size - fraction, fraction], axis=1)


def _weighted(
    lines: NDArray[np.generic],
    sources: NDArray[np.int64],
    weights: NDArray[np.int64],
    dtype: type[np.generic],
) -> NDArray[Any]:
    """Sums of weighted lines: (S, M) → (N, M), by weights of shape (N, taps)."""
    count, width = len(sources), lines.shape[1]
    weights, sums = weights.astype(dtype), np.empty((count, width), dtype)
    # A few at a time stay in the cache, and need little memory.
    step = max(1, _SUMS_AT_ONCE // width)
    for at in (slice(top, top + step) for top in range(0, count, step)):
        part = sums[at]
        np.multiply(lines[sources[at, 0]], weights[at, :1], out=part, dtype=dtype)
        for tap in range(1, sources.shape[1]):
            part += np.multiply(lines[sources[at, tap]], weights[at, tap : tap + 1], dtype=dtype)
    return sums
