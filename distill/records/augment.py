"""Changes that a picture may undergo without changing what it is.

Geometry (:func:`random_square`) happens once, before the defocus map is computed, as scaling
changes blur. Everything in :func:`change` happens anew at every step of training; what it does to
the blur is known exactly, so the map follows along.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.imaging import RGBImage, resize_exact

__all__ = ["change", "random_square"]


def random_square(
    image: RGBImage, size: int, rng: np.random.Generator, *, smallest: float = 0.7
) -> RGBImage:
    """A random square of a photograph, scaled like the model's input.

    Args:
        image: uint8 RGB, (height, width, 3).
        size: Side of the result in pixels.
        rng: Source of randomness.
        smallest: Smallest side as a share of the short side, in (0, 1].

    Returns:
        uint8 RGB, (size, size, 3).
    """
    height, width = image.shape[:2]
    short = min(height, width)
    side = int(rng.integers(max(1, round(smallest * short)), short + 1))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    return resize_exact(image[top : top + side, left : left + side], size)


def change(
    image: RGBImage, defocus: NDArray[np.float32], rng: np.random.Generator
) -> tuple[RGBImage, NDArray[np.float32]]:
    """Flip, recolour, blur, add noise and recompress, each with some probability.

    What a phone, a messenger or a web site may do to any picture, real or fake alike.

    Args:
        image: uint8 RGB, (N, N, 3).
        defocus: float32, (M, M) or several, (M, M, K): sigma in pixels of the image.
        rng: Source of randomness.

    Returns:
        The picture and its map, or maps. Gaussian blur adds in variance:
        sigma' = sqrt(sigma^2 + added^2).
    """
    if rng.random() < 0.5:
        image, defocus = image[:, ::-1], defocus[:, ::-1]
    if rng.random() < 0.5:
        image = _recolour(image, rng)
    if rng.random() < 0.2:
        added = rng.uniform(0.3, 1.3)
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), added), np.uint8)
        defocus = np.sqrt(defocus**2 + np.float32(added**2))
    if rng.random() < 0.2:
        noisy = image + rng.normal(0, rng.uniform(1, 6), image.shape)
        image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        image = _recompress(image, rng)
    return np.ascontiguousarray(image), np.ascontiguousarray(defocus, np.float32)


def _recolour(image: RGBImage, rng: np.random.Generator) -> RGBImage:
    levels = np.arange(256) / 255
    curve = levels ** rng.uniform(0.75, 1.3)
    curve = (curve - 0.5) * rng.uniform(0.8, 1.2) + 0.5 + rng.uniform(-0.08, 0.08)
    tinted = curve[:, np.newaxis] * rng.uniform(0.94, 1.06, 3)
    table = np.clip(np.rint(255 * tinted), 0, 255).astype(np.uint8)
    changed = np.stack([table[image[:, :, c], c] for c in range(3)], axis=2).astype(np.float32)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.3)
    grey = changed.mean(axis=2, keepdims=True)
    return np.clip(np.rint(grey + (changed - grey) * saturation), 0, 255).astype(np.uint8)


def _recompress(image: RGBImage, rng: np.random.Generator) -> RGBImage:
    kind, flag = (".jpg", cv2.IMWRITE_JPEG_QUALITY)
    if rng.random() < 0.2:
        kind, flag = (".webp", cv2.IMWRITE_WEBP_QUALITY)
    quality = int(rng.integers(55, 97))
    done, data = cv2.imencode(kind, np.ascontiguousarray(image[:, :, ::-1]), [flag, quality])
    if not done:
        return image
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
