"""When an int8 model disagrees with its original: is it the model, or the kernels that ran it?

The same file is run twice on the same pictures: by this processor's integer kernels, as an app runs
it, and by the arithmetic that the file describes, which is the same on every processor
(``reference`` of :func:`edgedf.formats.open_backend`). What the reference is off by is the
model's own error; what the kernels add to it is the processor's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ArtifactUnreadable
from edgedf.formats import ModelFormat, format_named
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.models.pair import Answer

__all__ = ["DIAGNOSED", "Cause", "Diagnosis", "diagnose", "next_step", "sentence"]

Cause = Literal["model", "processor"]

DIAGNOSED = 6
"""Pictures that are run both ways, at most: the reference takes a second or more for each."""

# Where the kernels are right, both ways are equally far from the original; where they saturate, the
# shipped student's logits were found to be off four times as far.
_PROCESSOR_FROM = 2.0


@dataclass(frozen=True)
class Diagnosis:
    """What an int8 model and the kernels that ran it each are off by.

    Args:
        cause: ``processor`` where the kernels make the error of the logit or of the map at least
            twice as large as the model's own.
        pictures: How many were run both ways.
        logit_kernels: Root mean square difference of the logit from the original's, by the kernels
            of this processor.
        logit_reference: The same by the reference arithmetic.
        map_kernels: The same of the map, in pixels of the input.
        map_reference: The same by the reference arithmetic.
    """

    cause: Cause
    pictures: int
    logit_kernels: float
    logit_reference: float
    map_kernels: float
    map_reference: float


def diagnose(
    original: Answer,
    kernels: Answer,
    reference: Answer,
    pictures: Sequence[RGBImage],
    *,
    progress: Progress = silent,
) -> Diagnosis:
    """Run a model both ways beside its original.

    Args:
        original: The float model.
        kernels: The int8 model as it runs here. Where it fails or gives values that are not finite
            it is infinitely far off; likewise the reference.
        reference: The same file by the reference arithmetic.
        pictures: uint8 RGB (N, N, 3) each; the first :data:`DIAGNOSED` are used, at least one.
        progress: Told about each picture.
    """
    shown = pictures[:DIAGNOSED]
    squares = np.zeros((2, 2))  # by way, and by output
    for done, picture in enumerate(shown, 1):
        logit, defocus = original(picture)
        for way, answer in enumerate((kernels, reference)):
            squares[way] += _squares(answer, picture, logit, defocus)
        progress("tell model from processor", done, len(shown))
    (logit_k, map_k), (logit_r, map_r) = np.sqrt(squares / len(shown)).tolist()
    by_processor = any(
        math.isfinite(own) and by_kernels > _PROCESSOR_FROM * own
        for by_kernels, own in ((logit_k, logit_r), (map_k, map_r))
    )
    return Diagnosis(
        "processor" if by_processor else "model", len(shown), logit_k, logit_r, map_k, map_r
    )


def sentence(diagnosis: Diagnosis) -> str:
    """The cause, with the figures that tell it."""
    kernels = f"{diagnosis.logit_kernels:.3f} and the map by {diagnosis.map_kernels:.3f} px"
    reference = f"{diagnosis.logit_reference:.3f} and {diagnosis.map_reference:.3f} px"
    figures = (
        f"on {diagnosis.pictures} pictures the logit is off by {kernels} as this processor's "
        f"kernels compute them, by {reference} as the file describes them (root mean square)"
    )
    if diagnosis.cause == "processor":
        return f"This processor's int8 kernels are to blame, not the model: {figures}."
    return f"The model is to blame, not this processor's kernels: {figures}."


def next_step(diagnosis: Diagnosis, model_format: ModelFormat) -> str | None:
    """What to do where the processor is to blame; None where it is the model.

    Args:
        diagnosis: From :func:`diagnose`.
        model_format: Format of the file.
    """
    if diagnosis.cause == "model":
        return None
    return format_named(model_format).after_saturation


def _squares(
    answer: Answer, picture: RGBImage, logit: float, defocus: NDArray[np.float32]
) -> tuple[float, float]:
    try:
        found_logit, found_map = answer(picture)
    except ArtifactUnreadable:
        return math.inf, math.inf
    of_map = float(np.mean(np.square(found_map.astype(np.float64) - defocus)))
    return (found_logit - logit) ** 2, of_map
