"""A thin lens: circles of confusion, and the shapes that its aperture gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError

__all__ = ["ThinLens", "disk_kernel", "focused_lens", "polygon_kernel", "random_lens"]


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


def focused_lens(
    depth_m: NDArray[np.floating],
    focus_m: float,
    sigma: float,
    *,
    blades: int = 0,
    rotation: float = 0.0,
) -> ThinLens:
    """A 50 mm lens on 36 mm of sensor whose aperture gives a scene a wanted blur.

    Args:
        depth_m: The scene, (height, width), in metres, all beyond 50 mm.
        focus_m: Distance of the plane in focus.
        sigma: Blur of the most blurred point, in pixels.
        blades: As :class:`ThinLens` has them.
        rotation: Likewise.

    Returns:
        The lens. In a scene of one depth, which is all in focus, its f-number is 1.
    """
    pitch_um = 36_000 / depth_m.shape[1]
    wide_open = ThinLens(50.0, 1.0, focus_m, pitch_um)
    widest = float(np.abs(wide_open.signed_coc_px(depth_m)).max()) / 4
    # The circle of confusion goes with 1 / N; its sigma is a quarter of its diameter.
    f_number = widest / sigma if widest > 1e-9 else 1.0
    return ThinLens(50.0, f_number, focus_m, pitch_um, blades, rotation)


def random_lens(
    depth_m: NDArray[np.floating], rng: np.random.Generator, *, min_sigma: float = 0.5
) -> ThinLens:
    """A lens with a round aperture that is focused on a random point of a scene.

    Args:
        depth_m: The scene, (height, width), in metres, all beyond 50 mm.
        rng: Source of randomness.
        min_sigma: The most blurred point gets a uniformly random sigma from here to 5 pixels.
    """
    focus = float(rng.choice(depth_m.ravel()))
    return focused_lens(depth_m, focus, rng.uniform(min_sigma, 5.0))


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
