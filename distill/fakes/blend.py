"""Fakes made from real photographs, so that the pair differs in nothing but the manipulation.

Self-blending follows Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images" (CVPR
2022): a picture is blended with a slightly changed copy of itself inside a region, which leaves a
blending border and a mismatch of colour, sharpness and position, as a face swap does. One change
is added to theirs: the copy may be out of focus or sharpened, the mismatch that a defocus map
shows.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.optics.lens import disk_kernel
from edgedf.errors import DataError

__all__ = ["ALIGNED_FACE_CENTRE", "ALIGNED_FACE_EXTENT", "blob_mask", "self_blend"]

ALIGNED_FACE_CENTRE = (0.57, 0.5)
"""Row and column of the middle of the face in an FFHQ-aligned portrait, as shares of the sides."""

ALIGNED_FACE_EXTENT = (0.27, 0.21)
"""Half its height and half its width there, as shares of the sides: brows to chin, cheek to
cheek."""

_HARMONICS = 4


def blob_mask(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    centre: tuple[float, float] = (0.5, 0.5),
    extent: tuple[float, float] = (0.3, 0.3),
) -> NDArray[np.float32]:
    """A soft-edged region with a wavy outline.

    Args:
        height: Pixels.
        width: Pixels.
        rng: Source of randomness.
        centre: Row and column of its middle, as shares of the sides.
        extent: Half its height and half its width, as shares of the sides.

    Returns:
        float32, (height, width), in [0, 1]: 1 well inside, 0 well outside.
    """
    rows, columns = np.mgrid[0:height, 0:width]
    jitter = rng.uniform(-0.1, 0.1, 2) * extent
    y = ((rows + 0.5) / height - centre[0] - jitter[0]) / extent[0]
    x = ((columns + 0.5) / width - centre[1] - jitter[1]) / extent[1]
    angle = np.arctan2(y, x)
    outline = np.full((height, width), rng.uniform(0.8, 1.15))
    for harmonic in range(1, _HARMONICS + 1):
        phase = rng.uniform(0, 2 * np.pi)
        outline += rng.uniform(-0.15, 0.15) / harmonic * np.sin(harmonic * angle + phase)
    inside = (np.hypot(x, y) <= outline).astype(np.float32)
    softness = rng.uniform(0.004, 0.04) * min(height, width)
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), max(softness, 0.3)), np.float32)


def self_blend(
    image: NDArray[np.uint8], mask: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blend a picture with a changed copy of itself.

    Args:
        image: uint8 RGB, (height, width, 3).
        mask: float32, (height, width), in [0, 1]: where the copy shows.
        rng: Source of randomness.

    Returns:
        uint8 RGB, (height, width, 3).

    Raises:
        DataError: The mask does not fit the image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or mask.shape != image.shape[:2]:
        raise DataError(
            f"A mask of shape {mask.shape} does not fit an image of shape {image.shape}.",
            expected="(height, width) and (height, width, 3)",
            next_step="make the mask with blob_mask(*image.shape[:2], rng)",
        )
    changed = _change_colour(image.astype(np.float32), rng)
    changed = _change_sharpness(changed, rng)
    # Either the region or everything around it is the changed copy.
    source, target = (changed, image.astype(np.float32))
    if rng.random() < 0.3:
        source, target = target, source
    source = _shift(source, rng)
    opacity = rng.choice([0.5, 0.75, 1.0, 1.0, 1.0])
    weight = (mask * opacity)[:, :, np.newaxis]
    blended = source * weight + target * (1 - weight)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


def _change_colour(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    offset = rng.uniform(-14, 14, 3) if rng.random() < 0.7 else np.zeros(3)
    contrast, brightness = rng.uniform(0.88, 1.12), rng.uniform(-14, 14)
    mean = image.mean(axis=(0, 1))
    changed = (image - mean) * contrast + mean + brightness + offset
    grey = changed.mean(axis=2, keepdims=True)
    changed = grey + (changed - grey) * rng.uniform(0.8, 1.2)
    return np.clip(changed, 0, 255).astype(np.float32)


def _change_sharpness(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Out of focus (disk), sampled down and up again, or sharpened."""
    height, width = image.shape[:2]
    choice = rng.random()
    if choice < 0.45:
        kernel, _ = disk_kernel(rng.uniform(0.8, 3.0) * min(height, width) / 256)
        changed = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)
    elif choice < 0.75:
        factor = rng.uniform(0.35, 0.8)
        size = max(8, round(width * factor)), max(8, round(height * factor))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        changed = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    else:
        smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.6))
        changed = image + rng.uniform(0.4, 1.2) * (image - smooth)
    return np.clip(changed, 0, 255).astype(np.float32)


def _shift(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Move and scale a little, as an imperfect alignment does."""
    height, width = image.shape[:2]
    scale = rng.uniform(0.97, 1.03)
    dx, dy = rng.uniform(-0.015, 0.015, 2) * (width, height)
    matrix = np.array(
        [
            [scale, 0, (1 - scale) * (width - 1) / 2 + dx],
            [0, scale, (1 - scale) * (height - 1) / 2 + dy],
        ]
    )
    moved = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(moved, 0, 255).astype(np.float32)
