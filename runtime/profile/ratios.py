"""How configurations that took turns compare, with what the machine did to both left out."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import median_ratio, run_length
from edgedf.runtime.interleaved import LEAST_ROUNDS
from edgedf.runtime.profile.document import Ratio
from edgedf.runtime.profile.events import Block, Summary
from edgedf.runtime.profile.request import Configuration

__all__ = ["Rounds", "pairs", "ratio_between", "rounds_of", "rounds_of_summaries", "turned"]

Rounds = Mapping[int, NDArray[np.float64]]
"""Times of one configuration by round, in milliseconds."""

_MOST_ROUNDS = 1000


def rounds_of(blocks: Sequence[Block]) -> Rounds:
    """Times by round of the blocks of one configuration."""
    by_round: dict[int, list[float]] = defaultdict(list)
    for block in blocks:
        by_round[block.round].extend(block.times_ms)
    return {number: np.asarray(times, np.float64) for number, times in by_round.items() if times}


def rounds_of_summaries(summaries: Sequence[Summary]) -> Rounds:
    """Repetitions of a native benchmark as rounds of one time each: median, else mean."""
    medians = all(summary.p50_ms is not None for summary in summaries)
    times = [summary.p50_ms if medians else summary.mean_ms for summary in summaries]
    return {number: np.array([time], np.float64) for number, time in enumerate(times)}


def pairs(
    configurations: Sequence[Configuration], measured: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Which configurations are compared: all with the first, and those of as many threads.

    Args:
        configurations: In the order of the request.
        measured: Indices of those that have times, ascending.

    Yields:
        First and second, no pair twice.
    """
    for first, second in itertools.combinations(measured, 2):
        alike = configurations[first].threads == configurations[second].threads
        if first == measured[0] or alike:
            yield first, second


def ratio_between(first: int, second: int, times: Mapping[int, Rounds]) -> Ratio | None:
    """The ratio of two medians over the rounds that both have, with its 95 % interval.

    Whole rounds are drawn, the blocks of both together. None where there are fewer than two.

    Args:
        first: Configuration that is divided by.
        second: The other.
        times: Of each configuration by round.
    """
    common = sorted(times[first].keys() & times[second].keys())
    if len(common) < LEAST_ROUNDS:
        return None
    sides = [[times[side][number] for number in common] for side in (first, second)]
    if min(float(part.min()) for side in sides for part in side) <= 0:  # a clock too coarse
        return None
    joined = [_joined(side) for side in sides]
    by_round = [np.array([np.median(part) for part in side]) for side in joined]
    # Repetitions of a native benchmark are too long to be alike for being neighbours.
    repeated = all(len(times) == 1 for side in sides for times in side)
    length = 1 if repeated else run_length(np.log(by_round[1] / by_round[0]))
    return Ratio(first, second, *median_ratio(joined[0], joined[1], length), len(common))


def turned(ratio: Ratio) -> Ratio:
    """The same ratio with the other one in the denominator."""
    return Ratio(
        ratio.second, ratio.first, 1 / ratio.ratio, 1 / ratio.high, 1 / ratio.low, ratio.rounds
    )


def _joined(side: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Neighbouring rounds together, so that there are not more than the bootstrap needs."""
    step = -(-len(side) // _MOST_ROUNDS)
    return [np.concatenate(side[start : start + step]) for start in range(0, len(side), step)]
