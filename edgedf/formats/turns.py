"""A model with and without a clock at its operators, by turns, so that neither has the better hour.

They change places every few inferences, not every one: two copies of a model's weights push each
other out of the caches, which no inference in a row of its like ever sees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.imaging import RGBImage

__all__ = ["Run", "Turns", "take_turns", "time_alone"]

Run = Callable[[RGBImage], object]
"""Runs a model on a prepared picture."""

_LEAD_IN = 2
_BLOCK = 8
_WARM_UP = 3
_KEPT_SHARE = 0.75
_LONGEST_NS = 10_000_000_000  # after that no further block: a model of half a second is known soon


@dataclass(frozen=True)
class Turns:
    """What came of it.

    Something else on the machine may interrupt an inference in the midst of any operator. So the
    slowest quarter of the inferences is left out, of both models; of the others everything counts,
    and the operators' means still add up to the inference's.

    Args:
        counted: Numbers of the profiled model's inferences that count, from 0 for the very first
            one; ascending.
        inference_ms: Their mean.
        plain_ms: Mean of the other model's inferences.
    """

    counted: tuple[int, ...]
    inference_ms: float
    plain_ms: float


def take_turns(
    profiled: Run,
    plain: Run,
    images: Sequence[RGBImage],
    queries: int,
    *,
    after: Callable[[], object] = lambda: None,
) -> Turns:
    """Run both over the same pictures.

    Args:
        profiled: The model whose operators are timed; not run before.
        plain: The same model without that.
        images: At least one.
        queries: Inferences of each, at least 1; the first ones of a block come on top. Fewer when
            they take more than ten seconds.
        after: Called after every inference of the first, outside of its time.

    Returns:
        Which inferences count, and both means.
    """

    def nothing() -> None:
        return None

    numbers: list[int] = []
    times: tuple[list[float], list[float]] = ([], [])
    done = 0
    start = time.perf_counter_ns()
    for first in range(0, queries, _BLOCK):
        begin = first - (_LEAD_IN if first else _WARM_UP)
        block = range(begin, min(first + _BLOCK, queries))
        numbers.extend(range(done + first - begin, done + len(block)))
        done += len(block)
        for run, taken, then in ((profiled, times[0], after), (plain, times[1], nothing)):
            for query in block:
                elapsed = _milliseconds(run, images[query % len(images)])
                then()
                if query >= first:
                    taken.append(elapsed)
        if time.perf_counter_ns() - start > _LONGEST_NS:
            break
    fast, fast_plain = _fastest(times[0]), _fastest(times[1])
    counted = tuple(numbers[at] for at in fast)
    return Turns(counted, _mean(times[0], fast), _mean(times[1], fast_plain))


def time_alone(run: Run, images: Sequence[RGBImage], queries: int) -> float:
    """Mean of a model's inferences in milliseconds, the slowest quarter left out.

    Args:
        run: The model.
        images: At least one.
        queries: Inferences, at least 1; fewer when they take more than ten seconds.
    """
    for turn in range(_WARM_UP):
        run(images[turn % len(images)])
    times: list[float] = []
    while len(times) < queries and 1e6 * sum(times) < _LONGEST_NS:
        times.append(_milliseconds(run, images[len(times) % len(images)]))
    return _mean(times, _fastest(times))


def _milliseconds(run: Run, image: RGBImage) -> float:
    start = time.perf_counter_ns()
    run(image)
    return (time.perf_counter_ns() - start) / 1e6


def _fastest(times: Sequence[float]) -> NDArray[np.int64]:
    """Places of the fastest three quarters, in order."""
    order = np.argsort(times, kind="stable")
    return np.sort(order[: max(1, round(_KEPT_SHARE * len(order)))])


def _mean(times: Sequence[float], places: NDArray[np.int64]) -> float:
    return float(np.mean(np.asarray(times)[places]))
