import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedf.distill.optics.lens import ThinLens, disk_kernel, random_lens
from edgedf.distill.optics.render import Rendering, add_camera_noise, random_depth, render
from edgedf.errors import DataError
from edgedf.imaging import RGBImage
from tests.distill.optics.photographs import photograph

NEAR, FAR = 1.0, 4.0


def lens_with_radius(radius: float, *, focus: float, at: float) -> ThinLens:
    """A lens that blurs ``at`` by a disk of that radius in pixels when focused on ``focus``."""
    unit = abs(ThinLens(50, 1.0, focus, 100).signed_coc_px(np.array([at]))[0]) / 2
    return ThinLens(50, unit / radius, focus, 100)


def light(image: RGBImage) -> NDArray[np.float64]:
    """Linear light by the sRGB standard, written out."""
    code = image.astype(np.float64) / 255
    low = code / 12.92
    return np.where(code <= 0.04045, low, ((code + 0.055) / 1.055) ** 2.4)


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> RGBImage:
    image = np.empty((64, 96, 3), np.uint8)
    image[:, :48], image[:, 48:] = left, right
    return image


def half_depth() -> NDArray[np.float64]:
    """Near on the left, far on the right."""
    depth = np.full((64, 96), FAR)
    depth[:, :48] = NEAR
    return depth


# --- one plane -----------------------------------------------------------------------------------


def test_a_scene_in_focus_comes_out_as_it_went_in() -> None:
    image = photograph("motorcycle", 96)
    rendering = render(image, np.full((96, 96), 2.0), ThinLens(50, 2, 2.0, 100))
    np.testing.assert_array_equal(rendering.image, image)
    assert not rendering.defocus_map.any()
    assert not rendering.near_border.any()


def test_a_plane_out_of_focus_is_the_photograph_convolved_with_the_disk() -> None:
    image = photograph("rocket", 96)
    rendering = render(image, np.full((96, 96), NEAR), lens_with_radius(5.3, focus=FAR, at=NEAR))
    # A disk made another way (32 x 32 samples a pixel), scipy's convolution, linear light.
    axis = (np.arange(13 * 32) + 0.5) / 32 - 6.5
    fine = np.add.outer(axis**2, axis**2) <= 5.3**2
    kernel = fine.reshape(13, 32, 13, 32).mean(axis=(1, 3))
    kernel /= kernel.sum()
    planes = [ndi.convolve(light(image)[:, :, c], kernel, mode="reflect") for c in range(3)]
    difference = np.abs(light(rendering.image) - np.dstack(planes))
    assert difference.max() < 0.01
    assert rendering.defocus_map == pytest.approx(2.65, abs=0.03)
    assert len(np.unique(rendering.defocus_map)) == 1


def test_light_is_neither_lost_nor_made() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[30:50, 30:50] = (255, 188, 99)
    for radius in (1.0, 3.7, 9.0):
        lens = lens_with_radius(radius, focus=FAR, at=NEAR)
        rendering = render(image, np.full((80, 80), NEAR), lens)
        ratio = light(rendering.image).sum(axis=(0, 1)) / light(image).sum(axis=(0, 1))
        assert ratio == pytest.approx(1, abs=0.01)  # eight bits


@given(seed=st.integers(0, 10_000), gray=st.integers(0, 255))
@settings(max_examples=25, deadline=None)
def test_an_even_wall_stays_even_whatever_its_depths(seed: int, gray: int) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(40, 56, rng)
    rendering = render(np.full((40, 56, 3), gray, np.uint8), depth, random_lens(depth, rng))
    difference = np.abs(rendering.image.astype(int) - gray)
    assert difference.max() <= 1


# --- occlusion -----------------------------------------------------------------------------------

RED, GREEN = (200, 0, 0), (0, 200, 0)


