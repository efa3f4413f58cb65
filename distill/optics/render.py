"""Synthetic depth of field with an exact defocus map.

A sharp photograph and a depth layout are rendered through a thin lens: every depth gets the
circle of confusion the lens gives it, and the picture is split into layers of equal signed circle
of confusion, each blurred by a uniform disk (or the polygon of a diaphragm), in linear light. At
every pixel, each layer adds the share of the lens that sees it: what the layers up to it cover
(seen through its disk), less what the nearer ones cover already. So a blurred foreground spills
over a sharp background and never the other way round, the shares add up to one, and a slope, which
falls into many layers, is blurred with the colours that are there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.optics.lens import ThinLens
from edgedf.errors import DataError

__all__ = ["Rendering", "add_camera_noise", "random_depth", "render"]

_NEAR_M, _FAR_M = 0.6, 8.0  # of a random layout

_CODE = np.arange(256) / 255
_SRGB_TO_LINEAR = np.where(
    _CODE <= 0.04045, _CODE / 12.92, ((_CODE + 0.055) / 1.055) ** 2.4
).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Rendering:
    """A rendered picture and what was done to it.

    Args:
        image: uint8 RGB, (height, width, 3).
        defocus_map: float32, (height, width): standard deviation per axis, in pixels, of the disk
            that blurred what shows at the pixel. Near a border that is the layer which, with those
            in front of it, half of the lens sees.
        near_border: bool, (height, width): within a disk's reach of a step in depth, where two
            blurs mix and no single value is true.
    """

    image: NDArray[np.uint8]
    defocus_map: NDArray[np.float32]
    near_border: NDArray[np.bool_]


def render(
    image: NDArray[np.uint8],
    depth_m: NDArray[np.floating],
    lens: ThinLens,
    *,
    layers: int = 24,
    max_sigma: float = 5.0,
) -> Rendering:
    """Render a sharp picture through a lens.

    Args:
        image: uint8 RGB, (height, width, 3), sharp everywhere.
        depth_m: Metres, (height, width), > 0.
        lens: The lens.
        layers: Number of equal steps of signed circle of confusion between its extremes; the map
            is exact for the picture, and within half a step of the scene.
        max_sigma: Blur is clipped here, in pixels.

    Returns:
        The picture and its exact map.

    Raises:
        DataError: Shapes differ or a depth is not positive.
    """
    if depth_m.shape != image.shape[:2] or not np.all(depth_m > 0):
        raise DataError(
            f"Depth {depth_m.shape} does not fit the image {image.shape}.",
            expected="positive metres for every pixel",
            next_step="give a depth of the image's height and width",
        )
    # Signed radius: layers in front of the focal plane must not merge with those behind it.
    radius = np.clip(lens.signed_coc_px(depth_m) / 2, -2 * max_sigma, 2 * max_sigma)
    low, high = float(radius.min()), float(radius.max())
    steps = 1 if high - low < 1e-6 else layers
    step = (high - low) / steps
    layer = np.zeros(radius.shape, np.int32)
    if steps > 1:
        layer = np.clip(((radius - low) / step).astype(np.int32), 0, steps - 1)
    disks = {int(k): lens.kernel(low + (k + 0.5) * step) for k in np.unique(layer)}

    light = _SRGB_TO_LINEAR[image]
    out = np.zeros_like(light)
    defocus = np.zeros(radius.shape, np.float32)
    covered = np.zeros(radius.shape, np.float32)  # share of the lens that sees a nearer layer
    for k, (kernel, sigma) in disks.items():
        reach = kernel.shape[0] // 2
        visible = layer == k
        cover = visible | _hidden(layer, k)
        box = _box(cover, reach)
        within = _blur(cover[box].astype(np.float32), kernel)
        share = np.maximum(within - covered[box], 0)
        out[box] += share[:, :, np.newaxis] * _layer_light(light, visible, kernel, box, share)
        shows = (covered[box] < 0.5) & (covered[box] + share >= 0.5)
        defocus[box][shows] = sigma
        covered[box] += share
    border = _near_border(layer, disks)
    own = np.zeros(int(layer.max()) + 1, np.float32)
    own[list(disks)] = [sigma for _, sigma in disks.values()]
    return Rendering(_linear_to_srgb(out), np.where(border, defocus, own[layer]), border)


def random_depth(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random depth layout: a tilted background and up to four nearer objects.

    Args:
        height: Pixels.
        width: Pixels.
        rng: Source of randomness.

    Returns:
        Metres, from 0.6 to 8, (height, width), float32, linear in inverse depth along slopes, as
        planes are.
    """
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / max(height - 1, 1) - 0.5, x / max(width - 1, 1) - 0.5
    near, far = 1 / _NEAR_M, 1 / _FAR_M

    def plane(center: float, slope: float) -> NDArray[np.float64]:
        angle = rng.uniform(0, 2 * np.pi)
        tilted = center + slope * (np.cos(angle) * x + np.sin(angle) * y)
        return np.asarray(np.clip(tilted, far, near))

    inverse = plane(far + rng.uniform(0, 0.3) * (near - far), rng.uniform(0, 0.6) * (near - far))
    for _ in range(rng.integers(0, 5)):
        center = rng.uniform(far, near)
        obj = plane(center, rng.uniform(0, 0.2) * (near - far))
        cy, cx = rng.uniform(-0.5, 0.5, 2)
        ry, rx = rng.uniform(0.1, 0.4, 2)
        wave = 1 + 0.25 * np.sin(
            np.arctan2(y - cy, x - cx) * rng.integers(2, 6) + rng.uniform(0, 6)
        )
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= wave
        inverse = np.where(inside & (obj > inverse), obj, inverse)
    return np.asarray(1 / inverse, np.float32)


