import cv2
import numpy as np
import pytest
import scipy.ndimage as ndi
from numpy.typing import NDArray
from scipy.signal import convolve2d
from skimage.feature import canny

from edgedf.distill.optics.lens import random_lens
from edgedf.distill.optics.maps import (
    PhysicalProfile,
    Profile,
    ReferenceProfile,
    defocus_map,
    min_max_normalise,
    resolve_profile,
)
from edgedf.distill.optics.render import add_camera_noise, random_depth, render
from edgedf.errors import ConfigError, DataError
from edgedf.imaging import RGBImage
from tests.distill.optics.photographs import SHARP, photograph

PROFILES: tuple[Profile, ...] = ("physical", "reference")


# --- both profiles -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("shape", [(16, 16), (40, 90), (257, 130)])
def test_a_map_is_finite_and_in_range(profile: Profile, shape: tuple[int, int]) -> None:
    image = photograph("motorcycle")[100 : 100 + shape[0], 200 : 200 + shape[1]]
    found = defocus_map(np.ascontiguousarray(image), profile)
    assert found.dtype == np.float32
    assert found.shape == (shape if profile == "physical" else (299, 299))
    assert np.isfinite(found).all()
    assert -0.2 < found.min() <= found.max() <= 5.0
    assert profile == "reference" or found.min() >= 0


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("level", [0, 77, 255])
def test_an_image_without_an_edge_gives_zeros(profile: Profile, level: int) -> None:
    assert not defocus_map(np.full((48, 48, 3), level, np.uint8), profile).any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((15, 40, 3), np.uint8),
    ],
)
def test_anything_but_a_picture_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError) as caught:
        defocus_map(image)
    assert caught.value.expected


def test_a_profile_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="'sharp'") as caught:
        defocus_map(np.zeros((40, 40, 3), np.uint8), "sharp")  # type: ignore[arg-type]
    assert "physical or reference" in caught.value.expected


def test_names_stand_for_the_default_profiles() -> None:
    assert resolve_profile("physical") == PhysicalProfile()
    assert resolve_profile("reference") == ReferenceProfile()
    assert resolve_profile(PhysicalProfile(smoothing=1.0)).smoothing == 1.0  # type: ignore[union-attr]


def test_normalising_stretches_and_leaves_constants_at_zero() -> None:
    found = min_max_normalise(np.array([[1.0, 2.0], [3.0, 5.0]]))
    np.testing.assert_allclose(found, [[0, 0.25], [0.5, 1]])
    assert not min_max_normalise(np.full((3, 3), 2.0)).any()


# --- reference: the released convention, written again from its description ----------------------


def by_description(image: RGBImage) -> NDArray[np.float64]:
    """Scaled to [-1, 1]; edges of what is above 0; all else at 299 x 299; guided filter."""
    signed = image.astype(np.float64) / 127.5 - 1
    gray = 0.299 * signed[..., 0] + 0.587 * signed[..., 1] + 0.114 * signed[..., 2]
    edges = canny(np.where(gray > 0, gray, 0).astype(np.float32), sigma=1.5).astype(np.float64)
    gray, edges, guide = (bilinear(plane, 299) for plane in (gray, edges, signed.mean(axis=2)))
    sharper, softer = (gradient(gray, sigma) for sigma in (1.5, 2.0))
    ratio = sharper / (softer + 1e-8) * edges / (edges.max() + 1e-8)
    with np.errstate(invalid="ignore"):
        sparse = np.sqrt((1.5**2 * ratio**2 - 2.0**2) / (1 - ratio**2 + 1e-8))
    return guided(guide, np.clip(np.where(np.isnan(sparse), 0, sparse), 0, 5))


def bilinear(plane: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Half-pixel centres, edges repeated, no smoothing beforehand."""
    at = [np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1) for n in plane.shape]
    return ndi.map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")


def gradient(plane: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Magnitude after an 11 x 11 derivative of a Gaussian, zeros around the image."""
    x, y = np.meshgrid(np.arange(-5, 6), np.arange(-5, 6))
    bell = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**4)
    return np.hypot(*(convolve2d(plane, -axis * bell, mode="same") for axis in (x, y)))


