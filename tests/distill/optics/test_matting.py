import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from numpy.typing import NDArray

from edgedf.distill.optics import matting
from edgedf.distill.optics.matting import matting_laplacian, propagate
from tests.distill.optics.photographs import photograph

EPS = 1e-4


def colors(height: int, width: int) -> NDArray[np.float64]:
    image = photograph("motorcycle")[100 : 100 + height, 200 : 200 + width]
    return image.astype(np.float64) / 255


def written_out(image: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """The matting Laplacian entry by entry, as the paper's formula (12) has it."""
    height, width, channels = image.shape
    laplacian = np.zeros((height * width, height * width))
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            window = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            values = np.array([image[place] for place in window])
            mean = values.mean(axis=0)
            covariance = (values - mean).T @ (values - mean) / 9
            inverse = np.linalg.inv(covariance + eps / 9 * np.eye(channels))
            for a, (y1, x1) in enumerate(window):
                for b, (y2, x2) in enumerate(window):
                    affinity = (1 + (values[a] - mean) @ inverse @ (values[b] - mean)) / 9
                    laplacian[y1 * width + x1, y2 * width + x2] += (a == b) - affinity
    return laplacian


@pytest.mark.parametrize("shape", [(3, 3), (3, 7), (9, 5), (12, 13)])
def test_the_laplacian_is_the_published_formula(shape: tuple[int, int]) -> None:
    image = colors(*shape)
    found = matting_laplacian(image, EPS).toarray()
    np.testing.assert_allclose(found, written_out(image, EPS), atol=1e-9)


def test_working_in_bands_of_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image = colors(23, 11)
    whole = matting_laplacian(image, EPS)
    monkeypatch.setattr(matting, "_WINDOW_ROWS", 4)
    banded = matting_laplacian(image, EPS)
    np.testing.assert_allclose(whole.toarray(), banded.toarray(), atol=1e-12)


def test_the_laplacian_is_symmetric_and_positive_semi_definite() -> None:
    laplacian = matting_laplacian(colors(12, 14), EPS).toarray()
    np.testing.assert_allclose(laplacian, laplacian.T, atol=1e-12)
    values = np.linalg.eigvalsh(laplacian)
    assert values[0] > -1e-9
    assert values[-1] > 1


def test_constants_cost_nothing_and_affine_functions_of_colour_next_to_nothing() -> None:
    image = colors(16, 16)
    laplacian = matting_laplacian(image, 1e-9)
    ones = np.ones(256)
    assert np.abs(laplacian @ ones).max() < 1e-9
    affine = (image @ np.array([0.7, -1.3, 0.4]) + 0.2).ravel()
    other = np.random.default_rng(0).permutation(affine)
    assert affine @ laplacian @ affine < 1e-4 * (other @ laplacian @ other)


def test_conjugate_gradients_agree_with_a_direct_solution() -> None:
    image = colors(40, 40)
    rng = np.random.default_rng(1)
    confidence = (rng.random((40, 40)) < 0.1).astype(float)
    values = rng.uniform(0, 5, (40, 40))
    laplacian = matting_laplacian(image, 1e-2)
    weight = confidence.ravel()
    system = sp.csc_array(laplacian + sp.diags_array(weight))
    exact = sla.spsolve(system, weight * values.ravel()).reshape(40, 40)
    np.testing.assert_allclose(
        propagate(laplacian, values, confidence, 1.0, tolerance=1e-8), exact, atol=1e-4
    )
    # The tolerance that maps are computed with.
    assert np.abs(propagate(laplacian, values, confidence, 1.0) - exact).mean() < 0.02


def test_values_spread_along_a_colour_and_stop_at_its_edge() -> None:
    image = np.full((24, 48, 3), 0.2)
    image[:, 24:] = (0.8, 0.6, 0.3)
    values, confidence = np.zeros((24, 48)), np.zeros((24, 48))
    values[12, 4], confidence[12, 4] = 1.0, 1.0
    values[12, 44], confidence[12, 44] = 4.0, 1.0
    dense = propagate(matting_laplacian(image, 1e-5), values, confidence, 1.0, tolerance=1e-6)
    assert dense[:, :23] == pytest.approx(1.0, abs=0.05)
    assert dense[:, 25:] == pytest.approx(4.0, abs=0.05)


def test_one_known_value_fills_the_image() -> None:
    confidence = np.zeros((20, 20))
    confidence[3, 5] = 1
    dense = propagate(matting_laplacian(colors(20, 20)), confidence * 2.5, confidence, 0.1)
    assert dense.dtype == np.float32
    assert dense == pytest.approx(2.5, abs=1e-3)
