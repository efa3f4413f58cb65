"""Bokeh of a diaphragm: polygons besides the disk."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.optics.render import (
    ThinLens,
    disk_kernel,
    polygon_kernel,
    random_depth,
    random_lens,
    render,
)
from edgedf.errors import ConfigError

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


def test_no_radius_is_no_blur() -> None:
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
def test_without_polygons_a_random_lens_is_what_it_always_was(seed: int) -> None:
    depth = random_depth(16, 20, np.random.default_rng(seed))
    rng, by_hand = np.random.default_rng(seed), np.random.default_rng(seed)
    lens = random_lens(depth, rng)
    assert (lens.blades, lens.rotation) == (0, 0.0)
    # Two draws and no more: focus and blur.
    assert lens.focus_m == float(by_hand.choice(depth.ravel()))
    by_hand.uniform(0.5, 5.0)
    assert rng.random() == by_hand.random()


def test_polygons_come_as_often_as_asked_and_leave_the_rest_alone() -> None:
    depth = random_depth(16, 20, np.random.default_rng(0))
    lenses = [
        random_lens(depth, np.random.default_rng(seed), polygon_share=0.4) for seed in range(300)
    ]
    counts = [lens.blades for lens in lenses if lens.blades]
    assert 0.3 < len(counts) / 300 < 0.5
    assert set(counts) == {5, 6, 7, 8, 9}
    for seed, lens in enumerate(lenses):
        plain = random_lens(depth, np.random.default_rng(seed))
        assert (lens.f_number, lens.focus_m) == (plain.f_number, plain.focus_m)
