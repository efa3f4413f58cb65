"""The proof: do an original and what was made from it say the same about real images?

Both run through the real runtimes, on the calibration images and on images that calibration never
saw. Per output: maximum and mean of the absolute difference, and the correlation (over images for
the logit, over all pixels of all images for the map). Then the verdicts, by the thresholds in the
spec:

*flip*
    ``real`` became ``fake`` or the other way round. Limited.
*change*
    Any other change: to or from ``unsure``. Counted and shown, not limited, as the band of
    ``unsure`` is there for scores that a small error may move.

An output is *dead* when it does not vary over the images although the original's does: a common
end of a failed quantization, which mean errors alone can hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.precision import Tolerance
from edgedf.progress import Progress, silent
from edgedf.quantize.models.run import Outputs, Run
from edgedf.result import Threshold, sigmoid

__all__ = [
    "DEAD_BELOW",
    "Comparison",
    "OutputParity",
    "PairStatistics",
    "VerdictParity",
    "compare",
    "output_parity",
    "reasons",
    "run_on",
]

Floats = NDArray[np.float64]

# Dead: the standard deviation is below this fraction of the original's.
DEAD_BELOW = 0.01


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the original's.

    Args:
        output: Its name.
        max_abs: Largest absolute difference, in the output's units.
        mean_abs: Mean absolute difference.
        mean_relative: ``mean_abs`` divided by the range of the original's values.
        correlation: Pearson's, None when one of the two does not vary.
        dead: Whether it does not vary, or is not a finite number.
        passed: Whether it is within the tolerance.
        limit: The tolerance, in words.
    """

    output: str
    max_abs: float
    mean_abs: float
    mean_relative: float
    correlation: float | None
    dead: bool
    passed: bool
    limit: str


@dataclass(frozen=True)
class VerdictParity:
    """How many verdicts differ from the original's.

    Args:
        flips: From ``real`` to ``fake`` or back.
        changes: To or from ``unsure``.
        allowed: Flips allowed.
        passed: Whether the flips are within that.
    """

    flips: int
    changes: int
    allowed: int
    passed: bool


@dataclass(frozen=True)
class Comparison:
    """One model against another on one set of images.

    Args:
        model: What was compared.
        reference: What it was compared with.
        images: ``calibration`` or ``held out``.
        n: Number of images.
        outputs: One entry per output.
        verdicts: The verdicts.
    """

    model: str
    reference: str
    images: str
    n: int
    outputs: tuple[OutputParity, ...]
    verdicts: VerdictParity

    @property
    def passed(self) -> bool:
        """Whether everything is within the tolerance."""
        return self.verdicts.passed and all(output.passed for output in self.outputs)


