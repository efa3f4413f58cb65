"""Splices: a region of another photograph, in another focus than what surrounds it.

The pasted region gets the surroundings' colours (mean and spread of each channel, Reinhard et al.,
"Color Transfer between Images", 2001) and a soft border, as anyone would do who wants it to pass.
What is left is the defocus: the region is blurred or sharpened, whichever takes it farther from
the picture that it is pasted into.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.fakes.blend import blob_mask
from edgedf.distill.optics.lens import disk_kernel
from edgedf.errors import DataError

__all__ = ["MIN_SIDE", "splice"]

MIN_SIDE = 16

_Plane = NDArray[np.float32]


def splice(
    image: NDArray[np.uint8],
    donor: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    mask: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Paste a region of ``donor``, with another blur, into ``image``.

    Args:
        image: uint8 RGB, (height, width, 3), sides of at least :data:`MIN_SIDE`.
        donor: uint8 RGB of any size from there on; enlarged where it does not cover the image, then
            cropped at random. ``image`` itself changes the focus alone.
        rng: Source of randomness.
        mask: Where the donor shows, float32, (height, width), in [0, 1]; None draws a region with a
            wavy outline that leaves most of the picture alone.

    Returns:
        The spliced picture, uint8 RGB of the image's shape, and the mask. Where the mask is zero,
        the picture is the image.

    Raises:
        DataError: An image that is none or too small, or a mask that does not fit or is empty.
    """
    for given in (image, donor):
        if given.ndim != 3 or given.shape[2] != 3 or min(given.shape[:2]) < MIN_SIDE:
            raise DataError(
                f"Cannot splice an image of shape {given.shape}.",
                expected=f"(height, width, 3), sides of at least {MIN_SIDE}",
                next_step="pass RGB photographs",
            )
    if mask is None:
        mask = _random_region(image.shape[0], image.shape[1], rng)
    if mask.shape != image.shape[:2] or not 0 <= mask.min() <= mask.max() <= 1 or not mask.any():
        raise DataError(
            f"A mask of shape {mask.shape} does not fit an image of shape {image.shape}.",
            expected="(height, width), from 0 to 1 and not zero everywhere",
            next_step="leave the mask out, or make one with blob_mask(*image.shape[:2], rng)",
        )
    target = image.astype(np.float32)
    source = _cover(donor, image.shape[0], image.shape[1], rng).astype(np.float32)
    source = _harmonise(source, target, mask)
    source = _refocus(source, target, mask, rng)
    weight = mask[:, :, np.newaxis]
    spliced = np.clip(np.rint(source * weight + target * (1 - weight)), 0, 255)
    return spliced.astype(np.uint8), mask


def _random_region(height: int, width: int, rng: np.random.Generator) -> _Plane:
    extent = rng.uniform(0.15, 0.28), rng.uniform(0.15, 0.28)
    centre = rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65)
    mask = blob_mask(height, width, rng, centre=centre, extent=extent)
    return np.clip(mask, 0, 1)


def _cover(
    donor: NDArray[np.uint8], height: int, width: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A crop of that size; half of all donors are mirrored."""
    scale = max(height / donor.shape[0], width / donor.shape[1])
    if scale > 1:
        size = max(width, round(donor.shape[1] * scale)), max(height, round(donor.shape[0] * scale))
        donor = np.asarray(cv2.resize(donor, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    top = int(rng.integers(donor.shape[0] - height + 1))
    left = int(rng.integers(donor.shape[1] - width + 1))
    crop = donor[top : top + height, left : left + width]
    return crop[:, ::-1] if rng.random() < 0.5 else crop


def _harmonise(source: _Plane, target: _Plane, mask: _Plane) -> _Plane:
    """Each channel of what is pasted gets the mean and the spread of what it covers."""
    of_source, of_target = _statistics(source, mask), _statistics(target, mask)
    # A flat region would turn grain into structure, or structure into a flat patch.
    spread = np.clip(of_target[1] / np.maximum(of_source[1], 1e-3), 0.6, 1.6)
    moved = (source - of_source[0]) * spread + of_target[0]
    return np.clip(moved, 0, 255).astype(np.float32)


def _statistics(image: _Plane, mask: _Plane) -> tuple[_Plane, _Plane]:
    """Mean and standard deviation of each channel under a mask."""
    weight = (mask / mask.sum(dtype=np.float64))[:, :, np.newaxis]
    mean = (image * weight).sum(axis=(0, 1))
    variance = (np.square(image - mean) * weight).sum(axis=(0, 1))
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _refocus(source: _Plane, target: _Plane, mask: _Plane, rng: np.random.Generator) -> _Plane:
    """Blur what is softer than its surroundings, sharpen what is sharper; alike: either."""
    scale = min(source.shape[:2]) / 256
    found = _sharpness(source, mask)
    ratio = found / max(_sharpness(target, 1 - mask if mask.min() < 1 else mask), 1e-6)
    softer = rng.random() < 0.5 if abs(ratio - 1) < 0.1 else ratio < 1
    if softer:
        # A disk on code values: what a photo editor's lens blur does.
        kernel, _ = disk_kernel(max(1.0, rng.uniform(1.2, 3.5) * scale))
        return np.asarray(
            cv2.filter2D(source, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT), np.float32
        )
    smooth = cv2.GaussianBlur(source, (0, 0), max(0.7, rng.uniform(0.8, 1.6) * scale))
    sharpened = source + rng.uniform(0.5, 1.5) * (source - smooth)
    return np.clip(sharpened, 0, 255).astype(np.float32)


def _sharpness(image: _Plane, weight: _Plane) -> float:
    """Gradient against that of the re-blurred picture: higher is sharper, 1 has no detail at all.

    The ratio of Zhuo & Sim (Pattern Recognition 2011), of a whole region instead of an edge.
    """
    grey = image.mean(axis=2)
    blurred = cv2.GaussianBlur(grey, (0, 0), 1.5)
    return _gradient(grey, weight) / max(_gradient(blurred, weight), 1e-6)


def _gradient(plane: _Plane, weight: _Plane) -> float:
    across, down = (cv2.Sobel(plane, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    return float((np.hypot(across, down) * weight).sum())
