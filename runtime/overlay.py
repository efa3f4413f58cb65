"""A picture of a result: photograph, defocus map with its scale in pixels, verdict."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.errors import OutputError
from edgedf.imaging import RGBImage, center_square_crop
from edgedf.result import Detection

__all__ = ["SCALE_MAXIMUM", "color_map", "encode_jpeg", "fit_square", "render"]

SCALE_MAXIMUM = 3.0
"""Blur at the upper end of the color scale, in pixels: the same for all pictures, so that colors
can be compared between them. Stronger blur, which is rare, looks like this."""

_PANEL = 512
_MARGIN = 24
_CAPTION = 34
_BAR = 20
_BAR_LABELS = 64
_VERDICT = 116
_SMALL = 13  # height of capitals, as all text sizes here
_WIDTH = _MARGIN + _PANEL + _MARGIN + _PANEL + 14 + _BAR + _BAR_LABELS
_HEIGHT = _MARGIN + _CAPTION + _PANEL + _VERDICT + _MARGIN

_WHITE, _INK, _GREY = (255, 255, 255), (33, 37, 41), (108, 117, 125)
# Strong for the verdict, pale for the zones of the score axis; told apart by text as well.
_COLORS = {"real": (25, 115, 70), "fake": (190, 38, 38), "unsure": (168, 108, 0)}
_PALE = {"real": (206, 232, 217), "fake": (246, 211, 211), "unsure": (250, 232, 196)}

_Color = tuple[int, int, int]


def render(image: RGBImage, detection: Detection, *, maximum: float = SCALE_MAXIMUM) -> RGBImage:
    """Draw photograph, defocus map and verdict side by side.

    Args:
        image: The upright photograph, uint8 RGB, (height, width, 3), as
            :func:`edgedf.imaging.load_image` gives it; its centre square, which is what the model
            saw, is shown.
        detection: What the detector said about it.
        maximum: Blur at the upper end of the color scale, in pixels of the model's input.

    Returns:
        uint8 RGB, 710 x 1170 pixels.

    Example:
        >>> import edgedf, edgedf.sample
        >>> from edgedf.runtime.models import default_model
        >>> path = edgedf.sample.images()[0]
        >>> detection = edgedf.Detector(default_model()).detect(path)
        >>> render(edgedf.load_image(path), detection).shape
        (710, 1170, 3)
    """
    canvas = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    top, left, right = _MARGIN + _CAPTION, _MARGIN, _MARGIN + _PANEL + _MARGIN
    side = slice(top, top + _PANEL)
    canvas[side, left : left + _PANEL] = fit_square(center_square_crop(image))
    canvas[side, right : right + _PANEL] = color_map(detection.defocus_map, maximum)
    _write(canvas, "photograph (centre square)", (left, top - 12), _SMALL)
    _write(canvas, "defocus: blur sigma in px of the model's input", (right, top - 12), _SMALL)
    _draw_scale(canvas, right + _PANEL + 14, top, maximum)
    _draw_verdict(canvas, top + _PANEL, detection)
    return canvas


def fit_square(square: RGBImage, side: int = _PANEL) -> RGBImage:
    """A square picture in another size, to look at (a model's input is resized otherwise).

    Args:
        square: uint8 RGB, (S, S, 3).
        side: Pixels wanted on each side.

    Returns:
        uint8 RGB, (side, side, 3).
    """
    kernel = cv2.INTER_AREA if square.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(square, (side, side), interpolation=kernel), np.uint8)


def color_map(
    defocus_map: NDArray[np.float32], maximum: float = SCALE_MAXIMUM, side: int = _PANEL
) -> RGBImage:
    """A defocus map in colors, from dark blue for sharp to yellow for ``maximum``.

    Args:
        defocus_map: (height, width), blur in pixels of the model's input.
        maximum: Blur at the upper end of the color scale; more looks like this.
        side: Pixels wanted on each side.

    Returns:
        uint8 RGB, (side, side, 3).
    """
    levels = np.clip(defocus_map / maximum, 0.0, 1.0) * 255.0
    smooth = cv2.resize(levels, (side, side), interpolation=cv2.INTER_LINEAR)
    return _viridis(np.rint(smooth).astype(np.uint8))


def encode_jpeg(picture: RGBImage) -> bytes:
    """The picture as a JPEG file.

    Args:
        picture: uint8 RGB, (height, width, 3).

    Raises:
        OutputError: OpenCV cannot encode it.
    """
    done, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise OutputError("OpenCV cannot write JPEG.", next_step="edgedf doctor")
    return data.tobytes()


def _viridis(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), np.uint8)[:, :, ::-1]


def _draw_scale(canvas: RGBImage, left: int, top: int, maximum: float) -> None:
    levels = np.linspace(255, 0, _PANEL).round().astype(np.uint8)
    canvas[top : top + _PANEL, left : left + _BAR] = _viridis(levels[:, np.newaxis])
    steps = 6
    for step in range(steps + 1):
        y = top + round((_PANEL - 1) * (1 - step / steps))
        cv2.line(canvas, (left + _BAR, y), (left + _BAR + 5, y), _INK, 1)
        label = f"{maximum * step / steps:.3g}" + (" px" if step == steps else "")
        _write(
            canvas, label, (left + _BAR + 10, min(max(y + 6, top + _SMALL), top + _PANEL)), _SMALL
        )


def _draw_verdict(canvas: RGBImage, top: int, detection: Detection) -> None:
    color = _COLORS[detection.label]
    box = (_MARGIN, top + 22), (_MARGIN + 190, top + _VERDICT)
    cv2.rectangle(canvas, *box, color, cv2.FILLED)
    word, height = detection.label.upper(), 26
    width = _width(word, height, bold=True)
    middle = (box[0][0] + box[1][0] - width) // 2, (box[0][1] + box[1][1] + height) // 2
    _write(canvas, word, middle, height, _WHITE, bold=True)

    left, right = box[1][0] + 32, _MARGIN + _PANEL + _MARGIN + _PANEL
    _write(canvas, f"score {detection.score:.3f}", (left, top + 37), 15, color, bold=True)
    blur = f"mean blur {detection.defocus_map.mean():.2f} px"
    limits = detection.threshold
    zones = f"real up to {limits.real_at:.3g}, fake from {limits.fake_at:.3g}"
    # The fonts of OpenCV 4 have ASCII alone.
    model = detection.model.encode("ascii", "replace").decode()
    model = _shortened(model, right - left - _width(zones, _SMALL) - _MARGIN)
    for text, row in ((blur, 37), (model, 106)):
        _write(canvas, text, (right - _width(text, _SMALL), top + row), _SMALL, _GREY)
    _write(canvas, zones, (left, top + 106), _SMALL, _GREY)
    _draw_axis(canvas, left, right, top + 58, detection)


def _draw_axis(canvas: RGBImage, left: int, right: int, top: int, detection: Detection) -> None:
    """The score from 0 to 1 with the zones that the thresholds cut it into."""
    low, high = detection.threshold.real_at, detection.threshold.fake_at

    def x_of(score: float) -> int:
        return left + round((right - left) * score)

    bottom = top + 18
    for label, start, end in (("real", 0.0, low), ("unsure", low, high), ("fake", high, 1.0)):
        cv2.rectangle(canvas, (x_of(start), top), (x_of(end), bottom), _PALE[label], cv2.FILLED)
    cv2.rectangle(canvas, (left, top), (right, bottom), _GREY, 1)
    for x in (x_of(low), x_of(high)):
        cv2.line(canvas, (x, top), (x, bottom), _GREY, 1)
    at = x_of(detection.score)
    color = _COLORS[detection.label]
    cv2.rectangle(canvas, (at - 3, top - 5), (at + 3, bottom + 5), color, cv2.FILLED)


def _shortened(text: str, width: int) -> str:
    """The text, or as much of its end as fits: a model's precision and format stand there."""
    if _width(text, _SMALL) <= width:
        return text
    kept = text[-200:]
    while kept and _width(f"...{kept}", _SMALL) > width:
        kept = kept[1:]
    return f"...{kept}"


def _width(text: str, height: int, *, bold: bool = False) -> int:
    return int(cv2.getTextSize(text, *_font(height, bold))[0][0])


def _write(
    canvas: RGBImage,
    text: str,
    at: tuple[int, int],
    height: int,
    color: _Color = _INK,
    *,
    bold: bool = False,
) -> None:
    """Write text with its lower left corner at ``at``; capitals are ``height`` pixels tall."""
    face, scale, thickness = _font(height, bold)
    cv2.putText(canvas, text, at, face, scale, color, thickness, cv2.LINE_AA)


def _font(height: int, bold: bool) -> tuple[int, float, int]:
    """Face, scale and thickness for capitals of that height."""
    face = cv2.FONT_HERSHEY_DUPLEX if bold else cv2.FONT_HERSHEY_SIMPLEX
    return face, height / _capital_height(face), 2 if bold else 1


@functools.cache
def _capital_height(face: int) -> int:
    """Pixels at scale 1. OpenCV 4 and 5 draw other fonts and report heights differently."""
    scratch = np.zeros((64, 64), np.uint8)
    cv2.putText(scratch, "X", (8, 48), face, 1.0, 255, 1, cv2.LINE_8)
    return int(np.count_nonzero(scratch.any(axis=1)))
