"""The ROC curve, and what is read off it: AUC, average precision, EER, TPR at a given FPR.

Pictures have weights, so that all resamples of a bootstrap are measured at once: a row of weights
is one resample. :mod:`edgedf.metrics` defines the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CURVE_FIGURES", "Curve", "Ranking", "area", "auc", "divided"]

Floats = NDArray[np.float64]


class Curve(NamedTuple):
    """Weights at each distinct score, from the highest down; all of shape (rows, scores).

    Args:
        fake: Weight of the fakes with that score.
        real: Weight of the real pictures with that score.
        detected: Weight of the fakes with that score or a higher one.
        alarmed: Weight of the real pictures with that score or a higher one.
    """

    fake: Floats
    real: Floats
    detected: Floats
    alarmed: Floats


class Ranking:
    """Pictures from the highest score down, equal scores together.

    Args:
        fakes: (n,): which pictures are fakes.
        scores: (n,): higher means fake.
    """

    def __init__(self, fakes: NDArray[np.bool_], scores: NDArray[np.floating]) -> None:
        self._order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        ordered = np.asarray(scores)[self._order]
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._is_fake = fakes[self._order].astype(np.float64)

    def __call__(self, weights: Floats) -> Curve:
        """The curve of each row of weights, (rows, n)."""
        ordered = weights[:, self._order]
        fake = ordered * self._is_fake
        real = ordered - fake
        if len(self._starts) < len(self._order):
            fake = np.add.reduceat(fake, self._starts, axis=1)
            real = np.add.reduceat(real, self._starts, axis=1)
        return Curve(fake, real, np.cumsum(fake, axis=1), np.cumsum(real, axis=1))


def auc(fakes: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Area under the ROC curve of pictures that all count the same: pairs in the right order.

    Args:
        fakes: (n,): which pictures are fakes; there are both fakes and others.
        scores: (n,): higher means fake.
    """
    of_fakes, of_real = np.sort(scores[fakes]), scores[~fakes]
    below = np.searchsorted(of_fakes, of_real, side="left")
    at_most = np.searchsorted(of_fakes, of_real, side="right")
    return float(1 - (below + at_most).mean() / (2 * len(of_fakes)))


def divided(over: Floats, under: Floats) -> Floats:
    """A quotient that is NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(over / under)


# Each of the following takes curves and gives (rows,); NaN where a class is missing.


def area(curve: Curve) -> Floats:
    """AUC of each row."""
    below = curve.alarmed[:, -1:] - curve.alarmed + curve.real / 2
    pairs = curve.detected[:, -1] * curve.alarmed[:, -1]
    return divided((curve.fake * below).sum(axis=1), pairs)


def _average_precision(curve: Curve) -> Floats:
    called = curve.detected + curve.alarmed
    precision = np.divide(curve.detected, called, where=called > 0, out=np.zeros_like(called))
    fakes = np.where(curve.alarmed[:, -1] > 0, curve.detected[:, -1], np.nan)
    return divided((curve.fake * precision).sum(axis=1), fakes)


def _eer(curve: Curve) -> Floats:
    start = np.zeros((len(curve.fake), 1))
    tpr = np.hstack([start, divided(curve.detected, curve.detected[:, -1:])])
    fpr = np.hstack([start, divided(curve.alarmed, curve.alarmed[:, -1:])])
    beyond = fpr + tpr - 1  # from -1 above all scores to 1 below them, never falling
    after = np.argmax(beyond >= 0, axis=1)  # 0 where a class is missing, and all of it NaN
    row, before = np.arange(len(start)), np.maximum(after - 1, 0)
    step = divided(-beyond[row, before], beyond[row, after] - beyond[row, before])
    with np.errstate(invalid="ignore"):
        crossing = fpr[row, before] + step * (fpr[row, after] - fpr[row, before])
    return np.where(after > 0, crossing, np.nan)


def _tpr_at(most: float) -> Callable[[Curve], Floats]:
    def tpr(curve: Curve) -> Floats:
        real = curve.alarmed[:, -1:]
        # Counts are whole numbers; the slack is for most * real, which is not.
        allowed = curve.alarmed <= most * real + 1e-9
        best = np.where(allowed, curve.detected, 0.0).max(axis=1)
        return divided(best, np.where(real[:, 0] > 0, curve.detected[:, -1], np.nan))

    return tpr


CURVE_FIGURES: Mapping[str, Callable[[Curve], Floats]] = MappingProxyType(
    {
        "auc": area,
        "average_precision": _average_precision,
        "eer": _eer,
        "tpr_at_1_percent_fpr": _tpr_at(0.01),
        "tpr_at_5_percent_fpr": _tpr_at(0.05),
    }
)
"""What is read off a curve, by its name in :class:`edgedf.metrics.Metrics`."""
