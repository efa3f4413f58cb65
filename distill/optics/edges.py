"""Where blur can be measured: luminance and its edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.feature import canny

__all__ = ["canny_edges", "luminance"]

# ITU-R BT.601 luma, the weights behind JPEG's Y.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """RGB → luma: float, (height, width, 3) in any range → float32, (height, width)."""
    # Not a matrix product: its rounding differs from processor to processor, and with it which of
    # two equal gradients Canny takes for the edge.
    red, green, blue = (image[..., channel] * weight for channel, weight in enumerate(_LUMA))
    return np.asarray(red + green + blue, np.float32)


def canny_edges(
    gray: NDArray[np.floating], sigma: float, low: float = 0.1, high: float = 0.2
) -> NDArray[np.bool_]:
    """Canny edges (Canny, PAMI 1986).

    Args:
        gray: (height, width), in [0, 1].
        sigma: Standard deviation of the Gaussian before differentiation, in pixels.
        low: Lower hysteresis threshold on the Sobel magnitude.
        high: Upper one.

    Returns:
        True at edge pixels, (height, width).
    """
    return np.asarray(canny(gray, sigma=sigma, low_threshold=low, high_threshold=high))
