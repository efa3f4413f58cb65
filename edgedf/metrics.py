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

Intervals are percentile bootstrap intervals (Efron & Tibshirani 1993) of 2,000 resamples. Whole
groups are drawn, as pictures of one group are not independent. Two things to know of them: where
every picture is right (or wrong) no resample differs, and the interval is that one value; and the
ECE of a resample is larger than that of the whole, since fewer distinct pictures are in a bin, so
its interval lies high. Results depend on nothing but the input.

What one model loses against another is measured on the same resamples for both (paired bootstrap):
what makes a resample hard for one makes it hard for the other, so their difference varies less than
either figure.

Memory stays bounded: resamples are worked on in chunks, each as one array operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import DataError
from edgedf.result import Threshold, sigmoid

__all__ = [
    "ECE_BINS",
    "RESAMPLES",
    "Confusion",
    "Figure",
    "Groups",
    "MapMetrics",
    "Metrics",
    "PairedFigure",
    "PairedMetrics",
    "Verdicts",
    "auc_with_interval",
    "check_both_classes",
    "correlation_with_interval",
    "detection_metrics",
    "logit",
    "map_error_with_interval",
    "map_metrics",
    "mean_auc_with_interval",
    "mean_with_interval",
    "paired_metrics",
]

Groups = Sequence[str] | NDArray[np.object_]
Floats = NDArray[np.float64]

RESAMPLES = 2000
ECE_BINS = 15
SEED = 0

# Numbers in one chunk of resamples: 4 MB as float64, which a processor's cache still holds.
_CHUNK = 1 << 19
# Pictures whose maps are compared at a time.
_MAPS = 256
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
class MapMetrics:
    """How close defocus maps are to the wanted ones.

    Args:
        error: Mean absolute error in pixels of the model's input.
        correlation: Pearson correlation over the pixels of a map, averaged over maps; None where
            every wanted map is flat.
    """

    error: Figure
    correlation: Figure | None


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
    resamples = _Resamples(groups)
    real, fake = int((~fakes).sum()), int(fakes.sum())
    scores = np.array([sigmoid(float(value)) for value in logits])
    rates = {} if threshold is None else _verdict_rates(fakes, scores, threshold)
    if real and fake:
        rows = _measured(
            resamples, _CURVE, _Ranking(fakes, logits), {**_score_rates(fakes, scores), **rates}
        )
    else:
        rows = _measured(resamples, {}, None, rates)
    counts = {"false_alarms": real, "detections": fake}
    figures = {name: _figure(values, counts.get(name, len(fakes))) for name, values in rows.items()}
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
    fakes = _checked(labels, scores, groups)
    rows = _measured(_Resamples(groups), {"auc": _auc}, _Ranking(fakes, scores), {})
    return _figure(rows["auc"], len(fakes))


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
    rankings = [_Ranking(fakes[part], np.asarray(scores)[part]) for part in parts]

    def mean(weights: Floats) -> Floats:
        each = [_auc(rank(weights[:, part])) for rank, part in zip(rankings, parts, strict=True)]
        return np.asarray(np.mean(each, axis=0))

    resampled = np.concatenate([mean(weights) for weights in _Resamples(groups).chunks()])
    values = np.concatenate([mean(np.ones((1, len(fakes)))), resampled])
    return _figure(values, sum(len(part) for part in parts))


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
    rate = {"mean": _Rate(numbers[:, np.newaxis], np.ones(len(numbers)))}
    return _figure(_measured(_Resamples(groups), {}, None, rate)["mean"], len(numbers))


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
    resamples = _Resamples(groups)
    curve = {name: _CURVE[name] for name in ("auc", "tpr_at_1_percent_fpr")}
    one, other = (
        _measured(resamples, curve, _Ranking(_checked(labels, scores, groups), scores), {})
        for scores in (first, second)
    )
    n = len(labels)
    return PairedMetrics(
        **{
            name: PairedFigure(
                _figure(one[name], n),
                _figure(other[name], n),
                _figure(one[name] - other[name], n),
            )
            for name in curve
        }
    )


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
        return np.clip(_divided(sxy - sx * sy / n, np.sqrt(spreads[0] * spreads[1])), -1.0, 1.0)

    resampled = map(correlation, _Resamples(groups).chunks())
    return _figure(np.concatenate([correlation(np.ones((1, len(x)))), *resampled]), len(x))


