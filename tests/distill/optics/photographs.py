"""Real photographs that scikit-image ships."""

from __future__ import annotations

import functools

import numpy as np
from skimage import data

from edgedf.imaging import RGBImage, prepare

SHARP = ("motorcycle", "rocket", "brick", "gravel")


@functools.cache
def photograph(name: str, size: int | None = None) -> RGBImage:
    """uint8 RGB; the centre square at ``size`` x ``size`` unless that is None."""
    picture = data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(data, name)()
    if picture.ndim == 2:
        picture = np.dstack([picture] * 3)
    image = np.ascontiguousarray(picture, np.uint8)
    image = image if size is None else prepare(image, size)
    image.setflags(write=False)
    return image
