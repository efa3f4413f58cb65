"""How much faster one of two models is, measured so that the machine's drift cancels.

The two take turns (A B A B …), so whatever else the machine does, and whatever frequency its
processor has, slows both down alike. The figure is the ratio of the medians, with a 95 % interval
from a bootstrap over the turns: both times of a turn are drawn together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import median_ratio
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent

__all__ = ["LEAST_ROUNDS", "LatencyRatio", "Speed", "Turn", "over", "ratio_of", "take_turns"]

Turn = Callable[[int], object]
"""Runs a model once; told the number of the turn, from 0."""

LEAST_ROUNDS = 2
WARM_UP = 10


@dataclass(frozen=True)
class Speed:
    """Latency of one model over all turns.

    Args:
        median_ms: In milliseconds, as all that follow.
        p90_ms: Nine tenths of the turns took at most this.
        minimum_ms: The fastest turn.
    """

    median_ms: float
    p90_ms: float
    minimum_ms: float


@dataclass(frozen=True)
class LatencyRatio:
    """How long the second takes, as a multiple of the first.

    Args:
        first: Latency of the first.
        second: Latency of the second.
        ratio: Median of the second divided by that of the first; below 1 the second is faster.
        low: Lower end of its 95 % interval.
        high: Upper end.
        rounds: How many turns each had.
    """

    first: Speed
    second: Speed
    ratio: float
    low: float
    high: float
    rounds: int


def over(images: Sequence[RGBImage], run: Callable[[RGBImage], object]) -> Turn:
    """A model that is shown one image a turn, from the first again after the last.

    Args:
        images: At least one, prepared.
        run: Runs the model on one.
    """
    return lambda turn: run(images[turn % len(images)])


def take_turns(
    first: Turn,
    second: Turn,
    *,
    rounds: int,
    warm_up: int = WARM_UP,
    progress: Progress = silent,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> LatencyRatio:
    """Time two models by turns, in this thread.

    Args:
        first: Runs the first model.
        second: Runs the second.
        rounds: Turns of each that count, at least 2.
        warm_up: Turns before those, which do not count: the first ones fill caches.
        progress: Told about each turn.
        clock: In nanoseconds. ``time.thread_time_ns`` leaves out what else the processor did, where
            the models run in this thread alone.

    Returns:
        Both latencies and their ratio.

    Example:
        >>> found = take_turns(lambda turn: sum(range(10_000)), lambda turn: None, rounds=20)
        >>> found.ratio < 0.5, found.rounds
        (True, 20)
    """
    for turn in range(warm_up):
        first(turn)
        second(turn)
    times = np.empty((rounds, 2))
    for turn in range(rounds):
        for at, run in enumerate((first, second)):
            start = clock()
            run(turn)
            times[turn, at] = (clock() - start) / 1e6
        progress("latency", turn + 1, rounds)
    return ratio_of(times)


def ratio_of(times: NDArray[np.float64]) -> LatencyRatio:
    """The ratio of two medians with its interval.

    Args:
        times: (rounds, 2), in milliseconds, above 0: of the first and of the second model, turn by
            turn; at least two turns.
    """
    first, second = times.T
    ratio = median_ratio(first[:, None], second[:, None])
    return LatencyRatio(_speed(first), _speed(second), *ratio, len(times))


def _speed(times: NDArray[np.float64]) -> Speed:
    middle, ninety = np.percentile(times, [50, 90])
    return Speed(float(middle), float(ninety), float(times.min()))
