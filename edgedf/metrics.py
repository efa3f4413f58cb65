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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.bootstrap import GroupResamples
from edgedf.figures import (
    Figure,
    Groups,
    Rate,
    check_both_classes,
    checked_fakes,
    figure_of,
    with_interval,
)
from edgedf.result import Threshold, sigmoid
from edgedf.roc import CURVE_FIGURES, Ranking, area

__all__ = [
    "ECE_BINS",
    "Confusion",
    "Metrics",
    "PairedFigure",
    "PairedMetrics",
    "Verdicts",
    "auc_with_interval",
    "detection_metrics",
    "logit",
    "mean_auc_with_interval",
    "paired_metrics",
]

Floats = NDArray[np.float64]

ECE_BINS = 15

# Scores of 1 - 2^-53 and above are 1 in float64: their logits are not known any better.
_LARGEST_LOGIT = 40.0


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
    fakes = checked_fakes(labels, logits, groups)
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
        name: figure_of(values, counts.get(name, len(fakes)))
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
    ranking = Ranking(checked_fakes(labels, scores, groups), scores)
    return with_interval(groups, lambda weights: area(ranking(weights)), len(labels))


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
    fakes = checked_fakes(labels, scores, groups)
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

    return with_interval(groups, mean, sum(map(len, parts)))


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
    rankings = [
        Ranking(checked_fakes(labels, scores, groups), scores) for scores in (first, second)
    ]

    def measured(weights: Floats) -> dict[str, Floats]:
        curves = [ranking(weights) for ranking in rankings]
        return {
            name: np.stack([CURVE_FIGURES[name](curve) for curve in curves], axis=1)
            for name in ("auc", "tpr_at_1_percent_fpr")
        }

    def paired(one: Floats, other: Floats) -> PairedFigure:
        return PairedFigure(
            *(figure_of(values, len(labels)) for values in (one, other, one - other))
        )

    values = GroupResamples(groups).measure(measured)
    return PairedMetrics(**{name: paired(*both.T) for name, both in values.items()})


def _score_rates(fakes: NDArray[np.bool_], scores: Floats) -> dict[str, Rate]:
    labels, everything = fakes.astype(np.float64), np.ones(len(fakes))
    bins = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    excess = np.zeros((len(fakes), ECE_BINS))
    # Of a bin with weight w, w * |mean score - share of fakes| is |sum of score - label|.
    excess[np.arange(len(fakes)), bins] = scores - labels
    right = ((scores >= 0.5) == fakes).astype(np.float64)
    return {
        "accuracy": Rate(right[:, np.newaxis], everything),
        "brier": Rate(np.square(scores - labels)[:, np.newaxis], everything),
        "ece": Rate(excess, everything, absolute=True),
    }


def _verdict_rates(
    fakes: NDArray[np.bool_], scores: Floats, threshold: Threshold
) -> dict[str, Rate]:
    called = scores >= threshold.fake_at
    return {
        name: Rate(
            (called & of_class)[:, np.newaxis].astype(np.float64), of_class.astype(np.float64)
        )
        for name, of_class in (("false_alarms", ~fakes), ("detections", fakes))
        if of_class.any()
    }


def _verdicts(scores: Floats, threshold: Threshold) -> Verdicts:
    labels = [threshold.label(score) for score in scores.tolist()]
    return Verdicts(labels.count("real"), labels.count("unsure"), labels.count("fake"))
