"""What pictures go through on their way to a detector: ten exactly defined changes.

They are applied to the decoded, upright picture at its full size, before the model's input is
prepared from it, as messengers, web sites and cameras change files and not model inputs. No change
is random: noise is seeded by the pixels, so a picture always gets the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from edgedf.errors import ImageTooLarge
from edgedf.imaging import MAX_PIXELS, RGBImage

__all__ = ["Perturbation", "perturbations"]


@dataclass(frozen=True)
class Perturbation:
    """One change.

    Args:
        name: Short name.
        definition: What it does, exactly.
        change: uint8 RGB (height, width, 3) → uint8 RGB of the same or another size; raises
            :class:`~edgedf.errors.ImageTooLarge` for a picture it cannot take.
    """

    name: str
    definition: str
    change: Callable[[RGBImage], RGBImage]


def perturbations() -> tuple[Perturbation, ...]:
    """All changes, in the order of tables.

    Example:
        >>> [entry.name for entry in perturbations()][:3]
        ['JPEG 90', 'JPEG 70', 'JPEG 50']
    """
    return (
        *(
            Perturbation(
                f"JPEG {quality}",
                f"JPEG of quality {quality} (libjpeg's scale, chroma 4:2:0) and back",
                _recompressed(".jpg", cv2.IMWRITE_JPEG_QUALITY, quality),
            )
            for quality in (90, 70, 50)
        ),
        Perturbation(
            "WebP 75",
            "lossy WebP of quality 75 and back",
            _recompressed(".webp", cv2.IMWRITE_WEBP_QUALITY, 75),
        ),
        Perturbation("half size", "both sides times 0.5, rounded; area average", _resized(0.5)),
        Perturbation("double size", "both sides times 2; bicubic", _resized(2.0)),
        Perturbation("blur", "Gaussian blur, sigma 1 px", _blurred),
        Perturbation("noise", "Gaussian noise, sigma 5 grey levels, each channel anew", _noisy),
        Perturbation("darker", "times 0.8", _brightened(0.8)),
        Perturbation("brighter", "times 1.2, cut off at 255", _brightened(1.2)),
    )


def _recompressed(kind: str, option: int, quality: int) -> Callable[[RGBImage], RGBImage]:
    def change(image: RGBImage) -> RGBImage:
        options = [option, quality]
        if kind == ".jpg":  # OpenCV's default today; said so that it stays
            options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
        try:
            done, data = cv2.imencode(kind, np.ascontiguousarray(image[:, :, ::-1]), options)
        except cv2.error:
            done = False
        if not done:
            raise ImageTooLarge(
                f"A picture of {image.shape[1]} x {image.shape[0]} pixels cannot be written as "
                f"{kind[1:].upper()}.",
                expected="sides of at most 16383 pixels for WebP, 65535 for JPEG",
                next_step="scale it down first",
            )
        back = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return np.ascontiguousarray(back[:, :, ::-1])

    return change


def _resized(factor: float) -> Callable[[RGBImage], RGBImage]:
    def change(image: RGBImage) -> RGBImage:
        height, width = (max(1, round(factor * side)) for side in image.shape[:2])
        if height * width > MAX_PIXELS:
            raise ImageTooLarge(
                f"A picture of {image.shape[1]} x {image.shape[0]} pixels is too large to be "
                f"scaled by {factor:g}.",
                expected=f"at most {MAX_PIXELS / 1e6:.0f} million pixels afterwards",
                next_step="scale it down first",
            )
        kernel = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(image, (width, height), interpolation=kernel), np.uint8)

    return change


def _blurred(image: RGBImage) -> RGBImage:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def _noisy(image: RGBImage) -> RGBImage:
    # Adler-32 of the pixels and not a counter: what a picture gets depends on nothing else.
    rng = np.random.default_rng(zlib.adler32(image.tobytes()))
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(5)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _brightened(factor: float) -> Callable[[RGBImage], RGBImage]:
    table = np.clip(np.rint(np.arange(256) * factor), 0, 255).astype(np.uint8)

    def change(image: RGBImage) -> RGBImage:
        return np.asarray(table[image])

    return change
