import gc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.imaging import RGBImage
from edgedf.runtime.profile import sampling
from edgedf.runtime.profile.events import Block
from edgedf.runtime.profile.sampling import (
    LEAD_IN,
    Timed,
    block_length,
    rounds,
    timed,
    warm_up,
)

IMAGES = [np.full((1, 1, 3), value, np.uint8) for value in range(5)]


class Clock:
    """A clock that only a model's running moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        monkeypatch.setattr(sampling.time, "perf_counter_ns", lambda: self.now_ns)
        monkeypatch.setattr(sampling.time, "monotonic", lambda: self.now_ns / 1e9)

    def model(self, milliseconds: Callable[[int], float], configuration: int = 0) -> "Model":
        return Model(self, milliseconds, configuration)


class Model:
    """Takes as long as it is told for its n-th run, and remembers what it was shown."""

    def __init__(self, clock: Clock, milliseconds: Callable[[int], float], index: int) -> None:
        self.clock, self.milliseconds = clock, milliseconds
        self.shown: list[int] = []
        self.timed = Timed(index, self.run, IMAGES)

    def run(self, image: RGBImage) -> None:
        self.clock.now_ns += round(1e6 * self.milliseconds(len(self.shown)))
        self.shown.append(int(image[0, 0, 0]))
        assert not gc.isenabled()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_only_the_model_is_timed_and_images_come_in_turn(clock: Clock) -> None:
    model = clock.model(lambda run: run + 1.0)
    assert timed(model.timed, 3, 4) == [1.0, 2.0, 3.0, 4.0]
    assert model.shown == [3, 4, 0, 1]
    assert gc.isenabled()


def test_the_head_of_a_block_does_not_count(clock: Clock) -> None:
    model = clock.model(lambda run: 9.0 if run < 2 else 1.0)
    assert timed(model.timed, 0, 3, lead_in=2) == [1.0, 1.0, 1.0]
    assert len(model.shown) == 5


def test_the_collector_is_back_even_if_the_model_fails() -> None:
    def fail(image: RGBImage) -> None:
        raise ValueError

    with pytest.raises(ValueError):
        timed(Timed(0, fail, IMAGES), 0, 1)
    assert gc.isenabled()


def test_warm_up_ends_when_latency_is_steady(clock: Clock) -> None:
    falling = clock.model(lambda run: max(4.0, 40.0 * 0.9**run))
    warmed, median = warm_up(falling.timed, 60.0)
    assert warmed.steady
    assert median == pytest.approx(4.0)
    assert warmed.queries == len(falling.shown)


def test_warm_up_gives_up_and_says_so(clock: Clock) -> None:
    model = clock.model(lambda run: 4.0 * 1.01**run)
    warmed, _ = warm_up(model.timed, 1.0)
    assert not warmed.steady
    assert warmed.seconds >= 1.0
    assert warmed.queries == len(model.shown)


@given(st.floats(0, 1e6), st.floats(0.01, 10))
def test_a_block_is_as_long_as_asked_within_its_bounds(median_ms: float, seconds: float) -> None:
    length = block_length(median_ms, seconds)
    assert 4 <= length <= 4096
    if 4 < length < 4096:
        assert (length - 1) * median_ms < 1e3 * seconds * (1 + 1e-9)
        assert length * median_ms >= 1e3 * seconds * (1 - 1e-9)


@given(
    costs=st.lists(st.integers(1, 50), min_size=1, max_size=4),
    queries=st.integers(0, 200),
    seconds=st.floats(0, 3),
)
def test_every_model_gets_enough_of_both_by_turns(
    costs: list[int], queries: int, seconds: float
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        models = [clock.model(lambda run, ms=ms: ms, at) for at, ms in enumerate(costs)]  # type: ignore[misc]
        lengths = [block_length(ms) for ms in costs]
        made = list(
            rounds(
                [model.timed for model in models],
                lengths,
                queries=queries,
                seconds=seconds,
                started=0.0,
            )
        )
    for at, ms in enumerate(costs):
        own = [block for block in made if block.configuration == at]
        count = sum(len(block.times_ms) for block in own)
        assert count >= queries
        assert count * ms >= 1e3 * seconds - 1e-6
        assert [block.round for block in own] == list(range(len(own)))
        # No block more than it takes.
        short = count - lengths[at]
        assert not own or short < queries or short * ms < 1e3 * seconds
        assert all(set(block.times_ms) == {float(ms)} for block in own)
    assert [block.at_s for block in made] == sorted(block.at_s for block in made)
    assert [block.round for block in made] == sorted(block.round for block in made)


def test_alone_there_is_no_switch_and_so_no_head_but_the_first(clock: Clock) -> None:
    model = clock.model(lambda run: 10.0)
    made: list[Block] = list(
        rounds([model.timed], [5], queries=20, seconds=0.0, started=0.0, phase="sustained")
    )
    assert len(model.shown) == 20 + LEAD_IN
    assert {block.phase for block in made} == {"sustained"}
