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

from edgedf.errors import ConfigError, DataError

__all__ = [
    "Rendering",
    "ThinLens",
    "add_camera_noise",
    "disk_kernel",
    "polygon_kernel",
    "random_depth",
    "random_lens",
    "render",
]


_CODE = np.arange(256) / 255
_SRGB_TO_LINEAR = np.where(
    _CODE <= 0.04045, _CODE / 12.92, ((_CODE + 0.055) / 1.055) ** 2.4
).astype(np.float32)


@dataclass(frozen=True)
class ThinLens:
    """A thin lens in front of a sensor.

    Args:
        focal_length_mm: f.
        f_number: N; the aperture's diameter is f / N.
        focus_m: Distance of the plane in focus, beyond f.
        pixel_pitch_um: Distance between pixel centres of the picture rendered.
        blades: Of the diaphragm, which make the aperture a regular polygon; 0 for a round one.
        rotation: Of that polygon, in radians, see :func:`polygon_kernel`.

    Raises:
        ConfigError: A value that no lens has.
    """

    focal_length_mm: float
    f_number: float
    focus_m: float
    pixel_pitch_um: float
    blades: int = 0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        positive = min(self.focal_length_mm, self.f_number, self.pixel_pitch_um) > 0
        if not positive or self.focus_m * 1000 <= self.focal_length_mm:
            raise ConfigError(
                f"No such lens: {self}.",
                expected="positive values and a focus distance beyond the focal length",
                next_step="check the units: mm, metres for the focus, micrometres for the pixels",
            )
        if self.blades:
            _check_blades(self.blades)

    def kernel(self, radius: float) -> tuple[NDArray[np.float32], float]:
        """Weights of a pixel's neighbours, and their standard deviation per axis in pixels.

        Args:
            radius: Of the circle of confusion in pixels, signed: in front of the focal plane the
                aperture shows upside down.
        """
        if not self.blades:
            return disk_kernel(abs(radius))
        turned = self.rotation + (np.pi if radius < 0 else 0.0)
        return polygon_kernel(abs(radius), self.blades, turned)

    def signed_coc_px(self, depth_m: NDArray[np.floating]) -> NDArray[np.float64]:
        """Diameter of the circle of confusion in pixels, negative in front of the focal plane.

        c = A f (d - d_f) / (d (d_f - f)), A = f / N: similar triangles behind a thin lens.

        Args:
            depth_m: Distance d of the scene from the lens, in metres, > 0.
        """
        f, focus = self.focal_length_mm, self.focus_m * 1000
        depth = np.asarray(depth_m, np.float64) * 1000
        diameter_mm = (f / self.f_number) * f * (depth - focus) / (depth * (focus - f))
        return np.asarray(diameter_mm * 1000 / self.pixel_pitch_um)


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


def disk_kernel(radius: float) -> tuple[NDArray[np.float32], float]:
    """Uniform disk, anti-aliased by 8 x 8 subsamples a pixel.

    Args:
        radius: In pixels, >= 0. An ideal disk has the standard deviation radius / 2 per axis.

    Returns:
        The kernel (odd side, sums to 1) and its own standard deviation per axis in pixels, which
        differs from the ideal by the pixel grid.
    """
    reach = int(np.ceil(radius))
    side = 2 * reach + 1
    samples = (np.arange(side * 8) + 0.5) / 8 - side / 2
    inside = samples[:, np.newaxis] ** 2 + samples[np.newaxis, :] ** 2 <= radius * radius
    kernel = _from_samples(inside)
    position = np.arange(-reach, reach + 1, dtype=np.float64)
    sigma = float(np.sqrt((kernel.sum(axis=0) * position**2).sum()))
    return kernel.astype(np.float32), sigma


