import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedf.quantize.calibration.histogram import Histogram, by_entropy, by_error, by_percentile

values = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.one_of(st.just(0.0), st.floats(-1e4, 1e4, width=32)),
)
CHOICES = [by_percentile, by_error, by_entropy]


def histogram_of(sample: np.ndarray, bins: int = 512) -> Histogram:
    return Histogram(float(sample.min()), float(sample.max()), bins).add(sample)


def rounded(sample: np.ndarray, low: float, high: float, steps: int = 255) -> np.ndarray:
    step = (high - low) / steps
    return low + np.rint((np.clip(sample, low, high) - low) / step) * step


@settings(max_examples=60, deadline=None)
@given(values)
def test_every_value_is_counted_once(sample: np.ndarray) -> None:
    histogram = histogram_of(sample)
    assert histogram.total == sample.size
    assert histogram.zeros == np.count_nonzero(sample == 0)
    assert (histogram.counts >= 0).all()


@pytest.mark.parametrize("choose", CHOICES)
@settings(max_examples=40, deadline=None)
@given(values)
def test_ranges_hold_zero_and_are_within_what_was_seen(choose: object, sample: np.ndarray) -> None:
    assert callable(choose)
    low, high = choose(histogram_of(sample))
    assert low <= 0.0 <= high
    assert min(float(sample.min()), 0.0) <= low
    assert high <= max(float(sample.max()), 0.0)


@settings(max_examples=60, deadline=None)
@given(values)
def test_the_error_of_mse_is_never_above_that_of_minmax(sample: np.ndarray) -> None:
    histogram = histogram_of(sample)
    low, high = by_error(histogram)
    widest = histogram.error(min(histogram.low, 0.0), max(histogram.high, 0.0))
    assert histogram.error(low, high) <= widest * (1 + 1e-12)


@settings(max_examples=30, deadline=None)
@given(values, st.floats(90, 99.9), st.floats(0, 0.1))
def test_a_higher_percentile_gives_no_narrower_range(
    sample: np.ndarray, percentile: float, more: float
) -> None:
    histogram = histogram_of(sample)
    low, high = by_percentile(histogram, percentile)
    wider_low, wider_high = by_percentile(histogram, percentile + more)
    assert wider_low <= low + 1e-6 * abs(low)
    assert high <= wider_high + 1e-6 * abs(wider_high)


def test_the_percentile_is_that_of_numpy() -> None:
    sample = np.random.default_rng(0).normal(0, 3, 200_000).astype(np.float32)
    low, high = by_percentile(histogram_of(sample, 2048), 99.9)
    assert [low, high] == pytest.approx(np.percentile(sample, [0.1, 99.9]), abs=0.02)


def test_the_expected_error_is_that_of_real_rounding() -> None:
    sample = np.random.default_rng(1).normal(0, 1, 100_000).astype(np.float32)
    histogram = histogram_of(sample, 2048)
    for low, high in ((-4.5, 4.5), (-2.0, 3.0), (-1.0, 1.0)):
        error = np.mean((rounded(sample, low, high) - sample.astype(np.float64)) ** 2)
        assert histogram.error(low, high) == pytest.approx(error, rel=0.02)


def test_mse_and_entropy_cut_off_an_outlier_that_percentile_of_all_values_keeps() -> None:
    # So many that rounding them all more coarsely costs more than the one.
    sample = np.random.default_rng(2).normal(0, 1, 2_000_000).astype(np.float32)
    sample[0] = 60.0
    histogram = histogram_of(sample, 2048)
    for choose in (by_error, by_entropy):
        low, high = choose(histogram)
        assert 2.5 < high < 40.0
        assert -6.0 < low < -2.5
    assert by_percentile(histogram, 100.0)[1] == pytest.approx(60.0)


def test_zeros_do_not_decide() -> None:
    """Half of what a rectifier gives is zero, and a zero costs nothing."""
    sample = np.abs(np.random.default_rng(3).normal(0, 1, 20_000)).astype(np.float32)
    padded = np.concatenate([sample, np.zeros(200_000, np.float32)])
    plain, many = histogram_of(np.append(sample, np.float32(0))), histogram_of(padded)
    for choose in (by_error, by_entropy):
        assert choose(plain) == pytest.approx(choose(many))


@pytest.mark.parametrize("choose", CHOICES)
def test_constant_and_unusual_tensors_are_not_stumbled_over(choose: object) -> None:
    assert callable(choose)
    for sample in ([0.0], [3.0, 3.0], [-2.0], [np.nan, 1.0], [1e-38, 2e-38], [np.inf, 0.5, 1.0]):
        array = np.array(sample, np.float32)
        finite = array[np.isfinite(array)]
        low, high = choose(Histogram(float(finite.min()), float(finite.max())).add(array))
        assert np.isfinite([low, high]).all()
        assert low <= 0.0 <= high


def test_sixteen_bits_leave_the_range_as_it_is() -> None:
    sample = np.random.default_rng(4).normal(0, 1, 50_000).astype(np.float32)
    low, high = by_error(histogram_of(sample, 2048), 2**16 - 1)
    assert [low, high] == pytest.approx([sample.min(), sample.max()], rel=0.1)
