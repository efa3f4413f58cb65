import numpy as np
import pytest

from edgedf import map_metrics as module
from edgedf.errors import DataError
from edgedf.map_metrics import map_metrics


def test_map_error_and_correlation_are_means_over_pictures() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.random((4, 6, 6))
    wanted[3] = 1.7
    found = wanted + np.array([1.0, 2.0, 0.0, 1.0])[:, None, None]
    found[1] = 3.0 - wanted[1]
    found[2] = 0.1  # flat: its correlation is none, which counts as 0
    result = map_metrics(found, wanted, list("abcd"))
    errors = np.abs(found - wanted).mean(axis=(1, 2))
    assert result.error.value == pytest.approx(errors.mean())
    assert errors.min() <= result.error.low < result.error.value < result.error.high <= errors.max()
    assert result.error.n == 4
    assert result.correlation is not None
    assert result.correlation.value == pytest.approx((1 - 1 + 0) / 3)
    assert result.correlation.n == 3
    assert map_metrics(found[3:], wanted[3:], ["d"]).correlation is None


def test_correlations_are_those_of_numpy_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAPS", 2)
    rng = np.random.default_rng(1)
    found, wanted = rng.random((5, 4, 4)).astype(np.float16), rng.random((5, 4, 4))
    pairs = zip(found.astype(float), wanted, strict=True)
    each = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
    result = map_metrics(found, wanted, list("abcde"))
    assert result.correlation is not None
    assert result.correlation.value == pytest.approx(np.mean(each))


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 2, 2\) and \(1, 4, 4\)"):
        map_metrics(np.zeros((1, 2, 2)), np.zeros((1, 4, 4)), ["a"])
