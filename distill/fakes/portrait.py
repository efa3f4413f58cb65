"""Portrait mode: real photographs whose background a phone has blurred. They are real.

Phones find the subject, guess a depth and blur the rest in software (Wadhwa et al., "Synthetic
Depth-of-Field with a Single-Camera Mobile Phone", SIGGRAPH 2018). Such a picture has blur that
follows no lens exactly, and borders where the mask was wrong, and nobody would call it fake. A
detector has to learn that.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.fakes.blend import blob_mask
from edgedf.distill.optics.lens import ThinLens, focused_lens
from edgedf.distill.optics.render import render
from edgedf.errors import DataError

__all__ = ["MIN_SIDE", "find_subject", "portrait"]

MIN_SIDE = 32

_Plane = NDArray[np.float32]

# GrabCut's time goes with the pixels, and a phone's mask is coarse as well.
_SEARCH_SIDE = 96
_ROUNDS = 3
# Share of the picture that a subject fills; anything else is a search that failed.
_SUBJECT_SHARE = (0.06, 0.75)

_SUBJECT_M = 1.2
_LAYERS = 16


def portrait(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    subject: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Blur the background of a photograph as a phone does.

    The subject stays as it was. The ground recedes from it towards the top of the picture, the
    lens is focused on it, and its aperture is round or a polygon; noise that the blur took is put
    back.

    Args:
        image: uint8 RGB, (height, width, 3), sides of at least :data:`MIN_SIDE`.
        rng: Source of randomness.
        subject: float32, (height, width), in [0, 1], 1 on the subject; None searches for it
            (:func:`find_subject`).

    Returns:
        The picture, uint8 RGB of the same shape, and the mask that the phone went by, errors at
        its border included: float32, (height, width), 1 where nothing was blurred. There is no
        defocus map, as nobody knows the blur that the photograph had before.

    Raises:
        DataError: Not such an image, or a mask that does not fit.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"Cannot make a portrait of an image of shape {image.shape}.",
            expected=f"(height, width, 3), sides of at least {MIN_SIDE}",
            next_step="pass an RGB photograph",
        )
    if subject is None:
        subject = find_subject(image, rng)
    if subject.shape != image.shape[:2] or not 0 <= subject.min() <= subject.max() <= 1:
        raise DataError(
            f"A subject of shape {subject.shape} does not fit an image of shape {image.shape}.",
            expected="(height, width), from 0 to 1",
            next_step="leave it out, or make it with find_subject(image, rng)",
        )
    mask = _misjudge(subject, rng)
    depth = _depth(mask, rng)
    rendering = render(image, depth, _lens(depth, rng), layers=_LAYERS)
    # The subject keeps its pixels: no phone touches it, and the rendering's layer that holds the
    # plane in focus is up to half a step off it.
    weight = mask[:, :, np.newaxis]
    mixed = image * weight + _regrain(rendering.image, image, mask, rng) * (1 - weight)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8), mask


def find_subject(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Guess what a photograph is of: GrabCut from an ellipse near the middle.

    Rother et al., "GrabCut", SIGGRAPH 2004. Where it finds no subject of a plausible size, a blob
    in the middle stands for one: for the blur, it matters little what the mask shows.

    Args:
        image: uint8 RGB, (height, width, 3).
        rng: Source of randomness.

    Returns:
        float32, (height, width), in [0, 1]; sharp borders at the resolution of the search.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SEARCH_SIDE / min(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    centre = float(rng.uniform(0.5, 0.62)), float(rng.uniform(0.42, 0.58))
    extent = float(rng.uniform(0.28, 0.4)), float(rng.uniform(0.2, 0.32))
    guess = _ellipse(size[1], size[0], centre, extent)
    labels = np.full(guess.shape, cv2.GC_BGD, np.uint8)
    labels[guess < 1.5] = cv2.GC_PR_BGD
    labels[guess < 1] = cv2.GC_PR_FGD
    # Sure of its core: otherwise most photographs end up without any subject.
    labels[guess < 0.5] = cv2.GC_FGD
    # GrabCut draws its first clusters from OpenCV's own generator.
    cv2.setRNGSeed(int(rng.integers(2**31)))
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 0, 0), *models, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    subject = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    subject = cv2.morphologyEx(subject, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    if not _SUBJECT_SHARE[0] < subject.mean() < _SUBJECT_SHARE[1]:
        return np.clip(blob_mask(height, width, rng, centre=centre, extent=extent), 0, 1)
    full = cv2.resize(subject.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(full, 0, 1)


def _ellipse(
    height: int, width: int, centre: tuple[float, float], extent: tuple[float, float]
) -> NDArray[np.float64]:
    """1 on the ellipse, less inside; centre and half axes as shares of the sides."""
    rows, columns = np.mgrid[0:height, 0:width]
    y = ((rows + 0.5) / height - centre[0]) / extent[0]
    x = ((columns + 0.5) / width - centre[1]) / extent[1]
    return np.hypot(y, x)


def _misjudge(subject: _Plane, rng: np.random.Generator) -> _Plane:
    """A phone's mask: the border off by a few pixels here and there, then feathered."""
    height, width = subject.shape
    scale = min(height, width) / 256
    # Smooth displacements, some 2 pixels of 256, and a border that is too wide or too narrow.
    shifts = []
    for _ in range(2):
        noise = rng.normal(0, 1, (height, width)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), max(2.0, 8 * scale))
        shifts.append(smooth / max(float(smooth.std()), 1e-6) * rng.uniform(0.5, 2.5) * scale)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    moved = cv2.remap(
        subject,
        columns + shifts[0],
        rows + shifts[1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    grow = round(rng.uniform(-2, 3) * scale)
    if grow:
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(grow) + 1,) * 2)
        moved = cv2.dilate(moved, element) if grow > 0 else cv2.erode(moved, element)
    feathered = cv2.GaussianBlur(moved, (0, 0), max(0.5, rng.uniform(0.6, 2.5) * scale))
    # In 255 steps, as masks are kept; what is all but inside is inside.
    return np.asarray(np.rint(np.clip(feathered, 0, 1) * 255) / 255, np.float32)


