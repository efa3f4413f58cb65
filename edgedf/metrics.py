"""How good a detector's scores and maps are: the usual figures, each with its 95 % interval.

Labels are 1 for fake and 0 for real, a higher score means fake. With TPR the share of fakes and FPR
the share of real pictures at or above a cut, ROC is the curve of (FPR, TPR) over all cuts.

=================  ==============================================================================
AUC                area under ROC: share of real-fake pairs in the right order, ties half (Hanley &
                   McNeil, *Radiology* 1982)
average precision  precision summed over cuts, weighted with the recall each adds; not interpolated
EER                error rate where FPR = 1 - TPR, linear between neighbouring points of ROC
TPR at x % FPR     largest TPR of a cut whose FPR is at most x %; a cut that exists, nothing between
accuracy           share on the right side of a score of 0.5; no middle ground
Brier              mean squared difference of score and label (Brier, *Mon. Weather Rev.* 1950)
ECE                expected calibration error: the score falls into 15 bins of equal width; mean
                   over pictures of |mean score - share of fakes| of their bin (Naeini et al., AAAI
                   2015; the number of bins as in Guo et al., ICML 2017)
false alarms       share of real pictures called fake at the model's thresholds
detections         share of fakes called fake there
=================  ==============================================================================

Intervals are those of :mod:`edgedf.bootstrap`, which draws whole groups of pictures. Two things to
know of them: where every picture is right (or wrong) no resample differs, and the interval is that
one value; and the ECE of a resample is larger than that of the whole, since fewer distinct pictures
are in a bin, so its interval lies high.

What one model loses against another is measured on the same resamples for both (paired bootstrap):
what makes a resample hard for one makes it hard for the other, so their difference varies less than
either figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import GroupResamples, interval
from edgedf.errors import DataError
from edgedf.result import Threshold, sigmoid
from edgedf.roc import CURVE_FIGURES, Ranking, area, divided

__all__ = [
    "ECE_BINS",
    "Confusion",
    "Figure",
    "Groups",
    "Metrics",
    "PairedFigure",
    "PairedMetrics",
    "Verdicts",
    "auc_with_interval",
    "check_both_classes",
    "correlation_with_interval",
    "detection_metrics",
    "logit",
    "mean_auc_with_interval",
    "mean_with_interval",
    "paired_metrics",
]

Groups = Sequence[str] | NDArray[np.object_]
Floats = NDArray[np.float64]

ECE_BINS = 15

# Scores of 1 - 2^-53 and above are 1 in float64: their logits are not known any better.
_LARGEST_LOGIT = 40.0


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


@dataclass(frozen=True)
class Verdicts:
    """How often each verdict was given.

    Args:
        real: Pictures called real.
        unsure: Pictures left open.
        fake: Pictures called fake.
    """

    real: int
    unsure: int
    fake: int


@dataclass(frozen=True)
class Confusion:
    """Verdicts at a model's thresholds.

    Args:
        real: On real pictures.
        fake: On fakes.
    """

    real: Verdicts
    fake: Verdicts


@dataclass(frozen=True)
class Metrics:
    """Every figure of some pictures; None for what they do not allow.

    Args:
        real: Number of real pictures.
        fake: Number of fakes.
        groups: Number of groups, of which the bootstrap draws.
        auc: Needs both classes, as all down to ``ece`` do.
        average_precision: See the module's head, here and below.
        eer: Equal error rate.
        tpr_at_1_percent_fpr: TPR at an FPR of at most 1 %.
        tpr_at_5_percent_fpr: TPR at an FPR of at most 5 %.
        accuracy: At a score of 0.5.
        brier: Brier score.
        ece: Expected calibration error.
        false_alarms: Needs real pictures and thresholds.
        detections: Needs fakes and thresholds.
        confusion: Needs thresholds.
    """

    real: int
    fake: int
    groups: int
    auc: Figure | None = None
    average_precision: Figure | None = None
    eer: Figure | None = None
    tpr_at_1_percent_fpr: Figure | None = None
    tpr_at_5_percent_fpr: Figure | None = None
    accuracy: Figure | None = None
    brier: Figure | None = None
    ece: Figure | None = None
    false_alarms: Figure | None = None
    detections: Figure | None = None
    confusion: Confusion | None = None


@dataclass(frozen=True)
class PairedFigure:
    """A figure of two models on the same pictures.

    Args:
        first: Of the first.
        second: Of the second.
        drop: First minus second, with an interval of its own: of the differences on each resample.
    """

    first: Figure
    second: Figure
    drop: Figure


@dataclass(frozen=True)
class PairedMetrics:
    """What two models tell from the same pictures.

    Args:
        auc: Area under the ROC curve.
        tpr_at_1_percent_fpr: TPR at an FPR of at most 1 %, each model at a cut of its own.
    """

    auc: PairedFigure
    tpr_at_1_percent_fpr: PairedFigure


def logit(score: float) -> float:
    """Inverse of the sigmoid, cut off at ±40: score in [0, 1] → logit."""
    if score <= 0.0 or score >= 1.0:
        return math.copysign(_LARGEST_LOGIT, score - 0.5)
    return min(max(math.log(score) - math.log1p(-score), -_LARGEST_LOGIT), _LARGEST_LOGIT)


def detection_metrics(
    labels: NDArray[np.floating],
    logits: NDArray[np.floating],
    groups: Groups,
    threshold: Threshold | None = None,
) -> Metrics:
    """Every figure of the module's head, with one set of resamples for all of them.

    Args:
        labels: (n,): 1 fake, 0 real.
        logits: (n,); their sigmoid is the score. Ranks are those of the logits, which differ where
            scores of almost 1 do not.
        groups: (n,): group of each picture.
        threshold: Turns scores into verdicts; None leaves false alarms, detections and confusion
            out.

    Raises:
        DataError: No picture, arrays of different lengths, a label other than 0 and 1, or a logit
            that is no finite number.
    """
    fakes = _checked(labels, logits, groups)
    resamples = GroupResamples(groups)
    real, fake = int((~fakes).sum()), int(fakes.sum())
    scores = np.array([sigmoid(float(value)) for value in logits])
    rates = {} if threshold is None else _verdict_rates(fakes, scores, threshold)
    if real and fake:
        rates |= _score_rates(fakes, scores)
    ranking = Ranking(fakes, logits)

    def measured(weights: Floats) -> dict[str, Floats]:
        values = {name: rate(weights) for name, rate in rates.items()}
        if real and fake:
            curve = ranking(weights)
            values |= {name: figure(curve) for name, figure in CURVE_FIGURES.items()}
        return values

    counts = {"false_alarms": real, "detections": fake}
    figures = {
        name: _figure(values, counts.get(name, len(fakes)))
        for name, values in resamples.measure(measured).items()
    }
    confusion = None
    if threshold is not None:
        confusion = Confusion(
            _verdicts(scores[~fakes], threshold), _verdicts(scores[fakes], threshold)
        )
    return Metrics(real, fake, resamples.groups, **figures, confusion=confusion)


def auc_with_interval(
    labels: NDArray[np.floating], scores: NDArray[np.floating], groups: Groups
) -> Figure:
    """Area under the ROC curve alone.

    Args:
        labels: (n,): 1 fake, 0 real.
        scores: (n,): higher means fake.
        groups: (n,): group of each picture.

    Raises:
        DataError: Only one class is there, or as :func:`detection_metrics`.
    """
    check_both_classes(labels, "An AUC needs")
    ranking = Ranking(_checked(labels, scores, groups), scores)
    return _with_interval(groups, lambda weights: area(ranking(weights)), len(labels))


def mean_auc_with_interval(
    labels: NDArray[np.floating],
    scores: NDArray[np.floating],
    groups: Groups,
    sets: Sequence[str] | NDArray[np.object_],
) -> Figure:
    """AUC averaged over sets, each counting the same; sets with one class are left out.

    A group that is in several sets is drawn in all of them together.

    Args:
        labels: (n,): 1 fake, 0 real.
        scores: (n,): higher means fake.
        groups: (n,): group of each picture.
        sets: (n,): set of each picture.

    Returns:
        The mean; n is the number of pictures in the sets that count.

    Raises:
        DataError: No set has both classes, or as :func:`detection_metrics`.
    """
    fakes = _checked(labels, scores, groups)
    names = np.asarray(sets, dtype=str)
    parts = [np.flatnonzero(names == name) for name in np.unique(names)]
    parts = [part for part in parts if 0 < fakes[part].sum() < len(part)]
    if not parts:
        check_both_classes(np.zeros(0), "A mean AUC needs a set with")
    rankings = [(part, Ranking(fakes[part], np.asarray(scores)[part])) for part in parts]

    def mean(weights: Floats) -> Floats:
        return np.asarray(
            np.mean([area(ranking(weights[:, part])) for part, ranking in rankings], axis=0)
        )

    return _with_interval(groups, mean, sum(map(len, parts)))


def mean_with_interval(values: NDArray[np.generic], groups: Groups) -> Figure:
    """Mean of any value a picture has.

    Args:
        values: (n,), numbers or booleans.
        groups: (n,): group of each picture.

    Raises:
        DataError: No picture, arrays of different lengths, or a value that is no finite number.
    """
    numbers = np.asarray(values, np.float64)
    _checked(np.zeros(len(numbers)), numbers, groups)
    mean = _Rate(numbers[:, np.newaxis], np.ones(len(numbers)))
    return _with_interval(groups, mean.__call__, len(numbers))


def paired_metrics(
    labels: NDArray[np.floating],
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    groups: Groups,
) -> PairedMetrics:
    """What a second model loses against a first one, by a paired bootstrap.

    Args:
        labels: (n,): 1 fake, 0 real.
        first: (n,): scores or logits of the first model; higher means fake.
        second: (n,): those of the second, in the same order.
        groups: (n,): group of each picture.

    Raises:
        DataError: Only one class is there, or as :func:`detection_metrics`.
    """
    check_both_classes(labels, "What a model loses in AUC needs")
    rankings = [Ranking(_checked(labels, scores, groups), scores) for scores in (first, second)]

    def measured(weights: Floats) -> dict[str, Floats]:
        curves = [ranking(weights) for ranking in rankings]
        return {
            name: np.stack([CURVE_FIGURES[name](curve) for curve in curves], axis=1)
            for name in ("auc", "tpr_at_1_percent_fpr")
        }

    def paired(one: Floats, other: Floats) -> PairedFigure:
        return PairedFigure(*(_figure(values, len(labels)) for values in (one, other, one - other)))

    values = GroupResamples(groups).measure(measured)
    return PairedMetrics(**{name: paired(*both.T) for name, both in values.items()})


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
        _checked(np.zeros(len(values)), values, groups)
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

    return _with_interval(groups, correlation, len(x))


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


def _checked(
    labels: NDArray[np.floating], scores: NDArray[np.floating], groups: Groups
) -> NDArray[np.bool_]:
    """Which pictures are fakes."""
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


class _Rate(NamedTuple):
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
        sums = weights @ self.columns
        total = (np.abs(sums) if self.absolute else sums).sum(axis=1)
        return divided(total, weights @ self.counts)


def _score_rates(fakes: NDArray[np.bool_], scores: Floats) -> dict[str, _Rate]:
    labels, everything = fakes.astype(np.float64), np.ones(len(fakes))
    bins = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    excess = np.zeros((len(fakes), ECE_BINS))
    # Of a bin with weight w, w * |mean score - share of fakes| is |sum of score - label|.
    excess[np.arange(len(fakes)), bins] = scores - labels
    right = ((scores >= 0.5) == fakes).astype(np.float64)
    return {
        "accuracy": _Rate(right[:, np.newaxis], everything),
        "brier": _Rate(np.square(scores - labels)[:, np.newaxis], everything),
        "ece": _Rate(excess, everything, absolute=True),
    }


def _verdict_rates(
    fakes: NDArray[np.bool_], scores: Floats, threshold: Threshold
) -> dict[str, _Rate]:
    called = scores >= threshold.fake_at
    return {
        name: _Rate(
            (called & of_class)[:, np.newaxis].astype(np.float64), of_class.astype(np.float64)
        )
        for name, of_class in (("false_alarms", ~fakes), ("detections", fakes))
        if of_class.any()
    }


def _with_interval(groups: Groups, figure: Callable[[Floats], Floats], n: int) -> Figure:
    values = GroupResamples(groups).measure(lambda weights: {"": figure(weights)})[""]
    return _figure(values, n)


def _figure(values: Floats, n: int) -> Figure:
    """The first is the value itself; of the rest, those that could be computed give the interval.

    Every picture's group is in one resample or another, so there are some.
    """
    return Figure(float(values[0]), *interval(values[1:]), n)


def _verdicts(scores: Floats, threshold: Threshold) -> Verdicts:
    labels = [threshold.label(score) for score in scores.tolist()]
    return Verdicts(labels.count("real"), labels.count("unsure"), labels.count("fake"))