def test_a_blurred_foreground_spills_over_a_sharp_background() -> None:
    lens = lens_with_radius(6.0, focus=FAR, at=NEAR)
    rendering = render(halves(RED, GREEN), half_depth(), lens)
    red = rendering.image[32, :, 0].astype(int)
    assert (np.diff(red) <= 0).all()
    assert (red[48:53] > 20).all()  # red light over the background
    assert not rendering.image[:, 55:, 0].any()  # and none beyond the disk's reach
    np.testing.assert_array_equal(rendering.image[:, 55:], halves(RED, GREEN)[:, 55:])
    # Light of the two adds up: the foreground lets through what it does not cover.
    total = light(rendering.image)[..., :2].sum(axis=2)
    assert total == pytest.approx(light(np.full((1, 1, 3), 200, np.uint8))[0, 0, 0], abs=0.01)


def test_a_sharp_foreground_has_a_hard_border_and_takes_nothing_from_behind() -> None:
    lens = lens_with_radius(6.0, focus=NEAR, at=FAR)
    image = halves(RED, GREEN)
    rendering = render(image, half_depth(), lens)
    np.testing.assert_array_equal(rendering.image[:, :48], image[:, :48])
    assert not rendering.image[:, 48:, 0].any()  # no red smeared into the background
    assert rendering.image[:, 48:, 1] == pytest.approx(200, abs=1)


def test_a_blurred_foreground_shows_the_background_beside_it_not_a_layer_from_elsewhere() -> None:
    # Far wall on the left half, a nearer wall on the right; a near object on the far wall.
    image = np.full((64, 128, 3), (0, 0, 200), np.uint8)
    depth = np.full((64, 128), 8.0)
    image[:, 64:], depth[:, 64:] = (0, 200, 0), 3.0
    image[20:44, 20:44], depth[20:44, 20:44] = (200, 0, 0), 1.0
    rendering = render(image, depth, lens_with_radius(6.0, focus=8.0, at=1.0))
    assert not rendering.image[:, :52, 1].any()
    assert rendering.image[32, 20:44, 2].max() > 60  # blue shines through the object's border


def test_the_map_follows_what_shows_and_the_border_is_marked() -> None:
    lens = lens_with_radius(6.0, focus=FAR, at=NEAR)
    rendering = render(halves(RED, GREEN), half_depth(), lens)
    assert rendering.defocus_map[:, :47] == pytest.approx(3.0, abs=0.15)
    assert rendering.defocus_map[:, 49:] == pytest.approx(0.0, abs=0.15)
    columns = np.flatnonzero(rendering.near_border[32])
    assert (columns[0], columns[-1]) == (48 - 8, 47 + 8)
    assert len(columns) == columns[-1] - columns[0] + 1


def test_a_background_of_one_visible_pixel_is_continued_behind_all_that_hides_it() -> None:
    # What shows of the background is a single pixel; the blurred foreground lets it through.
    image = np.full((96, 96, 3), RED, np.uint8)
    depth = np.full((96, 96), NEAR)
    image[2, 2], depth[2, 2] = GREEN, FAR
    rendering = render(image, depth, lens_with_radius(9.0, focus=FAR, at=NEAR))
    assert rendering.image[60, 60] == pytest.approx(RED, abs=1)
    assert rendering.image[2, 2, 0] > 150


# --- slopes --------------------------------------------------------------------------------------


def edge_spread(row: NDArray[np.float64]) -> float:
    """Standard deviation of the line spread of a step edge."""
    spread = np.diff(row)
    position = np.arange(len(spread))
    center = (spread * position).sum() / spread.sum()
    return float(np.sqrt((spread * (position - center) ** 2).sum() / spread.sum()))


def sloped(*, across: bool) -> tuple[NDArray[np.float64], Rendering]:
    image = np.empty((128, 128, 3), np.uint8)
    image[:, :64], image[:, 64:] = 60, 200
    inverse = np.broadcast_to(np.linspace(1 / 1.0, 1 / 3.0, 128), (128, 128))
    depth = 1 / (inverse if across else inverse.T)
    rendering = render(image, depth, lens_with_radius(8.0, focus=3.0, at=1.0))
    return light(rendering.image)[:, :, 0], rendering


