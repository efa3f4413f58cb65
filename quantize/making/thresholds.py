"""Thresholds of an artifact: where it says of labelled pictures what its parent says of them.

A quantized logit is a little smaller or larger than the parent's, and at a threshold that is enough
to call more real pictures fake. ``fake_at`` is moved until as many real pictures are called fake as
the parent calls, ``real_at`` until as many fakes are called real; each only as far as it takes, and
not at all where the counts are the same already.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgedf.result import Threshold, sigmoid
from edgedf.spec import OperatingPoint, Recalibration

__all__ = ["MIN_PICTURES", "operating_point", "recalibrated"]

MIN_PICTURES = 10
"""Of each class; with fewer, thresholds stay."""

# Thresholds are multiples of 1 / this, as those that training chooses.
_STEPS = 10000

Labels = Sequence[Literal["real", "fake"] | None]
Floats = NDArray[np.float64]


def recalibrated(
    labels: Labels, parent: Sequence[float], artifact: Sequence[float], threshold: Threshold
) -> tuple[Threshold, Recalibration] | None:
    """Thresholds for an artifact.

    Args:
        labels: Of pictures; those without one are passed over.
        parent: The parent's logit of each.
        artifact: The artifact's.
        threshold: The parent's.

    Returns:
        The artifact's thresholds, and what they change; None where there are fewer than
        :data:`MIN_PICTURES` of a class, or where a logit is no finite number.

    Example:
        >>> labels = ["real"] * 10 + ["fake"] * 10
        >>> parent = [-2.0] * 9 + [0.6] + [-0.6] + [2.0] * 9
        >>> artifact = [logit - 0.3 for logit in parent]
        >>> new, change = recalibrated(labels, parent, artifact, Threshold(0.6, 0.4))
        >>> new.fake_at, change.kept.real_called_fake, change.chosen.real_called_fake
        (0.5744, 0.0, 0.1)
    """
    known = np.array([label is not None for label in labels], bool)
    if not known.any() or not (np.isfinite(parent).all() and np.isfinite(artifact).all()):
        return None
    fakes = np.array([label == "fake" for label in labels])[known]
    before, after = (_scores(logits)[known] for logits in (parent, artifact))
    real, fake = int((~fakes).sum()), int(fakes.sum())
    if min(real, fake) < MIN_PICTURES:
        return None
    fake_at = min(1.0, _moved(threshold.fake_at, before[~fakes], after[~fakes]))
    # Downwards the same as upwards, with all signs turned.
    real_at = max(0.0, -_moved(-threshold.real_at, -before[fakes], -after[fakes]))
    how = f"the parent's rates kept on {real} real and {fake} fake calibration images"
    if (fake_at, real_at) == (threshold.fake_at, threshold.real_at):
        chosen = threshold
    else:
        chosen = Threshold(fake_at, min(real_at, fake_at), f"{threshold.how}; {how}")
    return chosen, Recalibration(
        threshold,
        real,
        fake,
        operating_point(fakes, before, threshold),
        operating_point(fakes, after, threshold),
        operating_point(fakes, after, chosen),
    )


def operating_point(
    fakes: NDArray[np.bool_], scores: NDArray[np.float64], threshold: Threshold
) -> OperatingPoint:
    """What thresholds do to pictures of both classes.

    Args:
        fakes: (n,): whether it is a fake.
        scores: (n,): fake scores in [0, 1].
        threshold: The thresholds.
    """
    verdicts = np.array([threshold.label(float(score)) for score in scores])

    def share(among: NDArray[np.bool_], verdict: str) -> float:
        return round(float((verdicts[among] == verdict).mean()), 4)

    return OperatingPoint(
        real_called_fake=share(~fakes, "fake"),
        real_called_real=share(~fakes, "real"),
        fake_called_fake=share(fakes, "fake"),
        fake_called_real=share(fakes, "real"),
    )


def _scores(logits: Sequence[float]) -> Floats:
    return np.array([sigmoid(float(logit)) for logit in logits])


def _moved(cut: float, before: Floats, after: Floats) -> float:
    """The cut nearest to this one that as many of ``after`` reach as of ``before`` reach this."""
    wanted = int((before >= cut).sum())
    if int((after >= cut).sum()) == wanted:
        return cut
    falling = np.sort(after)[::-1]
    # Cuts above the first that must not reach it, up to the last that must.
    below = falling[wanted] if wanted < len(falling) else -math.inf
    last = falling[wanted - 1] if wanted else math.inf
    if cut <= below or last <= below:  # too many reach it, or equal ones have to stay together
        found = (math.floor(below * _STEPS) + 1) / _STEPS
        return float(found if found <= last or last <= below else last)
    found = math.floor(last * _STEPS) / _STEPS
    return float(found if found > below else last)
