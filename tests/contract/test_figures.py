import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.bootstrap import GroupResamples
from edgedf.errors import DataError
from edgedf.figures import correlation_with_interval, mean_with_interval
from tests.contract.test_metrics import SINGLES, two_models


def test_a_share_has_the_interval_of_a_binomial_one() -> None:
    figure = mean_with_interval(np.arange(400) % 4 == 0, SINGLES)
    assert figure.value == 0.25
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / 400), rel=0.1)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.integers(8, 20))
def test_the_interval_of_a_correlation_is_that_of_every_resample(seed: int, n: int) -> None:
    _, first, second, groups = two_models(seed, n)
    values = []
    for counts in np.concatenate(list(GroupResamples(groups).chunks())).astype(int):
        x, y = np.repeat(first, counts), np.repeat(second, counts)
        if np.ptp(x) > 0:
            values.append(np.corrcoef(x, y)[0, 1])
    found = correlation_with_interval(first, second, groups)
    assert found.value == pytest.approx(np.corrcoef(first, second)[0, 1])
    if len(set(groups)) > 5:  # of fewer, too many resamples are one group and tell nothing
        ends = np.percentile(values, [2.5, 97.5])
        assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-6)


def test_equal_values_correlate_with_nothing() -> None:
    with pytest.raises(DataError, match="All 3 values are 2"):
        correlation_with_interval(np.arange(3.0), np.full(3, 2.0), list("abc"))
