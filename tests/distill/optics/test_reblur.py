import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import erf
from skimage.feature import canny

from edgedf.distill.optics.reblur import (
    MAX_SIGMA,
    gradient_magnitude,
    luminance,
    sigma_from_ratio,
)


def blurred_step(sigma: float, *, height: float = 0.6, angle: float = 0.0) -> NDArray[np.float64]:
    """A step edge through the middle, blurred exactly: the error function."""
    y, x = np.mgrid[-40:41, -40:41]
    distance = np.cos(angle) * x + np.sin(angle) * y
    return 0.2 + height * 0.5 * (1 + erf(distance / (sigma * np.sqrt(2))))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.0, 3.0, 4.5])
@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi / 2])
@pytest.mark.parametrize("height", [0.05, 0.6])
def test_the_blur_of_an_ideal_edge_is_found(sigma: float, angle: float, height: float) -> None:
    edge = blurred_step(sigma, height=height, angle=angle)
    first, second = (gradient_magnitude(edge, s)[40:41, 40] for s in (1.5, 2.0))
    found = sigma_from_ratio(first / second, 1.5, 2.0)
    assert found[0] == pytest.approx(sigma, abs=0.06)


def test_the_gradient_is_the_analytic_one() -> None:
    found = gradient_magnitude(blurred_step(2.0), 1.5)[40, 40]
    assert found == pytest.approx(0.6 / np.sqrt(2 * np.pi * (4 + 2.25)), rel=0.01)


@given(sigma=st.floats(0.05, 4.9), s1=st.floats(0.5, 2.0), gap=st.floats(0.2, 2.0))
def test_the_formula_inverts_the_ratio_of_a_step(sigma: float, s1: float, gap: float) -> None:
    s2 = s1 + gap
    ratio = np.array([np.sqrt((sigma**2 + s2**2) / (sigma**2 + s1**2))])
    assert sigma_from_ratio(ratio, s1, s2)[0] == pytest.approx(sigma, abs=1e-3)


@given(ratio=st.floats(0, 100))
def test_any_ratio_gives_a_blur_in_range(ratio: float) -> None:
    found = float(sigma_from_ratio(np.array([ratio]), 1.5, 2.0)[0])
    assert 0 <= found <= MAX_SIGMA


def test_ratios_that_no_blur_explains_give_the_ends_of_the_range() -> None:
    found = sigma_from_ratio(np.array([0.5, 1.0, 2.0 / 1.5, 3.0]), 1.5, 2.0)
    assert found.tolist() == [MAX_SIGMA, MAX_SIGMA, 0.0, 0.0]


def test_luminance_is_that_of_jpeg() -> None:
    pixels = np.array([[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 1.0]]])
    np.testing.assert_allclose(luminance(pixels), [[0.299, 0.587, 0.114, 1.0]], rtol=1e-6)


def test_edges_are_one_pixel_wide_and_where_the_step_is() -> None:
    edges = canny(blurred_step(1.0), 1.5, 0.1, 0.2)
    rows, columns = np.nonzero(edges)
    assert len(rows) > 60
    assert np.abs(columns - 40).max() <= 1
    assert edges.sum(axis=1).max() == 1