def add_camera_noise(
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    noise: float = 0.0,
    jpeg_quality: int | None = None,
) -> NDArray[np.uint8]:
    """What happens after the lens: sensor noise, then JPEG.

    Args:
        image: uint8 RGB.
        rng: Source of randomness.
        noise: Standard deviation in grey levels.
        jpeg_quality: 1 to 100, or None to leave the pixels alone.

    Returns:
        uint8 RGB of the same shape.
    """
    if noise > 0:
        noisy = image + rng.normal(0, noise, image.shape)
        image = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    if jpeg_quality is not None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        _, encoded = cv2.imencode(".jpg", image[:, :, ::-1], quality)
        image = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)[:, :, ::-1]
    return np.ascontiguousarray(image)


def _linear_to_srgb(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    light = np.clip(light, 0, 1)
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(value * 255 + 0.5, np.uint8)


def _hidden(layer: NDArray[np.int32], k: int) -> NDArray[np.bool_]:
    """Where a layer goes on behind nearer ones: it is what shows next to them."""
    nearer = layer < k
    if not nearer.any():
        return nearer
    # Every nearer pixel learns which of the others is nearest to it.
    _, label = cv2.distanceTransformWithLabels(
        nearer.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    behind = np.zeros(int(label.max()) + 1, np.int32)
    behind[label[~nearer]] = layer[~nearer]
    return np.asarray(nearer & (behind[label] == k))


def _layer_light(
    light: NDArray[np.float32],
    visible: NDArray[np.bool_],
    kernel: NDArray[np.float32],
    box: tuple[slice, slice],
    share: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What the lens sees of a layer at every pixel of ``box``: mean of what shows of it there."""
    weight = visible[box].astype(np.float32)
    own = light[box] * weight[:, :, np.newaxis]
    total = _blur(weight, kernel)
    seen = total > 1e-3
    mean = _blur(own, kernel) / np.where(seen, total, 1)[:, :, np.newaxis]
    missing = ~seen & (share > 0)
    if missing.any():
        mean[missing] = _fill(own, weight, missing)[missing]
    return np.asarray(mean, np.float32)


def _near_border(
    layer: NDArray[np.int32], disks: dict[int, tuple[NDArray[np.float32], float]]
) -> NDArray[np.bool_]:
    """Pixels within a disk's reach of a step in depth; touching layers of a slope make none."""
    reach = np.zeros(int(layer.max()) + 1, np.int32)
    for k, (kernel, _) in disks.items():
        reach[k] = kernel.shape[0] // 2 + 1
    around = np.ones((3, 3), np.uint8)
    plane = layer.astype(np.int16)
    jump = cv2.dilate(plane, around) - cv2.erode(plane, around) > 1
    widest = cv2.dilate(reach[layer].astype(np.int16), around)
    border = np.zeros(layer.shape, np.uint8)
    for radius in np.unique(widest[jump]):
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(radius) + 1,) * 2)
        border |= np.asarray(
            cv2.dilate((jump & (widest == radius)).astype(np.uint8), disk), np.uint8
        )
    return border.astype(bool)


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, slice]:
    """Rows and columns that hold the mask and a margin around it."""

    def span(axis: int) -> slice:
        index = np.flatnonzero(mask.any(axis=axis))
        return slice(max(int(index[0]) - margin, 0), int(index[-1]) + 1 + margin)

    return span(1), span(0)


def _blur(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    if kernel.size == 1:
        return plane
    return np.asarray(cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT))


def _fill(
    own: NDArray[np.float32], weight: NDArray[np.float32], missing: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Light at the ``missing`` pixels from near them: normalised Gaussians of growing width."""
    filled, missing = np.zeros_like(own), missing.copy()
    sigma = 2.0
    while missing.any():
        if sigma > max(missing.shape) / 2:  # too little shows of the layer to reach farther
            filled[missing] = own.sum(axis=(0, 1)) / weight.sum()
            break
        total = cv2.GaussianBlur(weight, (0, 0), sigma)
        # Relative, as a single known pixel fades with the width and would never be enough.
        near = missing & (total > 1e-3 * total.max())
        if near.any():
            filled[near] = cv2.GaussianBlur(own, (0, 0), sigma)[near] / total[near, np.newaxis]
            missing &= ~near
        sigma *= 2
    return filled
