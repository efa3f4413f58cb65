"""Figures of latency, with intervals by a bootstrap over blocks (:mod:`edgedf.bootstrap`).

A block is 0.1 to 0.25 s of inferences; intervals over single inferences would be far too narrow.
Percentiles are NumPy's (linear between neighbours).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import block_draws, block_quantiles, interval_around, resampled_quantiles
from edgedf.runtime.profile.document import Distribution, Latency, Moment
from edgedf.runtime.profile.events import Block, Summary

__all__ = [
    "distribution",
    "latency",
    "latency_of_summaries",
    "over_time",
    "pooled",
]

Floats = NDArray[np.float64]

_MOST_GROUPS = 1000  # of blocks that the bootstrap tells apart; more would cost and add nothing
_MOST_MOMENTS = 300
_LEAST_REPETITIONS = 5  # of a native benchmark, for an interval
_MOST_BINS = 80
_LEAST_BINS = 10
_TAIL = 0.5  # per cent of inferences that go into the outermost bin on the slow side


def pooled(blocks: Sequence[Block]) -> Floats:
    """Times of all blocks in one array, in milliseconds."""
    if not blocks:
        return np.empty(0)
    return np.concatenate([np.asarray(block.times_ms, np.float64) for block in blocks])


def latency(blocks: Sequence[Block]) -> Latency | None:
    """Figures of one configuration; None without a single inference.

    Args:
        blocks: Of that configuration, of one phase, in the order of time.
    """
    times = pooled(blocks)
    if not len(times):
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    p50s, p90s = block_quantiles(_groups(blocks), (0.5, 0.9))
    p50_low, p50_high = interval_around(p50, p50s)
    p90_low, p90_high = interval_around(p90, p90s)
    seconds = float(times.sum()) / 1e3
    return Latency(
        queries=len(times),
        seconds=seconds,
        mean_ms=float(times.mean()),
        throughput=_throughput(len(times), seconds),
        minimum_ms=float(times.min()),
        p50_ms=p50,
        p50_low_ms=p50_low,
        p50_high_ms=p50_high,
        p90_ms=p90,
        p90_low_ms=p90_low,
        p90_high_ms=p90_high,
        p99_ms=p99,
        maximum_ms=float(times.max()),
        std_ms=float(times.std()),
    )


def latency_of_summaries(summaries: Sequence[Summary]) -> Latency | None:
    """Figures of one configuration from what a native benchmark says of itself.

    Means and deviations are exact; a percentile is the median of those of the repetitions.

    Args:
        summaries: One per repetition; those without inferences do not count.
    """
    counted = [summary for summary in summaries if summary.queries > 0]
    if not counted:
        return None
    queries = sum(summary.queries for summary in counted)
    seconds = sum(summary.seconds for summary in counted)
    mean = sum(summary.queries * summary.mean_ms for summary in counted) / queries
    p50 = _middle([summary.p50_ms for summary in counted])
    p50_low = p50_high = None
    if p50 is not None and len(counted) >= _LEAST_REPETITIONS:
        medians = [np.array([summary.p50_ms], np.float64) for summary in counted]
        (p50s,) = resampled_quantiles(medians, (0.5,), block_draws(len(medians)))
        p50_low, p50_high = interval_around(p50, p50s)
    minima = [summary.minimum_ms for summary in counted if summary.minimum_ms is not None]
    maxima = [summary.maximum_ms for summary in counted if summary.maximum_ms is not None]
    squares = [
        summary.queries * (summary.std_ms**2 + (summary.mean_ms - mean) ** 2)
        for summary in counted
        if summary.std_ms is not None
    ]
    return Latency(
        queries=queries,
        seconds=seconds,
        mean_ms=mean,
        throughput=_throughput(queries, seconds),
        minimum_ms=min(minima, default=None),
        p50_ms=p50,
        p50_low_ms=p50_low,
        p50_high_ms=p50_high,
        p90_ms=_middle([summary.p90_ms for summary in counted]),
        p99_ms=_middle([summary.p99_ms for summary in counted]),
        maximum_ms=max(maxima, default=None),
        std_ms=math.sqrt(sum(squares) / queries) if len(squares) == len(counted) else None,
    )


def distribution(times: Floats) -> Distribution | None:
    """Histogram with bins as wide as Freedman and Diaconis (1981) advise: 2 IQR / n^(1/3).

    The slowest half per cent does not stretch it: they are counted in the last bin.

    Args:
        times: In milliseconds.
    """
    if not len(times):
        return None
    low, high = float(times.min()), float(np.percentile(times, 100 - _TAIL))
    if not high > low:  # a clock too coarse, or a single inference
        half = max(abs(low) * 0.05, 1e-6)
        return Distribution((low - half, low + half), (len(times),))
    first, third = np.percentile(times, [25, 75])
    width = 2 * float(third - first) / len(times) ** (1 / 3)
    bins = math.ceil((high - low) / width) if width > (high - low) / _MOST_BINS else _MOST_BINS
    bins = max(bins, _LEAST_BINS) if len(times) > _LEAST_BINS else max(1, min(bins, len(times)))
    edges = np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(np.clip(times, low, high), edges)
    return Distribution(tuple(edges.tolist()), tuple(counts.tolist()))


def over_time(blocks: Sequence[Block]) -> tuple[Moment, ...]:
    """Block by block; where there are more than a few hundred, neighbours together.

    Args:
        blocks: In the order of time.
    """
    step = max(1, math.ceil(len(blocks) / _MOST_MOMENTS))
    moments = []
    for start in range(0, len(blocks), step):
        times = pooled(blocks[start : start + step])
        if len(times):
            p50, p90 = np.percentile(times, [50, 90])
            moments.append(Moment(blocks[start].at_s, float(p50), float(p90)))
    return tuple(moments)


def _groups(blocks: Sequence[Block]) -> list[Floats]:
    step = max(1, math.ceil(len(blocks) / _MOST_GROUPS))
    return [pooled(blocks[start : start + step]) for start in range(0, len(blocks), step)]


def _throughput(queries: int, seconds: float) -> float:
    return queries / seconds if seconds > 0 else 0.0


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known and len(known) == len(values) else None
