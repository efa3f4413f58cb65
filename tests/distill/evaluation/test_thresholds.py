import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.evaluation.thresholds import CONFIDENT_ERROR, choose_threshold
from edgedf.errors import DataError
from edgedf.metrics import auc_with_interval


def test_one_class_has_no_auc_and_no_threshold() -> None:
    with pytest.raises(DataError, match="both classes"):
        auc_with_interval(np.zeros(3), np.arange(3.0), ["a", "b", "c"])
    with pytest.raises(DataError, match="both classes"):
        choose_threshold(np.ones(3), np.arange(3.0), "x")


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 4), st.integers(0, 1000))
def test_thresholds_keep_their_promise_on_the_pictures_they_were_chosen_on(
    shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0.0, 1.0], 60)
    logits = rng.normal(0, 1, 120) + shift * labels
    threshold = choose_threshold(labels, logits, "noise")
    scores = 1 / (1 + np.exp(-logits))
    verdicts = np.array([threshold.label(score) for score in scores])
    false_positive = (verdicts[labels == 0] == "fake").mean()
    false_negative = (verdicts[labels == 1] == "real").mean()
    assert threshold.real_at <= threshold.fake_at
    if threshold.real_at < threshold.fake_at:
        assert false_positive <= CONFIDENT_ERROR
        assert false_negative <= CONFIDENT_ERROR
    else:
        assert abs(false_positive - false_negative) <= 0.04
        assert "equal error rate" in threshold.how