def map_error_with_interval(
    found: NDArray[np.floating], wanted: NDArray[np.floating], groups: Groups
) -> Figure:
    """Mean absolute error of defocus maps in pixels.

    Args:
        found: (n, H, W), sigma in pixels.
        wanted: The same shape.
        groups: (n,): group of each picture.

    Raises:
        DataError: The shapes differ, or as :func:`mean_with_interval`.
    """
    return mean_with_interval(_compared(found, wanted)[0], groups)


def map_metrics(
    found: NDArray[np.floating], wanted: NDArray[np.floating], groups: Groups
) -> MapMetrics:
    """Error and correlation of defocus maps.

    A wanted map that is flat has no correlation with anything and counts for the error alone; a
    flat answer to one that is not flat counts as a correlation of 0.

    Args:
        found: (n, H, W), sigma in pixels.
        wanted: The same shape.
        groups: (n,): group of each picture.

    Raises:
        DataError: The shapes differ, or as :func:`mean_with_interval`.
    """
    errors, correlations = _compared(found, wanted)
    known = np.flatnonzero(~np.isnan(correlations))
    error = mean_with_interval(errors, groups)
    if not known.size:
        return MapMetrics(error, None)
    names = np.asarray(groups, dtype=object)
    return MapMetrics(error, mean_with_interval(correlations[known], names[known]))


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


