"""Bootstrap intervals (Efron & Tibshirani 1993): of 2,000 resamples, from 2.5 to 97.5 per cent.

What is not independent is drawn together. Pictures are drawn by whole groups
(:class:`GroupResamples`). Single inferences are alike for seconds, as frequency and load change
slowly, so blocks of them are drawn in runs of neighbours around a circle (:func:`block_draws`;
Künsch, *Ann. Statist.* 1989; Politis & Romano 1992). Results depend on nothing but the input.

Memory stays bounded: resamples of pictures are worked on in chunks, each as one array operation,
and quantiles of inferences are found without repeating them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RESAMPLES",
    "GroupResamples",
    "block_draws",
    "block_quantiles",
    "interval",
    "interval_around",
    "median_ratio",
    "resampled_quantiles",
    "run_length",
]

Floats = NDArray[np.float64]

RESAMPLES = 2000
_SEED = 0
_CHUNK = 1 << 19  # numbers at a time: 4 MB as float64, which a processor's cache still holds
_LEAST_RUNS = 5  # that a resample of blocks is made of


def interval(resampled: Floats) -> tuple[float, float]:
    """Ends of the 95 % interval.

    Args:
        resampled: The figure of each resample; NaN where it could not be computed.
    """
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def interval_around(estimate: float, resampled: Floats) -> tuple[float, float]:
    """Ends of the 95 % interval, which holds the estimate.

    Args:
        estimate: The figure itself; of few groups it may lie beside all that the bootstrap gives.
        resampled: The same figure of each resample.
    """
    low, high = interval(resampled)
    return min(low, estimate), max(high, estimate)


class GroupResamples:
    """How often each picture is in each resample of whole groups.

    Args:
        groups: (n,): group of each picture.

    Attributes:
        groups: Number of different groups.
        pictures: n.
    """

    def __init__(self, groups: Sequence[str] | NDArray[np.object_]) -> None:
        names, self._member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups, self.pictures = len(names), len(self._member)

    def chunks(self) -> Iterator[Floats]:
        """All of them, (rows, n) at a time; the same ones each time."""
        rng = np.random.default_rng(_SEED)
        chances = np.full(self.groups, 1 / self.groups)
        rows = max(1, _CHUNK // self.pictures)
        for start in range(0, RESAMPLES, rows):
            size = min(rows, RESAMPLES - start)
            drawn = rng.multinomial(self.groups, chances, size=size)
            yield drawn[:, self._member].astype(np.float64)

    def measure(self, figures: Callable[[Floats], Mapping[str, Floats]]) -> dict[str, Floats]:
        """Figures of the pictures themselves, then of every resample.

        Args:
            figures: From weights of the pictures, (rows, n), to figures by name, each with a first
                axis of that many rows.

        Returns:
            By name, with 1 + RESAMPLES rows.
        """
        rows = [figures(np.ones((1, self.pictures))), *map(figures, self.chunks())]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def run_length(series: Floats) -> int:
    """How many neighbours a bootstrap has to draw together.

    The length with the least error of the variance for a series in which each value depends on the
    one before (Carlstein, *Ann. Statist.* 1986): (3/2)^(1/3) (2 r / (1 - r^2))^(2/3) n^(1/3) with r
    the correlation of neighbours.

    Args:
        series: A figure of each block, in the order of time.
    """
    blocks = len(series)
    if blocks < 2 * _LEAST_RUNS:
        return 1
    centred = series - np.median(series)
    # One interrupted block is no sign of a trend; neither may it hide one.
    most = 4 * float(np.median(np.abs(centred)))
    centred = np.clip(centred, -most, most) if most > 0 else centred
    power = float(centred @ centred)
    r = min(max(float(centred[1:] @ centred[:-1]) / power, 0.0), 0.97) if power > 0 else 0.0
    length = (1.5 * (2 * r / (1 - r * r)) ** 2 * blocks) ** (1 / 3)
    return int(min(max(1, round(length)), blocks // _LEAST_RUNS))


def block_draws(blocks: int, length: int = 1, *, seed: int = _SEED) -> Floats:
    """How often each block is in each resample; the same for the same arguments.

    Args:
        blocks: How many blocks there are, in the order of time.
        length: Of the runs of neighbours that are drawn.
        seed: Of the generator.

    Returns:
        Whole numbers, (RESAMPLES, blocks); each row's sum is ``blocks`` or little more.
    """
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, blocks, (RESAMPLES, math.ceil(blocks / length)))
    cells = starts + blocks * np.arange(RESAMPLES)[:, None]
    begun = np.bincount(cells.ravel(), minlength=RESAMPLES * blocks).reshape(RESAMPLES, blocks)
    # Sums over the last ``length`` starts, around the circle.
    around = np.cumsum(np.concatenate([begun[:, blocks - length :], begun], axis=1), axis=1)
    return (around[:, length:] - around[:, :blocks]).astype(np.float64)


def block_quantiles(
    blocks: Sequence[Floats], quantiles: Sequence[float], *, seed: int = _SEED
) -> list[Floats]:
    """Quantiles of each resample, with runs as long as neighbouring blocks are alike.

    Args:
        blocks: Values of each block, in the order of time.
        quantiles: 0 to 1.
        seed: Of the draws.

    Returns:
        For each quantile (RESAMPLES,).
    """
    length = run_length(np.array([np.median(block) for block in blocks]))
    return resampled_quantiles(blocks, quantiles, block_draws(len(blocks), length, seed=seed))


def median_ratio(
    first: Sequence[Floats], second: Sequence[Floats], length: int = 1
) -> tuple[float, float, float]:
    """The ratio of two medians and the ends of its 95 % interval, which holds it.

    Args:
        first: Blocks that are divided by.
        second: As many blocks; each is drawn together with that of the first at its place.
        length: Of the runs of neighbours that are drawn.
    """
    drawn = block_draws(len(first), length)
    below, above = (resampled_quantiles(side, (0.5,), drawn)[0] for side in (first, second))
    middles = [float(np.median(np.concatenate(side))) for side in (first, second)]
    ratio = middles[1] / middles[0]
    return ratio, *interval_around(ratio, above / below)


def resampled_quantiles(
    blocks: Sequence[Floats], quantiles: Sequence[float], drawn: Floats
) -> list[Floats]:
    """Quantiles of each resample of blocks.

    Args:
        blocks: Values of each block, at least one value in all.
        quantiles: 0 to 1.
        drawn: How often each block is in each resample, (resamples, blocks).

    Returns:
        For each quantile (resamples,): what ``np.quantile`` gives of each resample's values.
    """
    values = np.concatenate(blocks)
    owners = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    order = np.argsort(values, kind="stable")
    ordered = _Sorted(values[order], owners[order], drawn)
    return [ordered.quantile(q) for q in quantiles]


class _Sorted:
    """Values in ascending order, each as often in a resample as its block is.

    They are cut into about sqrt(n) slices. How many values each resample has in a slice is one
    matrix product, so only the slice with the wanted one is looked at value by value.
    """

    def __init__(self, values: Floats, owners: NDArray[np.intp], drawn: Floats) -> None:
        self.values, self.owners, self.drawn = values, owners, drawn
        self.slice = math.isqrt(len(values) - 1) + 1
        slices = np.arange(len(values)) // self.slice
        size = (int(slices[-1]) + 1, drawn.shape[1])
        counts = np.bincount(slices * size[1] + owners, minlength=size[0] * size[1]).reshape(size)
        until = np.cumsum(counts, axis=0, dtype=np.float64)
        self.until = drawn @ until.T  # (resamples, slices)

    def quantile(self, q: float) -> Floats:
        # Of blocks of unequal size a resample may have drawn empty ones alone.
        last = np.maximum(self.until[:, -1] - 1, 0)
        position = last * q
        below = np.floor(position)
        low, high = self._at(below), self._at(np.minimum(below + 1, last))
        return low + (position - below) * (high - low)

    def _at(self, position: Floats) -> Floats:
        """The value at a position, from 0, of each resample."""
        rows = np.arange(len(position))
        at = np.minimum((self.until <= position[:, None]).sum(1), self.until.shape[1] - 1)
        before = np.where(at > 0, self.until[rows, at - 1], 0)
        within = at[:, None] * self.slice + np.arange(self.slice)
        within = np.minimum(within, len(self.values) - 1)
        until = before[:, None] + np.cumsum(self.drawn[rows[:, None], self.owners[within]], axis=1)
        step = np.minimum((until <= position[:, None]).sum(1), self.slice - 1)
        return self.values[within[rows, step]]
