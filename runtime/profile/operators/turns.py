"""A model with and without a clock at its operators, by turns: so that neither has the better hour.

They change places every few inferences, not every one: two copies of a model's weights push each
other out of the caches, which no inference in a row of its like ever sees.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.imaging import RGBImage
from edgedf.runtime.backends import Backend

__all__ = ["Turns", "take_turns"]

_LEAD_IN = 2
_BLOCK = 6
_WARM_UP = 3
_KEPT_SHARE = 0.75


@dataclass(frozen=True)
class Turns:
    """What came of it.

    Something else on the machine may interrupt an inference in the midst of any operator. So the
    slowest quarter of the inferences is left out, of both models; of the others everything counts,
    and the operators' means still add up to the inference's.

    Args:
        counted: Numbers of the profiled model's inferences that count, from 0 for the very first
            one after loading; ascending.
        inference_ms: Their mean.
        plain_ms: Mean of the other model's inferences.
    """

    counted: tuple[int, ...]
    inference_ms: float
    plain_ms: float


def take_turns(
    profiled: Backend, plain: Backend, images: Sequence[RGBImage], queries: int
) -> Turns:
    """Run both over the same pictures.

    Args:
        profiled: The model whose operators are timed, just loaded.
        plain: The same model without that.
        images: Prepared pictures, at least one.
        queries: Inferences of each, at least 1; the first ones of a block come on top.

    Returns:
        Which inferences count, and both means.
    """
    for turn in range(_WARM_UP):
        profiled.run(images[turn % len(images)])
        plain.run(images[turn % len(images)])
    numbers: list[int] = []
    times: tuple[list[float], list[float]] = ([], [])
    number = _WARM_UP
    for first in range(0, queries, _BLOCK):
        block = range(first - _LEAD_IN, min(first + _BLOCK, queries))
        for backend, taken in zip((profiled, plain), times):
            for query in block:
                image = images[query % len(images)]
                start = time.perf_counter_ns()
                backend.run(image)
                elapsed = (time.perf_counter_ns() - start) / 1e6
                if query >= first:
                    taken.append(elapsed)
        numbers.extend(number + query - block[0] for query in block if query >= first)
        number += len(block)
    fast = _fastest(times[0])
    return Turns(
        tuple(numbers[at] for at in fast),
        float(np.mean([times[0][at] for at in fast])),
        float(np.mean([times[1][at] for at in _fastest(times[1])])),
    )


def _fastest(times: Sequence[float]) -> NDArray[np.int64]:
    """Places of the fastest three quarters, in order."""
    order = np.argsort(times, kind="stable")
    return np.sort(order[: max(1, round(_KEPT_SHARE * len(order)))])