class PairStatistics:
    """What the comparison of an output needs, gathered piece by piece in constant memory.

    Means and products are merged as by Chan, Golub & LeVeque (1979), so a small spread around a
    large mean is not lost.

    Attributes:
        max_abs: Largest absolute difference.
    """

    def __init__(self) -> None:
        self._n = 0
        self._sum_abs = 0.0
        self._means: Floats = np.zeros(2)
        self._products: Floats = np.zeros((2, 2))
        self._lows, self._highs = np.full(2, math.inf), np.full(2, -math.inf)
        self.max_abs = 0.0

    def add(self, values: NDArray[np.floating], original: NDArray[np.floating]) -> PairStatistics:
        """Take in some values of both.

        Args:
            values: Values of the model under test, any shape; at least one.
            original: Those of the original, the same shape.

        Returns:
            The object itself.
        """
        pair = np.stack([values.ravel(), original.ravel()]).astype(np.float64)
        with np.errstate(invalid="ignore"):  # of infinities; what comes of them is NaN
            difference = np.abs(pair[0] - pair[1])
            means = pair.mean(axis=1)
            centred = pair - means[:, np.newaxis]
            products = centred @ centred.T
            step, n = means - self._means, self._n + pair.shape[1]
            self._products += products + np.outer(step, step) * self._n * pair.shape[1] / n
            self._means += step * pair.shape[1] / n
        self._n = n
        self._sum_abs += float(difference.sum())
        self.max_abs = float(np.maximum(self.max_abs, difference.max()))
        self._lows = np.minimum(self._lows, pair.min(axis=1))
        self._highs = np.maximum(self._highs, pair.max(axis=1))
        return self

    @property
    def mean_abs(self) -> float:
        """Mean absolute difference."""
        return self._sum_abs / self._n

    @property
    def original_range(self) -> float:
        """Largest minus smallest value of the original."""
        return float(self._highs[1] - self._lows[1])

    @property
    def original_mean(self) -> float:
        """Mean value of the original."""
        return float(self._means[1])

    @property
    def spreads(self) -> tuple[float, float]:
        """Standard deviation of the model under test and of the original; 0 where all is equal."""
        # Rounding leaves something of equal values, which would not be 0.
        flat = self._lows == self._highs
        values, original = np.where(flat, 0.0, np.sqrt(np.diag(self._products) / self._n)).tolist()
        return values, original

    @property
    def correlation(self) -> float:
        """Pearson's correlation; NaN where there is none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            lengths = np.sqrt(np.diag(self._products))
            value = self._products[0, 1] / (lengths[0] * lengths[1])
        return float(np.clip(value, -1.0, 1.0))


def output_parity(
    name: str,
    statistics: PairStatistics,
    *,
    least: float | None = None,
    most: float | None = None,
) -> OutputParity:
    """Compare one output with the original's.

    Args:
        name: Name of the output.
        statistics: Statistics of at least one value.
        least: Smallest correlation that passes; None for any.
        most: Largest mean absolute difference that passes, as a fraction of the original's range;
            None for any.
    """
    spread, original_spread = statistics.spreads
    # Written so that a NaN anywhere counts as dead and as out of tolerance. Where the original
    # does not vary there is nothing to prove: that fails as well.
    dead = not (spread > DEAD_BELOW * original_spread and spread > 0.0)
    correlation = statistics.correlation if not dead and original_spread > 0.0 else None
    value_range, mean = statistics.original_range, statistics.mean_abs
    relative = mean / value_range if value_range > 0.0 else math.inf
    limits, passed = [], not dead and correlation is not None
    if least is not None:
        limits.append(f"correlation ≥ {least:g}")
        passed = passed and correlation is not None and correlation >= least
    if most is not None:
        limits.append(f"mean ≤ {most:g} of the range")
        passed = passed and relative <= most
    return OutputParity(
        name, statistics.max_abs, mean, relative, correlation, dead, passed, ", ".join(limits)
    )


def run_on(
    run: Run,
    images: Sequence[NDArray[np.uint8]],
    *,
    step: str = "check",
    progress: Progress = silent,
) -> list[Outputs]:
    """Run a model on images, one by one as an app does.

    Args:
        run: The model.
        images: uint8 RGB (N, N, 3) each.
        step: Name of the step for ``progress``.
        progress: Told about each image.
    """
    results = []
    for index, image in enumerate(images):
        results.append(run(image))
        progress(step, index + 1, len(images))
    return results


def compare(
    model: str,
    outputs: Sequence[Outputs],
    reference: str,
    originals: Sequence[Outputs],
    *,
    images: str,
    threshold: Threshold,
    tolerance: Tolerance,
) -> Comparison:
    """Compare the outputs of two models on the same images.

    Args:
        model: Name of the model under test.
        outputs: Its outputs, one entry per image.
        reference: Name of the original.
        originals: Its outputs, in the same order.
        images: What the images are.
        threshold: Turns a score into a verdict.
        tolerance: What may differ.
    """
    logits, original_logits = _stack(outputs, "fake_logit"), _stack(originals, "fake_logit")
    maps, original_maps = _stack(outputs, "defocus_map"), _stack(originals, "defocus_map")
    return Comparison(
        model,
        reference,
        images,
        len(outputs),
        (
            output_parity(
                "fake_logit",
                PairStatistics().add(logits, original_logits),
                least=tolerance.logit_correlation,
            ),
            output_parity(
                "defocus_map",
                PairStatistics().add(maps, original_maps),
                least=tolerance.map_correlation,
                most=tolerance.map_mean_error,
            ),
        ),
        _verdicts(logits, original_logits, threshold, tolerance),
    )


def _stack(outputs: Sequence[Outputs], name: str) -> NDArray[np.float64]:
    return np.concatenate([output[name].ravel() for output in outputs]).astype(np.float64)


def _verdicts(
    outputs: NDArray[np.float64],
    originals: NDArray[np.float64],
    threshold: Threshold,
    tolerance: Tolerance,
) -> VerdictParity:
    flips = changes = 0
    for logit, original_logit in zip(outputs, originals, strict=True):
        pair = {threshold.label(sigmoid(logit)), threshold.label(sigmoid(original_logit))}
        if pair == {"real", "fake"}:
            flips += 1
        elif len(pair) == 2:
            changes += 1
    allowed = tolerance.flips_allowed(len(outputs))
    return VerdictParity(flips, changes, allowed, flips <= allowed)


def reasons(comparison: Comparison) -> list[str]:
    """What a comparison finds fault with, in words; empty where it passes."""
    texts = []
    for output in comparison.outputs:
        if output.passed:
            continue
        if not math.isfinite(output.mean_abs):
            texts.append(f"{output.output} is not a finite number")
        elif output.dead:
            texts.append(f"{output.output} does not vary from image to image")
        elif output.correlation is None:
            texts.append(f"{output.output} of the original does not vary from image to image")
        else:
            texts.append(
                f"{output.output} has correlation {output.correlation:.4f} and a mean error of "
                f"{output.mean_relative:.4f} of its range; wanted: {output.limit}"
            )
    if not comparison.verdicts.passed:
        verdicts = comparison.verdicts
        texts.append(f"{verdicts.flips} verdicts flip; allowed: {verdicts.allowed}")
    return texts