def guided(guide: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius 7, eps 0.01; means over the part of the window that lies in the image."""

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        total = ndi.uniform_filter(plane, 15, mode="constant")
        return total / ndi.uniform_filter(np.ones_like(plane), 15, mode="constant")

    slope = (mean(guide * source) - mean(guide) * mean(source)) / (
        mean(guide**2) - mean(guide) ** 2 + 0.01
    )
    return mean(slope) * guide + mean(mean(source) - slope * mean(guide))


@pytest.mark.parametrize("name", ["motorcycle", "rocket", "coffee", "astronaut"])
@pytest.mark.parametrize("size", [None, 256, 299])
def test_reference_is_the_released_convention(name: str, size: int | None) -> None:
    image = photograph(name, size)
    found, expected = defocus_map(image, "reference"), by_description(image)
    assert expected.std() > 0.01
    assert np.abs(found - expected).mean() < 1e-3
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


def test_reference_sees_no_edge_in_the_dark_half_of_the_tones_and_physical_does() -> None:
    # One photograph, once in tones below mid-grey and once above.
    photo = photograph("motorcycle", 256)
    dark, bright = photo // 2, photo // 2 + 128
    assert dark.max() < 128 <= bright.min()
    assert not defocus_map(dark, "reference").any()
    assert defocus_map(bright, "reference").any()
    in_dark, in_bright = (defocus_map(image, "physical") for image in (dark, bright))
    assert in_dark.any()
    np.testing.assert_allclose(in_dark, in_bright, atol=0.02)  # an offset changes no blur


# --- physical: against the truth -----------------------------------------------------------------


def test_physical_finds_which_parts_of_rendered_scenes_are_blurred() -> None:
    errors, unknowing, correlations = [], [], []
    for index, name in enumerate(SHARP * 2):
        rng = np.random.default_rng(100 + index)
        depth = random_depth(256, 256, rng)
        truth = render(photograph(name, 256), depth, random_lens(depth, rng, min_sigma=2.0))
        noisy = add_camera_noise(truth.image, rng, noise=2, jpeg_quality=90)
        inner = ~truth.near_border
        found, exact = defocus_map(noisy)[inner], truth.defocus_map[inner]
        errors.append(np.abs(found - exact).mean())
        unknowing.append(exact.mean())
        correlations.append(np.corrcoef(found, exact)[0, 1])
    assert np.mean(errors) < 0.85
    assert np.mean(errors) < 0.7 * np.mean(unknowing)  # of a map that says "sharp" everywhere
    assert np.mean(correlations) > 0.5


@pytest.mark.parametrize("name", SHARP)
def test_more_blur_gives_a_larger_map(name: str) -> None:
    sharp = photograph(name, 256)
    means = [
        float(np.mean(defocus_map(np.asarray(cv2.GaussianBlur(sharp, (0, 0), s), np.uint8))))
        for s in (0.5, 1.0, 2.0, 3.0, 4.0)
    ]
    assert np.all(np.diff(means) > 0.01), means
    assert np.all(np.diff(means[1:]) > 0.3), means  # texture as fine as brick's hides 1 px
    assert means[0] < 0.8
    assert means[-1] > 2.2


def test_physical_measures_clean_edges_exactly() -> None:
    # Bright squares, each blurred by its own Gaussian.
    sigmas = (1.0, 2.0, 3.0, 4.0)
    tiles = []
    for sigma in sigmas:
        tile = np.full((96, 96), 60.0)
        tile[24:72, 24:72] = 190
        tiles.append(ndi.gaussian_filter(tile, sigma))
    image = np.repeat(np.rint(np.hstack(tiles)).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    found = defocus_map(image)
    for index, sigma in enumerate(sigmas):
        side = found[40:56, index * 96 + 22 : index * 96 + 26]  # along a straight side
        assert side.mean() == pytest.approx(sigma, rel=0.12)


def test_weak_edges_are_dropped_where_asked() -> None:
    image = photograph("gravel", 128)
    assert defocus_map(image, PhysicalProfile(min_gradient=0.0)).any()
    assert not defocus_map(image, PhysicalProfile(min_gradient=1.0)).any()


def test_a_part_can_be_sharp_beside_a_blurred_one() -> None:
    image = photograph("brick", 256).copy()
    image[:, 128:] = cv2.GaussianBlur(image, (0, 0), 3.0)[:, 128:]
    found = defocus_map(image)
    assert found[:, 150:].mean() - found[:, :106].mean() > 1.0
