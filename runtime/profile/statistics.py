"""Figures of latency with intervals that believe what a machine is like.

Single inferences are not independent: frequency and whatever else runs change over seconds, so
neighbours are alike. A bootstrap over single inferences would give intervals that are far too
narrow. Here whole blocks are drawn (a block is 0.1 to 0.25 s of inferences), and of those runs of
neighbours around a circle, so that each is drawn alike (Künsch, *Ann. Statist.* 1989; Politis &
Romano 1992). How long a run has to be follows from how alike neighbouring blocks are. What two
configurations that take turns have in common is kept by drawing the same rounds for both.

Percentiles are NumPy's (linear between neighbours). Results depend on nothing but the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgedf.runtime.profile.document import Distribution, Latency, Moment
from edgedf.runtime.profile.events import Block, Summary

__all__ = [
    "RESAMPLES",
    "distribution",
    "draws",
    "interval",
    "latency",
    "latency_of_summaries",
    "over_time",
    "pooled",
    "resampled",
    "run_length",
]

Floats = NDArray[np.float64]

RESAMPLES = 2000
_MOST_GROUPS = 1000  # of blocks that the bootstrap tells apart; more would cost and add nothing
_LEAST_RUNS = 5  # that a resample is made of
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


def run_length(series: Floats) -> int:
    """How many neighbours a bootstrap has to draw together.

    The length with the least error of the variance for a series in which each value depends on the
    one before (Carlstein, *Ann. Statist.* 1986): (3/2)^(1/3) (2 r / (1 - r^2))^(2/3) n^(1/3) with r
    the correlation of neighbours.

    Args:
        series: A figure of each group, in the order of time.
    """
    groups = len(series)
    if groups < 2 * _LEAST_RUNS:
        return 1
    centred = series - np.median(series)
    # One interrupted block is no sign of a trend; neither may it hide one.
    most = 4 * float(np.median(np.abs(centred)))
    centred = np.clip(centred, -most, most) if most > 0 else centred
    power = float(centred @ centred)
    r = min(max(float(centred[1:] @ centred[:-1]) / power, 0.0), 0.97) if power > 0 else 0.0
    length = (1.5 * (2 * r / (1 - r * r)) ** 2 * groups) ** (1 / 3)
    return int(min(max(1, round(length)), groups // _LEAST_RUNS))


def draws(groups: int, length: int = 1, *, seed: int = 0) -> Floats:
    """How often each group is in each resample; the same for the same arguments.

    Args:
        groups: How many groups there are, in the order of time.
        length: Of the runs of neighbours that are drawn.
        seed: Of the generator.

    Returns:
        Whole numbers, (resamples, groups); each row's sum is ``groups`` or little more.
    """
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, groups, (RESAMPLES, math.ceil(groups / length)))
    cells = starts + groups * np.arange(RESAMPLES)[:, None]
    begun = np.bincount(cells.ravel(), minlength=RESAMPLES * groups).reshape(RESAMPLES, groups)
    # Sums over the last ``length`` starts, around the circle.
    around = np.cumsum(np.concatenate([begun[:, groups - length :], begun], axis=1), axis=1)
    return (around[:, length:] - around[:, :groups]).astype(np.float64)


def resampled(groups: Sequence[Floats], quantiles: Sequence[float], drawn: Floats) -> list[Floats]:
    """Quantiles of each resample of groups.

    Args:
        groups: Times of each group, at least one time in all.
        quantiles: 0 to 1.
        drawn: How often each group is in each resample, (resamples, groups).

    Returns:
        For each quantile (resamples,): what ``np.quantile`` gives of each resample's times.
    """
    values = np.concatenate(groups)
    owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    order = np.argsort(values, kind="stable")
    found = _Sorted(values[order], owners[order], drawn)
    return [found.quantile(q) for q in quantiles]


class _Sorted:
    """Times in ascending order, each as often in a resample as its group is.

    They are cut into about sqrt(n) pieces. How many times each resample has in a piece is one
    matrix product, so only the piece with the wanted one is looked at time by time.
    """

    def __init__(self, values: Floats, owners: NDArray[np.intp], drawn: Floats) -> None:
        self.values, self.owners, self.drawn = values, owners, drawn
        self.piece = math.isqrt(len(values) - 1) + 1
        pieces = np.arange(len(values)) // self.piece
        size = (int(pieces[-1]) + 1, drawn.shape[1])
        counts = np.bincount(pieces * size[1] + owners, minlength=size[0] * size[1]).reshape(size)
        until = np.cumsum(counts, axis=0, dtype=np.float64)
        self.until = drawn @ until.T  # (resamples, pieces)

    def quantile(self, q: float) -> Floats:
        total = self.until[:, -1]
        # Of groups of unequal size a resample may have drawn empty ones alone.
        position = np.maximum(total - 1, 0) * q
        below = np.floor(position)
        low = self._at(below)
        high = self._at(np.minimum(below + 1, np.maximum(total - 1, 0)))
        return low + (position - below) * (high - low)

    def _at(self, position: Floats) -> Floats:
        """The time at a position, from 0, of each resample."""
        rows = np.arange(len(position))
        piece = np.minimum((self.until <= position[:, None]).sum(1), self.until.shape[1] - 1)
        before = np.where(piece > 0, self.until[rows, piece - 1], 0)
        within = piece[:, None] * self.piece + np.arange(self.piece)
        within = np.minimum(within, len(self.values) - 1)
        until = before[:, None] + np.cumsum(self.drawn[rows[:, None], self.owners[within]], axis=1)
        step = np.minimum((until <= position[:, None]).sum(1), self.piece - 1)
        return self.values[within[rows, step]]


def interval(estimate: float, found: Floats) -> tuple[float, float]:
    """Ends of the 95 % interval.

    Args:
        estimate: The figure itself; of few groups it may lie beside all that the bootstrap gives.
        found: The same figure of each resample.
    """
    low, high = np.percentile(found, [2.5, 97.5])
    return min(float(low), estimate), max(float(high), estimate)


def latency(blocks: Sequence[Block]) -> Latency | None:
    """Figures of one configuration; None without a single inference.

    Args:
        blocks: Of that configuration, of one phase, in the order of time.
    """
    times = pooled(blocks)
    if not len(times):
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(times, [50, 90, 99]))
    groups = _groups(blocks)
    drawn = draws(len(groups), run_length(np.array([np.median(group) for group in groups])))
    found = resampled(groups, (0.5, 0.9), drawn)
    p50_low, p50_high = interval(p50, found[0])
    p90_low, p90_high = interval(p90, found[1])
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
    said = [summary for summary in summaries if summary.queries > 0]
    if not said:
        return None
    queries = sum(summary.queries for summary in said)
    seconds = sum(summary.seconds for summary in said)
    mean = sum(summary.queries * summary.mean_ms for summary in said) / queries
    p50 = _middle([summary.p50_ms for summary in said])
    p50_low = p50_high = None
    if p50 is not None and len(said) >= _LEAST_REPETITIONS:
        medians = [np.array([summary.p50_ms], np.float64) for summary in said]
        (found,) = resampled(medians, (0.5,), draws(len(medians)))
        p50_low, p50_high = interval(p50, found)
    minima = [summary.minimum_ms for summary in said if summary.minimum_ms is not None]
    maxima = [summary.maximum_ms for summary in said if summary.maximum_ms is not None]
    squares = [
        summary.queries * (summary.std_ms**2 + (summary.mean_ms - mean) ** 2)
        for summary in said
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
        p90_ms=_middle([summary.p90_ms for summary in said]),
        p99_ms=_middle([summary.p99_ms for summary in said]),
        maximum_ms=max(maxima, default=None),
        std_ms=math.sqrt(sum(squares) / queries) if len(squares) == len(said) else None,
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
