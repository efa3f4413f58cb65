"""A perceptual hash: what a picture shows, in 64 bits.

It is the DCT hash of Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*
(2010): luminance, 32 x 32, discrete cosine transform, the 8 x 8 coefficients after the first row
and column, one bit each for above the median.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgedf.imaging import RGBImage

__all__ = ["NEAR", "distance", "picture_hash"]

NEAR = 4
"""Most bits in which near-duplicates differ."""

_SIDE = 32
_KEPT = 8


def picture_hash(image: RGBImage) -> int:
    """64-bit perceptual hash of a picture.

    Args:
        image: uint8 RGB, (height, width, 3).

    Returns:
        The hash, 0 to 2^64 - 1. A picture of one colour has 0.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[1 : 1 + _KEPT, 1 : 1 + _KEPT].ravel()
    # Rounding errors of a flat picture are no structure.
    low[np.abs(low) < 1e-3] = 0
    return int(np.packbits(low > np.median(low)).view(">u8")[0])


def distance(first: int, second: int) -> int:
    """Number of bits, 0 to 64, in which two hashes differ."""
    return (first ^ second).bit_count()
