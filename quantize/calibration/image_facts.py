"""What a calibration image is, apart from what it shows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgedf.image_header import read_header
from edgedf.imaging import RGBImage
from edgedf.jpeg_tables import quantisation_tables, tables_name
from edgedf.picture_hash import picture_hash

__all__ = ["ImageFacts", "facts_of"]


@dataclass(frozen=True)
class ImageFacts:
    """One image, as it was read.

    Args:
        path: The file.
        label: Its class; None when unknown.
        sha256: SHA-256 of the file.
        codec: ``png``, ``webp``, or ``jpeg`` with its quantisation tables, such as
            ``jpeg, IJG quality 90``.
        side: The shorter side of the picture in the file, in pixels.
        brightness: The grey level, 0 to 255, above which 1 % of the model's input is.
        spread: Standard deviation of the grey levels of the model's input.
        looks: Perceptual hash of the model's input, see :mod:`edgedf.picture_hash`.
    """

    path: Path
    label: Literal["real", "fake"] | None
    sha256: str
    codec: str
    side: int
    brightness: float
    spread: float
    looks: int


def facts_of(
    path: Path, label: Literal["real", "fake"] | None, data: bytes, pixels: RGBImage
) -> ImageFacts:
    """Facts of an image.

    Args:
        path: The file.
        label: Its class.
        data: What is in the file; an image that can be decoded.
        pixels: The model's input made of it, uint8 RGB.
    """
    header = read_header(data)
    tables = tables_name(quantisation_tables(data))
    return ImageFacts(
        path,
        label,
        hashlib.sha256(data).hexdigest(),
        f"{header.format}, {tables}" if tables else header.format,
        min(header.width, header.height),
        float(np.percentile(pixels, 99)),
        float(pixels.std()),
        picture_hash(pixels),
    )
