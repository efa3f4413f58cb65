"""The lens, its disk, and the polygons of a diaphragm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.optics.lens import ThinLens, disk_kernel, polygon_kernel, random_lens
from edgedf.distill.optics.render import random_depth, render
from edgedf.errors import ConfigError

NEAR, FAR = 1.0, 4.0

blades = st.integers(5, 9)
angles = st.floats(0, 7)


@given(radius=st.floats(0, 12), count=blades, rotation=angles)
def test_a_polygon_sums_to_one(radius: float, count: int, rotation: float) -> None:
    kernel, _ = polygon_kernel(radius, count, rotation)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0
    assert kernel.shape[0] == kernel.shape[1] == len(kernel) // 2 * 2 + 1


@given(radius=st.floats(1, 12), count=blades, rotation=angles)
def test_a_polygon_has_the_standard_deviation_that_it_reports(
    radius: float, count: int, rotation: float
) -> None:
    kernel, sigma = polygon_kernel(radius, count, rotation)
    position = np.arange(len(kernel)) - len(kernel) // 2
    for axis in (0, 1):
        variance = float((kernel.sum(axis=axis, dtype=np.float64) * position**2).sum())
        assert sigma == pytest.approx(np.sqrt(variance), abs=0.06)
    # Variance of a regular polygon about an axis: (6 R^2 - s^2) / 24 with corners at distance R
    # and sides s; a square pixel adds 1/12.
    corner = radius * np.sqrt(2 * np.pi / (count * np.sin(2 * np.pi / count)))
    side = 2 * corner * np.sin(np.pi / count)
    expected = np.sqrt((6 * corner**2 - side**2) / 24 + 1 / 12)
    assert sigma == pytest.approx(expected, abs=0.08)
    # The same light as through the disk, and nearly the same blur.
    assert sigma == pytest.approx(disk_kernel(radius)[1], abs=0.12)


@pytest.mark.parametrize("count", [5, 6, 8])
@pytest.mark.parametrize("rotation", [0.0, 0.4])
def test_the_corners_are_where_one_asks(count: int, rotation: float) -> None:
    kernel, _ = polygon_kernel(40.0, count, rotation)
    corners = rotation + 2 * np.pi / count * np.arange(count)
    reach = 40.0 * np.sqrt(2 * np.pi / (count * np.sin(2 * np.pi / count)))
    middle = len(kernel) // 2
    for share, inside in ((0.96, True), (1.04, False)):
        x = np.rint(middle + share * reach * np.cos(corners)).astype(int)
        y = np.rint(middle + share * reach * np.sin(corners)).astype(int)
        within = (np.minimum(x, y) >= 0) & (np.maximum(x, y) < len(kernel))
        found = np.zeros(count, bool)
        found[within] = kernel[y[within], x[within]] > 0
        assert (found == inside).all()
    # As many corners as blades: the outline has that many straight sides.
    outline, _ = cv2.findContours((kernel > 0).astype(np.uint8), cv2.RETR_EXTERNAL, 2)
    assert len(cv2.approxPolyDP(outline[0], 3.0, True)) == count


def test_a_polygon_of_no_radius_is_no_blur() -> None:
    kernel, sigma = polygon_kernel(0.0, 6)
    assert kernel.tolist() == [[1.0]]
    assert sigma == 0.0


@pytest.mark.parametrize("count", [-1, 1, 4])
def test_too_few_blades_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="blades"):
        polygon_kernel(3.0, count)
    with pytest.raises(ConfigError, match="blades"):
        ThinLens(50, 2, 2, 100, blades=count)


def point_through(lens: ThinLens, depth: float) -> np.ndarray:
    image = np.zeros((61, 61, 3), np.uint8)
    image[30, 30] = 255
    return render(image, np.full((61, 61), depth), lens).image[:, :, 0]


def test_a_point_of_light_becomes_the_aperture_upside_down_in_front_of_the_focus() -> None:
    # 1/near - 1/focus = 1/focus - 1/far: equal circles of confusion.
    lens = ThinLens(50, 1.0, 2.0, 40, blades=5, rotation=0.3)
    near, far = point_through(lens, 4 / 3), point_through(lens, 4.0)
    round_ = point_through(ThinLens(50, 1.0, 2.0, 40), 4.0)
    assert not np.array_equal(near, far)
    np.testing.assert_array_equal(near, far[::-1, ::-1])
    # The same light as through a disk, elsewhere.
    assert (near > 0).sum() == pytest.approx((round_ > 0).sum(), rel=0.05)
    assert ((near > 0) != (round_ > 0)).sum() > 20


@pytest.mark.parametrize("count", [5, 6, 9])
def test_the_map_of_a_polygon_is_that_of_the_disk_within_two_percent(count: int) -> None:
    depth = 1 / np.linspace(1 / 1.0, 1 / 3.0, 96)[:, np.newaxis].repeat(64, axis=1)
    image = np.random.default_rng(0).integers(0, 256, (96, 64, 3), np.uint8)
    round_ = render(image, depth, ThinLens(50, 1.0, 3.0, 60))
    cut = render(image, depth, ThinLens(50, 1.0, 3.0, 60, count, 0.2))
    assert not cut.near_border.any()
    # Below half a pixel, both kernels are what the pixel grid makes of them.
    inner = round_.defocus_map > 0.6
    assert inner.mean() > 0.7
    np.testing.assert_allclose(
        cut.defocus_map[inner], round_.defocus_map[inner], rtol=0.02, atol=0.05
    )
    assert not np.array_equal(cut.image, round_.image)


# --- random lenses -------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000))
def test_a_random_lens_is_round_and_takes_two_draws(seed: int) -> None:
    depth = random_depth(16, 20, np.random.default_rng(seed))
    rng, by_hand = np.random.default_rng(seed), np.random.default_rng(seed)
    lens = random_lens(depth, rng)
    assert (lens.blades, lens.rotation) == (0, 0.0)
    # Two draws and no more: focus and blur.
    assert lens.focus_m == float(by_hand.choice(depth.ravel()))
    by_hand.uniform(0.5, 5.0)
    assert rng.random() == by_hand.random()


# --- the lens ------------------------------------------------------------------------------------


def test_the_circle_of_confusion_is_what_one_computes_by_hand() -> None:
    # f = 50 mm, N = 2: aperture 25 mm. Focus 2 m, object 4 m:
    # 25 * 50 * 2000 / (4000 * 1950) mm = 0.320513 mm; pixels of 0.1 mm: 3.20513 px.
    lens = ThinLens(focal_length_mm=50, f_number=2, focus_m=2, pixel_pitch_um=100)
    far, near, focus = lens.signed_coc_px(np.array([4.0, 1.0, 2.0]))
    assert far == pytest.approx(3.205128, abs=1e-5)
    # Object 1 m: 25 * 50 * -1000 / (1000 * 1950) = -0.641026 mm.
    assert near == pytest.approx(-6.410256, abs=1e-5)
    assert focus == 0


def test_the_circle_of_confusion_agrees_with_image_distances() -> None:
    # Independent of the closed form: 1/f = 1/d + 1/v, and similar triangles behind the lens.
    f, n, focus, depth = 35.0, 1.8, 1500.0, np.array([700.0, 1200.0, 3000.0, 50_000.0])
    sensor, sharp = 1 / (1 / f - 1 / focus), 1 / (1 / f - 1 / depth)
    expected = (f / n) * (sensor - sharp) / sharp
    found = ThinLens(f, n, focus / 1000, 5.0).signed_coc_px(depth / 1000) * 5.0 / 1000
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_infinity_has_the_limit_of_the_formula() -> None:
    found = ThinLens(50, 2, 2, 100).signed_coc_px(np.array([1e9]))[0]
    assert found == pytest.approx(25 * 50 / 1950 * 10, rel=1e-6)


@pytest.mark.parametrize(
    "values", [(0, 2, 2, 100), (50, 0, 2, 100), (50, 2, 0.05, 100), (50, 2, 2, -1)]
)
def test_an_impossible_lens_is_refused(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigError, match="No such lens"):
        ThinLens(*values)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_random_lens_blurs_its_scene_as_much_as_asked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = random_depth(32, 40, rng)
    lens = random_lens(depth, rng, min_sigma=1.0)
    largest = np.abs(lens.signed_coc_px(depth)).max() / 4
    assert 1.0 - 1e-6 <= largest <= 5.0 + 1e-6
    assert np.abs(lens.signed_coc_px(depth)).min() < 1e-4  # something is in focus


# --- the disk ------------------------------------------------------------------------------------


@given(radius=st.floats(0, 12))
def test_the_disk_sums_to_one_and_is_symmetric(radius: float) -> None:
    kernel, _ = disk_kernel(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel.T)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])


@given(radius=st.floats(1, 12))
def test_the_disk_has_the_standard_deviation_that_it_reports(radius: float) -> None:
    kernel, sigma = disk_kernel(radius)
    position = np.arange(len(kernel)) - len(kernel) // 2
    variance = float((kernel.sum(axis=1, dtype=np.float64) * position**2).sum())
    assert sigma == pytest.approx(np.sqrt(variance), abs=1e-4)
    # A uniform disk has the variance radius^2 / 4 per axis, and a square pixel 1/12.
    assert sigma == pytest.approx(np.sqrt(radius**2 / 4 + 1 / 12), abs=0.08)


def test_no_radius_is_no_blur() -> None:
    kernel, sigma = disk_kernel(0.0)
    assert kernel.tolist() == [[1.0]]
    assert sigma == 0.0
