"""Aligned pairs: a real square and its fake, alike in everything but what made the fake.

What a detector could learn instead of the manipulation (subject, framing, scaling, compression, the
site that a picture came from) is the same in both (Rajan et al., "Aligned Datasets Improve
Detection of Latent Diffusion-Generated Images", ICLR 2025).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError, DataError
from edgedf.imaging import RGBImage, resize_exact

__all__ = ["MakeFake", "aligned_pair"]

MakeFake = Callable[[RGBImage, np.random.Generator], NDArray[np.uint8]]
"""A picture and a source of randomness in, the fake of the same shape out."""


def aligned_pair(
    photograph: RGBImage,
    rng: np.random.Generator,
    make_fake: MakeFake,
    *,
    size: int = 256,
    smallest: float = 0.7,
    largest_scale: float = 1.5,
) -> tuple[RGBImage, RGBImage]:
    """Crop, make the fake of the crop, then scale and recompress both alike.

    Args:
        photograph: uint8 RGB, (height, width, 3).
        rng: Source of randomness. The real square does not depend on what ``make_fake`` draws.
        make_fake: Such as ``lambda image, rng: autoencoder.reconstruct(image[np.newaxis])[0]`` or
            :func:`~experiments.fakes.upsampling.resample_as_generator`. It gets a copy of the
            crop, between its native size and ``largest_scale`` times ``size``.
        size: Side of the results in pixels.
        smallest: Smallest side of the crop as a share of the photograph's short side, in (0, 1].
        largest_scale: Larger crops are scaled down to a random side between ``size`` and this
            multiple of it before the fake is made, so that the last scaling leaves the traces.

    Returns:
        The real square and the fake one, both uint8 RGB, (size, size, 3).

    Raises:
        ConfigError: A share or a scale out of range.
        DataError: ``make_fake`` returned something of another shape or type.
    """
    if not 0 < smallest <= 1 or largest_scale < 1 or size < 1:
        raise ConfigError(
            f"Cannot make pairs with size={size}, smallest={smallest}, "
            f"largest_scale={largest_scale}.",
            expected="a size of at least 1, a share in (0, 1], a scale of at least 1",
            next_step="size=256, smallest=0.7 and largest_scale=1.5 are the defaults",
        )
    height, width = photograph.shape[:2]
    short = min(height, width)
    side = int(rng.integers(max(1, round(smallest * short)), short + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in (height, width))
    limit = int(rng.integers(size, int(largest_scale * size) + 1))
    recompress = _recompression(rng)
    # A generator of its own, so that what the fake needs moves nothing else.
    own = np.random.default_rng(int(rng.integers(2**63)))

    crop = resize_exact(photograph[top : top + side, left : left + side], min(side, limit))
    fake = make_fake(crop.copy(), own)
    if fake.shape != crop.shape or fake.dtype != np.uint8:
        raise DataError(
            f"The fake is {fake.dtype} {fake.shape}.",
            expected=f"uint8 {crop.shape}, as the picture that it was made from",
            next_step="correct make_fake",
        )
    real, fake = (recompress(resize_exact(picture, size)) for picture in (crop, fake))
    return real, fake


def _recompression(rng: np.random.Generator) -> Callable[[RGBImage], RGBImage]:
    """One codec at one quality."""
    suffix, flag = ".jpg", cv2.IMWRITE_JPEG_QUALITY
    if rng.random() < 0.2:
        suffix, flag = ".webp", cv2.IMWRITE_WEBP_QUALITY
    quality = int(rng.integers(60, 97))

    def recompress(image: RGBImage) -> RGBImage:
        _, data = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]), [flag, quality])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return np.ascontiguousarray(decoded[:, :, ::-1])

    return recompress
