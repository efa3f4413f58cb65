"""Dense defocus maps from one photograph, in two profiles.

``reference`` repeats the convention of the code released with Jeon & Woo, "Seeing Through the
Blur" (CIKM 2025, arXiv 2509.23289), including that edges are looked for on an image in [-1, 1]
clipped to [0, 1], which leaves everything darker than mid-grey without edges. It exists to compare
with. ``physical`` looks for edges over the whole tonal range, rejects ratios that no blur explains
and spreads what is left with the matting Laplacian; this is the map the student learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import canny

from edgedf.distill.optics.matting import matting_laplacian, propagate
from edgedf.distill.optics.reblur import (
    MAX_SIGMA,
    gradient_magnitude,
    luminance,
    sigma_from_ratio,
)
from edgedf.errors import ConfigError, DataError

__all__ = [
    "PROFILES",
    "PhysicalProfile",
    "Profile",
    "ReferenceProfile",
    "defocus_map",
    "min_max_normalise",
    "resolve_profile",
]

Profile = Literal["physical", "reference"]
PROFILES: tuple[Profile, ...] = ("physical", "reference")

MIN_SIDE = 16


@dataclass(frozen=True)
class ReferenceProfile:
    """The released convention.

    Args:
        size: Side in pixels at which blur is measured and spread.
        canny_sigma: Gaussian of the edge detector, in pixels of the image as given.
        s1: First re-blur, in pixels.
        s2: Second re-blur.
        kernel: Side of the Gaussian-derivative kernels; zero padding.
        radius: Radius of the guided filter's window.
        eps: Its regularisation.
    """

    size: int = 299
    canny_sigma: float = 1.5
    s1: float = 1.5
    s2: float = 2.0
    kernel: int = 11
    radius: int = 7
    eps: float = 1e-2


@dataclass(frozen=True)
class PhysicalProfile:
    """Edges over the whole tonal range, spread by the matting Laplacian.

    Args:
        canny_sigma: Gaussian of the edge detector, in pixels.
        canny_low: Lower hysteresis threshold.
        canny_high: Upper one.
        s1: First re-blur, in pixels.
        s2: Second re-blur.
        min_gradient: Edges whose re-blurred gradient (per pixel, image in [0, 1]) is below this
            are noise and are dropped.
        border: Edges this close to the image border are dropped, in pixels.
        smoothing: Standard deviation of the average along edges, in pixels: single ratios are
            noisy, neighbours on an edge share one blur. 0 switches it off.
        strength: lambda of the propagation.
        matting_eps: Regularisation of the matting Laplacian.
        matting_scale: The map is spread at this fraction of the image's resolution. Blur is always
            measured at full resolution.
    """

    canny_sigma: float = 1.5
    canny_low: float = 0.04
    canny_high: float = 0.1
    s1: float = 1.5
    s2: float = 2.0
    min_gradient: float = 0.005
    border: int = 2
    smoothing: float = 3.0
    strength: float = 1.0
    matting_eps: float = 1e-2
    matting_scale: float = 0.5


def defocus_map(
    image: NDArray[np.uint8],
    profile: Profile | ReferenceProfile | PhysicalProfile = "physical",
) -> NDArray[np.float32]:
    """Estimate the blur of every pixel of a photograph.

    Args:
        image: uint8 RGB, (height, width, 3), both sides at least 16.
        profile: ``physical`` or ``reference``, or a profile with other values.

    Returns:
        float32, sigma of the equivalent Gaussian in [0, 5] pixels of the image as measured:
        (height, width) for ``physical``; (299, 299), in pixels of that size, for ``reference``,
        whose guided filter overshoots that range a little.
        An image without a single usable edge gives a map of zeros.

    Raises:
        ConfigError: No such profile.
        DataError: Not uint8 RGB or too small.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(
            f"The image is {image.dtype} of shape {image.shape}.",
            expected="uint8 RGB of shape (height, width, 3)",
            next_step="load it with edgedf.load_image",
        )
    if min(image.shape[:2]) < MIN_SIDE:
        raise DataError(
            f"The image has {image.shape[1]} x {image.shape[0]} pixels.",
            expected=f"at least {MIN_SIDE} on each side",
            next_step="use a larger picture; scaling this one up adds no blur to measure",
        )
    profile = resolve_profile(profile)
    if isinstance(profile, PhysicalProfile):
        return _physical(image, profile)
    return _reference(image, profile)


def resolve_profile(
    profile: Profile | ReferenceProfile | PhysicalProfile,
) -> ReferenceProfile | PhysicalProfile:
    """A profile by its name with the default values, or the profile that is given.

    Raises:
        ConfigError: No such profile.
    """
    if profile == "physical":
        return PhysicalProfile()
    if profile == "reference":
        return ReferenceProfile()
    if isinstance(profile, (PhysicalProfile, ReferenceProfile)):
        return profile
    raise ConfigError(
        f"There is no profile {profile!r}.",
        expected=" or ".join(PROFILES),
        next_step="choose one of the two, or pass a profile with values of your own",
    )


def min_max_normalise(defocus: NDArray[np.floating]) -> NDArray[np.float32]:
    """Stretch a map to [0, 1], per image, as the paper does before its classifier.

    A constant map becomes zeros.
    """
    low, high = float(defocus.min()), float(defocus.max())
    if high - low < 1e-12:
        return np.zeros(defocus.shape, np.float32)
    return np.asarray((defocus - low) / (high - low), np.float32)


