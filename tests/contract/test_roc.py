import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edgedf.roc import CURVE_FIGURES, Ranking, auc


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.booleans())
def test_the_auc_is_that_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    fakes = np.concatenate([[False, True], rng.integers(0, 2, n - 2) == 1])
    scores = rng.normal(0, 1, n) + fakes
    scores = np.round(scores) if ties else scores
    assert auc(fakes, scores) == pytest.approx(roc_auc_score(fakes, scores))


def test_a_curve_counts_weights_from_the_highest_score_down() -> None:
    fakes = np.array([True, False, True, False])
    curve = Ranking(fakes, np.array([2.0, 1.0, 1.0, 0.0]))(np.array([[1.0, 2.0, 3.0, 4.0]]))
    assert curve.detected.tolist() == [[1.0, 4.0, 4.0]]
    assert curve.alarmed.tolist() == [[0.0, 2.0, 6.0]]
    assert float(CURVE_FIGURES["auc"](curve)[0]) == (1 * 6 + 3 * (4 + 2 / 2)) / (4 * 6)
