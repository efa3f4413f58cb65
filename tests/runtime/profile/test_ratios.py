import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.runtime.interleaved import ratio_of
from edgedf.runtime.profile.document import Ratio
from edgedf.runtime.profile.events import Block, Summary
from edgedf.runtime.profile.ratios import (
    pairs,
    ratio_between,
    rounds_of,
    rounds_of_summaries,
    turned,
)
from edgedf.runtime.profile.request import Configuration

FEW = settings(max_examples=15, deadline=None)
BLOCK = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=8)


@FEW
@given(st.lists(st.tuples(BLOCK, BLOCK), min_size=2, max_size=12))
def test_the_interval_holds_the_ratio_of_the_medians(
    rounds: list[tuple[list[float], list[float]]],
) -> None:
    times = {side: {at: np.array(both[side]) for at, both in enumerate(rounds)} for side in (0, 1)}
    found = ratio_between(0, 1, times)
    assert found is not None
    medians = [np.median(np.concatenate(list(times[side].values()))) for side in (0, 1)]
    assert found.ratio == pytest.approx(medians[1] / medians[0])
    assert 0 < found.low <= found.ratio <= found.high
    assert found.rounds == len(rounds)
    turned = ratio_between(1, 0, times)
    assert turned is not None and turned.ratio == pytest.approx(1 / found.ratio)


def test_what_the_machine_does_to_both_cancels() -> None:
    rng = np.random.default_rng(0)
    drift = np.repeat([1.0, 2.0, 1.5], 20)
    sides = {
        at: {n: level * m * rng.normal(1, 0.01, 30) for n, m in enumerate(drift)}
        for at, level in enumerate((5.0, 2.5))
    }
    # One that leaves earlier, because it has enough, is compared over what both have.
    sides[1] = {n: times for n, times in sides[1].items() if n < 50}
    found = ratio_between(0, 1, sides)
    assert found is not None
    assert found.rounds == 50
    assert 0.49 < found.low < 0.5 < found.high < 0.51


def test_one_round_or_a_clock_that_stands_still_gives_no_ratio() -> None:
    block = {0: np.array([1.0, 2.0])}
    assert ratio_between(0, 1, {0: block, 1: block}) is None
    still = {at: np.array([0.0]) for at in range(5)}
    assert ratio_between(0, 1, {0: still, 1: still}) is None


def test_repetitions_are_compared_as_turns_are() -> None:
    medians = np.array([[5.0, 2.0], [5.5, 2.2], [5.2, 2.3]])
    times = {
        side: rounds_of_summaries(
            [Summary(side, "native", 10, 1.0, 9.9, p50_ms=float(one)) for one in medians[:, side]]
        )
        for side in (0, 1)
    }
    found, expected = ratio_between(0, 1, times), ratio_of(medians)
    assert found is not None
    assert (found.ratio, found.low, found.high) == (expected.ratio, expected.low, expected.high)


def test_blocks_of_one_round_belong_together() -> None:
    made = [Block(0, 0, 0.0, (1.0,)), Block(0, 0, 1.0, (2.0,)), Block(0, 1, 2.0, ())]
    assert {number: list(times) for number, times in rounds_of(made).items()} == {0: [1.0, 2.0]}


def test_all_are_compared_with_the_first_and_with_those_of_as_many_threads() -> None:
    configurations = [Configuration(at, threads) for at in range(3) for threads in (1, 2)]
    found = list(pairs(configurations, range(6)))
    assert found == [*((0, at) for at in range(1, 6)), (1, 3), (1, 5), (2, 4), (3, 5)]
    # What could not be measured is left out, and the next one is the first.
    assert list(pairs(configurations, [2, 3, 4])) == [(2, 3), (2, 4)]


def test_a_ratio_turned_twice_is_itself() -> None:
    found = Ratio(0, 1, 2.0, 1.6, 2.5, 9)
    assert turned(found) == Ratio(1, 0, 0.5, 0.4, 0.625, 9)
    assert turned(turned(found)) == found
