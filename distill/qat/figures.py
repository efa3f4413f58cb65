"""A student's agreement with the float one that it is to be like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgedf.distill.evaluation.predictions import Predictions
from edgedf.distill.qat.pictures import Pictures
from edgedf.figures import Figure
from edgedf.metrics import auc_with_interval
from edgedf.result import Threshold, sigmoid

__all__ = ["Agreement", "agreement", "mean_errors"]


@dataclass(frozen=True)
class Agreement:
    """A network against the float student on some pictures.

    Args:
        data: Which pictures.
        model: Which network.
        n: Number of pictures.
        logit_error: Mean absolute difference of the logits.
        logit_correlation: Pearson's; None where one of the two does not vary.
        map_error: Mean absolute difference of the maps, in pixels.
        flips: Verdicts that went from ``real`` to ``fake`` or back.
        changes: Verdicts that went to or from ``unsure``.
        auc: Of the network, all pictures together; None without labels of both classes.
        parent_auc: Of the float student.
    """

    data: str
    model: str
    n: int
    logit_error: float
    logit_correlation: float | None
    map_error: float
    flips: int
    changes: int
    auc: Figure | None
    parent_auc: Figure | None


def mean_errors(outputs: Predictions, wanted: Predictions) -> tuple[float, float]:
    """Mean absolute differences of the logits, and of the maps in pixels."""
    logit = np.abs(outputs.logits - wanted.logits).mean()
    return float(logit), float(np.abs(outputs.maps - wanted.maps).mean())


def agreement(
    data: str,
    model: str,
    outputs: Predictions,
    wanted: Predictions,
    pictures: Pictures,
    threshold: Threshold,
) -> Agreement:
    """Compare the outputs of two networks.

    Args:
        data: Which pictures, in words.
        model: Which network, in words.
        outputs: Of that network.
        wanted: Outputs of the float student.
        pictures: The pictures.
        threshold: Turns scores into verdicts.
    """
    logit_error, map_error = mean_errors(outputs, wanted)
    varies = min(np.ptp(outputs.logits), np.ptp(wanted.logits)) > 0
    verdicts = [
        {threshold.label(sigmoid(float(x))), threshold.label(sigmoid(float(y)))}
        for x, y in zip(outputs.logits, wanted.logits, strict=True)
    ]
    has_both = len(set(pictures.labels.tolist())) == 2 and not np.isnan(pictures.labels).any()
    aucs = [
        auc_with_interval(pictures.labels, answers.logits, np.array(pictures.groups, dtype=object))
        if has_both
        else None
        for answers in (outputs, wanted)
    ]
    return Agreement(
        data,
        model,
        len(pictures),
        logit_error,
        float(np.corrcoef(outputs.logits, wanted.logits)[0, 1]) if varies else None,
        map_error,
        sum(pair == {"real", "fake"} for pair in verdicts),
        sum(len(pair) == 2 and "unsure" in pair for pair in verdicts),
        *aucs,
    )
