"""Blur at edges from the ratio of two re-blurs (Zhuo & Sim, Pattern Recognition 2011).

A step edge blurred by a Gaussian of sigma and re-blurred by s has the gradient magnitude
A / sqrt(2 pi (sigma^2 + s^2)) on the edge. With s1 < s2 the ratio of the two magnitudes is
R = sqrt((sigma^2 + s2^2) / (sigma^2 + s1^2)) > 1, so
sigma = sqrt((R^2 s1^2 - s2^2) / (1 - R^2)).
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray

__all__ = ["MAX_SIGMA", "gradient_magnitude", "luminance", "sigma_from_ratio"]

MAX_SIGMA = 5.0

# ITU-R BT.601 luma, the weights behind JPEG's Y.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """RGB → luma: float, (height, width, 3) in any range → float32, (height, width)."""
    # Not a matrix product: its rounding differs from processor to processor, and with it which of
    # two equal gradients Canny takes for the edge.
    red, green, blue = (image[..., channel] * weight for channel, weight in enumerate(_LUMA))
    return np.asarray(red + green + blue, np.float32)


def gradient_magnitude(gray: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    """Magnitude of the gradient of ``gray`` convolved with a Gaussian.

    Args:
        gray: (height, width).
        sigma: Standard deviation in pixels. Borders are mirrored.

    Returns:
        float32, (height, width).
    """
    down = ndi.gaussian_filter(gray, sigma, order=(1, 0), mode="reflect", output=np.float32)
    across = ndi.gaussian_filter(gray, sigma, order=(0, 1), mode="reflect", output=np.float32)
    return np.asarray(np.hypot(down, across), np.float32)


def sigma_from_ratio(
    ratio: NDArray[np.floating], s1: float, s2: float, limit: float = MAX_SIGMA
) -> NDArray[np.float32]:
    """Blur from the re-blur ratio.

    Args:
        ratio: R, any shape.
        s1: Standard deviation of the first re-blur, in pixels.
        s2: That of the second, larger than s1.
        limit: Upper clip, in pixels.

    Returns:
        float32 sigma in [0, limit]. A ratio above s2 / s1 (sharper than a step: texture, ringing,
        noise) gives 0; a ratio at or below 1 (no blur explains it) gives ``limit``.
    """
    squared = np.asarray(ratio, np.float64) ** 2
    excess = np.maximum(squared - 1.0, 1e-9)
    variance = np.clip((s2 * s2 - squared * s1 * s1) / excess, 0.0, limit * limit)
    return np.asarray(np.sqrt(variance), np.float32)
