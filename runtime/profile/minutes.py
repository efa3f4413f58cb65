"""Whether latency holds when the device gets warm: a long run, minute by minute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgedf.bootstrap import block_quantiles, interval_around
from edgedf.runtime.profile.document import Minute, Sustained
from edgedf.runtime.profile.events import Block, State
from edgedf.runtime.profile.statistics import pooled

__all__ = ["sustained"]

_MINUTE_S = 60.0


def sustained(blocks: Sequence[Block], states: Sequence[State]) -> Sustained | None:
    """A sustained run; None where there was none.

    First and last minute are those of the clock, the last 60 s and the first, so that a run of
    ten and a half minutes is not judged by half a minute. Of a run under two minutes they are its
    halves. Their blocks are drawn apart from each other for the interval.

    Args:
        blocks: Of the sustained phase, in the order of time; what there is of a run cut off.
        states: The machine over the whole run.
    """
    if not blocks:
        return None
    zero, end = blocks[0].at_s, max(map(_end, blocks))
    seconds = end - zero
    part = min(_MINUTE_S, seconds / 2)
    first = [block for block in blocks if block.at_s < zero + part] or list(blocks[:1])
    last = [block for block in blocks if _end(block) > end - part] or list(blocks[-1:])
    begun, ended = float(np.median(pooled(first))), float(np.median(pooled(last)))
    if not begun > 0:  # a clock too coarse
        return None
    ratio = ended / begun
    medians = [
        block_quantiles([pooled([block]) for block in part], (0.5,), seed=seed)[0]
        for seed, part in enumerate((first, last))
    ]
    low, high = interval_around(ratio, medians[1] / medians[0])
    count = max(1, math.ceil(seconds / _MINUTE_S - 1e-9))
    minutes = [
        minute
        for number in range(count)
        if (minute := _minute(number, zero, blocks, states)) is not None
    ]
    return Sustained(seconds, ratio, low, high, tuple(minutes))


def _end(block: Block) -> float:
    return block.at_s + sum(block.times_ms) / 1e3


def _minute(
    number: int, zero: float, blocks: Sequence[Block], states: Sequence[State]
) -> Minute | None:
    begin = zero + number * _MINUTE_S
    times = pooled([block for block in blocks if 0 <= block.at_s - begin < _MINUTE_S])
    if not len(times):
        return None
    p50, p90 = np.percentile(times, [50, 90])
    now = [state for state in states if 0 < state.at_s - begin <= _MINUTE_S]
    frequencies = [np.mean(state.frequency_mhz) for state in now if state.frequency_mhz]
    temperatures = [value for state in now for value in state.temperature_c.values()]
    return Minute(
        at_s=number * _MINUTE_S,
        queries=len(times),
        p50_ms=float(p50),
        p90_ms=float(p90),
        frequency_mhz=float(np.mean(frequencies)) if frequencies else None,
        temperature_c=max(temperatures, default=None),
    )
