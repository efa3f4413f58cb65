"""The accuracy gate: from what two models said of the same pictures to pass, fail or cannot tell.

Pure arithmetic; :mod:`~edgedf.quantize.accuracy.verify` runs the models. Each row has two limits:
one for the estimate and a wider one, the bound, for the upper end of its 95 % interval.

pass
    The estimate is within its limit and the interval within its bound.
fail
    The estimate is over its limit, and the interval says that something was lost: all of it is
    above 0.
cannot tell
    Anything else: there are too few pictures. How many it would take is estimated from the width
    of the interval, which shrinks with 1 / sqrt(n), with the estimate where it is.

No flip among n groups of pictures gives a bootstrap interval of no width, so its upper end is taken
to be 3 / n there (the rule of three). Correlations have one limit: at or above it they pass; below
it they fail where the whole interval is, or where they have none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgedf.figures import Figure
from edgedf.metrics import PairedFigure
from edgedf.quantize.accuracy.limits import Limits

__all__ = [
    "Agreement",
    "Measurements",
    "Row",
    "RowName",
    "Verdict",
    "images_needed",
    "judge",
    "most_images_needed",
    "overall",
    "strictest",
    "upper_end_of_none",
    "verdict_of",
]

Verdict = Literal["pass", "fail", "cannot tell"]
RowName = Literal[
    "auc_drop", "tpr_drop", "flips", "map_error", "logit_correlation", "map_correlation"
]

# Of estimates that are equal to their limits but for rounding.
_SLACK = 1e-9


@dataclass(frozen=True)
class Agreement:
    """How well one output follows the parent's.

    Args:
        correlation: Pearson's; None where one of the two does not vary.
        dead: Whether it does not vary although the parent's does.
        parent_varies: Whether the parent's varies, without which nothing is shown.
        max_abs: Largest absolute difference, in the output's units.
        mean_abs: Mean absolute difference.
        interval: The correlation with its 95 % interval; None for maps, of which a few have
            thousands of pixels.
    """

    correlation: float | None
    dead: bool
    parent_varies: bool
    max_abs: float
    mean_abs: float
    interval: Figure | None = None


@dataclass(frozen=True)
class Measurements:
    """What two models said about the same pictures.

    Args:
        pictures: How many there are.
        groups: How many groups they form, of which the bootstrap draws.
        flipped: Verdicts that turned from real to fake or back, each by its model's thresholds.
        changed: Verdicts that turned to or from unsure.
        flips: Share of flipped verdicts.
        map_error: Mean absolute difference of the maps, in pixels of the input.
        map_range: Largest minus smallest value of the parent's maps, in pixels.
        map_mean: Mean of the parent's maps, in pixels.
        logit: How well the logit follows the parent's.
        map: How well the defocus map does.
        auc: First the parent's, then the artifact's; None without pictures of both classes.
        tpr_at_1_percent_fpr: The TPR at an FPR of at most 1 %, likewise.
    """

    pictures: int
    groups: int
    flipped: int
    changed: int
    flips: Figure
    map_error: Figure
    map_range: float
    map_mean: float
    logit: Agreement
    map: Agreement
    auc: PairedFigure | None = None
    tpr_at_1_percent_fpr: PairedFigure | None = None


@dataclass(frozen=True)
class Row:
    """One figure of the gate, and what it says.

    Args:
        name: The limit it is held against.
        verdict: Whether it is within.
        value: The estimate; None where there is none, as for the correlation of a dead output.
        low: Lower end of its 95 % interval; None where it has none.
        high: Upper end.
        limit: For the estimate; the least for correlations, the most for all others.
        bound: The most for the upper end; None for correlations.
        reason: Why it does not pass, in words; empty where it does.
        images_needed: Pictures that would tell, an estimate; None where these do, or where no
            number of them would.
    """

    name: RowName
    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    limit: float
    bound: float | None
    reason: str = ""
    images_needed: int | None = None


def judge(measurements: Measurements, limits: Limits) -> tuple[Row, ...]:
    """Hold what was measured against the limits.

    Args:
        measurements: What two models said.
        limits: What may be lost.

    Returns:
        A row for each figure; those of the ROC curve only where there are labels.
    """
    seen = measurements
    rows = []
    if seen.auc is not None:
        rows.append(_row("auc_drop", seen.auc.drop, limits, seen))
    if seen.tpr_at_1_percent_fpr is not None:
        rows.append(_row("tpr_drop", seen.tpr_at_1_percent_fpr.drop, limits, seen))
    rows.append(_row("flips", _flips(seen), limits, seen))
    if seen.map_range > 0.0:
        rows.append(_row("map_error", _scaled(seen.map_error, seen.map_range), limits, seen))
    rows.append(_correlation_row("logit_correlation", seen.logit, limits.logit_correlation))
    rows.append(_correlation_row("map_correlation", seen.map, limits.map_correlation))
    return tuple(rows)


def overall(rows: Sequence[Row]) -> Verdict:
    """What all rows say together: fail where one does, else cannot tell where one cannot."""
    return strictest(row.verdict for row in rows)


def most_images_needed(rows: Sequence[Row]) -> int | None:
    """The most pictures that a row needs; None where no number of them would tell for one."""
    needed = [row.images_needed for row in rows if row.verdict == "cannot tell"]
    known = [count for count in needed if count is not None]
    return max(known) if len(known) == len(needed) else None


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """Fail where one of them is, else cannot tell where one is; pass where there is none."""
    order: tuple[Verdict, ...] = ("fail", "cannot tell", "pass")
    return min(verdicts, key=order.index, default="pass")


def verdict_of(figure: Figure, limit: float, bound: float) -> Verdict:
    """What a loss with its interval says; see the module's head.

    Args:
        figure: The loss: larger is worse, 0 is none.
        limit: The most for the estimate.
        bound: The most for the upper end of the interval.
    """
    if figure.value <= limit + _SLACK:
        return "pass" if figure.high <= bound + _SLACK else "cannot tell"
    return "fail" if figure.low > _SLACK else "cannot tell"


def images_needed(figure: Figure, limit: float, bound: float) -> int | None:
    """Pictures that would tell: an estimate for a loss of which the verdict is cannot tell.

    The interval of n pictures is taken to shrink with 1 / sqrt(n) around an estimate that stays.

    Args:
        figure: The loss.
        limit: The most for the estimate.
        bound: The most for the upper end of the interval.

    Returns:
        More than there are, rounded up to two digits; None where the estimate is at the bound, so
        that no number would do.
    """
    if figure.value <= limit + _SLACK:
        width, room = figure.high - figure.value, bound - figure.value
    else:
        # The wider side: the other one may end at 0 for want of anything between.
        width, room = max(figure.value - figure.low, figure.high - figure.value), figure.value
    if room <= _SLACK:
        return None
    return _rounded_up(max(figure.n * (width / room) ** 2, figure.n + 1))


def upper_end_of_none(groups: int) -> float:
    """Upper end of a 95 % interval for a share, where none of so many groups has it."""
    return min(1.0, 3 / groups)


def _flips(seen: Measurements) -> Figure:
    none = upper_end_of_none(seen.groups)
    return replace(seen.flips, high=none) if seen.flipped == 0 else seen.flips


def _scaled(figure: Figure, unit: float) -> Figure:
    return Figure(figure.value / unit, figure.low / unit, figure.high / unit, figure.n)


def _row(name: RowName, figure: Figure, limits: Limits, seen: Measurements) -> Row:
    limit, bound = getattr(limits, name), getattr(limits, f"{name}_bound")
    verdict = verdict_of(figure, limit, bound)
    reason, needed = "", None
    if verdict == "fail":
        reason = f"over the limit of {_shown(name, limit)}"
    elif verdict == "cannot tell":
        none = name == "flips" and seen.flipped == 0
        needed = _needed_of_none(bound, seen) if none else images_needed(figure, limit, bound)
        if figure.value <= limit + _SLACK:
            reason = (
                f"within the limit of {_shown(name, limit)}, but may be over its bound of "
                f"{_shown(name, bound)}"
            )
        else:
            reason = f"over the limit of {_shown(name, limit)}, but that may be chance"
    return Row(name, verdict, figure.value, figure.low, figure.high, limit, bound, reason, needed)


def _needed_of_none(bound: float, seen: Measurements) -> int | None:
    """Pictures among which no flip would tell: that interval shrinks with 1 / n."""
    if bound <= 0.0:
        return None
    return _rounded_up(max(3 / bound * seen.pictures / seen.groups, seen.pictures + 1))


def _correlation_row(name: RowName, agreement: Agreement, least: float) -> Row:
    value, figure = agreement.correlation, agreement.interval
    low, high = (None, None) if figure is None else (figure.low, figure.high)
    if not agreement.parent_varies:
        reason = "the parent's does not vary over these pictures, which shows nothing"
        return Row(name, "cannot tell", value, low, high, least, None, reason)
    if agreement.dead or value is None:
        reason = "dead: it does not vary although the parent's does"
        return Row(name, "fail", value, low, high, least, None, reason)
    if value >= least - _SLACK:
        return Row(name, "pass", value, low, high, least, None)
    if figure is None or figure.high < least - _SLACK:
        return Row(name, "fail", value, low, high, least, None, f"below {least:g}")
    width, room = figure.high - value, least - value
    needed = _rounded_up(max(figure.n * (width / room) ** 2, figure.n + 1))
    reason = f"below {least:g}, but that may be chance"
    return Row(name, "cannot tell", value, low, high, least, None, reason, needed)


def _shown(name: RowName, value: float) -> str:
    return f"{100 * value:g}%" if name in ("flips", "map_error") else f"{value:g}"


def _rounded_up(number: float) -> int:
    """The number with two digits, which are all that an estimate deserves."""
    step = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / step - _SLACK) * step
