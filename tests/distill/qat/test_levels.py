import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgedf.distill.qat.levels import LEVELS, fake_quantize, quantization_of

QUICK = settings(max_examples=30, deadline=None)
ENDS = st.tuples(
    st.floats(-1000, 0, width=32, allow_subnormal=False),
    st.floats(0, 1000, width=32, allow_subnormal=False),
).filter(lambda ends: ends[1] - ends[0] > 1e-3)
VALUES = arrays(np.float32, st.integers(1, 40), elements=st.floats(-2000, 2000, width=32))


def quantized(x: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    return fake_quantize(torch.from_numpy(x), torch.tensor(low), torch.tensor(high)).numpy()


def reference(x: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """The definition, in NumPy, whose rint rounds halves to even."""
    scale = (np.float32(high) - np.float32(low)) / np.float32(255)
    zero_point = np.clip(np.rint(-np.float32(low) / scale), 0, 255)
    levels = np.clip(np.rint(x / scale) + zero_point, 0, 255)
    return np.asarray((levels - zero_point) * scale, np.float32)


@QUICK
@given(VALUES, ENDS)
def test_it_is_what_the_definition_says(x: NDArray[np.float32], ends: tuple[float, float]) -> None:
    np.testing.assert_array_equal(quantized(x, *ends), reference(x, *ends))


@QUICK
@given(ENDS)
def test_zero_is_one_of_the_levels(ends: tuple[float, float]) -> None:
    scale, zero_point = quantization_of(torch.tensor(ends[0]), torch.tensor(ends[1]))
    assert zero_point.item() in range(LEVELS + 1)
    assert scale.item() == pytest.approx((ends[1] - ends[0]) / 255, rel=1e-6)
    assert quantized(np.zeros(1, np.float32), *ends) == 0.0


@QUICK
@given(VALUES, ENDS)
def test_values_inside_move_by_half_a_step_and_others_to_the_ends(
    x: NDArray[np.float32], ends: tuple[float, float]
) -> None:
    found, step = quantized(x, *ends), (ends[1] - ends[0]) / 255
    lowest, highest = quantized(np.array([-1e6, 1e6], np.float32), *ends)
    inside = (x >= lowest) & (x <= highest)
    assert np.abs(found - x)[inside].max(initial=0) <= 0.5001 * step + 1e-6 * np.abs(x).max()
    assert (found[x < lowest] == lowest).all()
    assert (found[x > highest] == highest).all()
    # The zero point is a whole number, which moves both ends by half a step at most.
    assert abs(lowest - ends[0]) <= 0.501 * step
    assert abs(highest - ends[1]) <= 0.501 * step


def test_halves_are_rounded_to_even() -> None:
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 3.5], np.float32)
    np.testing.assert_array_equal(quantized(x, -128.0, 127.0), [-2, 0, 0, 2, 2, 4])


@QUICK
@given(VALUES, ENDS)
def test_gradients_are_those_of_the_straight_through_estimator(
    x: NDArray[np.float32], ends: tuple[float, float]
) -> None:
    """Against autograd on the definition, in which rounding alone passes gradients on."""

    def rounded(y: torch.Tensor) -> torch.Tensor:
        return y + (torch.round(y) - y).detach()

    factors = torch.linspace(-1, 1, x.size)
    found = [torch.tensor(x), torch.tensor(ends[0]), torch.tensor(ends[1])]
    wanted = [value.double() for value in found]
    for value in (*found, *wanted):
        value.requires_grad_()
    (fake_quantize(*found) * factors).sum().backward()
    y, low, high = wanted
    scale = (high - low) / 255
    zero_point = rounded(-low / scale)
    levels = (rounded(y / scale) + zero_point).clamp(0, 255)
    near = (y / scale - torch.floor(y / scale) - 0.5).abs() < 1e-3  # float32 may round elsewhere
    (((levels - zero_point) * scale) * factors).sum().backward()
    if near.any():
        return
    share = 1 / math.sqrt(x.size * 255)
    for mine, other, factor in zip(found, wanted, (1.0, share, share), strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad.double(), other.grad * factor, rtol=1e-3, atol=1e-3)