def polygon_kernel(
    radius: float, blades: int, rotation: float = 0.0
) -> tuple[NDArray[np.float32], float]:
    """Uniform regular polygon, the bokeh of a lens that is stopped down; anti-aliased likewise.

    Args:
        radius: Of the disk of the same area, in pixels, >= 0: the same light comes through. The
            standard deviation per axis is then radius / 2 within 1 %, as the disk's.
        blades: Corners, at least 5. With fewer, an equal area is no longer an equal blur.
        rotation: Angle of a corner in radians, from the right towards the bottom.

    Returns:
        The kernel (odd side, sums to 1) and its own standard deviation in pixels, the root of the
        mean of both axes' variances, which differ by the pixel grid alone.

    Raises:
        ConfigError: Fewer than 5 blades.
    """
    _check_blades(blades)
    step = 2 * np.pi / blades
    # Area of the polygon with corners at distance R: blades / 2 * R^2 * sin(step).
    corner = radius * np.sqrt(2 * np.pi / (blades * np.sin(step)))
    reach = int(np.ceil(corner))
    samples = (np.arange((2 * reach + 1) * 8) + 0.5) / 8 - (2 * reach + 1) / 2
    # Inside is what lies within the distance of the sides, in the directions of all of them.
    inside = np.ones((len(samples), len(samples)), bool)
    for normal in rotation + step * (np.arange(blades) + 0.5):
        distance = np.cos(normal) * samples[np.newaxis, :] + np.sin(normal) * samples[:, np.newaxis]
        inside &= distance <= corner * np.cos(step / 2)
    kernel = _from_samples(inside)
    position = np.arange(-reach, reach + 1, dtype=np.float64)
    profile = (kernel.sum(axis=0) + kernel.sum(axis=1)) / 2
    variance = float((profile * position**2).sum())
    return kernel.astype(np.float32), float(np.sqrt(variance))


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


def random_depth(
    height: int, width: int, rng: np.random.Generator, *, near_m: float = 0.6, far_m: float = 8.0
) -> NDArray[np.float32]:
    """A random depth layout: a tilted background and up to four nearer objects.

    Args:
        height: Pixels.
        width: Pixels.
        rng: Source of randomness.
        near_m: Nearest depth.
        far_m: Farthest depth.

    Returns:
        Metres, (height, width), float32, linear in inverse depth along slopes, as planes are.
    """
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / max(height - 1, 1) - 0.5, x / max(width - 1, 1) - 0.5
    near, far = 1 / near_m, 1 / far_m

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


def random_lens(
    depth_m: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    min_sigma: float = 0.5,
    max_sigma: float = 5.0,
    polygon_share: float = 0.0,
) -> ThinLens:
    """A 50 mm lens on 36 mm of sensor, focused on a random point of a scene.

    Args:
        depth_m: The scene, (height, width), in metres, all beyond 50 mm.
        rng: Source of randomness.
        min_sigma: The aperture is such that the most blurred point gets a uniformly random sigma,
            in pixels, from here ...
        max_sigma: ... to here.
        polygon_share: How often the aperture is a polygon of 5 to 9 blades, in [0, 1]. At 0 the
            generator is not asked, so that what was drawn before there were polygons stays.

    Returns:
        The lens. In a scene of one depth, which is all in focus, its f-number is 1.
    """
    pitch_um = 36_000 / depth_m.shape[1]
    focus = float(rng.choice(depth_m.ravel()))
    sigma = rng.uniform(min_sigma, max_sigma)
    wide_open = ThinLens(50.0, 1.0, focus, pitch_um)
    widest = float(np.abs(wide_open.signed_coc_px(depth_m)).max()) / 4
    # The circle of confusion goes with 1 / N; its sigma is a quarter of its diameter.
    f_number = widest / sigma if widest > 1e-9 else 1.0
    blades, rotation = 0, 0.0
    if polygon_share > 0 and rng.random() < polygon_share:
        blades, rotation = int(rng.integers(5, 10)), float(rng.uniform(0, 2 * np.pi))
    return ThinLens(50.0, f_number, focus, pitch_um, blades, rotation)


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


def _check_blades(blades: int) -> None:
    if blades < 5:
        raise ConfigError(
            f"A diaphragm of {blades} blades is not modelled.",
            expected="at least 5 blades, or 0 for a round aperture",
            next_step="lenses have 5 to 9",
        )


def _from_samples(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A kernel from 8 x 8 subsamples a pixel; a single pixel when none of them is inside."""
    side = len(inside) // 8
    kernel = inside.reshape(side, 8, side, 8).sum(axis=(1, 3)).astype(np.float64)
    if kernel.sum() == 0:
        kernel[side // 2, side // 2] = 1.0
    return kernel / kernel.sum()


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
        found = missing & (total > 1e-3 * total.max())
        if found.any():
            filled[found] = cv2.GaussianBlur(own, (0, 0), sigma)[found] / total[found, np.newaxis]
            missing &= ~found
        sigma *= 2
    return filled
