import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedf.formats.layers import Steps
from edgedf.quantize.layer_error import noise
from edgedf.quantize.layer_error.noise import NoiseSums, channel_noise, decibels

FINITE = st.floats(-1e3, 1e3, width=32)
PAIRS = st.lists(
    hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(0, 40)), elements=FINITE),
    min_size=1,
    max_size=6,
)


def steps(scale: float = 0.5, zero_point: int = 0) -> Steps:
    return Steps(np.array([scale], np.float32), np.array([zero_point]), np.dtype(np.int8))


@given(PAIRS)
def test_running_sums_are_those_of_the_whole(pairs: list[np.ndarray]) -> None:
    sums = NoiseSums()
    for wanted, found in pairs:
        assert sums.add(wanted, found) is sums
    wanted, found = np.concatenate(pairs, axis=1).astype(np.float64)
    difference = found - wanted
    assert sums.count == wanted.size
    assert sums.signal == pytest.approx((wanted**2).sum())
    assert sums.noise == pytest.approx((difference**2).sum())
    if not wanted.size:
        assert (sums.mean_abs, sums.max_abs, sums.sqnr) == (0.0, 0.0, None)
        return
    assert sums.mean_abs == pytest.approx(np.abs(difference).mean())
    assert sums.max_abs == np.abs(difference).max()
    assert (sums.low, sums.high) == (wanted.min(), wanted.max())
    if (wanted**2).sum() > 0 and (difference**2).sum() > 0:
        expected = 10 * np.log10((wanted**2).sum() / (difference**2).sum())
        assert sums.sqnr == pytest.approx(expected, abs=1e-6)


def test_tensors_longer_than_a_chunk_are_counted_whole() -> None:
    generator = np.random.default_rng(0)
    wanted = generator.normal(size=(3, 5 * noise._CHUNK // 2 + 7)).astype(np.float32)
    found = wanted + generator.normal(scale=0.01, size=wanted.shape).astype(np.float32)
    sums = NoiseSums().add(wanted, found)
    difference = found.astype(np.float64) - wanted
    assert sums.count == wanted.size
    assert sums.noise == pytest.approx((difference**2).sum())
    assert sums.max_abs == np.abs(difference).max()
    assert sums.sqnr == pytest.approx(40.0, abs=0.1)


@pytest.mark.parametrize(
    ("signal", "power", "wanted"),
    [
        (100.0, 1.0, 20.0),
        (1.0, 1.0, 0.0),
        (1e-300, 1e300, -6000.0),  # their ratio alone would be 0
        (1.0, 0.0, None),
        (0.0, 1.0, None),
        (0.0, 0.0, None),
        (math.inf, 1.0, None),
        (math.nan, 1.0, None),
        (1.0, math.nan, None),
    ],
)
def test_decibels(signal: float, power: float, wanted: float | None) -> None:
    assert decibels(signal, power) == (None if wanted is None else pytest.approx(wanted))


@given(st.integers(-128, 127), st.floats(0.0009765625, 8.0, width=32), st.integers(-128, 127))
def test_integers_become_values_and_stay_what_they_are(
    integer: int, scale: float, zero_point: int
) -> None:
    quantized = steps(scale, zero_point)
    values = quantized.values(np.array([integer], np.int8))
    assert values.dtype == np.float32
    assert values[0] == pytest.approx((integer - zero_point) * scale, rel=1e-6)
    np.testing.assert_array_equal(quantized.rounded(values), values)
    low, high = quantized.range
    assert low <= values[0] <= high
    assert quantized.clipped(values) == 0


@given(hnp.arrays(np.float32, 20, elements=st.floats(-100, 100, width=32)))
def test_rounding_is_off_by_half_a_step_but_for_what_is_clipped(values: np.ndarray) -> None:
    quantized = steps(0.5, 10)
    low, high = quantized.range
    assert (low, high) == (-69.0, 58.5)
    rounded = quantized.rounded(values)
    inside = (values >= low) & (values <= high)
    assert (np.abs(rounded - values)[inside] <= 0.25).all()
    assert ((rounded >= low) & (rounded <= high)).all()
    assert quantized.clipped(values) == ((values < low - 0.25) | (values > high + 0.25)).sum()


def test_each_channel_has_a_scale_of_its_own() -> None:
    quantized = Steps(np.array([1.0, 0.5], np.float32), np.array([0, 2]), np.dtype(np.int8), axis=1)
    values = quantized.values(np.array([[10, 10], [-3, -3]], np.int8))
    np.testing.assert_array_equal(values, [[10.0, 4.0], [-3.0, -2.5]])


def test_biases_of_32_bits_keep_their_precision() -> None:
    quantized = Steps(np.array([2.0**-30], np.float32), np.array([0]), np.dtype(np.int32))
    stored = np.array([2**30 + 1, -(2**31)], np.int32)
    np.testing.assert_allclose(quantized.values(stored), [1.0, -2.0], rtol=1e-7)


def test_the_worst_channel_is_found_among_those_that_say_something() -> None:
    wanted = np.array([[1.0, 1.0], [0.1, 0.1], [1e-5, 1e-5], [0.0, 0.0]])
    worst = channel_noise(wanted, wanted + 0.01, 0)
    assert worst is not None
    assert worst.channel == 1
    assert worst.sqnr == pytest.approx(20.0)
    other = channel_noise(wanted.T, wanted.T + 0.01, 1)
    assert other == worst
    assert channel_noise(wanted, wanted, 0) is None
    assert channel_noise(wanted, wanted + 0.01, None) is None
    assert channel_noise(wanted[:1], wanted[:1] + 0.01, 0) is None


def test_the_docstrings_examples_work() -> None:
    results = doctest.testmod(noise)
    assert (results.attempted > 0, results.failed) == (True, 0)
