import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.runtime import interleaved
from edgedf.runtime.interleaved import WARM_UP, over, ratio_of, take_turns
from tests.runtime.pictures import noise

TIMES = st.lists(st.tuples(*[st.floats(0.1, 100.0)] * 2), min_size=2, max_size=30)
FEW = settings(max_examples=10, deadline=None)


def test_the_two_take_turns_and_the_first_rounds_do_not_count() -> None:
    calls: list[tuple[str, int]] = []
    steps: list[tuple[str, int, int]] = []
    found = take_turns(
        lambda turn: calls.append(("A", turn)),
        lambda turn: calls.append(("B", turn)),
        rounds=3,
        progress=lambda *step: steps.append(step),
    )
    turns = [*range(WARM_UP), *range(3)]
    assert calls == [(name, turn) for turn in turns for name in "AB"]
    assert steps == [("latency", turn, 3) for turn in (1, 2, 3)]
    assert found.rounds == 3


def test_each_turn_shows_the_next_image() -> None:
    images = [noise(8, 8, seed) for seed in range(2)]
    seen: list[np.ndarray] = []
    turn = over(images, seen.append)
    for number in range(3):
        turn(number)
    assert [image is images[at] for image, at in zip(seen, (0, 1, 0), strict=True)] == [True] * 3


def test_the_figures_are_those_of_numpy() -> None:
    times = np.array([[4.0, 1.0], [5.0, 2.0], [9.0, 3.0], [6.0, 9.0]])
    found = ratio_of(times)
    assert found.first.median_ms == 5.5
    assert found.second.median_ms == 2.5
    assert found.ratio == pytest.approx(2.5 / 5.5)
    assert found.first.minimum_ms == 4.0
    assert found.first.p90_ms == pytest.approx(np.percentile(times[:, 0], 90))
    assert found.rounds == 4


def test_a_steady_difference_has_a_narrow_interval_whatever_the_machine_does() -> None:
    drift = np.repeat([1.0, 3.0, 2.0], 40)  # frequency and load, which both feel alike
    jitter = np.random.default_rng(1).uniform(0.99, 1.01, (120, 2))
    found = ratio_of(np.stack([drift * 4, drift * 2], axis=1) * jitter)
    assert 0.48 < found.low <= found.ratio <= found.high < 0.52


@FEW
@given(TIMES, st.floats(0.1, 10.0))
def test_the_ratio_scales_with_the_second_and_turns_round(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    times = np.array(pairs)
    plain = ratio_of(times)
    assert 0 < plain.low <= plain.ratio <= plain.high
    scaled = ratio_of(times * [1.0, factor])
    for name in ("low", "ratio", "high"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(plain, name))
    swapped = ratio_of(times[:, ::-1])
    assert swapped.ratio == pytest.approx(1 / plain.ratio)
    assert swapped.first == plain.second


@FEW
@given(TIMES)
def test_equal_times_have_a_ratio_of_one(pairs: list[tuple[float, float]]) -> None:
    times = np.array(pairs)[:, [0, 0]]
    found = ratio_of(times)
    assert (found.low, found.ratio, found.high) == (1.0, 1.0, 1.0)


def test_the_docstrings_example_works() -> None:
    results = doctest.testmod(interleaved)
    assert (results.attempted > 0, results.failed) == (True, 0)
