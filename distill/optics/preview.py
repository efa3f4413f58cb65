"""A picture of a defocus map: the photograph, the map in colours, and the scale in pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.optics.reblur import MAX_SIGMA
from edgedf.errors import OutputError

__all__ = ["draw_preview"]

_HEIGHT = 320
_GAP = 12
_BAR = 16
_LABELS = 52


def draw_preview(image: NDArray[np.uint8], defocus: NDArray[np.float32]) -> bytes:
    """Photograph and map side by side, at one height.

    Args:
        image: uint8 RGB, (height, width, 3), what was measured.
        defocus: float32 sigma in pixels, of any shape; stretched over the image. Colours go from 0
            to 5 px whatever the map holds, so that previews can be compared.

    Returns:
        A JPEG file, 320 pixels high.

    Raises:
        OutputError: OpenCV cannot encode it.
    """
    width = max(16, round(_HEIGHT * image.shape[1] / image.shape[0]))
    kernel = cv2.INTER_AREA if image.shape[0] > _HEIGHT else cv2.INTER_LINEAR
    photograph = cv2.resize(image[:, :, ::-1], (width, _HEIGHT), interpolation=kernel)
    levels = np.clip(defocus / MAX_SIGMA, 0, 1).astype(np.float32) * 255
    smooth = cv2.resize(levels, (width, _HEIGHT), interpolation=cv2.INTER_LINEAR)
    gap = np.full((_HEIGHT, _GAP, 3), 255, np.uint8)
    picture = np.hstack([photograph, gap, _colored(smooth), gap, _scale()])
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise OutputError("OpenCV cannot write JPEG.", next_step="edgedf doctor")
    return bytes(data)


def _colored(levels: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.applyColorMap(np.rint(levels).astype(np.uint8), cv2.COLORMAP_VIRIDIS), np.uint8
    )


def _scale() -> NDArray[np.uint8]:
    canvas = np.full((_HEIGHT, _BAR + _LABELS, 3), 255, np.uint8)
    canvas[:, :_BAR] = _colored(np.linspace(255, 0, _HEIGHT)[:, np.newaxis])
    for sigma in range(int(MAX_SIGMA) + 1):
        y = round((_HEIGHT - 1) * (1 - sigma / MAX_SIGMA))
        text = f"{sigma} px" if sigma == int(MAX_SIGMA) else str(sigma)
        at = (_BAR + 6, min(max(y + 5, 12), _HEIGHT - 2))
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (41, 37, 33), 1, cv2.LINE_AA)
    return canvas
