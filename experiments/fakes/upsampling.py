"""Photographs with the traces of a generator's upsampling, without a generator.

A convolutional generator doubles its picture's sides several times. Doubling repeats the spectrum:
what is at frequency f shows again at f + 1/2 cycle a pixel, as far as the interpolation and the
layers behind it let it through (Zhang et al., "Detecting and Simulating Artifacts in GAN Fake
Images", WIFS 2019; Durall et al., "Watch Your Up-Convolution", CVPR 2020). Here a photograph is
scaled down, doubled the way generators do it, and gets the detail that scaling took from it back
from a Laplacian pyramid (Burt & Adelson 1983), in part: it stands for the detail that a generator
invents. So the picture stays what it was and carries the replicas.

Ways of doubling: ``nearest`` and ``bilinear`` interpolation; ``transposed`` convolution, whose
kernel reaches neighbouring pixels unevenly and leaves a checkerboard (Odena et al.,
"Deconvolution and Checkerboard Artifacts", Distill 2016); ``subpixel`` convolution, where each of
the four phases has a kernel of its own (Shi et al., CVPR 2016).
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError, DataError

__all__ = ["KINDS", "MIN_SIDE", "Upsampling", "resample_as_generator"]

Upsampling = Literal["nearest", "bilinear", "transposed", "subpixel"]

KINDS: tuple[Upsampling, ...] = get_args(Upsampling)

MIN_SIDE = 16

_Plane = NDArray[np.float32]

# Between the pixels 2k and 2k + 1, where nearest and bilinear doubling put the small pixel k ...
_BETWEEN = np.array([1 / 8, 3 / 8, 3 / 8, 1 / 8], np.float32)
# ... and on the pixel 2k, where a transposed convolution of odd size puts it.
_ON = np.array([1 / 16, 1 / 4, 3 / 8, 1 / 4, 1 / 16], np.float32)


def resample_as_generator(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    kind: Upsampling | None = None,
    *,
    doublings: int | None = None,
) -> NDArray[np.uint8]:
    """Replace the fine structure of a photograph by what a generator's last layers would leave.

    Args:
        image: uint8 RGB, (height, width, 3), sides of at least :data:`MIN_SIDE`.
        rng: Source of randomness: the kernels, how much detail comes back, the layer behind.
        kind: How to double; None draws one of :data:`KINDS`.
        doublings: How often, 1 to 3, so from a half to an eighth of the sides; None draws 1, or 2
            three times in ten.

    Returns:
        uint8 RGB of the same shape.

    Raises:
        DataError: Not such an image.
        ConfigError: No such kind, or another number of doublings.
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"Cannot resample an image of shape {image.shape}.",
            expected=f"(height, width, 3), sides of at least {MIN_SIDE}",
            next_step="pass an RGB photograph",
        )
    if kind is None:
        kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind not in KINDS:
        raise ConfigError(
            f"There is no upsampling '{kind}'.",
            expected=", ".join(KINDS),
            next_step="choose one of them",
        )
    if doublings is None:
        doublings = 2 if rng.random() < 0.3 else 1
    if not 1 <= doublings <= 3:
        raise ConfigError(
            f"Cannot double {doublings} times.",
            expected="1 to 3",
            next_step="leave doublings out to draw a number",
        )
    height, width = image.shape[:2]
    bottom, right = -height % 2**doublings, -width % 2**doublings
    padded = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_REFLECT_101)
    # Generators work on the code values of the picture, not on light.
    made = _regenerate(padded.astype(np.float32), kind, doublings, rng)
    return np.clip(np.rint(made[:height, :width]), 0, 255).astype(np.uint8)


def _regenerate(
    image: _Plane, kind: Upsampling, doublings: int, rng: np.random.Generator
) -> _Plane:
    """Down, doubled, detail added, through a last layer; each level of the pyramid in turn."""
    filter_ = _ON if kind == "transposed" else _BETWEEN
    small = _halve(image, filter_)
    # Generators invent too little at the highest frequencies (Durall et al.).
    detail = cv2.GaussianBlur(
        image - _double_smoothly(small, filter_), (0, 0), rng.uniform(0.4, 0.7)
    ) * rng.uniform(0.3, 0.75)
    if doublings > 1:
        small = _regenerate(small, kind, doublings - 1, rng)
    return _last_layer(_double(small, kind, rng) + detail, rng)


