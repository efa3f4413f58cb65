"""A figure with its 95 % interval, and the figures that need neither labels nor a ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import GroupResamples, interval
from edgedf.errors import DataError
from edgedf.roc import divided

__all__ = [
    "Figure",
    "Groups",
    "Rate",
    "check_both_classes",
    "checked_fakes",
    "correlation_with_interval",
    "figure_of",
    "mean_with_interval",
    "with_interval",
]

Groups = Union[Sequence[str], NDArray[np.object_]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval.

    Args:
        value: The value.
        low: Lower end.
        high: Upper end.
        n: Number of pictures (or videos) it is about.
    """

    value: float
    low: float
    high: float
    n: int


def mean_with_interval(values: NDArray[np.generic], groups: Groups) -> Figure:
    """Mean of any value a picture has.

    Args:
        values: (n,), numbers or booleans.
        groups: (n,): group of each picture.

    Raises:
        DataError: No picture, arrays of different lengths, or a value that is no finite number.
    """
    numbers = np.asarray(values, np.float64)
    checked_fakes(np.zeros(len(numbers)), numbers, groups)
    mean = Rate(numbers[:, np.newaxis], np.ones(len(numbers)))
    return with_interval(groups, mean, len(numbers))


def correlation_with_interval(
    first: NDArray[np.floating], second: NDArray[np.floating], groups: Groups
) -> Figure:
    """Pearson correlation of two values that each picture has.

    Args:
        first: (n,).
        second: (n,), in the same order.
        groups: (n,): group of each picture.

    Raises:
        DataError: One of the two does not vary, or as :func:`mean_with_interval`.
    """
    for values in (first, second):
        checked_fakes(np.zeros(len(values)), values, groups)
        if values.min() == values.max():
            raise DataError(
                f"All {len(values)} values are {values[0]:g}: they correlate with nothing.",
                expected="values that vary",
                next_step="add pictures, or check the model",
            )
    # Centred, so that the differences of sums below keep their digits.
    x, y = (np.asarray(values, np.float64) - np.mean(values) for values in (first, second))
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

    def correlation(weights: Floats) -> Floats:
        n, sx, sy, sxx, syy, sxy = (weights @ columns).T
        spreads = np.maximum(sxx - sx * sx / n, 0.0), np.maximum(syy - sy * sy / n, 0.0)
        return np.clip(divided(sxy - sx * sy / n, np.sqrt(spreads[0] * spreads[1])), -1.0, 1.0)

    return with_interval(groups, correlation, len(x))


def check_both_classes(labels: NDArray[np.floating], what_needs: str) -> None:
    """Refuse labels of one class.

    Args:
        labels: (n,): 1 fake, 0 real.
        what_needs: Beginning of the message, such as ``An AUC needs``.

    Raises:
        DataError: Only one class is there.
    """
    if len(set(labels.tolist())) < 2:
        raise DataError(
            f"{what_needs} both classes.",
            expected="real and fake pictures",
            next_step="add pictures of the other class to the split",
        )


def checked_fakes(
    labels: NDArray[np.floating], scores: NDArray[np.floating], groups: Groups
) -> NDArray[np.bool_]:
    """Check what is to be measured, and say which pictures are fakes.

    Args:
        labels: (n,): 1 fake, 0 real.
        scores: (n,).
        groups: (n,).

    Raises:
        DataError: No picture, arrays of different lengths, a label other than 0 and 1, or a score
            that is no finite number.
    """
    if not len(labels) or not len(labels) == len(scores) == len(groups):
        raise DataError(
            f"There are {len(labels)} labels, {len(scores)} scores and {len(groups)} groups.",
            expected="one of each a picture, and at least one picture",
            next_step="check how they were put together",
        )
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(scores)} scores are no finite numbers.",
            expected="a number a picture",
            next_step="check the model: its weights or its arithmetic are broken",
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"There are labels other than 0 and 1, such as {labels[~np.isin(labels, (0, 1))][0]}.",
            expected="1 for fake, 0 for real",
            next_step="leave pictures without a label out",
        )
    return np.asarray(labels) == 1


@dataclass(frozen=True, eq=False)
class Rate:
    """A ratio of sums over pictures, weighted alike.

    Args:
        columns: (n, k): summed over pictures, then over columns.
        counts: (n,): 1 for pictures it is about, else 0.
        absolute: Whether the second sum is one of absolute values.
    """

    columns: Floats
    counts: Floats
    absolute: bool = False

    def __call__(self, weights: Floats) -> Floats:
        """The ratio of each row of weights, (rows, n) → (rows,)."""
        sums = weights @ self.columns
        total = (np.abs(sums) if self.absolute else sums).sum(axis=1)
        return divided(total, weights @ self.counts)


def with_interval(groups: Groups, figure: Callable[[Floats], Floats], n: int) -> Figure:
    """A figure with its interval.

    Args:
        groups: (n,): group of each picture.
        figure: From weights of the pictures, (rows, n), to the figure of each row, (rows,).
        n: Number of pictures that it is about.
    """
    values = GroupResamples(groups).measure(lambda weights: {"": figure(weights)})[""]
    return figure_of(values, n)


def figure_of(values: Floats, n: int) -> Figure:
    """A figure from its values on the pictures themselves and on every resample.

    Args:
        values: (1 + resamples,). Those that are NaN do not count; every picture's group is in one
            resample or another, so there are others.
        n: Number of pictures that it is about.
    """
    return Figure(float(values[0]), *interval(values[1:]), n)