def _depth(mask: _Plane, rng: np.random.Generator) -> _Plane:
    """Metres: the subject at one distance; ground from near it, at the bottom, to far at the top.

    Mixed in inverse depth, which is what a phone estimates, so the feathered border is a slope.
    """
    height = len(mask)
    near, far = 1 / (_SUBJECT_M * rng.uniform(1.1, 2.0)), 1 / rng.uniform(4.0, 15.0)
    horizon = rng.uniform(0.1, 0.6) * height
    rise = np.clip((np.arange(height) - horizon) / (height - horizon), 0, 1)
    background = (far + (near - far) * rise)[:, np.newaxis]
    return np.asarray(1 / (mask / _SUBJECT_M + (1 - mask) * background), np.float32)


def _lens(depth: _Plane, rng: np.random.Generator) -> ThinLens:
    """Focused on the subject; its aperture gives the farthest point the blur that is wanted."""
    scale = min(depth.shape) / 256
    sigma = min(rng.uniform(1.0, 4.0) * scale, 5.0)
    blades, rotation = 0, 0.0
    if rng.random() < 0.3:
        blades, rotation = int(rng.integers(5, 10)), float(rng.uniform(0, 2 * np.pi))
    return focused_lens(depth, _SUBJECT_M, sigma, blades=blades, rotation=rotation)


def _regrain(
    blurred: NDArray[np.uint8], image: NDArray[np.uint8], mask: _Plane, rng: np.random.Generator
) -> _Plane:
    """Noise of the photograph's own strength, for what blur has smoothed away."""
    noise = rng.normal(0, 1, image.shape) * (_noise_level(image) * rng.uniform(0.5, 1.0))
    return np.asarray(blurred + noise, np.float32)


def _noise_level(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise of a photograph, in grey levels, at most 4.

    Immerkær, "Fast Noise Variance Estimation" (1996): a mask that ignores planes and edges. The
    median of its answers instead of their mean, as structure makes some of them large.
    """
    laplacian = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    answer = cv2.filter2D(image.mean(axis=2, dtype=np.float32), cv2.CV_32F, laplacian)
    # The mask has the norm 6; 0.6745 is the median of the absolute values of a unit normal.
    return float(min(np.median(np.abs(answer[1:-1, 1:-1])) / 0.6745 / 6, 4.0))