def test_blur_along_a_slope_is_what_the_map_says() -> None:
    plane, rendering = sloped(across=False)
    assert not rendering.near_border.any()
    for row in range(12, 116, 4):
        expected = float(rendering.defocus_map[row, 64])
        assert edge_spread(plane[row]) == pytest.approx(expected, abs=0.12)


def test_blur_across_a_slope_is_what_the_map_says() -> None:
    plane, rendering = sloped(across=True)
    expected = float(rendering.defocus_map[64, 63:65].mean())
    assert expected > 1.5
    assert edge_spread(plane[64]) == pytest.approx(expected, rel=0.07)


# --- any scene -----------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_away_from_borders_the_map_is_the_thin_lens_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(72, 64, rng)
    lens = random_lens(depth, rng)
    image = rng.integers(0, 256, (72, 64, 3), np.uint8)
    layers = 24
    rendering = render(image, depth, lens, layers=layers)
    radius = lens.signed_coc_px(depth) / 2
    step = (radius.max() - radius.min()) / layers
    inner = ~rendering.near_border
    # A layer's own half width, and half a layer where a slope's layers meet.
    table = np.arange(0, 12, 0.05)
    sigmas = np.array([disk_kernel(r)[1] for r in table])
    low = np.interp(np.maximum(np.abs(radius) - step - 0.05, 0), table, sigmas)
    high = np.interp(np.abs(radius) + step + 0.05, table, sigmas)
    assert (rendering.defocus_map >= low - 1e-3)[inner].all()
    assert (rendering.defocus_map <= high + 1e-3)[inner].all()
    assert rendering.image.shape == image.shape
    assert rendering.defocus_map.dtype == np.float32
    assert 0 <= rendering.defocus_map.min() <= rendering.defocus_map.max() <= 5.05


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_random_depths_stay_in_range_and_repeat(seed: int) -> None:
    depth = random_depth(20, 30, np.random.default_rng(seed))
    assert depth.shape == (20, 30)
    assert 0.5 - 1e-5 <= depth.min() <= depth.max() <= 9.0 + 1e-4
    again = random_depth(20, 30, np.random.default_rng(seed))
    np.testing.assert_array_equal(depth, again)


def test_blur_is_clipped_where_asked() -> None:
    lens = lens_with_radius(9.0, focus=FAR, at=NEAR)
    image = photograph("gravel", 64)
    rendering = render(image, np.full((64, 64), NEAR), lens, max_sigma=2.0)
    assert rendering.defocus_map.max() == pytest.approx(2.0, abs=0.04)


@pytest.mark.parametrize("depth", [np.ones((8, 9)), np.zeros((8, 8)), np.full((8, 8), np.nan)])
def test_a_depth_that_does_not_fit_is_refused(depth: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match="does not fit"):
        render(np.zeros((8, 8, 3), np.uint8), depth, ThinLens(50, 2, 2, 100))


# --- the camera ----------------------------------------------------------------------------------


def test_camera_noise_has_the_strength_asked_for() -> None:
    image = np.full((128, 128, 3), 120, np.uint8)
    noisy = add_camera_noise(image, np.random.default_rng(0), noise=2.0)
    assert noisy.astype(float).std() == pytest.approx(np.sqrt(4 + 1 / 12), rel=0.03)
    assert noisy.mean() == pytest.approx(120, abs=0.1)


def test_jpeg_keeps_colours_in_order_and_changes_pixels() -> None:
    image = photograph("motorcycle", 96)
    packed = add_camera_noise(image, np.random.default_rng(0), jpeg_quality=90)
    difference = packed.astype(int) - image
    assert difference.any()
    assert np.abs(difference).mean() < 6
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1


def test_no_noise_and_no_jpeg_change_nothing() -> None:
    image = photograph("rocket", 64)
    np.testing.assert_array_equal(add_camera_noise(image, np.random.default_rng(0)), image)