def _physical(image: NDArray[np.uint8], profile: PhysicalProfile) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    scaled = np.asarray(image, np.float32) / np.float32(255)
    gray = luminance(scaled)
    thresholds = {"low_threshold": profile.canny_low, "high_threshold": profile.canny_high}
    edges = np.asarray(canny(gray, profile.canny_sigma, **thresholds))
    first, second = (gradient_magnitude(gray, s) for s in (profile.s1, profile.s2))
    edges &= first >= profile.min_gradient
    ratio = first / np.maximum(second, 1e-8)
    # R <= 1 means the gradient grew with more blur: several edges mixed, no blur explains it.
    confidence = (edges & (ratio > 1.0)).astype(np.float32)
    inset = profile.border
    if inset:
        confidence[:inset] = confidence[-inset:] = 0
        confidence[:, :inset] = confidence[:, -inset:] = 0
    sigma = sigma_from_ratio(ratio, profile.s1, profile.s2)
    if not confidence.any():
        return np.zeros((height, width), np.float32)
    if profile.smoothing > 0:
        weight, total = (
            np.asarray(cv2.GaussianBlur(plane, (0, 0), profile.smoothing), np.float32)
            for plane in (confidence, confidence * sigma)
        )
        sigma = np.asarray(total / np.maximum(weight, 1e-6), np.float32)
    # Area averages of value times confidence and of confidence keep every edge at the lower
    # resolution; a cell's confidence is then the share of edge pixels in it.
    size = (
        max(3, round(width * profile.matting_scale)),
        max(3, round(height * profile.matting_scale)),
    )
    known = _resized(confidence, size, cv2.INTER_AREA)
    value = _resized(np.asarray(confidence * sigma, np.float32), size, cv2.INTER_AREA)
    value = np.asarray(value / np.maximum(known, 1e-6), np.float32)
    small = _resized(scaled, size, cv2.INTER_AREA)
    laplacian = matting_laplacian(small, profile.matting_eps)
    dense = propagate(laplacian, value, known, profile.strength)
    dense = _resized(dense, (width, height), cv2.INTER_LINEAR)
    return np.asarray(np.clip(dense, 0, MAX_SIGMA), np.float32)


def _reference(image: NDArray[np.uint8], profile: ReferenceProfile) -> NDArray[np.float32]:
    signed = image.astype(np.float32) / 127.5 - 1
    gray = luminance(signed)
    edges = canny(np.clip(gray, 0, 1), profile.canny_sigma).astype(np.float32)
    size = (profile.size, profile.size)
    gray = _resized(gray, size, cv2.INTER_LINEAR)
    edges = _resized(edges, size, cv2.INTER_LINEAR)
    guide = _resized(signed, size, cv2.INTER_LINEAR).mean(axis=2)

    first, second = (_gradient(gray, s, profile.kernel) for s in (profile.s1, profile.s2))
    ratio = first / (second + 1e-8) * (edges / (edges.max() + 1e-8))
    # Unlike sigma_from_ratio, the release lets a weighted ratio below 1 through as it comes.
    squared = ratio * ratio
    variance = (squared * profile.s1**2 - profile.s2**2) / (1 - squared + 1e-8)
    sparse = np.clip(np.sqrt(np.maximum(np.nan_to_num(variance), 0)), 0, MAX_SIGMA)
    return _guided_filter(guide, sparse.astype(np.float32), profile.radius, profile.eps)


def _resized(plane: NDArray[np.float32], size: tuple[int, int], kernel: int) -> NDArray[np.float32]:
    """Resized to (width, height), with or without channels."""
    return np.asarray(cv2.resize(plane, size, interpolation=kernel), np.float32)


def _gradient(gray: NDArray[np.float32], sigma: float, side: int) -> NDArray[np.float32]:
    """Magnitude after a sampled two-dimensional Gaussian derivative, zeros beyond the border."""
    position = np.arange(side, dtype=np.float64) - side // 2
    gauss = np.exp(-(position**2) / (2 * sigma**2))
    slope = -position / (2 * np.pi * sigma**4) * gauss
    across, down = (
        cv2.sepFilter2D(gray, cv2.CV_32F, kx, ky, borderType=cv2.BORDER_CONSTANT)
        for kx, ky in ((slope, gauss), (gauss, slope))
    )
    return np.asarray(np.hypot(across, down), np.float32)


def _guided_filter(
    guide: NDArray[np.float32], source: NDArray[np.float32], radius: int, eps: float
) -> NDArray[np.float32]:
    """Guided filter (He et al., PAMI 2013), windows cut at the border."""
    side = (2 * radius + 1, 2 * radius + 1)
    count = cv2.boxFilter(
        np.ones_like(guide), cv2.CV_32F, side, normalize=False, borderType=cv2.BORDER_CONSTANT
    )

    def mean(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        total = cv2.boxFilter(
            plane, cv2.CV_32F, side, normalize=False, borderType=cv2.BORDER_CONSTANT
        )
        return np.asarray(total / count)

    guide_mean, source_mean = mean(guide), mean(source)
    slope = (mean(guide * source) - guide_mean * source_mean) / (
        mean(guide * guide) - guide_mean**2 + eps
    )
    offset = source_mean - slope * guide_mean
    return np.asarray(mean(slope) * guide + mean(offset), np.float32)
