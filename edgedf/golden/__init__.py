"""Golden vectors of the resize: small arrays with the exact bytes expected.

``resize_exact.json`` beside this file is for implementations in other languages: a list of
objects with ``name``, ``side``, ``size``, ``image`` and ``expected``, the last two flat lists of
bytes in row-major height, width, RGB order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedf.imaging import RGBImage

__all__ = ["ResizeVector", "resize_vectors"]


@dataclass(frozen=True, eq=False)
class ResizeVector:
    """One case.

    Args:
        name: Such as ``7 to 4``.
        image: uint8, (side, side, 3).
        size: Target size.
        expected: uint8, (size, size, 3).
    """

    name: str
    image: RGBImage
    size: int
    expected: RGBImage


def resize_vectors() -> list[ResizeVector]:
    """All shipped cases."""
    import numpy as np

    cases = json.loads((files(__name__) / "resize_exact.json").read_text("utf-8"))
    return [
        ResizeVector(
            case["name"],
            np.array(case["image"], np.uint8).reshape(case["side"], case["side"], 3),
            case["size"],
            np.array(case["expected"], np.uint8).reshape(case["size"], case["size"], 3),
        )
        for case in cases
    ]
