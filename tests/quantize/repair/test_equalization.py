from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from edgedf.formats.weights import Convolution, Parameters, Step
from edgedf.quantize.repair.equalization import (
    ChannelStatistics,
    bias_corrections,
    channel_groups,
    equalized,
    observe_channels,
    rounded_weights,
)

WEIGHTS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.just(1), st.just(1)),
    elements=st.floats(-8, 8, width=32),
)


@dataclass
class Drawn:
    """A graph that was drawn by hand."""

    steps: tuple[Step, ...]
    convolutions: Mapping[str, Convolution]
    outputs: frozenset[str] = field(default_factory=frozenset)
    channel_axis: int = 1

    def changed(self, parameters: Mapping[str, Parameters]) -> bytes:
        raise NotImplementedError


def conv(taken: str, made: str, weights: NDArray[np.float32], **more: bool) -> Convolution:
    bias = np.linspace(-1, 1, len(weights)).astype(np.float32)
    return Convolution(made, taken, more.get("depthwise", False), Parameters(weights, bias))


def ones(outputs: int, inputs: int) -> NDArray[np.float32]:
    return np.ones((outputs, inputs, 1, 1), np.float32)


def two_convolutions(first: NDArray[np.float32], second: NDArray[np.float32]) -> Drawn:
    """x → first → a → second → y."""
    return Drawn(
        (Step("convolution", ("x",), ("a",)), Step("convolution", ("a",), ("y",))),
        {"a": conv("x", "a", first), "y": conv("a", "y", second)},
        frozenset({"y"}),
    )


def applied(parameters: Parameters, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A 1 x 1 convolution of one pixel."""
    return parameters.weights[:, :, 0, 0].astype(np.float64) @ x + parameters.bias


@given(WEIGHTS, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_equalized_weights_compute_the_same(
    first: NDArray[np.float32], outputs: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    second = rng.normal(size=(outputs, len(first), 1, 1)).astype(np.float32)
    graph = two_convolutions(first, second)
    pixels = rng.normal(size=(first.shape[1], 20))
    middle = applied(graph.convolutions["a"].parameters, pixels[:, :1])
    inner = np.abs(first[:, :, 0, 0] @ pixels + graph.convolutions["a"].parameters.bias[:, None])
    statistics = {"a": ChannelStatistics(middle[:, 0], inner.max(axis=1))}
    changed = equalized(graph, statistics)
    assert set(changed) == {"a", "y"}
    x = pixels[:, 0]
    before = applied(
        graph.convolutions["y"].parameters, applied(graph.convolutions["a"].parameters, x)
    )
    after = applied(changed["y"], applied(changed["a"], x))
    assert after == pytest.approx(before, rel=1e-4, abs=1e-4 * (1 + np.abs(before).max()))


def test_a_channel_that_is_100_times_as_large_becomes_like_the_others() -> None:
    first, second = ones(4, 1), ones(2, 4)
    first[2] *= 100
    second[:, 2] /= 100
    graph = two_convolutions(first, second)
    ranges = np.array([1.0, 1.0, 100.0, 1.0])
    changed = equalized(graph, {"a": ChannelStatistics(ranges, ranges)})
    assert changed["a"].weights.ravel() == pytest.approx(
        np.full(4, changed["a"].weights[0, 0, 0, 0])
    )
    assert changed["y"].weights.ravel() == pytest.approx(
        np.full(8, changed["y"].weights[0, 0, 0, 0])
    )


def test_a_dead_channel_stays_as_it_is() -> None:
    graph = two_convolutions(ones(3, 1), ones(2, 3))
    ranges = np.array([0.0, 4.0, 1.0])
    changed = equalized(graph, {"a": ChannelStatistics(ranges, ranges)})
    assert changed["a"].weights[0, 0, 0, 0] == 1.0
    assert np.isfinite(changed["y"].weights).all()


def test_what_is_added_up_shares_its_factors_and_what_saturates_has_none() -> None:
    steps = (
        Step("convolution", ("x",), ("a",)),
        Step("convolution", ("a",), ("b",), saturates=True),
        Step("convolution", ("b",), ("c",)),
        Step("each", ("a", "c"), ("sum",)),
        Step("convolution", ("sum",), ("d",)),
        Step("convolution", ("d",), ("e",)),
        Step("other", ("e",), ("y",)),
    )
    graph = Drawn(steps, {}, frozenset({"y"}))
    assert channel_groups(graph) == (frozenset({"a", "c", "sum"}), frozenset({"d"}))


def test_what_leaves_the_model_has_no_factors() -> None:
    steps = (Step("convolution", ("x",), ("a",)), Step("convolution", ("a",), ("y",)))
    assert channel_groups(Drawn(steps, {}, frozenset({"a", "y"}))) == ()


@given(WEIGHTS)
def test_rounded_weights_are_within_half_a_step_of_their_channel(
    weights: NDArray[np.float32],
) -> None:
    steps = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127
    assert (np.abs(rounded_weights(weights) - weights) <= steps * 0.5001 + 1e-30).all()


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_corrected_bias_gives_rounded_weights_the_mean_of_exact_ones(depthwise: bool) -> None:
    rng = np.random.default_rng(0)
    inputs = 3
    shape = (inputs, 1, 1, 2) if depthwise else (4, inputs, 1, 1)
    one = conv("x", "a", rng.normal(size=shape).astype(np.float32), depthwise=depthwise)
    pixels = rng.normal(loc=5.0, size=(inputs, 1000))
    statistics = {"x": ChannelStatistics(pixels.mean(axis=1), np.abs(pixels).max(axis=1))}
    corrected = bias_corrections({"a": one}, statistics)["a"]

    def mean(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
        flat = weights.reshape(len(weights), -1).astype(np.float64)
        means = pixels.mean(axis=1)
        return np.asarray((flat.sum(axis=1) * means if depthwise else flat @ means) + bias)

    wanted = mean(one.parameters.weights, one.parameters.bias)
    rounded = rounded_weights(one.parameters.weights)
    assert mean(rounded, corrected.bias) == pytest.approx(wanted, abs=1e-5)
    assert np.abs(mean(rounded, one.parameters.bias) - wanted).max() > 1e-3


def test_exact_weights_need_no_correction() -> None:
    one = conv("x", "a", ones(2, 3))
    statistics = {"x": ChannelStatistics(np.ones(3), np.ones(3))}
    assert bias_corrections({"a": one}, statistics) == {}


def test_statistics_are_over_pictures_and_pixels() -> None:
    pictures = [
        {"a": np.full((1, 2, 3, 3), value, np.float32), "flat": np.zeros((1, 2), np.float32)}
        for value in (-3.0, 1.0)
    ]
    found = observe_channels(pictures, 1)
    assert set(found) == {"a"}
    assert found["a"].mean.tolist() == [-1.0, -1.0]
    assert found["a"].largest.tolist() == [3.0, 3.0]
