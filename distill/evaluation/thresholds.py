"""Where a score turns into a verdict, chosen on validation pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgedf.figures import check_both_classes
from edgedf.result import Threshold, sigmoid

__all__ = ["choose_threshold"]

# At most this share of the real pictures may be called fake, and of the fakes real; what lies
# between is "unsure".
CONFIDENT_ERROR = 0.05
STEPS = 10_000  # of a threshold between 0 and 1


def choose_threshold(
    labels: NDArray[np.floating], logits: NDArray[np.floating], how: str
) -> Threshold:
    """Choose thresholds.

    ``fake_at`` is the smallest score, in steps of 0.0001, at which at most :data:`CONFIDENT_ERROR`
    of the real pictures are called fake; ``real_at`` the largest at which at most that share of the
    fakes is called real. Where the two cross (a detector better than that), both move to the score
    where the two shares are most alike.

    Args:
        labels: (n,): 1 fake, 0 real.
        logits: (n,).
        how: Description of the pictures for the spec.

    Raises:
        DataError: Only one class is there.
    """
    check_both_classes(labels, "Thresholds need")
    scores = np.array([sigmoid(logit) for logit in logits])
    real, fake = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    # The first picture that must not be on the wrong side, and the next step beyond it.
    last_real = real[len(real) - 1 - int(CONFIDENT_ERROR * len(real))]
    first_fake = fake[int(CONFIDENT_ERROR * len(fake))]
    fake_at = min(1.0, (np.floor(last_real * STEPS) + 1) / STEPS)
    real_at = max(0.0, (np.ceil(first_fake * STEPS) - 1) / STEPS)
    rule = f"at most {CONFIDENT_ERROR:.0%} of real pictures called fake, and of fakes called real"
    if real_at >= fake_at:
        cuts = np.unique(np.rint(scores * STEPS) / STEPS)
        false_positive = 1 - np.searchsorted(real, cuts) / len(real)
        false_negative = np.searchsorted(fake, cuts) / len(fake)
        fake_at = real_at = cuts[np.argmin(np.abs(false_positive - false_negative))]
        rule = "equal error rate"
    return Threshold(float(fake_at), float(real_at), f"{rule}; on {how} (n={len(labels)})")