def _double(small: _Plane, kind: Upsampling, rng: np.random.Generator) -> _Plane:
    if kind == "nearest":
        return np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    if kind == "bilinear":
        return _double_smoothly(small, _BETWEEN)
    if kind == "transposed":
        return _transposed(small, rng)
    return _subpixel(small, rng)


def _transposed(small: _Plane, rng: np.random.Generator) -> _Plane:
    """Stride 2, kernel 3: an even pixel sees one small pixel, an odd one two.

    (w, 1, w) with w = 1/2 would be linear interpolation; what training leaves of the imbalance
    differs from colour to colour.
    """
    out = np.empty((2 * small.shape[0], 2 * small.shape[1], 3), np.float32)
    imbalance = _either_sign(rng, 0.002, 0.015)  # more would be seen on a white wall
    for channel in range(3):
        side = 0.5 + imbalance * rng.uniform(0.5, 1.0)
        taps = np.array([side, 1, side], np.float32) * np.float32(2 / (1 + 2 * side))
        out[:, :, channel] = _convolve_zeros_between(small[:, :, channel], taps)
    return out


def _subpixel(small: _Plane, rng: np.random.Generator) -> _Plane:
    """Each phase interpolates with a 3 x 3 kernel that is a little off, in gain and in shape."""
    out = np.empty((2 * small.shape[0], 2 * small.shape[1], 3), np.float32)
    off = np.exp(rng.uniform(np.log(0.008), np.log(0.025)))
    axis = (np.array([0.25, 0.75, 0]), np.array([0, 0.75, 0.25]))
    for row in (0, 1):
        for column in (0, 1):
            exact = np.outer(axis[row], axis[column])
            for channel in range(3):
                kernel = exact + rng.normal(0, off, (3, 3))
                # The sum is the brightness of the phase, which training gets right first.
                kernel /= kernel.sum() * (1 + rng.normal(0, off / 2))
                out[row::2, column::2, channel] = cv2.filter2D(
                    small[:, :, channel], cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT
                )
    return out


def _last_layer(image: _Plane, rng: np.random.Generator) -> _Plane:
    """A 3 x 3 convolution near the identity, lightly sharpening, and a mix of the colours."""
    kernel = rng.normal(0, 0.01, (3, 3))
    strength = rng.uniform(0, 0.06)
    kernel -= strength * np.array([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]]) / 1.5
    kernel[1, 1] += 1 - kernel.sum()
    mix = np.eye(3) + rng.normal(0, 0.008, (3, 3))
    mix /= mix.sum(axis=1, keepdims=True)  # grey stays grey
    filtered = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.transform(filtered, mix), np.float32)


def _halve(image: _Plane, taps: _Plane) -> _Plane:
    """Low-pass and every second pixel, at 2k + 1/2 for four taps and at 2k for five."""
    middle = (len(taps) - 1) // 2
    border = cv2.BORDER_REFLECT if len(taps) % 2 == 0 else cv2.BORDER_REFLECT_101
    smooth = cv2.sepFilter2D(
        image, cv2.CV_32F, taps, taps, anchor=(middle, middle), borderType=border
    )
    return np.ascontiguousarray(smooth[::2, ::2])


def _double_smoothly(small: _Plane, taps: _Plane) -> _Plane:
    """The reverse of :func:`_halve`, with the same low-pass: replicas mostly filtered out."""
    if len(taps) % 2:
        return np.dstack([_convolve_zeros_between(small[:, :, c], 2 * taps) for c in range(3)])
    size = 2 * small.shape[1], 2 * small.shape[0]
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _convolve_zeros_between(plane: _Plane, taps: _Plane) -> _Plane:
    """A transposed convolution of stride 2 with an odd, symmetric, separable kernel."""
    # One more small pixel at each side, so that no border of zeros leaks in.
    edged = cv2.copyMakeBorder(plane, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    zeros = np.zeros((2 * edged.shape[0], 2 * edged.shape[1]), np.float32)
    zeros[::2, ::2] = edged
    return np.asarray(cv2.sepFilter2D(zeros, cv2.CV_32F, taps, taps)[4:-4, 4:-4], np.float32)


def _either_sign(rng: np.random.Generator, low: float, high: float) -> float:
    """Log-uniform in size."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))) * rng.choice([-1, 1]))
