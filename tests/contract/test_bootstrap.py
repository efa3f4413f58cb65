import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.bootstrap import RESAMPLES, block_draws, interval_around, resampled_quantiles

FEW = settings(max_examples=15, deadline=None)
TIMES = st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=40)
GROUPS = st.lists(TIMES, min_size=1, max_size=12)


@FEW
@given(GROUPS, st.floats(0, 1))
def test_a_resample_has_the_quantile_that_numpy_gives_it(
    groups: list[list[float]], q: float
) -> None:
    parts = [np.array(times) for times in groups]
    drawn = block_draws(len(parts))
    (found,) = resampled_quantiles(parts, (q,), drawn)
    for row in range(0, RESAMPLES, 97):
        repeated = [np.repeat(part, int(n)) for part, n in zip(parts, drawn[row], strict=True)]
        assert found[row] == pytest.approx(np.quantile(np.concatenate(repeated), q))


@FEW
@given(st.integers(1, 50), st.integers(1, 50))
def test_a_resample_is_made_of_whole_runs_around_a_circle(groups: int, length: int) -> None:
    length = min(length, groups)
    drawn = block_draws(groups, length)
    assert drawn.shape == (RESAMPLES, groups)
    assert set(drawn.sum(1)) == {length * -(-groups // length)}
    # Each group is drawn alike, the first and the last as well.
    mean = drawn.mean(0)
    assert np.abs(mean - mean.mean()).max() < 0.2 * mean.mean()
    if length > 1 and groups >= 3 * length:
        assert np.corrcoef(drawn[:, 0], drawn[:, -1])[0, 1] > 0.2  # neighbours on the circle


def test_an_interval_holds_the_estimate() -> None:
    values = np.arange(2001.0)
    assert interval_around(1000.0, values) == (50.0, 1950.0)
    assert interval_around(1999.0, values) == (50.0, 1999.0)