class _Resamples:
    """How often each picture is in each resample of whole groups."""

    def __init__(self, groups: Groups) -> None:
        names, self._member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.groups, self.pictures = len(names), len(self._member)

    def chunks(self) -> Iterator[Floats]:
        """All of them, (rows, n) at a time; the same ones each time."""
        rng = np.random.default_rng(SEED)
        chances = np.full(self.groups, 1 / self.groups)
        rows = max(1, _CHUNK // self.pictures)
        for start in range(0, RESAMPLES, rows):
            size = min(rows, RESAMPLES - start)
            drawn = rng.multinomial(self.groups, chances, size=size)
            yield drawn[:, self._member].astype(np.float64)


class _Curve(NamedTuple):
    """Weights at each distinct score, from the highest down; all of shape (rows, scores).

    Args:
        fake: Weight of the fakes with that score.
        real: Weight of the real pictures with that score.
        found: Weight of the fakes with that score or a higher one.
        wrong: Weight of the real pictures with that score or a higher one.
    """

    fake: Floats
    real: Floats
    found: Floats
    wrong: Floats


class _Ranking:
    """Pictures from the highest score down, equal scores together."""

    def __init__(self, fakes: NDArray[np.bool_], scores: NDArray[np.floating]) -> None:
        self._order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        ordered = np.asarray(scores)[self._order]
        self._starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        self._is_fake = fakes[self._order].astype(np.float64)

    def __call__(self, weights: Floats) -> _Curve:
        ordered = weights[:, self._order]
        fake = ordered * self._is_fake
        real = ordered - fake
        if len(self._starts) < len(self._order):
            fake = np.add.reduceat(fake, self._starts, axis=1)
            real = np.add.reduceat(real, self._starts, axis=1)
        return _Curve(fake, real, np.cumsum(fake, axis=1), np.cumsum(real, axis=1))


# Each takes the curves of resamples and gives (rows,); NaN where a class is missing.


def _auc(curve: _Curve) -> Floats:
    below = curve.wrong[:, -1:] - curve.wrong + curve.real / 2
    pairs = curve.found[:, -1] * curve.wrong[:, -1]
    return _divided((curve.fake * below).sum(axis=1), pairs)


def _average_precision(curve: _Curve) -> Floats:
    called = curve.found + curve.wrong
    precision = np.divide(curve.found, called, where=called > 0, out=np.zeros_like(called))
    found = np.where(curve.wrong[:, -1] > 0, curve.found[:, -1], np.nan)
    return _divided((curve.fake * precision).sum(axis=1), found)


def _eer(curve: _Curve) -> Floats:
    start = np.zeros((len(curve.fake), 1))
    tpr = np.hstack([start, _divided(curve.found, curve.found[:, -1:])])
    fpr = np.hstack([start, _divided(curve.wrong, curve.wrong[:, -1:])])
    beyond = fpr + tpr - 1  # from -1 above all scores to 1 below them, never falling
    after = np.argmax(beyond >= 0, axis=1)  # 0 where a class is missing, and all of it NaN
    row, before = np.arange(len(start)), np.maximum(after - 1, 0)
    step = _divided(-beyond[row, before], beyond[row, after] - beyond[row, before])
    with np.errstate(invalid="ignore"):
        crossing = fpr[row, before] + step * (fpr[row, after] - fpr[row, before])
    return np.where(after > 0, crossing, np.nan)


def _tpr_at(most: float) -> Callable[[_Curve], Floats]:
    def tpr(curve: _Curve) -> Floats:
        real = curve.wrong[:, -1:]
        # Counts are whole numbers; the slack is for most * real, which is not.
        allowed = curve.wrong <= most * real + 1e-9
        best = np.where(allowed, curve.found, 0.0).max(axis=1)
        return _divided(best, np.where(real[:, 0] > 0, curve.found[:, -1], np.nan))

    return tpr


_CURVE: dict[str, Callable[[_Curve], Floats]] = {
    "auc": _auc,
    "average_precision": _average_precision,
    "eer": _eer,
    "tpr_at_1_percent_fpr": _tpr_at(0.01),
    "tpr_at_5_percent_fpr": _tpr_at(0.05),
}


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


def _measured(
    resamples: _Resamples,
    metrics: dict[str, Callable[[_Curve], Floats]],
    ranking: _Ranking | None,
    rates: dict[str, _Rate],
) -> dict[str, Floats]:
    """Each metric's value on the pictures themselves, then on every resample: (1 + RESAMPLES,)."""
    if not metrics and not rates:
        return {}
    found: dict[str, list[Floats]] = {name: [] for name in (*metrics, *rates)}

    def measure(weights: Floats) -> None:
        if ranking is not None and metrics:
            curve = ranking(weights)
            for name, metric in metrics.items():
                found[name].append(metric(curve))
        for name, rate in rates.items():
            sums = weights @ rate.columns
            total = (np.abs(sums) if rate.absolute else sums).sum(axis=1)
            found[name].append(_divided(total, weights @ rate.counts))

    measure(np.ones((1, resamples.pictures)))
    for weights in resamples.chunks():
        measure(weights)
    return {name: np.concatenate(values) for name, values in found.items()}


def _figure(values: Floats, n: int) -> Figure:
    """The first is the value itself; of the rest, those that could be computed give the interval.

    Every picture's group is in one resample or another, so there are some.
    """
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Figure(float(values[0]), float(low), float(high), n)


def _divided(over: Floats, under: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(over / under)


def _verdicts(scores: Floats, threshold: Threshold) -> Verdicts:
    labels = [threshold.label(score) for score in scores.tolist()]
    return Verdicts(labels.count("real"), labels.count("unsure"), labels.count("fake"))


def _compared(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Mean absolute error and correlation of each map; NaN for the latter where none is meant."""
    if found.shape != wanted.shape or found.ndim != 3:
        raise DataError(
            f"The maps have the shapes {found.shape} and {wanted.shape}.",
            expected="twice the same: (n, height, width)",
            next_step="scale the wanted maps to the model's",
        )
    errors, correlations = np.empty(len(found)), np.empty(len(found))
    for at in range(0, len(found), _MAPS):
        part = slice(at, at + _MAPS)
        one, other = (
            maps[part].reshape(len(maps[part]), -1).astype(np.float64) for maps in (found, wanted)
        )
        errors[part] = np.abs(one - other).mean(axis=1)
        one, other = (maps - maps.mean(axis=1, keepdims=True) for maps in (one, other))
        lengths = np.sqrt(np.square(one).sum(axis=1)), np.sqrt(np.square(other).sum(axis=1))
        product = np.where(_is_flat(found[part]), 0.0, lengths[0] * lengths[1])
        values = np.divide((one * other).sum(axis=1), product, where=product > 0, out=product * 0)
        correlations[part] = np.where(_is_flat(wanted[part]), np.nan, values)
    return errors, correlations


def _is_flat(maps: NDArray[np.floating]) -> NDArray[np.bool_]:
    # Not by a variance of 0, which rounding keeps from being exact.
    flat = maps.reshape(len(maps), -1)
    return np.asarray(flat.min(axis=1) == flat.max(axis=1))
