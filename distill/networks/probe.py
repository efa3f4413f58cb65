"""A linear verdict on fixed features, found in closed form.

What is learned from few sources has to be kept simple: on sources left out of training, a ridge
regression on statistics of a frozen network did better than tuning the network, which lost with
every step (see docs/results.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge

from edgedf.errors import ConfigError
from edgedf.figures import check_both_classes

__all__ = ["Calibration", "Probe", "balance", "calibrate", "distilled_targets", "fit_probe"]

# Features that vary less than this count as varying this much, in the features' own unit (relu6
# activations): int8 rounds an activation to 6 / 255, so that finer differences do not survive.
LEAST_DEVIATION = 0.05
# Of a probe's values in standard deviations, when they are turned into log odds.
LEAST_SCALE = 1e-3
# Values closer together than this say nothing.
LEAST_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear function of features.

    Args:
        centre: (features,): taken away first.
        deviation: (features,): divided by then.
        weight: (features,).
        bias: A number.
    """

    centre: NDArray[np.float32]
    deviation: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: float

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Apply it: (n, features) → (n,)."""
        scaled = (features.astype(np.float32) - self.centre) / self.deviation
        return np.asarray(scaled @ self.weight + self.bias, np.float64)


@dataclass(frozen=True)
class Calibration:
    """Turns a probe's value into a logit: ``scale * value + offset``.

    Args:
        scale: The inverse of a temperature (Guo et al., "On Calibration of Modern Neural
            Networks", ICML 2017), here with an offset (Platt, 1999).
        offset: Log odds at a value of 0.
    """

    scale: float
    offset: float

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Apply it: (n,) → (n,)."""
        return values * self.scale + self.offset


def balance(
    domains: Sequence[str] | NDArray[np.str_], labels: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Weights under which each class of each domain counts by the square root of its size.

    So that a large source does not drown the others, nor a small one counts as much as a large.

    Args:
        domains: (n,): a name for each record.
        labels: (n,): 1 fake, 0 real.

    Returns:
        (n,), of mean 1.
    """
    keys = np.array([f"{domain}\n{label}" for domain, label in zip(domains, labels, strict=True)])
    _, member, count = np.unique(keys, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(count[member])
    return np.asarray(weights / weights.mean(), np.float64)


def distilled_targets(
    labels: NDArray[np.floating], teacher: NDArray[np.float64] | None, share: float
) -> NDArray[np.floating]:
    """What a probe is fitted to: labels mixed with a teacher's logits of the same records.

    Args:
        labels: (n,): 1 fake, 0 real.
        teacher: (n,): its logits; None for labels alone.
        share: Of the teacher, in [0, 1].

    Returns:
        (n,), in [-1, 1]: -1 for real and 1 for fake.
    """
    targets = 2.0 * labels - 1
    if teacher is None:
        return targets
    # tanh(x / 2) is 2 sigmoid(x) - 1: what the teacher expects of the label.
    return np.asarray((1 - share) * targets + share * np.tanh(teacher / 2))


def fit_probe(
    features: NDArray[np.floating],
    targets: NDArray[np.floating],
    weights: NDArray[np.float64],
    *,
    penalty: float,
) -> Probe:
    """Ridge regression on standardised features.

    Args:
        features: (n, features).
        targets: (n,): 1 for fake and -1 for real, or a teacher's logits.
        weights: (n,): of each record, from :func:`balance`.
        penalty: Weight of the squared coefficients, in units of the mean squared length of the
            records' standardised features divided by their number; 1 to 30 is usual.

    Raises:
        ConfigError: A penalty of 0 or below.
    """
    if penalty <= 0:
        raise ConfigError(
            f"The penalty {penalty:g} does not bind.", expected="above 0", next_step="1 to 30"
        )
    centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = features.std(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.maximum(deviation, LEAST_DEVIATION)
    scaled = (features.astype(np.float32) - centre) / deviation
    lengths = np.square(scaled, dtype=np.float32).sum(axis=1)
    alpha = penalty * float(np.average(lengths, weights=weights))
    ridge = Ridge(alpha=alpha, solver="cholesky").fit(scaled, targets, sample_weight=weights)
    weight = np.asarray(ridge.coef_, np.float32).reshape(-1)
    return Probe(centre, deviation, weight, float(np.ravel(ridge.intercept_)[0]))


def calibrate(values: NDArray[np.floating], labels: NDArray[np.floating]) -> Calibration:
    """Scale and offset under which values are log odds, by logistic regression with one feature.

    Both classes count alike, whatever their numbers.

    Args:
        values: (n,): of a probe, on pictures it was not fitted to.
        labels: (n,): 1 fake, 0 real.

    Raises:
        DataError: Only one class is there.
    """
    check_both_classes(labels, "Calibration needs")
    mean, spread = float(np.mean(values)), float(np.std(values))
    if spread < LEAST_SPREAD:
        return Calibration(LEAST_SCALE, -LEAST_SCALE * mean)
    model = LogisticRegression(C=1e3, class_weight="balanced")
    model.fit(np.asarray(values, np.float64).reshape(-1, 1) / spread, labels)
    scale = float(model.coef_[0, 0]) / spread
    if scale * spread < LEAST_SCALE:
        # A value that misleads on these pictures is hardly believed, but not turned around: few
        # pictures prove little.
        scale = LEAST_SCALE / spread
        return Calibration(scale, -scale * mean)
    return Calibration(scale, float(model.intercept_[0]))
